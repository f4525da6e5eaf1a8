# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is tried in a cell: one core, one host that starts bare, one job after the other.

Playbooks are called by the collection's name, from a folder outside the checkout. Grafana is the
stand-in package of the tests. The host itself is asked what became of each.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plugins.module_utils._host import WANTED
from tests.compatibility.controllers import Controller, environment
from tests.lab.hosts import Lab, run

HOST = "box"
GROUPS = ("linmonitor_targets", "linmonitor_prometheus", "linmonitor_grafana")
PARTS = ("ebpf_exporter", "prometheus", "grafana")
CURRENT = "/opt/linmonitor/current"
# A second release, to go back from.
OTHER = {"bpf_programs_enabled": ["biolatency"]}
PURGE = {"linmonitor_purge": ["prometheus", "grafana"]}
# All that the roles make has one of these in its name.
FIND = r"find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log \
  -o -path /var/lib/systemd -o -path '*/.ansible' \) -prune -o "
OURS = (
    FIND + r"\( -iname '*linmonitor*' -o -iname '*ebpf_exporter*' -o -iname '*grafana*' \) -print"
)
FILES = FIND + r"! -type d -printf '%p %s %T@\n' | sort"
GET = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
PATIENCE = 60


class JobError(RuntimeError):
    """A job failed; the message says what was seen."""


@dataclass
class Cell:
    """A host, who deploys to it, and what it was deployed with."""

    controller: Controller
    lab: Lab
    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)

    def run(self, name: str, *arguments: str, **variables: Any) -> tuple[int, str]:
        """Run a playbook of the installed collection; return how it ended and what it said."""
        (self.folder / "variables.json").write_text(json.dumps(self.variables | variables))
        done = subprocess.run(
            [
                self.controller.program("ansible-playbook"), "--inventory", str(self.lab.inventory),
                "--extra-vars", f"@{self.folder}/variables.json", *arguments,
                f"linmonitor.stack.{name}",
            ],
            cwd=self.folder, env=environment(self.folder), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        with (self.folder / "log").open("a") as log:
            log.write(done.stdout)
        return done.returncode, done.stdout

    def play(self, name: str, *arguments: str, **variables: Any) -> str:
        """Run a playbook of the installed collection; JobError with its words where it fails."""
        status, said = self.run(name, *arguments, **variables)
        if status:
            raise JobError(f"{name} ended with {status}: {failure(said)}")
        # Plugins and modules that a later core will refuse are faults already.
        if ours := re.search(r"DEPRECATION WARNING\]:? .*linmonitor.*", said):
            raise JobError(f"{name}: {ours[0]}")
        return said

    def ask(self, *command: str) -> str:
        """Return what a command says on the host."""
        return run("podman", "exec", self.lab.container(HOST), *command)

    def get(self, url: str) -> str:
        """Return what a service says to the host itself."""
        return self.ask("python3", "-c", GET, url)

    def want_nothing_of_ours(self) -> None:
        """Fail where a file of ours is on the host."""
        found = self.ask("sh", "-c", OURS).split()
        want(not found, f"on the host are {', '.join(found[:5])}")


def failure(said: str) -> str:
    """Return the end of what a playbook said of what failed; before it a template may stand."""
    found = re.search(r'(?s)(?:fatal|FAILED!).*?"msg": "((?:[^"\\]|\\.)*)"', said) or re.search(
        r"(?:\[ERROR\]:|ERROR!) (.*)", said
    )
    return (found[1] if found else said)[-400:]


def want(true: bool, fault: str) -> None:
    """Fail with what was seen instead."""
    if not true:
        raise JobError(fault)


def changed(said: str) -> int:
    """Return how many tasks of a run changed something."""
    return sum(map(int, re.findall(r"\bchanged=(\d+)", said)))


def preflight(cell: Cell) -> None:
    """The table has a program that the host's kernel runs."""
    said = cell.play("preflight")
    want("biolatency" in said, "the table does not name biolatency")
    cell.want_nothing_of_ours()


def check_mode(cell: Cell) -> None:
    """All of it in check mode, with differences, on the bare host."""
    cell.play("site", "--check", "--diff")
    cell.want_nothing_of_ours()


def exporter(cell: Cell) -> None:
    """The exporter runs and has measured something."""
    cell.play("site", "--tags", "ebpf_exporter")
    cell.ask("python3", f"{CURRENT}/health.py")
    metrics = cell.get("http://127.0.0.1:9435/metrics")
    counted = re.findall(r"^ebpf_exporter_bio_latency_seconds_count\{.*\} (\S+)$", metrics, re.M)
    want(sum(map(float, counted)) > 0, "no block request was counted")


def prometheus(cell: Cell) -> None:
    """Prometheus scrapes the exporter and itself."""
    cell.play("site", "--tags", "prometheus")
    deadline = time.monotonic() + PATIENCE
    health: list[str] = []
    # It knows its targets only some seconds after its start.
    while health != ["up", "up"] and time.monotonic() < deadline:
        time.sleep(1)
        answer = json.loads(cell.get("http://127.0.0.1:9090/api/v1/targets"))
        health = [target["health"] for target in answer["data"]["activeTargets"]]
    want(health == ["up", "up"], f"its targets are {health}")


def grafana(cell: Cell) -> None:
    """The stand-in of Grafana answers and has the dashboards."""
    cell.play("site", "--tags", "grafana")
    want('"ok"' in cell.get("http://127.0.0.1:3000/api/health"), "it is not healthy")


def second_run(cell: Cell) -> None:
    """All of it again changes nothing."""
    said = cell.play("site")
    want(changed(said) == 0, f"{changed(said)} tasks changed something")


def rollback(cell: Cell) -> None:
    """Another release goes on, and the one before comes back."""
    before = cell.ask("readlink", CURRENT)
    cell.play("site", "--tags", "ebpf_exporter", **OTHER)
    want(cell.ask("readlink", CURRENT) != before, "no other release went on")
    cell.play("rollback")
    want(cell.ask("readlink", CURRENT) == before, "the release before did not come back")
    cell.ask("python3", f"{CURRENT}/health.py")


def uninstall(cell: Cell) -> None:
    """Nothing of it is left."""
    cell.play("uninstall", **PURGE)
    cell.want_nothing_of_ours()


def refused(cell: Cell) -> None:
    """Whatever would change the host says what would do instead, and no file of it changes."""
    cell.run("preflight")  # the first contact may leave files of Ansible's
    before = cell.ask("sh", "-c", FILES)
    parts = [("preflight",), *(("site", "--tags", part) for part in PARTS)]
    for arguments in parts:
        status, said = cell.run(*arguments)
        told = f"needs {WANTED}" in " ".join(said.split()) or f"lacks {WANTED}" in said
        want(status != 0 and told, f"{' '.join(arguments)} ended with {status}: {failure(said)}")
    changes = {*cell.ask("sh", "-c", FILES).splitlines()} ^ {*before.splitlines()}
    want(not changes, f"on the host changed {', '.join(sorted(changes)[:5])}")


REFUSALS: dict[str, Callable[[Cell], None]] = {"refused": refused}
JOBS: dict[str, Callable[[Cell], None]] = {
    "preflight": preflight,
    "check mode": check_mode,
    "exporter": exporter,
    "Prometheus": prometheus,
    "Grafana (stand-in)": grafana,
    "second run": second_run,
    "rollback": rollback,
    "uninstall": uninstall,
}
