# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in exporter: the series that files/bpf/*/*.yaml declare, growing with time.

It proves that queries fit the series, never that the series are true.
"""

from __future__ import annotations

import functools
import itertools
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml

PREFIX = "ebpf_exporter_"
EVENTS_PER_SECOND = 20
# Values of labels whose decoder reads the host; the rest comes from the YAML's static_map.
HOST_VALUES = {"device": ["sda", "nvme0n1"]}


@functools.cache
def _declared(path: Path) -> dict[str, list[dict]]:
    """Return the metrics of a program by kind; reading YAML takes longer than a scrape may."""
    return yaml.safe_load(path.read_text())["metrics"]


def _label_values(label: dict) -> list[str]:
    if label["name"] in HOST_VALUES:
        return HOST_VALUES[label["name"]]
    maps = [decoder["static_map"] for decoder in label["decoders"] if "static_map" in decoder]
    return [value for value in maps[0].values() if value != "other"]


def edges(metric: dict) -> list[float]:
    """Return the bounds of a histogram's buckets but +Inf, as its YAML declares them."""
    step = metric.get("bucket_multiplier", 1)
    if "bucket_keys" in metric:
        return [key * step for key in metric["bucket_keys"]]
    powers = [2**k for k in range(metric["bucket_min"], metric["bucket_max"] + 1)]
    return [
        edge * step for edge in ([0, *powers[:-1]] if "zero" in metric["bucket_type"] else powers)
    ]


def _text(name: str, labels: dict[str, str], value: float) -> str:
    inner = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"{name}{{{inner}}} {value!r}\n" if inner else f"{name} {value!r}\n"


def _histogram(name: str, metric: dict, labels: dict[str, str], count: float) -> list[str]:
    """Spread `count` events over the buckets, most of them in the middle."""
    bounds = edges(metric)
    weights = [2.0 ** -abs(place - len(bounds) // 2) for place in range(len(bounds))]
    total, below, out = sum(weights), 0.0, []
    for edge, weight in zip(bounds, weights):
        below += weight / total
        out.append(
            _text(f"{name}_bucket", labels | {"le": repr(float(edge))}, round(count * below))
        )
    out.append(_text(f"{name}_bucket", labels | {"le": "+Inf"}, round(count)))
    mean = sum(edge * weight for edge, weight in zip(bounds, weights)) / total
    out.append(_text(f"{name}_sum", labels, count * mean))
    out.append(_text(f"{name}_count", labels, round(count)))
    return out


def _node(seconds: float) -> list[str]:
    """Return a half idle host of two processors, by node_exporter's names."""
    disk, link = {"device": "sda"}, {"device": "eth0"}
    return [
        *(
            _text("node_cpu_seconds_total", {"cpu": str(cpu), "mode": mode}, seconds / 2)
            for cpu in range(2)
            for mode in ("idle", "user")
        ),
        _text("node_load1", {}, 1),
        _text("node_memory_MemAvailable_bytes", {}, 3e9),
        _text("node_memory_MemTotal_bytes", {}, 4e9),
        _text("node_disk_io_time_seconds_total", disk, seconds / 10),
        _text("node_disk_read_bytes_total", disk, seconds * 1e6),
        _text("node_disk_written_bytes_total", disk, seconds * 1e6),
        _text("node_network_receive_bytes_total", link, seconds * 1e6),
        _text("node_network_transmit_bytes_total", link, seconds * 1e6),
        _text("node_network_transmit_bytes_total", {"device": "lo"}, seconds * 1e9),
    ]


def page(configs: Path, seconds: float, node: bool = True) -> str:
    """Return what an exporter shows that has counted for `seconds`, and what node_exporter does."""
    out = [_text(f"{PREFIX}build_info", {"version": "2.5.1"}, 1)]
    for number, path in enumerate(sorted(configs.glob("*/*.yaml"))):
        identity = {"id": str(number)}
        program = {"config": path.stem, "program": path.stem.replace("-", "_"), "tag": "stand-in"}
        out += [
            _text(f"{PREFIX}enabled_configs", {"name": path.stem}, 1),
            _text(f"{PREFIX}ebpf_program_info", program | identity, 1),
            _text(f"{PREFIX}ebpf_program_attached", identity, 1),
            _text(f"{PREFIX}ebpf_program_run_time_seconds", identity, seconds * 1e-5),
            _text(f"{PREFIX}ebpf_program_run_count_total", identity, seconds * 40),
            _text(f"{PREFIX}decoder_errors_total", {"config": path.stem}, 0),
        ]
        for kind, metrics in _declared(path).items():
            for metric in metrics:
                name = PREFIX + metric["name"]
                labels = [label for label in metric["labels"] if label["name"] != "bucket"]
                names = [label["name"] for label in labels]
                for values in itertools.product(*map(_label_values, labels)):
                    pairs = dict(zip(names, values))
                    if kind == "histograms":
                        out += _histogram(name, metric, pairs, seconds * EVENTS_PER_SECOND)
                    else:
                        grows = 0 if name.endswith("_dropped_total") else seconds
                        out.append(_text(name, pairs, round(grows)))
    out.append(_text("process_cpu_seconds_total", {}, seconds / 100))
    out.append(_text("process_resident_memory_bytes", {}, 4e7))
    out.append(_text("process_start_time_seconds", {}, time.time() - seconds))
    if node:
        out.append(_text("node_netstat_Tcp_OutSegs", {}, seconds * 1000))
        out.append(_text("node_netstat_TcpExt_ListenOverflows", {}, 0))
        out += _node(seconds)
    return "".join(out)


def serve(configs: Path, node: bool = True) -> ThreadingHTTPServer:
    """Return a server of that page on a free loopback port; the caller runs and closes it."""
    began = time.time()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page(configs, time.time() - began, node).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
