# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A store that refuses, is away or is not to be trusted: an alert says so, and scraping goes on.

Two real servers of one version: one sends, the other is its store. Between them stands a gate that
misbehaves. The intervals and ranges of the rules are seconds here.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import re
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dashboards import rules
from tests.dashboards.api import Prometheus
from tests.dashboards.live import unhealthy
from tests.dashboards.server import running
from tests.lab.process import free_port
from tests.lab.prometheus import VERSION, programs
from tests.lab.wait import settled
from tests.versions import NEWEST

PASSWORD = "swordfish"
RECEIVER = "--web.enable-remote-write-receiver"
WORDS = "the store's own words"
LOST, LATE = "PrometheusRemoteWriteFailing", "PrometheusRemoteWriteBehind"
SETTINGS = {LOST: {"hold": "0s"}, LATE: {"threshold": 5, "hold": "0s"}}
# What the gate does, the alert of it, and what stands in Prometheus' log.
FAULTS = {
    "400": (LOST, WORDS),
    "429": (LOST, WORDS),
    "500": (LATE, WORDS),
    "another password": (LOST, "who are you"),
    "no answer": (LATE, "deadline exceeded"),
    "away": (LATE, "connection refused"),
    "an expired certificate": (LATE, "certificate has expired"),
}
SAMPLES = 'up{job="prometheus"}'


def certificate(file: Path, days: int) -> Path:
    """Write a key and a certificate of 127.0.0.1 that ends in some days, or ended before."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, file.stem)])
    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(end - datetime.timedelta(100))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM
    private = key.private_bytes(
        form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + signed.public_bytes(form))
    return file


class Gate:
    """Stands before a store, passes on what it is sent, and misbehaves when it is told to."""

    def __init__(self, folder: Path, store: int) -> None:
        """Listen on a port of loopback; behave."""
        self.url = f"http://127.0.0.1:{store}/api/v1/write"
        self.port = free_port()
        self.fault = ""
        self.good = certificate(folder / "good.pem", 10)
        self.expired = certificate(folder / "expired.pem", -10)
        self.trusted = folder / "trusted.pem"
        self.trusted.write_text(self.good.read_text() + self.expired.read_text())
        self.server: ThreadingHTTPServer | None = None
        self.behave("")

    def behave(self, fault: str) -> None:
        """Have a fault from now on, or none."""
        self.fault = fault
        self.close()
        if fault == "away":
            return
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                gate.answer(self)

            def log_message(self, *words: object) -> None:
                """Say nothing."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.expired if "certificate" in fault else self.good)
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Pass a request on, or answer as the fault has it."""
        body = request.rfile.read(int(request.headers["Content-Length"]))
        password = "changed" if self.fault == "another password" else PASSWORD
        login = "Basic " + base64.b64encode(f"us:{password}".encode()).decode()
        status, words = 204, ""
        if request.headers["Authorization"] != login:
            status, words = 401, "who are you"
        elif self.fault == "no answer":
            time.sleep(5)  # longer than the sender waits
            return
        elif self.fault.isdigit():
            status, words = int(self.fault), WORDS
        else:
            headers = {
                name: value
                for name, value in request.headers.items()
                if name.startswith(("Content-", "X-"))
            }
            urllib.request.urlopen(urllib.request.Request(self.url, body, headers), timeout=10)
        request.send_response(status)
        request.end_headers()
        request.wfile.write(words.encode())


class Sender:
    """A Prometheus that writes to a store through a gate."""

    def __init__(self, server: Prometheus, store: Prometheus, gate: Gate, log: Path) -> None:
        """Take what was started."""
        self.server, self.store, self.gate, self.log = server, store, gate, log

    def firing(self) -> set[str]:
        """Return the names of the alerts about the store that fire."""
        alerts = self.server.get("alerts")["alerts"]
        names = {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}
        return names & {LOST, LATE}

    def samples(self, server: Prometheus, since: float, until: float) -> list[list]:
        """Return times and values of what was scraped meanwhile, as a server has it."""
        seconds = max(1, round(until - since))
        [found] = server.get("query", query=f"{SAMPLES}[{seconds}s]", time=until)["result"] or [{}]
        return found.get("values", [])


@pytest.fixture(scope="module", params=[VERSION, NEWEST])
def sender(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    binaries = programs(request.param)
    folder, far = (tmp_path_factory.mktemp(name) for name in ("sender", "store"))
    port, store_port = free_port(), free_port()
    for file in rules.write(folder, changes=SETTINGS):
        file.write_text(re.sub(r"\b(30s|1m)\b|(?<=\[)5m(?=\])", "5s", file.read_text()))
    gate = Gate(folder, store_port)
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["recording.yml", "alerts.yml"],
        "scrape_configs": [
            {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        ],
        "remote_write": [
            {
                "name": "far",
                "url": f"https://127.0.0.1:{gate.port}/write",
                "basic_auth": {"username": "us", "password": PASSWORD},
                "tls_config": {"ca_file": str(gate.trusted)},
                "remote_timeout": "3s",
                "queue_config": {"batch_send_deadline": "1s", "max_backoff": "500ms"},
            }
        ],
    }
    store = running(binaries, far, {}, store_port, RECEIVER)
    server = running(binaries, folder, configuration, port)
    with store as its, server as ours:
        yield Sender(ours, its, gate, folder / "log")
    gate.close()


@pytest.mark.reliability(
    "Prometheus' store: {id}", "an alert, the store's words in the journal, scraping goes on"
)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_a_store_is_told_and_stops_nothing(sender: Sender, fault: str) -> None:
    alert, words = FAULTS[fault]
    settled("something stored", lambda: sender.samples(sender.store, 0, time.time()))
    settled("no alert", lambda: not sender.firing())
    before = sender.log.stat().st_size
    # What is refused may have been scraped before.
    began = sender.samples(sender.store, 0, time.time())[-1][0]
    sender.gate.behave(fault)
    settled(alert, lambda: alert in sender.firing())
    assert sender.firing() == {alert}
    settled(words, lambda: re.search(words, sender.log.read_text()[before:]))
    settled("scraped on", lambda: len(sender.samples(sender.server, began, time.time())) > 5)
    repaired = time.time()
    sender.gate.behave("")
    settled("no alert after the repair", lambda: not sender.firing())
    here = sender.samples(sender.server, began, repaired)
    assert unhealthy(sender.server) == []
    if alert == LATE:
        settled("all came later", lambda: sender.samples(sender.store, began, repaired) == here)
    else:
        assert len(sender.samples(sender.store, began, repaired)) < len(here)
