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


def test_exporter_listens_where_its_variable_says(host):
    variables = host.ansible.get_variables()
    own = variables["ansible_host"]
    listens = {
        "deb11": "*:9435",
        "deb12": "*:9436",
        "deb13": f"{own}:9437",
        "monitor": f"{own}:9435",
    }[variables["inventory_hostname"]]
    assert host.check_output("ss -Hltn sport = :%s", listens[-4:]).split()[3] == listens


def test_systemd_lets_in_the_host_itself_and_who_may_ask(host):
    """As systemd parsed it; it does not enforce it in containers with cgroup v1."""
    properties = host.check_output(
        "systemctl show -p IPAddressAllow -p IPAddressDeny ebpf_exporter"
    )
    allowed = properties.partition("IPAddressAllow=")[2].splitlines()[0].split()
    assert "0.0.0.0/0" in properties
    variables = host.ansible.get_variables()
    own = variables["ansible_host"]
    monitor = host.backend.ansible_runner.get_variables("monitor")["ansible_host"]
    others = {
        "deb11": {monitor},
        "deb12": {monitor, "192.0.2.0/24"},
        "deb13": {monitor, own},
        "monitor": {own},
    }[variables["inventory_hostname"]]
    assert {one.removesuffix("/32") for one in allowed} == {"127.0.0.0/8", "::1/128"} | others


def test_kernel_takes_the_cheap_variants(host):
    choice = json.loads(host.file("/run/ebpf_exporter/choice.json").content_string)
    assert choice["configs"]["biolatency"]["variant"] == "tp_btf"
