# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fault becomes an alert, and the alert reaches whoever the configuration names."""

from __future__ import annotations

import json
import time

import pytest

CONFIGURATION = "/etc/linmonitor/alertmanager/alertmanager.yml"
# A listener whose queue is full, and connects that find it so.
OVERFLOW = """
import socket, time
server = socket.create_server(("127.0.0.1", 0), backlog=1)
clients = [socket.socket() for _ in range(60)]
for client in clients:
    client.setblocking(False)
    client.connect_ex(server.getsockname())
time.sleep(1)
"""
WAIT_SECONDS = 300


def get(host, url: str) -> str:
    """Fetch a URL from inside the host, whose services listen on its loopback."""
    program = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    return host.check_output("python3 -c %s %s", program, url)


def ask(host, path: str) -> dict:
    return json.loads(get(host, f"http://127.0.0.1:9090/api/v1/{path}"))["data"]


def heard(host) -> str:
    file = host.file("/run/listener.txt")
    return file.content_string if file.exists else ""


@pytest.mark.parametrize(
    ("unit", "port"), [("prometheus-alertmanager", 9093), ("prometheus-node-exporter", 9100)]
)
def test_service_runs_at_boot_and_listens_on_loopback_only(host, unit, port):
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled
    listening = host.check_output(f"ss -Hltn sport = :{port}").split()
    assert listening[3] == f"127.0.0.1:{port}"
    assert len(listening) == 5


def test_nothing_gossips(host):
    assert host.check_output("ss -Hlun sport = :9094") == ""


def test_secrets_are_for_the_service_alone(host):
    file = host.file(CONFIGURATION)
    assert (file.user, file.group, file.mode) == ("root", "prometheus", 0o640)
    assert "swordfish" in file.content_string


@pytest.mark.parametrize("name", ["alertmanager", "node-exporter"])
def test_files_of_the_package_are_its_own(host, name):
    assert host.run(f"dpkg --verify prometheus-{name}").stdout == ""


def test_prometheus_scrapes_both_and_sends_alerts(host):
    def health() -> dict[str, str]:
        targets = ask(host, "targets")["activeTargets"]
        return {target["labels"]["job"]: target["health"] for target in targets}

    wanted = {"node": "up", "alertmanager": "up", "prometheus": "up", "ebpf_exporter": "down"}
    deadline = time.monotonic() + WAIT_SECONDS
    while health() != wanted and time.monotonic() < deadline:
        time.sleep(1)
    assert health() == wanted
    (active,) = ask(host, "alertmanagers")["activeAlertmanagers"]
    assert active["url"] == "http://127.0.0.1:9093/api/v2/alerts"


def test_a_fault_reaches_the_receiver(host):
    assert "TcpListenOverflows" not in heard(host)
    deadline = time.monotonic() + WAIT_SECONDS
    while "TcpListenOverflows" not in heard(host) and time.monotonic() < deadline:
        host.check_output("python3 -c %s", OVERFLOW)
        time.sleep(4)
    assert "/team firing TcpListenOverflows" in heard(host)


def test_watchdog_arrives_at_alertmanager_and_calls_nobody(host):
    def watchdogs() -> list[dict]:
        alerts = json.loads(get(host, "http://127.0.0.1:9093/api/v2/alerts"))
        return [one for one in alerts if one["labels"]["alertname"] == "Watchdog"]

    # Groups of rules are evaluated at times of their own.
    deadline = time.monotonic() + WAIT_SECONDS
    while not watchdogs() and time.monotonic() < deadline:
        time.sleep(1)
    (watchdog,) = watchdogs()
    assert [receiver["name"] for receiver in watchdog["receivers"]] == ["nobody"]
    assert "Watchdog" not in heard(host)
