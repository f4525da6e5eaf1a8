# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what exporters say into stores, through a Prometheus that the role configured.

Without names all engines take part; a name is the beginning of some, as victoria. What cannot be
had here is named and fails nothing, unless nothing is left. `make stores` writes docs/stores.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab.hosts import LabError
from tests.lab.process import ProcessError
from tests.stores import exporters
from tests.stores.engine import PAGE
from tests.stores.engines import ENGINES
from tests.stores.results import COLUMNS, Row, page
from tests.stores.trial import Trial


def report(row: Row) -> Iterator[str]:
    """Yield what is printed of a row."""
    yield f"{row.name} {row.version or f'not run: {row.not_run}'}"
    for part, title in COLUMNS.items():
        if part in row.failed or part in row.cells:
            said = f"FAILED: {row.failed[part]}" if part in row.failed else row.cells[part]
            yield f"  {title}: {said}"
    for reason, panels in row.differ.items():
        yield f"  {len(panels)} of the panels' queries differ: {reason}"
    if "start" in row.failed:
        yield f"  FAILED: {row.failed['start']}"


def main() -> int:
    """Run the trial and print its rows; return 1 where something failed or nothing ran."""
    parser = argparse.ArgumentParser(prog="python -m tests.stores", description=__doc__)
    parser.add_argument("engines", nargs="*", help=", ".join(kind.word for kind in ENGINES))
    parser.add_argument("--artifact", type=Path, required=True, help="folder of an artifact")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    for word in options.engines:
        if not any(kind.word.startswith(word) for kind in ENGINES):
            parser.error(f"no engine {word}: {', '.join(kind.word for kind in ENGINES)}")
    wanted = [
        kind
        for kind in ENGINES
        if not options.engines or kind.word.startswith(tuple(options.engines))
    ]
    # So that nothing outlives a run that is broken off.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("broken off"))
    with tempfile.TemporaryDirectory(prefix="linmonitor-stores-") as scratch:
        top = Path(scratch)
        try:
            with exporters.running(options.artifact, top) as targets:
                trial = Trial(wanted, targets, top)
                trial.run()
        except (LabError, ProcessError) as error:
            sys.exit(f"the trial ended early: {error}")
    rows = list(trial.rows.values())
    for line in (*targets.absent, *(line for row in rows for line in report(row))):
        print(line)
    if options.write:
        order = [kind.name for kind in ENGINES]
        PAGE.write_text(page(PAGE.read_text(), rows, time.strftime("%Y-%m-%d"), order))
    passed = sum(row.passed for row in rows)
    absent = sum(bool(row.not_run) for row in rows)
    print(f"{passed} passed, {len(rows) - passed - absent} failed, {absent} not run")
    return 0 if passed and passed + absent == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
