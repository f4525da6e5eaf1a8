# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make alerts fire for real in a virtual machine, for faults that containers cannot have.

Slow and bad disks (null_blk), packet loss and delay (netem), tiny accept queues: the real exporter
counts them, the real Prometheus evaluates the shipped rules. Thresholds are the shipped ones but
for RATES, hold times are 0s, and rules and scrapes come every few seconds.

python -m tests.lab.artifact python -m tests.dashboards.vm_alerts
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from dashboards import rules
from tests.dashboards.vm_faults import EXPORTER, FAULTS
from tests.kernel import kernels, matrix
from tests.lab.prometheus import tool

ROOT = Path(__file__).resolve().parents[2]
SERIES = "6.12"
SECONDS = 560  # for everything
INTERVAL = "3s"
# An emulated machine is too slow for the shipped 100 segments and 1 clamp per second.
RATES = {"TcpRetransmitRateHigh": 0.2, "TcpWindowClamped": 0.005}

GUEST = """#!/bin/sh
export PYTHONDONTWRITEBYTECODE=1
cd {work} && exec /usr/bin/python3 -m tests.dashboards.vm_faults --artifact artifact \\
  --prometheus {work}/prometheus --configuration prometheus.yml --out result.json
"""


def write_configuration(work: Path) -> None:
    """Write rules, thresholds and Prometheus' configuration into the folder."""
    changes: dict[str, dict] = {name: {"hold": "0s"} for name in rules.settings()}
    for name, threshold in RATES.items():
        changes[name] = {"hold": "0s", "threshold": threshold}
    files = rules.write(work, changes=changes, names=[], alertmanager=False)
    for file in files:
        file.write_text(re.sub(r"(interval: )\w+", rf"\g<1>{INTERVAL}", file.read_text()))
    target = {"targets": [f"127.0.0.1:{EXPORTER}"], "labels": {"instance": "vm"}}
    job = {"job_name": "ebpf_exporter", "static_configs": [target]}
    configuration = {
        "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": [file.name for file in files],
        "scrape_configs": [job],
    }
    (work / "prometheus.yml").write_text(yaml.safe_dump(configuration))


def stage(artifact: Path, work: Path) -> None:
    """Copy what the machine needs to where it can see it: it has a /tmp and /var/tmp of its own."""
    shutil.copytree(artifact, work / "artifact")
    shutil.copy(tool("prometheus"), work / "prometheus")
    for part in ("dashboards", "tests/dashboards", "tests/kernel"):
        shutil.copytree(ROOT / part, work / part)
    write_configuration(work)


def run(artifact: Path, work: Path) -> dict:
    """Boot, make the faults, and return what was written."""
    stage(artifact, work)
    script, out, log = work / "guest.sh", work / "result.json", work / "log"
    script.write_text(GUEST.format(work=work))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    kernel = kernels.fetch(SERIES)
    # The machine starts in the folder it was started from, which it must be able to see.
    with contextlib.chdir(work):
        process = kernel.boot(script, log)
    try:
        process.wait(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"not finished after {SECONDS} s")
    finally:
        matrix.end(process)
        kernel.unlink()
    result = json.loads(out.read_text()) if out.exists() else {"results": [], "error": "no result"}
    if result["error"]:
        print(log.read_text(errors="replace")[-4000:])
    return result


def main() -> int:
    """Print each alert with what it said; return 1 where one stayed quiet."""
    parser = argparse.ArgumentParser(prog="python -m tests.dashboards.vm_alerts")
    parser.add_argument("--artifact", type=Path, required=True, help="folder of an artifact")
    options = parser.parse_args()
    matrix.check_tools()
    kernels.cache().mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="run-", dir=kernels.cache()) as folder:
        result = run(options.artifact.resolve(), Path(folder))
    fired = [one for one in result["results"] if "says" in one]
    for one in result["results"]:
        shown = (
            f"fired after {one['seconds']:.0f} s: {one['says']}" if one in fired else one["error"]
        )
        print(f"{one['alert']:<26}{shown}")
    if result["error"]:
        print(result["error"])
    print(
        f"kernel {result.get('kernel')}: {len(fired)} of {len(FAULTS)} alerts fired for their "
        f"faults, {time.monotonic() - began:.0f} s"
    )
    return 0 if len(fired) == len(FAULTS) and not result["error"] else 1


if __name__ == "__main__":
    sys.exit(main())
