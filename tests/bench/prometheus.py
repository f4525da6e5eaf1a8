# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print what a fleet costs one Prometheus: processor, memory, bytes.

One process plays all targets, each with the series of a host with two busy disks; the server is
real, scrapes at the default interval, and evaluates our rules. What these record counts as samples
too.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import random
import re
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

from dashboards import rules
from tests.dashboards.server import running
from tests.dashboards.standin import page
from tests.lab.process import free_port
from tests.lab.prometheus import VERSION, programs

INTERVAL = 15  # seconds, as the role has it
LEAD = 120  # seconds until every target has been found, scraped and judged
# What a host does seldom or never has no series there.
RARE = re.compile(
    r'="(ipv6|public|discard|driver_in|driver_out|secure_erase|write_zeroes|aborted|timeout|probe|fast)"'
)
TICK = os.sysconf("SC_CLK_TCK")


def pages(count: int) -> list[bytes]:
    """Return what a host shows at each scrape, compressed as the exporter does it."""
    events, drawn, shown = random.Random(1), 1000.0, []
    for _ in range(count):
        drawn += INTERVAL * events.uniform(0.2, 1.8)
        lines = page(rules.ROOT / "files/bpf", drawn).splitlines(keepends=True)
        text = "".join(line for line in lines if not RARE.search(line))
        shown.append(gzip.compress(text.encode()))
    return shown


def play(port: int, shown: list[bytes]) -> None:
    """Be all targets, until ended."""
    began = time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            number = int((time.monotonic() - began) / INTERVAL)
            body = shown[min(number, len(shown) - 1)]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    ThreadingHTTPServer.request_queue_size = 1024
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


def configuration(hosts: int, port: int, own: int) -> dict:
    """Return a configuration whose targets differ in their instance alone."""
    targets = [
        {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": f"host{n:04}"}}
        for n in range(hosts)
    ]
    return {
        "global": {"scrape_interval": f"{INTERVAL}s", "evaluation_interval": f"{INTERVAL}s"},
        "rule_files": ["recording.yml", "alerts.yml"],
        "scrape_configs": [
            {"job_name": "ebpf_exporter", "static_configs": targets},
            {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{own}"]}]},
        ],
    }


def process_of(folder: Path) -> int:
    """Return the server whose files lie in a folder."""
    wanted = f"--config.file={folder}/prometheus.yml".encode()
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        if wanted in line.read_bytes().split(b"\0"):
            return int(line.parent.name)
    raise SystemExit("Prometheus has ended")


def processor_seconds(pid: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_bytes(pid: int) -> int:
    """Return the most memory that a process had at a time."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1024


def stored(port: int, data: Path) -> tuple[float, float]:
    """Return the bytes of a sample in the chunks, and those of a series in a block's index.

    A block has one index, however long it is, so the two are apart: these minutes are no block of
    two hours.
    """
    asked = Request(f"http://127.0.0.1:{port}/api/v1/admin/tsdb/snapshot", method="POST")
    with urlopen(asked, timeout=600) as answer:
        name = json.load(answer)["data"]["name"]
    blocks = list((data / "snapshots" / name).glob("*/meta.json"))
    said = [json.loads(block.read_text())["stats"] for block in blocks]
    chunks = sum(file.stat().st_size for block in blocks for file in block.parent.glob("chunks/*"))
    index = sum((block.parent / "index").stat().st_size for block in blocks)
    samples, series = (sum(one[what] for one in said) for what in ("numSamples", "numSeries"))
    return chunks / samples, index / series


def main() -> None:
    """Run the server for some minutes and print the table's row."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.prometheus", description=__doc__)
    parser.add_argument("--hosts", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    seconds = options.minutes * 60
    port, own = free_port(), free_port()
    shown = pages(int((seconds + LEAD) / INTERVAL) + 2)
    player = multiprocessing.Process(target=play, args=(port, shown), daemon=True)
    player.start()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        rules.write(folder)
        asked = configuration(options.hosts, port, own)
        with running(programs(VERSION), folder, asked, own, "--web.enable-admin-api") as server:
            time.sleep(LEAD)
            pid = process_of(folder)
            before, began = processor_seconds(pid), time.monotonic()
            time.sleep(seconds)
            cores = (processor_seconds(pid) - before) / (time.monotonic() - began)
            memory = resident_bytes(pid)

            def one(expr: str) -> float:
                return server.instant(expr, time.time())[0].values[0]

            answering = one('sum(up{job="ebpf_exporter"})')
            series = one("prometheus_tsdb_head_series")
            rate = one("rate(prometheus_tsdb_head_samples_appended_total[5m])")
            sample, entry = stored(own, folder / "data")
    player.terminate()
    print(
        "hosts  answering   series  samples/s  cores  memory MiB  bytes/sample  index bytes/series"
    )
    print(
        f"{options.hosts:5}  {answering:9.0f} {series:8.0f} {rate:10.0f} {cores:6.2f}"
        f" {memory / 2**20:11.0f} {sample:13.2f} {entry:19.0f}"
    )
    if answering < options.hosts:
        raise SystemExit("Not every target was scraped: this machine is too busy or too small.")


if __name__ == "__main__":
    main()
