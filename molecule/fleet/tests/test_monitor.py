# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus reaches every target over the network."""

from __future__ import annotations

import json
import time

testinfra_hosts = ["ansible://linmonitor_prometheus"]


def get(host, url: str) -> dict:
    program = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    return json.loads(host.check_output("python3 -c %s %s", program, url))


def address(host, name: str) -> str:
    return host.backend.ansible_runner.get_variables(name)["ansible_host"]


def test_prometheus_scrapes_every_target_where_it_listens(host):
    deadline = time.monotonic() + 60
    health: dict = {}
    while set(health.values()) != {"up"} and time.monotonic() < deadline:
        found = get(host, "http://127.0.0.1:9090/api/v1/targets")["data"]["activeTargets"]
        targets = [entry for entry in found if entry["labels"]["job"] == "ebpf_exporter"]
        health = {entry["labels"]["instance"]: entry["health"] for entry in targets}
        time.sleep(1)
    assert health == dict.fromkeys(("by-hand", "deb11", "deb12", "deb13", "monitor"), "up")
    asked = {entry["labels"]["instance"]: entry["scrapeUrl"] for entry in targets}
    assert asked == {
        "by-hand": "http://127.0.0.1:9090/metrics",
        "deb11": f"http://{address(host, 'deb11')}:9435/metrics",
        "deb12": f"http://{address(host, 'deb12')}:9436/metrics",
        "deb13": "http://deb13:9437/metrics",
        "monitor": f"http://{address(host, 'monitor')}:9435/metrics",
    }


def test_label_of_a_target_is_what_the_inventory_wants(host):
    found = get(host, "http://127.0.0.1:9090/api/v1/query?query=up%7Binstance=%22deb11%22%7D")
    [sample] = found["data"]["result"]
    assert ",biolatency," in sample["metric"]["ebpf_configs"]
