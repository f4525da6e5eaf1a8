# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploy with each ansible-core to each distribution, and write docs/compatibility.md.

Without names it runs the cells that have not passed with this content of the collection, and can
be broken off at any time: what ran is kept in the user's cache. A cell that cannot be had here
says why and fails nothing.
"""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.compatibility import bare, results
from tests.compatibility.controllers import (
    Controller,
    NoController,
    build_tarball,
    commit,
    content,
)
from tests.compatibility.jobs import GROUPS, HOST, Cell, JobError
from tests.grafana.repository import build_package
from tests.lab import artifact, prometheus
from tests.lab.hosts import Lab, LabError, build_image

GRAFANA = "13.2.3"


def handed_in(folder: Path) -> dict[str, Any]:
    """Return the variables that hand in what cannot be downloaded here."""
    deb = build_package(folder, "grafana", GRAFANA)
    return prometheus.handed_in() | {
        "grafana_deb": str(deb),
        "grafana_deb_sha256": prometheus.sha256(deb),
        "grafana_version": GRAFANA,
        "grafana_secrets_dir": str(folder / "secrets"),
    }


def today() -> str:
    """Return the date."""
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def run_jobs(cell: Any, jobs: dict[str, Callable[[Any], None]]) -> dict[str, str]:
    """Run the jobs, until one fails; return what became of them."""
    became: dict[str, str] = {}
    for name, job in jobs.items():
        began = time.monotonic()
        try:
            job(cell)
            became[name] = results.PASSED
        except (JobError, LabError) as error:
            became[name] = str(error)
        print(f"  {name}: {became[name]} ({time.monotonic() - began:.0f} s)", flush=True)
        if became[name] != results.PASSED:
            break
    return became


def try_cell(name: str, tarball: Path, folder: Path, variables: dict[str, Any]) -> dict[str, Any]:
    """Make the controller and the host of a cell, and run the jobs."""
    core, suite = name.split("-")
    controller = Controller(core)
    try:
        controller.prepare()
        build_image(suite)
    except NoController as error:
        return {"not_run": str(error)}
    except LabError as error:
        print(error, flush=True)
        return {"not_run": f"the archive of {suite} gave no image"}
    lab = Lab(f"compatibility-{name}")
    try:
        try:
            lab.up({HOST: suite}, {group: [HOST] for group in GROUPS})
        except LabError as error:
            return {"not_run": str(error)}
        controller.install(tarball, folder)
        cell = Cell(controller, lab, folder, variables)
        version = cell.ask("python3", "-c", "import platform as p; print(p.python_version())")
        versions = controller.versions() | {"host_python": version.strip()}
        return versions | {"jobs": run_jobs(cell, results.jobs_of(name))}
    except LabError as error:
        return {"jobs": {"before the first job": str(error)}}
    finally:
        lab.down()


def try_bare(name: str, variables: dict[str, Any]) -> dict[str, Any]:
    """Make a controller with nothing on it and a host, and type the verbs."""
    cell = bare.Bare(Lab(name), variables)
    try:
        try:
            cell.boot(name.split("-")[1])
        except LabError as error:
            return {"not_run": str(error)}
        cell.furnish()
        jobs = run_jobs(cell, results.jobs_of(name))
        return (cell.versions() if jobs["make prepare"] == results.PASSED else {}) | {"jobs": jobs}
    except LabError as error:
        return {"jobs": {"before the first job": str(error)}}
    finally:
        cell.lab.down()


def main() -> int:
    """Run the cells that are wanted."""
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility", description=__doc__)
    parser.add_argument("cells", nargs="*", help=f"as {results.DIAGONAL[0]}")
    parser.add_argument("--diagonal", action="store_true", help="three cells, written nowhere")
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args()
    if unknown := {*options.cells} - {*results.CELLS}:
        parser.error(f"no cell {', '.join(sorted(unknown))}; there are {', '.join(results.CELLS)}")
    if options.page:
        results.PAGE.write_text(results.render())
        return 0
    # So that a host goes away with a run that is broken off.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("broken off"))
    artifact.cached()
    became: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="linmonitor-compatibility-") as scratch:
        tarball = build_tarball(Path(scratch))
        tried = {"content": content(tarball)}
        if not options.diagonal:
            tried["commit"] = commit()
        variables = handed_in(Path(scratch))
        wanted = results.DIAGONAL if options.diagonal else options.cells
        for name in wanted or results.CELLS:
            last = results.read(name)
            if not wanted and results.passed(last) and last.get("content") == tried["content"]:
                continue
            print(f"{name}:", flush=True)
            folder = Path(tempfile.mkdtemp(dir=scratch))
            if name in results.BARE:
                result = try_bare(name, variables)
            else:
                result = try_cell(name, tarball, folder, variables)
            became[name] = results.words(result)
            if became[name] != results.PASSED:
                print(f"{name} {became[name]}: {results.reason(result)}", flush=True)
            if not options.diagonal:
                results.write(name, tried | {"date": today()} | result)
                results.PAGE.write_text(results.render())
    said = list(became.values())
    print(
        f"not run: {', '.join(name for name in became if became[name] == 'not run') or 'nothing'}"
    )
    print(f"{said.count(results.PASSED)} passed, {said.count('failed')} failed")
    return int("failed" in said or (bool(said) and results.PASSED not in said))


if __name__ == "__main__":
    sys.exit(main())
