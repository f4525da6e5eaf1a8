# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Time every query of Kernel / Fleet over many synthetic hosts, on the real Prometheus.

python -m tests.dashboards.bench [--hosts 1000]
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.lab.process import free_port
from tests.lab.prometheus import VERSION, programs, tool

from . import reading
from .api import Prometheus, Window
from .server import running
from .standin import edges

LIMIT = 2.0  # seconds that one panel may take
STEP = 30  # seconds between recorded values, as in the rules
HOUR = 3600
DISK = {"device": ["sda", "nvme0n1"], "operation": ["read", "write", "flush"]}
SCOPE = {"scope": ["loopback", "private", "public"]}


def _edges(config: str) -> list[str]:
    """Return the values of `le` that a program's first histogram has."""
    path = Path(__file__).parents[2] / f"files/bpf/{config}/{config}.yaml"
    histogram = yaml.safe_load(path.read_text())["metrics"]["histograms"][0]
    return [*map(repr, edges(histogram)), "+Inf"]


# The labels beside job and instance of what Fleet reads; all three lists make up each host.
PER_HOST: dict[str, dict[str, list[str]]] = {
    "up": {},
    "ALERTS": {"alertname": ["DiskErrors"], "alertstate": ["firing"], "severity": ["warning"]},
    "ALERTS_FOR_STATE": {"alertname": ["DiskErrors"], "severity": ["warning"]},
    "instance_device_operation:ebpf_bio_latency_seconds:p99_rate5m": DISK,
    "instance_device_operation:ebpf_bio_requests:rate5m": DISK,
    "instance_device_operation:ebpf_bio_errors:increase5m": DISK,
    "instance_scope:ebpf_tcp_rtt_seconds:p99_rate5m": SCOPE,
    "instance_scope:ebpf_tcp_connect_time_seconds:p99_rate5m": SCOPE,
    "instance_scope:ebpf_tcp_connect_failures:ratio_rate5m": SCOPE,
    "instance:ebpf_tcp_accept_queue_over75:ratio_rate5m": {},
    "instance:ebpf_tcp_listen_overflows:rate5m": {},
    "instance:node_tcp_listen_overflows:rate5m": {},
    "instance_netns:ebpf_tcp_retransmits:rate5m": {"netns": ["host", "other"]},
    "instance:ebpf_tcp_retransmit_ratio:rate5m": {},
    "instance:ebpf_tcp_window_clamps:rate5m": {},
}
PER_JOB: dict[str, dict[str, list[str]]] = {
    "job_operation_le:ebpf_bio_latency_seconds_bucket:rate5m": {
        "operation": DISK["operation"],
        "le": _edges("biolatency"),
    },
    "job_scope_le:ebpf_tcp_rtt_seconds_bucket:rate5m": SCOPE | {"le": _edges("tcp-rtt")},
    "linmonitor:alert_threshold": {
        "alert": ["DiskLatencyP99High", "TcpAcceptQueueNearLimit", "TcpRetransmitRatioHigh"]
    },
}


def series(hosts: int) -> Iterator[str]:
    """Yield name and labels of each series."""
    machines = [f"host{number:04}:9435" for number in range(hosts)]
    for table, common in ((PER_HOST, {"instance": machines}), (PER_JOB, {})):
        for name, own in table.items():
            labels = {"job": ["ebpf_exporter"]} | common | own
            for values in itertools.product(*labels.values()):
                inner = ",".join(
                    f'{key}="{value}"' for key, value in zip(labels, values, strict=True)
                )
                yield f"{name}{{{inner}}}"


def write(path: Path, hosts: int, end: int) -> int:
    """Write an hour of all series as OpenMetrics; return their number."""
    count = 0
    moments = range(end - HOUR, end + 1, STEP)
    with path.open("w") as file:
        for count, one in enumerate(series(hosts), start=1):
            # Values differ from series to series, so that topk() has something to sort.
            value = 1 if one.startswith(("up", "ALERTS{")) else (count * 7919 % 1000) / 1000
            file.writelines(f"{one} {value} {moment}\n" for moment in moments)
        file.write("# EOF\n")
    return count


def timings(server: Prometheus, window: Window) -> dict[str, tuple[float, int]]:
    """Return seconds and number of series of each panel of Fleet, its queries added up."""
    spent: dict[str, tuple[float, int]] = {}
    fleet = next(one for one in reading.documents() if one["uid"] == "linmonitor-fleet")
    for panel, target in reading.queries(fleet):
        began = time.monotonic()
        if target.get("instant"):
            found = server.instant(target["expr"], window.end)
        else:
            found = server.range(target["expr"], window)
        seconds, number = spent.get(panel["title"], (0.0, 0))
        spent[panel["title"]] = (seconds + time.monotonic() - began, number + len(found))
    return spent


def main() -> int:
    """Print the time of each panel and of all; return 1 where one is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        text, data = Path(scratch, "series.txt"), Path(scratch, "data")
        end = int(time.time()) // STEP * STEP
        count = write(text, options.hosts, end)
        subprocess.run(
            [tool("promtool"), "tsdb", "create-blocks-from", "openmetrics", "-q", text, data],
            check=True,
        )
        text.unlink()
        with running(programs(VERSION), Path(scratch), {}, free_port()) as server:
            spent = timings(server, Window(end - HOUR, end, 15))
    for title, (seconds, number) in sorted(spent.items(), key=lambda item: -item[1][0]):
        print(f"{seconds:8.3f} s {number:5} series  {title}")
    total = sum(seconds for seconds, _ in spent.values())
    worst = max(seconds for seconds, _ in spent.values())
    empty = [title for title, (_, number) in spent.items() if not number]
    print(
        f"{total:8.3f} s for {len(spent)} panels of Kernel / Fleet over {options.hosts} synthetic "
        f"hosts ({count} recorded series, 1 h at a step of 15 s); slowest {worst:.3f} s, "
        f"limit {LIMIT:g} s; {len(empty)} without data"
    )
    return 1 if worst > LIMIT or empty else 0


if __name__ == "__main__":
    sys.exit(main())
