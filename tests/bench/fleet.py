# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what hosts cost the controller: deploying, a run that changes nothing, the preflight.

Wall clock is shown beside a plain ping of the same hosts, because test hosts share this machine's
processors with the controller. The controller's own processor time per host has to stay flat: the
end is 1 if a host of a larger fleet costs over 25 % more than one of the next smaller fleet.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.lab.artifact import cached
from tests.lab.hosts import CHECKOUT, Lab

GROWTH = 1.25
ROUNDS = 5  # of what changes nothing
GROUP = "linmonitor_targets"
# One program: the trials of all are work of the hosts, which is not measured here.
SITE = ["ansible-playbook", "site.yml", "--extra-vars", '{"bpf_programs_enabled": ["biolatency"]}']
RUNS = {
    "ping": ["ansible", GROUP, "--module-name", "ansible.builtin.ping"],
    "deploy": SITE,
    "no change": SITE,
    "preflight": ["ansible-playbook", "playbooks/preflight.yml"],
}


class Cost(NamedTuple):
    """What one run took."""

    wall: float
    controller: float
    executions: int


def measure(inventory: Path, command: list[str], verbosity: int = 0) -> Cost:
    """Run a command on the fleet and measure it; refuse to measure a failure."""
    program = str(Path(sys.executable).with_name(command[0]))
    log = inventory.with_name("run.log")
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.chdir(CHECKOUT)
        os.environ["ANSIBLE_CONFIG"] = str(CHECKOUT / "ansible.cfg")
        os.environ["ANSIBLE_VERBOSITY"] = str(verbosity)
        with log.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.execv(program, [program, "--inventory", str(inventory), *command[1:]])
    # Not subprocess: the time of this one child with its workers is wanted.
    _, status, usage = os.wait4(child, 0)
    wall = time.monotonic() - started
    text = log.read_text()
    if status != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{text[-3000:]}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, text.count("SSH: EXEC"))


def measure_fleet(size: int) -> dict[str, Cost]:
    """Boot a fleet and measure each run on it; executions are counted in a run of their own."""
    lab = Lab("bench")
    hosts = {f"host{number}": "bookworm" for number in range(1, size + 1)}
    try:
        inventory = lab.up(hosts, {GROUP: list(hosts)})
        measure(inventory, RUNS["ping"])  # opens the connections, which later runs share
        costs = {}
        for run, command in RUNS.items():
            rounds = 1 if run == "deploy" else ROUNDS
            # Of these the median, by the wall clock.
            costs[run] = sorted(measure(inventory, command) for _ in range(rounds))[rounds // 2]
        for run in ("ping", "no change", "preflight"):
            counted = measure(inventory, RUNS[run], verbosity=3).executions
            costs[run] = costs[run]._replace(executions=counted)
    finally:
        lab.down()
    return costs


def table(costs: dict[int, dict[str, Cost]]) -> list[str]:
    """Return the rows, one per fleet and run."""
    lines = ["hosts  run        seconds  per ping  controller s/host  executions/host"]
    for size, runs in costs.items():
        for run, cost in runs.items():
            counted = f"{cost.executions / size:.1f}" if cost.executions else "-"
            lines.append(
                f"{size:5}  {run:9} {cost.wall:8.1f} {cost.wall / runs['ping'].wall:9.1f}"
                f" {cost.controller / size:18.2f} {counted:>16}"
            )
    return lines


def main() -> int:
    """Measure each size, print the table, judge the growth."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet", description=__doc__)
    parser.add_argument("sizes", nargs="+", type=int, help="numbers of hosts, smallest first")
    sizes = parser.parse_args().sizes
    cached()
    costs = {size: measure_fleet(size) for size in sizes}
    print("\n".join(table(costs)))
    grown = False
    for fewer, more in itertools.pairwise(sizes):
        for run in ("deploy", "no change", "preflight"):
            ratio = costs[more][run].controller / more / (costs[fewer][run].controller / fewer)
            print(f"{run}: one of {more} hosts costs the controller {ratio:.2f} of one of {fewer}")
            grown |= ratio > GROWTH
    return int(grown)


if __name__ == "__main__":
    sys.exit(main())
