# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run all cases on the running kernel; write rows as JSON.

Several exporters watch the same workloads: one with the preferred variant of each
program, one with the next, and so on. So all meet the same truth, and each other.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import sys
import time
import traceback
from pathlib import Path

from . import (
    cases_block,
    cases_disks,
    cases_forecast,
    cases_scsi,
    cases_tcp_connect,
    cases_tcp_load,
    cases_tcp_memory,
    cases_tcp_queue,
    cases_tcp_retransmit,
    cases_tcp_rtt,
    net,
)
from .exporter import PERF_HOOKS, PREFIX, SERVICE, Exporter
from .lab import UNFINISHED, Lab, NotHere

# Variants that do not load on a machine of a series. fentry attaches to no function of 7 arguments
# (tcp_v4_syn_recv_sock) on x86_64 there, and to none on arm64, which has no direct calls in 6.1.
NOT_HERE = {
    ("x86_64", "5.15"): {("tcp-listen-overflows", "fentry")},
    ("x86_64", "6.1"): {("tcp-listen-overflows", "fentry")},
    ("aarch64", "6.1"): {
        (config, "fentry")
        for config in ("tcp-listen-overflows", "tcp-receive-memory", "tcp-retransmit-delay")
    },
}
ATTEMPTS = 4
TRACEPOINTS = {"tp_btf", "raw_tp"}
# Of TCP the load comes last: it fills a map for good.
PARTS = (
    cases_block,
    cases_scsi,
    cases_disks,
    cases_tcp_queue,
    cases_tcp_connect,
    cases_tcp_rtt,
    cases_tcp_retransmit,
    cases_tcp_memory,
    cases_tcp_load,
    cases_forecast,
)
# Debian's kernels for arm64 have no scsi_debug.
NO_CASES = {"aarch64": {cases_scsi}}


def exporters(artifact: Path, live: bool) -> list[Exporter]:
    """Start the exporter once for each place in the order of preference."""
    manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    configs = manifest["catalogue"]["configs"]
    series = ".".join(platform.release().split(".")[:2])
    not_here = NOT_HERE.get((platform.machine(), series), set())
    started = []
    for place in range(max(len(entry["variants"]) for entry in configs.values())):
        chosen, hooks = {}, set()
        for config, entry in configs.items():
            for variant in entry["variants"][place : place + 1]:
                kinds = {hook["type"] for hook in variant["hooks"]}
                if live and not kinds <= TRACEPOINTS:
                    continue
                if (config, variant["name"]) not in not_here:
                    chosen[config] = variant["name"]
                    hooks |= kinds
        if chosen:
            # Debian's perf_event_paranoid of 3 refuses kprobes without it.
            more = ["CAP_SYS_ADMIN"] if hooks & PERF_HOOKS else []
            started.append(Exporter(artifact, chosen, [*SERVICE, *more], f"choice {place + 1}"))
    for exporter in started:
        exporter.wait()
    return started


def run_case(lab: Lab, case, is_race: bool = False) -> list[str]:
    """Run one case, again where something other than the program may be at fault.

    Durations are at the mercy of the emulator, and on a machine in use other processes count
    too. Counts in a virtual machine get one more attempt: a processor that the host takes away
    for seconds makes timers of the workload fire twice. A program that is wrong stays wrong, but
    where two processors race for it: there a wrong count is wrong the first time.
    Where others on the machine accepted connections during the last attempt too, by the kernel's
    own count, what is wrong then is not judged, and named.
    Returns what was wrong in the attempts that do not count.
    """
    kept, disturbed = lab.rows, []
    promised = set() if lab.live else set(case.proves)
    try:
        for attempt in range(ATTEMPTS):
            lab.rows, lab.others = [], 0
            case(lab)
            failed = [row for row in lab.rows if not row.passed]
            is_hopeful = lab.live or all(row.is_timing for row in failed)
            is_hopeful |= attempt == 0 and not is_race
            if not failed or not is_hopeful or attempt == ATTEMPTS - 1:
                break
            disturbed += [f"{case.__name__}, attempt {attempt + 1}: {row}" for row in failed]
        if failed and lab.others:
            why = f"NOT JUDGED, for others accepted {lab.others} connections"
            disturbed += [f"{case.__name__}, {why}: {row}" for row in failed]
            lab.rows = [row for row in lab.rows if row.passed]
        silent = promised - {row.metric for row in lab.rows}
    finally:  # what others showed stays, whatever became of this one
        lab.rows = kept + lab.rows
    if silent:
        raise AssertionError(f"no row for {', '.join(sorted(silent))}, which the case proves")
    return disturbed


def metrics(artifact: Path) -> dict[str, set[str]]:
    """Return the metrics of each config, without their prefix."""
    manifest = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    return {
        config: {metric["name"].replace(PREFIX, "", 1) for metric in entry["metrics"]}
        for config, entry in manifest["catalogue"]["configs"].items()
    }


def short(cases: list, by_config: dict[str, set[str]]) -> list:
    """Return the first case of each config, that is, of one of its metrics, and the forecasts."""
    chosen, missing = [], {**by_config, "forecast": {"forecast"}}
    for case in cases:
        about = [config for config, names in missing.items() if names & set(case.proves)]
        if about:
            chosen.append(case)
        for config in about:
            del missing[config]
    return chosen


def main() -> None:
    """Run the cases."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--only", help="run only cases whose module.name matches this expression")
    parser.add_argument("--short", action="store_true", help="run one case for each program")
    parser.add_argument("--races", action="store_true", help="try no wrong count again")
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
            "errors": errors if is_finished else [*errors, UNFINISHED],
        }
        options.out.write_text(json.dumps(result), encoding="utf-8")

    print("exporters started", flush=True)
    write(is_finished=False)
    parts = [part for part in PARTS if part not in NO_CASES.get(platform.machine(), ())]
    cases = [case for part in parts for case in (part.LIVE if options.live else part.VM)]
    if options.short:
        cases = short(cases, metrics(options.artifact))
    with net.topology():
        for case in cases:
            if options.only and not re.search(options.only, f"{case.__module__}.{case.__name__}"):
                continue
            began = time.monotonic()
            try:
                disturbed += run_case(lab, case, options.races)
            except NotHere as lacking:
                disturbed.append(f"{case.__name__}, NOT RUN: {lacking}")
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
