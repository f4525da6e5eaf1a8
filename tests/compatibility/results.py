# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each cell said when it last ran, and the page that shows it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.compatibility.bare import TARGET_SUITE, VERBS
from tests.compatibility.controllers import CACHE, CORES
from tests.compatibility.jobs import JOBS, REFUSALS
from tests.lab.hosts import CHECKOUT

PAGE = CHECKOUT / "docs/compatibility.md"
TARGETS = {
    "bullseye": "Debian 11",
    "bookworm": "Debian 12",
    "trixie": "Debian 13",
    "jammy": "Ubuntu 22.04",
    "noble": "Ubuntu 24.04",
    "resolute": "Ubuntu 26.04",
}
# The oldest on the oldest, the newest on the newest that boots on every machine, and one between:
# CI has no time for all. What resolute needs, tests/lab/hosts.py says.
DIAGONAL = ["2.16-bullseye", "2.19-noble", "2.21-trixie"]
# Systems that are to be refused, each by the newest core that still has modules for its Python.
OUTSIDE = {"2.16-bionic": "Ubuntu 18.04", "2.19-focal": "Ubuntu 20.04"}
INSIDE = DIAGONAL + sorted({f"{core}-{suite}" for core in CORES for suite in TARGETS} - {*DIAGONAL})
# Controllers that start with nothing, where README says that its verbs work.
BARE = {"bare-bookworm": "Debian 12", "bare-trixie": "Debian 13", "bare-noble": "Ubuntu 24.04"}
CELLS = [*INSIDE, *OUTSIDE, *BARE]
PASSED = "passed"
FIELDS = ("core", "python", "system", "host_python", "date", "commit", "said")
LINE = re.compile(
    r"^\| (2\.\S+) \| (\S*) \| (\w+ [\d.]+) \| (\S*) \| (\S+) \| (\S+) \| (.+) \|$", re.M
)

TEXT = """\
# Compatibility

Written by `make compatibility`, which tries what has not passed with this content and can be broken
off at any time. A cell is one core on the controller and one fresh host in a container, under the
kernel of the machine that runs it; for kernels see [accuracy.md](accuracy.md). The collection's
tarball is installed beside the core, and its playbooks are called by their names.

Jobs of a cell, in this order: {jobs}. Grafana's package is a stand-in. A cell passed if all jobs
did; a second run must change nothing, check mode runs on the bare host, uninstall must leave no
file of ours, and a deprecation warning that names this collection is a failure.

{table}

Cells without a line here were not tried. The commit is the last one of what is deployed; a + says
that files differed from it.

| core | its Python | host | its Python | date | commit | result |
|---|---|---|---|---|---|---|
{lines}

{heading}

Controllers that have nothing but `make` and a clone, and act on a {target} over ssh, in this order:
{verbs}.
`make server` runs twice, and changes nothing the second time. Artifact, Prometheus and the stand-in
for Grafana are handed in.

| core | its Python | controller | Python of the host | date | commit | result |
|---|---|---|---|---|---|---|
{bare}

## Machines for the demo

`make demo` runs whole on Debian 12, where this project is developed. On emulated machines with
Debian 13 (kernel 6.12) and Ubuntu 24.04 (6.8), both with cgroup v2, it was tried by hand on
2026-11-27: what it installs was installed there, its host booted, and `make demo-clean` removed it.
What follows that is the same deployment as everywhere, and was broken off for lack of time.

## What is refused

Other systems than Debian and Ubuntu, Debian before 11, Ubuntu before 22.04, hosts without systemd,
other architectures than x86_64 and aarch64 and kernels without BTF are refused by name before
anything changes. {outside} are such systems: a cell of theirs passed if preflight
and each part of site refused the host with what would do instead, and no file of it changed. Newer
cores refuse their Python themselves, before anything of ours runs. A Debian 12 without systemd was
tried by hand with cores 2.16 and 2.21 on 2026-11-27: refused likewise, and no file of it changed.
For the rest tests show it with hosts that say so of themselves, not with such systems. What is made
from Debian or Ubuntu, newer versions of both, and aarch64 hosts are not refused, and were not
tried; what ran on arm64 is in [accuracy_arm64.md](accuracy_arm64.md).
"""
HEADING = "## Controllers from nothing"


