# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each target runs the one artifact, on Debian 11, 12 and 13, without a compiler."""

from __future__ import annotations

import json

testinfra_hosts = ["ansible://linmonitor_targets"]


def test_target_has_no_compiler(host):
    assert not any(host.exists(tool) for tool in ("clang", "gcc", "cc", "go", "make"))


def test_exporter_is_healthy(host):
    assert host.run("python3 /opt/linmonitor/current/health.py").stdout == ""


def test_exporter_listens_where_prometheus_reaches_it(host):
    listening = host.check_output("ss -Hltn sport = :9435").split()
    assert listening[3].rpartition(":")[0] in host.check_output("hostname -I").split()


def test_only_the_host_itself_and_prometheus_are_allowed(host):
    properties = host.check_output(
        "systemctl show -p IPAddressAllow -p IPAddressDeny ebpf_exporter"
    )
    allowed = properties.partition("IPAddressAllow=")[2].splitlines()[0].split()
    assert "0.0.0.0/0" in properties
    own = host.check_output("hostname -I").split()
    assert len([entry for entry in allowed if entry.removesuffix("/32") not in own]) == 3


def test_kernel_takes_the_cheap_variants(host):
    choice = json.loads(host.file("/run/ebpf_exporter/choice.json").content_string)
    assert choice["configs"]["biolatency"]["variant"] == "tp_btf"
