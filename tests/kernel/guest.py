# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: linmonitor.stack contributors
"""Run all cases on the running kernel; write rows as JSON.

Two exporters watch the same workloads: one with the preferred variants, one
with the base variants. So both meet the same truth, and each other.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import sys
import time
import traceback
from pathlib import Path

from . import cases_block, cases_forecast, cases_tcp, net
from .exporter import Exporter
from .lab import Lab

# fentry cannot attach to tcp_v4_syn_recv_sock, which has 7 arguments there.
NOT_HERE = {("6.1", "tcp-listen-overflows", "fentry")}
ATTEMPTS = 4


def exporters(artifact: Path, live: bool) -> list[Exporter]:
    """Start the exporter twice: preferred variants, then the others."""
    manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    series = ".".join(platform.release().split(".")[:2])
    started = []
    for place, label in ((0, "preferred"), (1, "base")):
        chosen, capabilities = {}, set()
        for config, entry in manifest["catalogue"]["configs"].items():
            variant = entry["variants"][place]
            if live and variant["name"] not in ("tp_btf", "raw_tp"):
                continue
            if (series, config, variant["name"]) not in NOT_HERE:
                chosen[config] = variant["name"]
                capabilities.update(variant["capabilities"])
                if variant["name"] == "kprobe":
                    # Debian's perf_event_paranoid of 3 refuses kprobes without it.
                    capabilities.add("CAP_SYS_ADMIN")
        started.append(Exporter(artifact, chosen, sorted(capabilities), label))
    for exporter in started:
        exporter.wait()
    return started


def run_case(lab: Lab, case) -> list[str]:
    """Run one case, again where something other than the program may be at fault.

    Durations are at the mercy of the emulator, and on a machine in use other processes count
    too. Counts in a virtual machine get one more attempt: a processor that the host takes away
    for seconds makes timers of the workload fire twice. A program that is wrong stays wrong.
    Returns what was wrong in the attempts that do not count.
    """
    kept, disturbed = lab.rows, []
    for attempt in range(ATTEMPTS):
        lab.rows = []
        case(lab)
        failed = [row for row in lab.rows if not row.passed]
        is_hopeful = lab.live or all(row.is_timing for row in failed) or attempt == 0
        if not failed or not is_hopeful or attempt == ATTEMPTS - 1:
            break
        disturbed += [f"{case.__name__}, attempt {attempt + 1}: {row}" for row in failed]
    lab.rows = kept + lab.rows
    return disturbed


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--only", help="run only the cases with this in their name")
    options = parser.parse_args()
    if not options.live:
        # Kernels before 5.11 count maps as locked memory, as the unit allows.
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (-1, -1))
        net.ip("link", "set", "lo", "up")
    started = exporters(options.artifact, options.live)
    lab = Lab(options.artifact, started, options.live)
    errors: list[str] = []
    disturbed: list[str] = []

    def write(is_finished: bool) -> None:
        """Write what is known so far: a run that is cut off still says something."""
        result = {
            "kernel": platform.release(),
            "rows": [row.as_dict() for row in lab.rows],
            "disturbed": disturbed,
            "errors": errors if is_finished else [*errors, "did not finish"],
        }
        options.out.write_text(json.dumps(result), encoding="utf-8")

    print("exporters started", flush=True)
    write(is_finished=False)
    parts = (cases_block, cases_tcp, cases_forecast)
    cases = [case for part in parts for case in (part.LIVE if options.live else part.VM)]
    with net.topology():
        for case in cases:
            if options.only and options.only not in case.__name__:
                continue
            began = time.monotonic()
            try:
                disturbed += run_case(lab, case)
            except Exception:
                errors.append(f"{case.__name__}: {traceback.format_exc()}")
            print(f"{case.__name__}: {time.monotonic() - began:.1f} s", flush=True)
            write(is_finished=False)
    for exporter in lab.exporters:
        if exporter.metrics().total("decoder_errors_total"):
            errors.append(f"{exporter.label}: decoder errors")
        if exporter.stop():
            errors.append(f"{exporter.label}: did not stop cleanly")
    write(is_finished=True)
    sys.exit(bool(errors))


if __name__ == "__main__":
    main()