def file(cell: str) -> Path:
    """Return where the result of a cell lies."""
    return CACHE / "results" / f"{cell}.json"


def read(cell: str) -> dict[str, Any]:
    """Return the last result of a cell here, else what the page has of it; nothing of neither."""
    return json.loads(file(cell).read_text()) if file(cell).exists() else shown().get(cell, {})


def shown() -> dict[str, dict[str, Any]]:
    """Return the cells of the page, which other machines may have run; none has its content."""
    suites = {system: suite for suite, system in TARGETS.items()}
    suites |= {system: cell.split("-")[1] for cell, system in OUTSIDE.items()}
    cells = {}
    of_hosts, _, of_controllers = PAGE.read_text().partition(HEADING)
    lines = [("", fields) for fields in LINE.findall(of_hosts)]
    lines += [("bare", fields) for fields in LINE.findall(of_controllers)]
    for kind, fields in lines:
        result = dict(zip(FIELDS, fields, strict=True))
        core = ".".join(result["core"].split(".")[:2])
        name = f"{kind or core}-{suites[result.pop('system')]}"
        word, _, why = result.pop("said").replace("\\|", "|").partition(": ")
        jobs = jobs_of(name)
        job, _, fault = why.partition(": ")
        found = {
            PASSED: {"jobs": dict.fromkeys(jobs, PASSED)},
            "failed": {"jobs": {job: fault}},
            "not run": {"not_run": why},
        }
        cells[name] = result | found[word]
    return cells


def write(cell: str, result: dict[str, Any]) -> None:
    """Keep the result of a cell."""
    file(cell).parent.mkdir(parents=True, exist_ok=True)
    file(cell).write_text(json.dumps(result, indent=1) + "\n")


def jobs_of(cell: str) -> dict[str, Callable[[Any], None]]:
    """Return what is tried in a cell."""
    return VERBS if cell in BARE else REFUSALS if cell in OUTSIDE else JOBS


def passed(result: dict[str, Any]) -> bool:
    """Say whether every job passed."""
    return result.get("jobs") in [dict.fromkeys(jobs, PASSED) for jobs in (JOBS, REFUSALS, VERBS)]


def words(result: dict[str, Any]) -> str:
    """Say in a word what became of a cell."""
    if passed(result):
        return PASSED
    return "failed" if result.get("jobs") else "not run"


def reason(result: dict[str, Any]) -> str:
    """Say why a cell did not pass."""
    failed = [f"{job}: {said}" for job, said in result.get("jobs", {}).items() if said != PASSED]
    return " ".join((failed or [result["not_run"]])[0].split())


def line(core: str, system: str, result: dict[str, Any]) -> str:
    """Return what the page says of one cell."""
    said = words(result) if passed(result) else f"{words(result)}: {reason(result)}"
    fields = [result.get("core", core), result.get("python", ""), system]
    fields += [result.get("host_python", ""), result["date"], result["commit"]]
    return "| " + " | ".join([*fields, said.replace("|", "\\|")]) + " |"


def render() -> str:
    """Return the page."""
    table = ["| host | " + " | ".join(f"core {core}" for core in CORES) + " |"]
    table.append("|---" * (len(CORES) + 1) + "|")
    for suite, system in TARGETS.items():
        row = [words(read(f"{core}-{suite}")) for core in CORES]
        table.append(f"| {system} ({suite}) | " + " | ".join(row) + " |")
    lines = [
        line(core, system, result)
        for core in CORES
        for suite, system in TARGETS.items()
        if (result := read(f"{core}-{suite}"))
    ]
    lines += [
        line(cell.split("-")[0], system, result)
        for cell, system in OUTSIDE.items()
        if (result := read(cell))
    ]
    return TEXT.format(
        jobs=", ".join(JOBS),
        table="\n".join(table),
        lines="\n".join(lines),
        outside=" and ".join(OUTSIDE.values()),
        heading=HEADING,
        target=TARGETS[TARGET_SUITE],
        verbs=", ".join(f"`{verb}`" for verb in VERBS),
        bare="\n".join(line("", system, read(cell)) for cell, system in BARE.items() if read(cell)),
    )
