# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was tried to break the collection, and what held: the record, and the page made of it.

Usage: python -m tests.reliability

Tests with the marker of tests/conftest.py record their outcomes in build/reliability.json, each
time they run, with the day and the commit. The command writes docs/reliability.md from them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

CHECKOUT = Path(__file__).resolve().parents[1]
RECORD = CHECKOUT / "build/reliability.json"
PAGE = CHECKOUT / "docs/reliability.md"
ROOMS = {
    "tests/unit": "In unit tests",
    "tests/fuzz": "With generated input, at length",
    "tests/faults": "On live hosts",
}
HEAD = """# What was tried, and what held

Written by the tests (`make reliability`); each row is what tests did the last time they ran.
{when}.

`make test` runs the first part, `make test-full` all of them.
"""
TABLE = "| what was tried | how often | what held | what was lost |\n|---|---|---|---|\n"


class Row(NamedTuple):
    """What a test does, what must hold then, and how often it does it."""

    tried: str
    held: str
    times: int = 1


def commit() -> str:
    """Return the commit that is tried, and whether there is more than that."""
    command = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def read(path: Path = RECORD) -> dict[str, dict[str, Any]]:
    """Return what is recorded, by test."""
    return json.loads(path.read_text()) if path.is_file() else {}


def record(found: dict[str, dict[str, Any]], path: Path = RECORD) -> None:
    """Add outcomes of tests, by test, in the place of what they were before."""
    if not found:
        return
    now = {"date": time.strftime("%Y-%m-%d"), "commit": commit()}
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(
        json.dumps(read(path) | {test: one | now for test, one in found.items()}, indent=1)
    )
    draft.replace(path)


def table(tests: list[dict[str, Any]]) -> str:
    """Return the rows of tests; those that try the same are one."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in tests:
        rows.setdefault((one["tried"], one["held"]), []).append(one)
    lines = []
    for (tried, held), same in rows.items():
        lost = sum(not one["passed"] for one in same)
        words = [tried, f"{sum(one['times'] for one in same):,}", held]
        words.append(f"**{lost} of {len(same)} tests failed**" if lost else "nothing")
        lines.append("| " + " | ".join(word.replace("|", r"\|") for word in words) + " |\n")
    return TABLE + "".join(lines)


def page(tests: dict[str, dict[str, Any]]) -> str:
    """Return the page about recorded tests."""
    days = sorted({one["date"] for one in tests.values()})
    commits = sorted({one["commit"] for one in tests.values()})
    when = f"They ran on {' and '.join(days)}, of commit {', '.join(commits)}"
    parts = [HEAD.format(when=when)]
    for room, title in ROOMS.items():
        there = [one for name, one in sorted(tests.items()) if name.startswith(room)]
        if there:
            parts.append(f"## {title}\n\n{table(there)}")
    return "\n".join(parts)


def main() -> int:
    """Write the page."""
    tests = read()
    if not tests:
        print(f"{RECORD} has no outcome of a test: run them first (make reliability)")
        return 1
    PAGE.write_text(page(tests))
    lost = [name for name, one in tests.items() if not one["passed"]]
    print(f"{PAGE}: {len(tests)} tests, {len(lost)} failed", *lost, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
