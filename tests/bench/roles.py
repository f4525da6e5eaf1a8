# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what each role costs in a run that changes nothing, in numbers that no load changes.

Modules are what runs on the host; ssh counts every command over the connection, transfers and the
question for the host's Python included. The end is 1 where a role costs more than it may.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.lab import prometheus
from tests.lab.artifact import cached
from tests.lab.hosts import CHECKOUT, Lab

GROUPS = ("linmonitor_targets", "linmonitor_prometheus")
# From the stand-in of its scenario, whose output molecule sets off by colours and bars.
GRAFANA = "grafana"
TASK = re.compile(r"TASK \[(?:linmonitor\.stack\.(\w+) : )?")
# What Ansible runs a module with, from standard input or from a file that it sent.
MODULE = re.compile(r"python[\d.]*( \S*AnsiballZ_\S+)? && sleep 0")
# Modules and ssh executions that a role may cost.
LIMITS = {"ebpf_exporter": (3, 20), "prometheus": (8, 20), GRAFANA: (25, 25)}


def executions(log: str) -> dict[str, tuple[int, int]]:
    """Return modules and ssh executions by role, of a log with verbosity 3; those of plays ''."""
    modules, commands, role = Counter(), Counter(), ""
    for line in log.splitlines():
        if found := TASK.search(line):
            role = found[1] or ""
        elif "SSH: EXEC" in line:
            commands[role] += 1
            modules[role] += MODULE.search(line) is not None
    return {role: (modules[role], commands[role]) for role in commands}


def run(program: str, *arguments: str, **environment: str) -> str:
    """Run a program of this environment; return the output, and refuse to go on after a failure."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *arguments],
        cwd=CHECKOUT, env=os.environ | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(done.stdout[-3000:])
    return done.stdout


def play(inventory: Path, **environment: str) -> str:
    """Deploy; return the output."""
    extra = json.dumps(prometheus.handed_in())
    options = ("--inventory", str(inventory), "--extra-vars", extra)
    environment = {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), **environment}
    return run("ansible-playbook", *options, "site.yml", **environment)


def converged_scenario(name: str) -> str:
    """Converge a scenario of molecule twice; return the output of the second time."""
    try:
        for step in ("create", "prepare", "converge"):
            run("molecule", step, "--scenario-name", name)
        again = ("converge", "--scenario-name", name, "--", "-vvv")
        return run("molecule", *again, ANSIBLE_DISPLAY_SKIPPED_HOSTS="true")
    finally:
        run("molecule", "destroy", "--scenario-name", name)


def main() -> int:
    """Deploy each role twice, print the table, judge it."""
    cached()
    lab = Lab("bench-roles")
    try:
        inventory = lab.up({"box": "bookworm"}, {group: ["box"] for group in GROUPS})
        play(inventory)
        # Names of tasks come before what they do only where those that are skipped have one too.
        log = play(inventory, ANSIBLE_VERBOSITY="3", ANSIBLE_DISPLAY_SKIPPED_HOSTS="true")
    finally:
        lab.down()
    found = executions(log)
    found[GRAFANA] = executions(converged_scenario(GRAFANA))[GRAFANA]
    print("role            modules  ssh")
    for role, (modules, commands) in sorted(found.items()):
        print(f"{role or '(plays)':15} {modules:7} {commands:4}")
    over = [
        role
        for role, counted in found.items()
        if any(cost > most for cost, most in zip(counted, LIMITS.get(role, counted), strict=True))
    ]
    print(f"over what they may cost: {', '.join(over) or 'none'}")
    return int(bool(over))


if __name__ == "__main__":
    sys.exit(main())
