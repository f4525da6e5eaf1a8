# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two instances on a host that runs Debian's Prometheus: none of the three moves the others.

Both are shards of the same targets.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from tests.lab.deployed import failures
from tests.lab.monitor import Monitor

PORTS = {"eu": 9190, "us": 9191}
STRANGER = 9090
HOSTS = [f"host{number}" for number in range(10)]
# Debian's Prometheus stands in for them, by another address for each shard, as a shard's own host
# has one.
ADDRESSES = {"eu": f"127.0.0.1:{STRANGER}", "us": f"localhost:{STRANGER}"}
MEMBERS = {
    name: {
        "prometheus_instance": name,
        "prometheus_listen_address": f"127.0.0.1:{port}",
        "prometheus_shards": len(PORTS),
        "prometheus_shard": shard,
        "prometheus_targets": [
            {"targets": [ADDRESSES[name]], "labels": {"instance": one}} for one in HOSTS
        ],
    }
    for shard, (name, port) in enumerate(PORTS.items())
}
INSTALL = (
    "export DEBIAN_FRONTEND=noninteractive; apt-get update &&"
    " apt-get install --yes --no-install-recommends prometheus"
)
OF_THE_STRANGER = "/etc/prometheus /etc/default/prometheus /lib/systemd/system/prometheus.service"


def unit(name: str) -> str:
    return f"linmonitor-prometheus-{name}"


def scraped(host: Monitor, port: int) -> set[str]:
    """Return the exporters that an instance has as targets."""
    labels = [one["labels"] for one in host.ask("targets?state=active", port)["activeTargets"]]
    return {one["instance"] for one in labels if one["job"] == "ebpf_exporter"}


def stranger(host: Monitor) -> tuple[str, ...]:
    """Return what of Debian's Prometheus must stay: process, state, files, owner of its data."""
    return (
        host.process("prometheus"),
        host.run("systemctl is-enabled prometheus"),
        host.run(f"find {OF_THE_STRANGER} -type f | sort | xargs sha256sum"),
        host.run("stat --format '%U %G %a' /var/lib/prometheus/metrics2"),
    )


@pytest.fixture(scope="module")
def host() -> Iterator[Monitor]:
    """Have both instances beside Debian's package, deployed in one run."""
    host = Monitor("instances", MEMBERS)
    host.run(INSTALL)
    before = stranger(host)
    assert before[0] != "0", host.run("systemctl status prometheus")
    host.deploy()
    assert stranger(host) == before
    yield host
    host.close()


def test_a_second_run_changes_neither(host: Monitor) -> None:
    before = stranger(host)
    recap = re.findall(r"(\w+) : ok=\d+ changed=(\d+)", host.deploy())
    assert sorted(recap) == [("eu", "0"), ("us", "0")]
    assert stranger(host) == before


def test_each_has_user_folders_and_data_of_its_own(host: Monitor) -> None:
    for name, port in PORTS.items():
        flags = host.ask("status/flags", port)
        assert flags["storage.tsdb.path"] == f"/var/lib/linmonitor/prometheus-{name}"
        assert flags["config.file"] == f"/etc/linmonitor/prometheus-{name}/prometheus.yml"
        owner = host.run(f"ps --no-headers -o user:40 --pid {host.process(unit(name))}")
        assert owner == unit(name)
        program = host.run(f"readlink /proc/{host.process(unit(name))}/exe")
        assert program.startswith(f"/opt/linmonitor/prometheus-{name}/")
    assert (
        host.ask("status/flags", STRANGER)["storage.tsdb.path"] == "/var/lib/prometheus/metrics2/"
    )


def test_each_target_is_scraped_by_one_shard(host: Monitor) -> None:
    for _ in range(60):  # a server reads its targets a while after it is ready
        eu, us = (scraped(host, port) for port in PORTS.values())
        if len(eu) + len(us) >= len(HOSTS):
            break
        time.sleep(1)
    assert sorted([*eu, *us]) == HOSTS
    assert eu
    assert us


def test_a_port_that_another_instance_has_is_refused(host: Monitor) -> None:
    before = [host.process(unit(name)) for name in PORTS]
    same = {"prometheus_listen_address": f"127.0.0.1:{PORTS['us']}"}
    status, output = host.play(same, "--limit=eu")
    assert status != 0
    assert f"Port 127.0.0.1:{PORTS['us']} is taken by prometheus" in output, failures(output)
    assert f"of {unit('us')}.service" in output
    assert [host.process(unit(name)) for name in PORTS] == before


def test_stop_and_start_act_on_the_instance_that_is_named(host: Monitor) -> None:
    other, before = host.process(unit("us")), stranger(host)
    assert host.play({}, "--limit=eu", playbook="stop")[0] == 0
    assert (host.process(unit("eu")), host.process(unit("us"))) == ("0", other)
    assert host.play({}, "--limit=eu", playbook="start")[0] == 0
    assert host.process(unit("eu")) != "0"
    assert (host.process(unit("us")), stranger(host)) == (other, before)


def test_what_purges_one_leaves_the_others(host: Monitor) -> None:
    other, before = host.process(unit("us")), stranger(host)
    data = host.run("ls -d /var/lib/linmonitor/prometheus-us/wal")
    purge = {"linmonitor_purge": ["prometheus"]}
    status, output = host.play(purge, "--limit=eu", playbook="uninstall")
    assert status == 0, failures(output)
    left = "find / -xdev ( -name '*prometheus-eu*' -o -name '*prometheus@eu*' )"
    assert host.run(left.replace("(", "\\(").replace(")", "\\)")) == ""
    assert host.run(f"getent passwd {unit('eu')}; getent group {unit('eu')}") == ""
    assert (host.process(unit("us")), stranger(host)) == (other, before)
    assert host.run("ls -d /var/lib/linmonitor/prometheus-us/wal") == data != ""
    assert host.ask("status/buildinfo", PORTS["us"])["version"]
    assert "changed=0" in host.play({}, "--limit=us")[1]
