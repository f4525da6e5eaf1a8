# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host without internet runs what the bundle brought."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

testinfra_hosts = ["ansible://linmonitor_targets"]
SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def get(host, url: str) -> str:
    program = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    return host.check_output("python3 -c %s %s", program, url)


def test_host_has_no_way_out(host):
    assert "Network is unreachable" in host.run("ip route get 192.0.2.1").stderr


def test_cache_holds_the_bundle_and_nothing_else():
    lines = (SCRATCH / "site.tar.lock.txt").read_text().splitlines()
    cache = SCRATCH / "cache"
    files = {
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(cache)}"
        for path in cache.rglob("*")
        if path.is_file()
    }
    assert files == set(lines)


def test_lock_of_the_connected_run_has_the_bundle_s_archives():
    lock = (SCRATCH / "linmonitor.lock.txt").read_text().splitlines()
    bundled = (SCRATCH / "site.tar.lock.txt").read_text().splitlines()
    archives = {line for line in bundled if line.endswith(".tar.gz")}
    assert len(archives) == 2
    assert archives <= set(lock)


def test_bundle_holds_the_package_of_the_standin_for_grafana():
    bundled = (SCRATCH / "site.tar.lock.txt").read_text().splitlines()
    packages = [line.split()[1] for line in bundled if line.endswith(".deb")]
    assert packages == ["grafana/oss-stable-newest-x86_64/grafana_13.2.3_all.deb"]


def test_bundle_without_sources_holds_none():
    assert "sources/" not in (SCRATCH / "site.tar.lock.txt").read_text()


def test_standin_for_grafana_runs_from_the_bundle(host):
    assert json.loads(get(host, "http://127.0.0.1:3000/api/health"))["version"] == "13.2.3"
    assert not host.file("/etc/apt/sources.list.d/linmonitor-grafana.sources").exists


def test_settings_are_those_that_their_tags_applied(host):
    assert "ebpf_exporter_enabled_configs" in get(host, "http://127.0.0.1:9436/metrics")
    targets = host.file("/etc/linmonitor/prometheus/targets/ebpf_exporter.json").content_string
    assert "127.0.0.1:9436" in targets
    assert host.file("/etc/grafana/grafana.ini").contains("^level = warn")


def test_exporter_is_healthy(host):
    assert host.run("python3 /opt/linmonitor/current/health.py").stdout == ""


def test_prometheus_scrapes_it(host):
    url = "http://127.0.0.1:9090/api/v1/query?query=up%7Bjob%3D%22ebpf_exporter%22%7D"
    values: list[str] = []
    deadline = time.monotonic() + 60
    while values != ["1"] and time.monotonic() < deadline:
        values = [series["value"][1] for series in json.loads(get(host, url))["data"]["result"]]
        time.sleep(1)
    assert values == ["1"]
