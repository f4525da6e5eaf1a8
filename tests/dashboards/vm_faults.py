# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""In a virtual machine: break disks and networks until the alert for it fires; write what did.

The exporter and Prometheus are the real ones. Started by vm_alerts.py; standard library only,
because the machine runs Debian's own Python.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import resource
import socket
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.dashboards.api import Prometheus
from tests.dashboards.live import unhealthy
from tests.kernel import net
from tests.kernel.cases_block import BLOCK, CONFIGFS, null_disks, read_direct
from tests.kernel.cases_tcp_connect import timed_connect
from tests.kernel.cases_tcp_memory import squeeze
from tests.kernel.cases_tcp_retransmit import transfer
from tests.kernel.exporter import SERVICE, Exporter, UnixConnection
from tests.kernel.tcp import PORT, close_all, start_connecting

EXPORTER = 9435  # its port; nobody else is in this machine
PATIENCE = 90  # seconds of a fault until its alert must fire
IPV4 = socket.AF_INET
ADDRESS = net.SERVER_ADDRESS[IPV4]


def slow_disk() -> None:
    """Read from a disk that takes 200 ms."""
    with null_disks(1, irqmode=2, completion_nsec=200_000_000) as (disk,):
        read_direct(f"/dev/{disk}", 800, 16)


def bad_disk() -> None:
    """Read a bad block, for some scrapes."""
    with null_disks(1, memory_backed=1) as (disk,):
        (CONFIGFS / "nullb" / disk / "badblocks").write_text("+800-807", encoding="ascii")
        descriptor = os.open(f"/dev/{disk}", os.O_RDONLY | os.O_DIRECT)
        for _ in range(20):
            with contextlib.suppress(OSError):
                os.preadv(descriptor, [mmap.mmap(-1, BLOCK)], 800 * 512)
            time.sleep(0.5)
        os.close(descriptor)


def fill_queue(clients: int) -> None:
    """Let clients meet listen(5), which takes six, and nobody who accepts."""
    server = net.listener(net.SERVER, IPV4, port=PORT, backlog=5)
    connecting = start_connecting(IPV4, ADDRESS, PORT, clients)
    time.sleep(0.3)
    close_all([*connecting, server])


def lose_packets() -> None:
    """Send over a way that loses one packet in twenty."""
    with net.netem("delay 10ms loss 5%", "delay 10ms"):
        transfer(IPV4, 2_500_000, 8)


def delay_handshakes() -> None:
    """Connect over a way of 600 ms."""
    server = net.listener(net.SERVER, IPV4, port=PORT)
    with net.netem("delay 300ms", "delay 300ms"):
        connecting = start_connecting(IPV4, ADDRESS, PORT, 30)
        time.sleep(1)
        close_all([*connecting, server])
        time.sleep(0.5)  # what is under way arrives


def refuse_connects() -> None:
    """Connect to where nobody listens."""
    for _ in range(50):
        timed_connect(IPV4, ADDRESS, PORT + 1)


# In this order no fault makes a later alert fire.
FAULTS: dict[str, Callable[[], object]] = {
    "DiskLatencyP99High": slow_disk,
    "DiskErrors": bad_disk,
    "TcpAcceptQueueNearLimit": lambda: fill_queue(6),
    "TcpConnectFailuresHigh": refuse_connects,
    "TcpHandshakeSlow": delay_handshakes,
    "TcpRetransmitRateHigh": lose_packets,
    "TcpWindowClamped": lambda: squeeze(5),
    "TcpListenOverflows": lambda: fill_queue(12),
}


def preferred(artifact: Path) -> Exporter:
    """Start the exporter with the preferred variant of every config."""
    catalogue = json.loads((artifact / "manifest.json").read_text())["catalogue"]["configs"]
    first = {config: entry["variants"][0] for config, entry in catalogue.items()}
    chosen = {config: variant["name"] for config, variant in first.items()}
    exporter = Exporter(artifact, chosen, SERVICE, "preferred")
    exporter.wait()
    return exporter


@contextlib.contextmanager
def forwarded(exporter: Exporter) -> Iterator[None]:
    """Let Prometheus reach the exporter's Unix socket over TCP."""

    class Forward(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            connection = UnixConnection(exporter.socket)
            connection.request("GET", self.path)
            answer = connection.getresponse()
            body = answer.read()
            connection.close()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers["Content-Type"])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", EXPORTER), Forward) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@contextlib.contextmanager
def running(binary: Path, configuration: Path) -> Iterator[Prometheus]:
    """Run Prometheus, and wait until it has scraped the exporter."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [binary, f"--config.file={configuration}", f"--storage.tsdb.path={folder}",
             "--web.listen-address=127.0.0.1:9090", "--log.level=warn"]
        )  # fmt: skip
        server = Prometheus("http://127.0.0.1:9090")
        deadline = time.monotonic() + PATIENCE
        try:
            while True:
                try:
                    if server.instant("up == 1", time.time()):
                        break
                except OSError:
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise
                time.sleep(0.5)
            yield server
        finally:
            process.terminate()
            process.wait(timeout=60)


def firing(server: Prometheus) -> dict[str, str]:
    """Return what each alert that fires tells a person."""
    return {
        alert["labels"]["alertname"]: alert["annotations"]["description"]
        for alert in server.get("alerts")["alerts"]
        if alert["state"] == "firing"
    }


def make(alert: str, fault: Callable[[], object], server: Prometheus) -> dict:
    """Make a fault until its alert fires; return how long that took and what it says."""
    if alert in firing(server):
        return {"alert": alert, "error": "fired before its fault was made"}
    began = time.monotonic()
    while time.monotonic() < began + PATIENCE:
        fault()
        time.sleep(1)
        if alert in (found := firing(server)):
            return {"alert": alert, "seconds": time.monotonic() - began, "says": found[alert]}
    return {"alert": alert, "error": f"is quiet; firing: {sorted(firing(server))}"}


def main() -> None:
    """Make every fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.dashboards.vm_faults")
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--prometheus", type=Path, required=True, help="the binary")
    parser.add_argument("--configuration", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (-1, -1))
    net.ip("link", "set", "lo", "up")
    results: list[dict] = []

    def write(error: str) -> None:
        """Write what is known so far: a run that is cut off still says something."""
        kernel = os.uname().release
        options.out.write_text(json.dumps({"kernel": kernel, "results": results, "error": error}))

    write("did not finish")
    try:
        exporter = preferred(options.artifact)
        with contextlib.ExitStack() as stack:
            stack.enter_context(forwarded(exporter))
            server = stack.enter_context(running(options.prometheus, options.configuration))
            stack.enter_context(net.topology())
            print("exporter and Prometheus run", flush=True)
            for alert, fault in FAULTS.items():
                results.append(make(alert, fault, server))
                print(results[-1], flush=True)
                write("did not finish")
            error = "; ".join(unhealthy(server))
        exporter.stop()
        write(error)
    except Exception:
        write(traceback.format_exc())


if __name__ == "__main__":
    main()
