# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus reaches every target over the network."""

from __future__ import annotations

import json
import time

testinfra_hosts = ["ansible://linmonitor_prometheus"]
TARGETS = ("deb11", "deb12", "deb13")


def get(host, url: str) -> dict:
    program = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    return json.loads(host.check_output("python3 -c %s %s", program, url))


def test_prometheus_scrapes_every_target_over_the_network(host):
    deadline = time.monotonic() + 60
    health: dict = {}
    while set(health.values()) != {"up"} and time.monotonic() < deadline:
        found = get(host, "http://127.0.0.1:9090/api/v1/targets")["data"]["activeTargets"]
        health = {
            entry["labels"]["instance"]: entry["health"]
            for entry in found
            if entry["labels"]["job"] == "ebpf_exporter"
        }
        time.sleep(1)
    assert health == dict.fromkeys(TARGETS, "up")
