# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what one more host costs the controller: a deploy and a run that changes nothing.

The test hosts share this machine's processors with the controller, so the wall clock also holds
their own work; the controller's processor time is what has to stay flat. Ends with 1 if a host
costs more than 25 % more in the largest fleet than in the smallest one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.lab.artifact import cached
from tests.lab.hosts import CHECKOUT, Lab

GROWTH = 1.25


class Cost(NamedTuple):
    """What one play took, in seconds."""

    wall: float
    controller: float


def play(inventory: Path) -> Cost:
    """Run site.yml and measure it; refuse to measure a failure."""
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", str(inventory),
        "--extra-vars", json.dumps({"bpf_programs_enabled": ["biolatency"]}), "site.yml",
    ]  # fmt: skip
    log = inventory.with_name("play.log")
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        os.chdir(CHECKOUT)
        os.environ["ANSIBLE_CONFIG"] = str(CHECKOUT / "ansible.cfg")
        with log.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        os.execv(command[0], command)
    # Not subprocess: the time of this one child with its workers is wanted.
    _, status, usage = os.wait4(child, 0)
    if status != 0:
        raise SystemExit(f"The play failed:\n{log.read_text()[-3000:]}")
    return Cost(time.monotonic() - started, usage.ru_utime + usage.ru_stime)


def measure(size: int) -> dict[str, Cost]:
    """Boot a fleet, deploy to it, do it again."""
    lab = Lab("bench")
    hosts = {f"host{number}": "bookworm" for number in range(1, size + 1)}
    inventory = lab.up(hosts, {"linmonitor_targets": list(hosts)})
    try:
        return {"deploy": play(inventory), "no change": play(inventory)}
    finally:
        lab.down()


def main() -> int:
    """Measure each size, print the table, judge the growth."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fleet", description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[5, 20], help="default: 5 20")
    sizes = sorted(parser.parse_args().sizes)
    cached()
    costs = {size: measure(size) for size in sizes}
    print("hosts  run        wall s  wall s/host  controller s/host")
    for size, runs in costs.items():
        for run, cost in runs.items():
            print(
                f"{size:5}  {run:9} {cost.wall:7.1f} {cost.wall / size:12.2f}"
                f" {cost.controller / size:18.2f}"
            )
    smallest, largest = sizes[0], sizes[-1]
    grown = 0
    for run in costs[smallest]:
        growth = (costs[largest][run].controller / largest) / (
            costs[smallest][run].controller / smallest
        )
        print(
            f"{run}: a host of {largest} costs the controller {growth:.2f} of a host of {smallest}"
        )
        grown += growth > GROWTH
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
