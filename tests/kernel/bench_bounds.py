# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what has to stay within bounds: two processors at once, and a scrape of full maps.

    python -m tests.kernel.bench_bounds --artifact DIR

On this machine's own disk and kernel. Each completion is sent to the processor that asked, so that
two of them really count at the same time for one disk and one operation.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from . import bench, maps
from .bench_loads import FOLDER, LOADS, reader
from .exporter import Exporter

ROUNDS, SECONDS, SCRAPES = 5, 3, 21
CONTENTION = 1.25  # of what an event costs on one processor
SCRAPE = 0.050  # seconds, of the fullest maps
SAME_PROCESSOR = "2"  # of queue/rq_affinity


def affinity() -> Path:
    """Return the setting that says where the disk below FOLDER completes its requests."""
    number = FOLDER.stat().st_dev
    device = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    disk = device if (device / "queue").is_dir() else device.parent
    return disk / "queue" / "rq_affinity"


def completions() -> list[int]:
    """Return how many times each processor completed block requests."""
    for line in Path("/proc/softirqs").read_text(encoding="ascii").splitlines():
        if line.strip().startswith("BLOCK:"):
            return [int(count) for count in line.split()[1:]]
    raise RuntimeError("/proc/softirqs has no line BLOCK")


def contention(artifact: Path, variant: str, processors: Sequence[int | None]) -> float:
    """Print what an event costs on one processor and on several; return the ratio."""
    LOADS.update(one=reader(processors[:1]), several=reader(processors))
    costs: dict[str, list[float]] = {"one": [], "several": []}
    before = completions()
    for _ in range(ROUNDS):
        for load, rounds in costs.items():
            rounds.append(sum(bench.cost(artifact, "biolatency", variant, load, SECONDS).values()))
    made = [after - old for old, after in zip(before, completions(), strict=True)]
    one, several = (statistics.median(costs[load]) for load in ("one", "several"))
    print(
        f"biolatency {variant}: {one:.0f} ns per event on one processor, {several:.0f} on"
        f" {len(processors)}: {several / one:.2f} (limit {CONTENTION}); completions by processor:"
        f" {', '.join(f'{made[processor]:,}' for processor in processors)}"
    )
    return several / one


def values_of(label: dict[str, Any], metric: dict[str, Any]) -> list[bytes]:
    """Return what a label's field of a key may hold."""
    size, padding = label["size"], bytes(label.get("padding", 0))
    decoders = {decoder["name"]: decoder for decoder in label["decoders"]}
    if "string" in decoders:
        return [f"disk{n}".encode().ljust(size, b"\0") + padding for n in range(1000)]
    if "static_map" in decoders:
        numbers = list(decoders["static_map"]["static_map"])
    elif "bucket_keys" in metric:
        numbers = [*metric["bucket_keys"], max(metric["bucket_keys"]) + 1]
    else:  # the sum lies behind the last bucket
        numbers = list(range(metric["bucket_min"], metric["bucket_max"] + 2))
    return [number.to_bytes(size, sys.byteorder) + padding for number in numbers]


def fill(exporter: Exporter, folder: Path) -> int:
    """Put as many entries into the exported maps as they take; return the number."""
    metrics = {
        metric["name"][:15]: metric
        for path in folder.glob("*.yaml")
        for kind in yaml.safe_load(path.read_text(encoding="utf-8"))["metrics"].values()
        for metric in kind
        if metric["labels"]
    }
    filled = 0
    for found in maps.of(exporter.process.pid):
        if metric := metrics.get(found.name):
            fields = [values_of(label, metric) for label in metric["labels"]]
            keys = itertools.islice(itertools.product(*fields), found.max_entries)
            filled += found.put(map(b"".join, keys), (1).to_bytes(8, sys.byteorder))
        found.close()
    return filled


def scrape(artifact: Path, variants: dict[str, str]) -> float:
    """Print how long a scrape of full maps takes; return the median in seconds."""
    exporter = Exporter(artifact, variants, bench.CAPABILITIES, "full maps")
    exporter.wait()
    entries = fill(exporter, exporter.folder)
    spent = []
    for _ in range(SCRAPES):
        started = time.monotonic()
        text = exporter.page()
        spent.append(time.monotonic() - started)
    exporter.stop()
    series = sum(line.startswith("ebpf_exporter_") for line in text.splitlines())
    median = statistics.median(spent)
    print(
        f"a scrape of {len(variants)} programs with full maps, {entries:,} entries, {series:,}"
        f" series: {median * 1000:.0f} ms (limit {SCRAPE * 1000:.0f}), slowest"
        f" {max(spent) * 1000:.0f} ms of {SCRAPES}"
    )
    return median


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--artifact", type=Path, required=True, help="folder of an artifact")
    artifact = parser.parse_args().artifact.resolve()
    processors = sorted(os.sched_getaffinity(0))[:2]
    if len(processors) < 2:
        raise SystemExit("One processor cannot wait for another: contention needs two.")
    variants = {config: "tp_btf" for config in bench.EVENTS if config != "upstream"}
    held = [scrape(artifact, variants) <= SCRAPE]
    statistics_on = bench.kernel_setting(bench.STATS, "1")
    with statistics_on, bench.kernel_setting(affinity(), SAME_PROCESSOR):
        for variant in bench.LIMITS:
            held.append(contention(artifact, variant, processors) <= CONTENTION)
    print(f"{sum(held)} passed, {len(held) - sum(held)} failed")
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
