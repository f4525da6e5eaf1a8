# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After each fault Prometheus runs as before, or the next run makes it as asked."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.conftest import PLAYBOOK
from tests.lab import prometheus
from tests.lab.hosts import CHECKOUT, Lab

RULES = "/etc/linmonitor/prometheus/rules/alerts.yml"
UNIT = "/etc/systemd/system/linmonitor-prometheus.service"
API = "http://127.0.0.1:9090/api/v1"
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
THRESHOLD = {"DiskLatencyP99High": {"threshold": 0.321}}


class Monitor:
    """A host that is to run Prometheus."""

    def __init__(self) -> None:
        """Boot it."""
        self.lab = Lab("faults-prometheus")
        self.handed_in = prometheus.handed_in()
        self.lab.up({"box": "bookworm"}, {"linmonitor_prometheus": ["box"]})

    def play(self, **variables: object) -> tuple[int, str]:
        """Deploy; return the exit status and the output without line breaks."""
        extra = json.dumps(self.handed_in | variables)
        done = subprocess.run(
            [PLAYBOOK, "--inventory", str(self.lab.inventory), "--extra-vars", extra, "site.yml"],
            cwd=CHECKOUT,
            env=os.environ
            | {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_VERBOSITY": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return done.returncode, " ".join(done.stdout.split())

    def deploy(self, **variables: object) -> str:
        """Deploy and insist on success."""
        status, output = self.play(**variables)
        assert status == 0, output[-3000:]
        return output

    def run(self, command: str) -> str:
        """Run a command in the host; return its standard output, stripped."""
        done = subprocess.run(
            ["podman", "exec", self.lab.container("box"), "sh", "-c", command],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip()

    def ask(self, path: str) -> dict:
        """Return what the server says."""
        return json.loads(self.run(f"python3 -c '{ASK}' {API}/{path}"))["data"]

    def process(self) -> str:
        """Return the process of the server."""
        return self.run("systemctl show --value --property=MainPID linmonitor-prometheus")

    def threshold(self) -> str:
        """Return the expression of the alert that the tests change, as the server has it."""
        groups = self.ask("rules?type=alert")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return next(rule["query"] for rule in rules if rule["name"] in THRESHOLD)

    def files(self) -> str:
        """Return the hashes of unit and configuration."""
        return self.run(f"sha256sum {UNIT} $(find /etc/linmonitor/prometheus -type f | sort)")


@pytest.fixture(scope="module")
def bare_monitor() -> Iterator[Monitor]:
    """Boot the host; nothing is deployed to it yet."""
    monitor = Monitor()
    yield monitor
    monitor.lab.down()


@pytest.fixture
def monitor(bare_monitor: Monitor) -> Monitor:
    """Have a server that runs as the defaults say."""
    bare_monitor.deploy()
    return bare_monitor


def test_a_first_start_that_fails_leaves_nothing_running(bare_monitor: Monitor) -> None:
    status, output = bare_monitor.play(prometheus_retention_time="99999y")
    assert status != 0
    assert "duration out of range" in output, output[-3000:]
    assert bare_monitor.run(f"ls {UNIT} {RULES} 2>/dev/null") == ""
    assert bare_monitor.process() == "0"


def test_flags_that_it_does_not_take_bring_the_old_ones_back(monitor: Monitor) -> None:
    before = monitor.files()
    status, output = monitor.play(prometheus_retention_time="99999y", prometheus_alerts=THRESHOLD)
    assert status != 0
    assert "duration out of range" in output, output[-3000:]
    assert "runs again with the unit, the flags, the program and the files of before" in output
    assert monitor.files() == before
    assert monitor.ask("status/flags")["storage.tsdb.retention.time"] == "15d"
    assert "0.321" not in monitor.threshold()
    assert "changed=0" in monitor.deploy()


def test_a_program_that_does_not_start_brings_the_old_one_back(
    monitor: Monitor, tmp_path: Path
) -> None:
    packed = tmp_path / prometheus.NAME
    packed.mkdir()
    (packed / "promtool").symlink_to("/bin/true")
    (packed / "prometheus").write_text("#!/bin/sh\necho broken on purpose\nexit 1\n")
    (packed / "prometheus").chmod(0o755)
    archive = tmp_path / "other.tar.gz"
    with tarfile.open(archive, "w:gz") as tarball:
        tarball.add(packed, arcname=packed.name)
    status, output = monitor.play(
        prometheus_archive=str(archive), prometheus_archive_sha256=prometheus.sha256(archive)
    )
    assert status != 0
    assert "broken on purpose" in output, output[-3000:]
    program = monitor.run(f"readlink /proc/{monitor.process()}/exe")
    assert program.startswith(f"/opt/linmonitor/prometheus/{prometheus.VERSION}-")
    assert monitor.ask("status/buildinfo")["version"] == prometheus.VERSION


def test_rules_that_promtool_refuses_are_not_written(monitor: Monitor, tmp_path: Path) -> None:
    before, process = monitor.files(), monitor.process()
    rules = tmp_path / "mine.yml"
    rules.write_text("groups: [{name: a, rules: [{record: x, expr: sum(}]}]\n")
    status, output = monitor.play(prometheus_rule_files=[str(rules)])
    assert status != 0
    assert "promtool refuses what is to be written to box" in output, output[-3000:]
    assert "rules/mine.yml" in output
    assert monitor.files() == before
    assert monitor.process() == process


def test_what_a_run_wrote_before_it_was_cut_off_is_loaded_by_the_next(monitor: Monitor) -> None:
    process = monitor.process()
    monitor.deploy(prometheus_alerts=THRESHOLD)
    wanted = monitor.run(f"cat {RULES} | base64 --wrap=0")
    monitor.deploy()
    # As a run that ended after writing: the files are those that are wanted, the server's are not.
    monitor.run(f"echo {wanted} | base64 --decode > {RULES}")
    assert "0.321" not in monitor.threshold()
    assert "action: reloaded" in monitor.deploy(prometheus_alerts=THRESHOLD)
    assert "0.321" in monitor.threshold()
    assert "changed=0" in monitor.deploy(prometheus_alerts=THRESHOLD)
    assert monitor.process() == process


def test_a_unit_that_was_written_before_a_cut_is_started_by_the_next(monitor: Monitor) -> None:
    process = monitor.process()
    monitor.run(f"sed -i 's/^LimitNOFILE=.*/LimitNOFILE=1234/' {UNIT}; systemctl daemon-reload")
    monitor.run(f"sed -i 's/^LimitNOFILE=.*/LimitNOFILE=65536/' {UNIT}; systemctl daemon-reload")
    assert "action: restarted" in monitor.deploy()
    assert monitor.process() != process
    assert "changed=0" in monitor.deploy()
