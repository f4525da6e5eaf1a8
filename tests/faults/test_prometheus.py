# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After each fault Prometheus runs as before, or the next run makes it as asked."""

from __future__ import annotations

import json
import os
import signal
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.lab import prometheus
from tests.lab.deployed import failures
from tests.lab.monitor import Monitor

RULES = "/etc/linmonitor/prometheus/rules/alerts.yml"
UNIT = "/etc/systemd/system/linmonitor-prometheus.service"
BELOW = "https://127.0.0.1:9090/below"
LOG_IN = """\
import base64, ssl, sys, urllib.request as r
word = base64.b64encode(":".join(sys.argv[2:]).encode()).decode()
asked = r.Request(sys.argv[1], headers={"Authorization": "Basic " + word})
try:
    said = r.urlopen(asked, context=ssl._create_unverified_context())
except r.HTTPError as error:
    said = error
print(said.status, said.read().decode())
"""
THRESHOLD = {"DiskLatencyP99High": {"threshold": 0.321}}


class Host(Monitor):
    """A host that is to run Prometheus, and what these tests ask of it."""

    def get(self, path: str, user: str, password: str) -> tuple[str, str]:
        """Return status and text of an answer below the path that the tests set."""
        command = f"python3 -c '{LOG_IN}' '{BELOW}{path}' {user} {password}"
        said = self.run(command).partition(" ")
        return said[0], said[2]

    def status(self, user: str, password: str) -> str:
        """Return what a user is answered with."""
        return self.get("/-/ready", user, password)[0]

    def up(self, password: str) -> dict[str, str]:
        """Return by job whether the server's scrapes succeed, once it has scraped anew."""
        since = time.time()
        query = f"/api/v1/query?query=up+and+timestamp(up)%3E{since:.0f}"
        while time.time() < since + 120:
            found = json.loads(self.get(query, "alice", password)[1])["data"]["result"]
            if found:
                return {one["metric"]["job"]: one["value"][1] for one in found}
            time.sleep(1)
        return {}

    def threshold(self) -> str:
        """Return the expression of the alert that the tests change, as the server has it."""
        groups = self.ask("rules?type=alert")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return next(rule["query"] for rule in rules if rule["name"] in THRESHOLD)

    def files(self) -> str:
        """Return the hashes of unit and configuration."""
        return self.run(f"sha256sum {UNIT} $(find /etc/linmonitor/prometheus -type f | sort)")


@pytest.fixture(scope="module")
def bare_monitor() -> Iterator[Host]:
    """Boot the host; nothing is deployed to it yet."""
    monitor = Host("faults-prometheus")
    yield monitor
    monitor.close()


@pytest.fixture
def monitor(bare_monitor: Host) -> Host:
    """Have a server that runs as the defaults say."""
    bare_monitor.deploy()
    return bare_monitor


@pytest.mark.reliability("Prometheus: a first start that fails", "nothing runs, nothing is left")
def test_a_first_start_that_fails_leaves_nothing_running(bare_monitor: Host) -> None:
    # An address that no host has: the flags are right, and only a start can tell.
    status, output = bare_monitor.play({"prometheus_listen_address": "192.0.2.1:9090"})
    assert status != 0
    assert "cannot assign requested address" in output, failures(output)
    assert bare_monitor.run(f"ls {UNIT} {RULES} 2>/dev/null") == ""
    assert bare_monitor.process() == "0"


@pytest.mark.reliability("Prometheus: a start that fails", "the old flags and files are back")
def test_a_start_that_fails_brings_the_old_flags_back(monitor: Host) -> None:
    before = monitor.files()
    status, output = monitor.play(
        {"prometheus_listen_address": "192.0.2.1:9090", "prometheus_alerts": THRESHOLD}
    )
    assert status != 0
    assert "cannot assign requested address" in output, failures(output)
    assert "runs again with the unit, the flags, the program and the files of before" in output
    assert monitor.files() == before
    assert monitor.ask("status/flags")["web.listen-address"] == "127.0.0.1:9090"
    assert "0.321" not in monitor.threshold()
    assert "changed=0" in monitor.deploy()


@pytest.mark.reliability(
    "Prometheus: what its own programs refuse", "nothing is written, what runs goes on"
)
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"prometheus_retention_time": "15days"}, "prometheus_retention_time must be a duration"),
        ({"prometheus_retention_size": "5"}, "prometheus_retention_size must be a size"),
        ({"prometheus_flags": {"query.timout": "1m"}}, "unknown long flag '--query.timout'"),
        ({"prometheus_flags": {"query.timeout": "1 m"}}, 'not a valid duration string: "1 m"'),
        (
            {"prometheus_scrape_configs": [{"job_name": "a", "scrape_intervall": "5s"}]},
            "field scrape_intervall not found in type config.ScrapeConfig",
        ),
        ({"prometheus_scrape_configs": [{"job_name": "a"}] * 2}, "multiple scrape configs"),
        ({"prometheus_remote_write": [{"name": "a"}]}, "url for remote_write is empty"),
        ({"prometheus_config": {"globl": {}}}, "field globl not found in type config.plain"),
        (
            {"prometheus_web_config": {"tls_server_config": {"cert_file": "a", "key_file": "b"}}},
            "open /etc/linmonitor/prometheus/a: no such file or directory",
        ),
        ({"prometheus_web_config": {"basic_auth": {}}}, "field basic_auth not found"),
    ],
)
def test_what_its_programs_refuse_is_not_written(
    monitor: Host, variables: dict, words: str
) -> None:
    before, process = monitor.files(), monitor.process()
    status, output = monitor.play(variables)
    assert status != 0
    assert words in output, failures(output)
    assert "nothing was changed" in output.lower()
    assert (monitor.files(), monitor.process()) == (before, process)


@pytest.mark.reliability("Prometheus: a program that does not start", "the old one runs again")
def test_a_program_that_does_not_start_brings_the_old_one_back(
    monitor: Host, tmp_path: Path
) -> None:
    packed = tmp_path / prometheus.NAME
    packed.mkdir()
    (packed / "promtool").write_text("#!/bin/sh\n")
    (packed / "promtool").chmod(0o755)
    # It takes its flags, as far as one can see before a start.
    (packed / "prometheus").write_text(
        "#!/bin/sh\nfor word; do last=$word; done\n"
        f'[ "$last" = --version ] && echo "version {prometheus.VERSION} " && exit\n'
        'echo "$last"; echo broken on purpose; exit 1\n'
    )
    (packed / "prometheus").chmod(0o755)
    archive = tmp_path / "other.tar.gz"
    with tarfile.open(archive, "w:gz") as tarball:
        tarball.add(packed, arcname=packed.name)
    status, output = monitor.play(
        {
            "prometheus_archive": str(archive),
            "prometheus_archive_sha256": prometheus.sha256(archive),
        }
    )
    assert status != 0
    assert "broken on purpose" in output, failures(output)
    program = monitor.run(f"readlink /proc/{monitor.process()}/exe")
    assert program.startswith(f"/opt/linmonitor/prometheus/{prometheus.VERSION}-")
    assert monitor.ask("status/buildinfo")["version"] == prometheus.VERSION


@pytest.mark.reliability(
    "Prometheus: two plays at once on a bare host", "told of each other, whole"
)
def test_two_plays_at_once_on_a_bare_host_are_told_of_each_other(bare_monitor: Host) -> None:
    bare_monitor.run("rm -rf /opt/linmonitor/prometheus; systemctl stop linmonitor-prometheus")
    both = [bare_monitor.start() for _ in range(2)]
    outputs = [" ".join(process.communicate()[0].split()) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    told = [output for output in outputs if "Another run is at work on prometheus of box" in output]
    assert len(told) == 1
    assert "(process " in told[0]
    assert bare_monitor.run("ls /run/linmonitor 2>/dev/null") == ""
    assert "changed=0" in bare_monitor.deploy()


@pytest.mark.reliability(
    "Prometheus: a play killed while it has the host's lock", "the next waits for nobody, whole"
)
def test_lock_of_a_play_that_was_killed_keeps_nobody_waiting(bare_monitor: Host) -> None:
    bare_monitor.run("rm -rf /opt/linmonitor/prometheus; systemctl stop linmonitor-prometheus")
    process = bare_monitor.start()
    assert any("Unpack the archive" in line for line in process.stdout)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert bare_monitor.run("ls /run/linmonitor") == "prometheus.lock"
    assert "Another run" not in bare_monitor.deploy()
    assert bare_monitor.run("ls /run/linmonitor 2>/dev/null") == ""
    assert "changed=0" in bare_monitor.deploy()


@pytest.mark.reliability(
    "Prometheus: rules that promtool refuses", "nothing is written, what runs goes on"
)
def test_rules_that_promtool_refuses_are_not_written(monitor: Host, tmp_path: Path) -> None:
    before, process = monitor.files(), monitor.process()
    rules = tmp_path / "mine.yml"
    rules.write_text("groups: [{name: a, rules: [{record: x, expr: sum(}]}]\n")
    status, output = monitor.play({"prometheus_rule_files": [str(rules)]})
    assert status != 0
    assert "promtool refuses what is to be written to box" in output, failures(output)
    assert "rules/mine.yml" in output
    assert monitor.files() == before
    assert monitor.process() == process


@pytest.mark.reliability(
    "Prometheus: rules written before a run was cut off", "loaded by the next play"
)
def test_what_a_run_wrote_before_it_was_cut_off_is_loaded_by_the_next(monitor: Host) -> None:
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


@pytest.mark.reliability(
    "Prometheus: a unit written before a run was cut off", "started by the next play"
)
def test_a_unit_that_was_written_before_a_cut_is_started_by_the_next(monitor: Host) -> None:
    process = monitor.process()
    monitor.run(f"sed -i 's/^LimitNOFILE=.*/LimitNOFILE=1234/' {UNIT}; systemctl daemon-reload")
    monitor.run(f"sed -i 's/^LimitNOFILE=.*/LimitNOFILE=65536/' {UNIT}; systemctl daemon-reload")
    assert "action: restarted" in monitor.deploy()
    assert monitor.process() != process
    assert "changed=0" in monitor.deploy()


@pytest.mark.reliability("Prometheus killed six times in a row", "comes back", times=6)
def test_a_server_that_is_killed_again_and_again_comes_back(monitor: Host) -> None:
    for _ in range(6):
        killed = monitor.process()
        monitor.run(f"kill -KILL {killed}")
        deadline = time.monotonic() + 120
        while monitor.process() in ("0", killed):
            assert time.monotonic() < deadline, monitor.run("journalctl --lines=20")
            time.sleep(0.2)
    assert "changed=0" in monitor.deploy()


@pytest.mark.reliability(
    "Prometheus: hosts with names of any form", "instances of that name", times=2
)
def test_hosts_of_any_name_are_instances_of_that_name(
    monitor: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own, other = "0x1f", 'it\'s "a:b": {c} \u65e5 #1'
    known = yaml.safe_load(monitor.lab.inventory.read_text())["all"]
    box = known["hosts"]["box"]
    known["hosts"] = {own: box, other: {"ebpf_exporter_scrape_address": "192.0.2.9"}}
    known["children"] = {
        "linmonitor_prometheus": {"hosts": {own: {}}},
        "linmonitor_targets": {"hosts": {other: {}}},
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(yaml.safe_dump({"all": known}))
    monkeypatch.setattr(monitor, "inventories", [inventory])
    for words in ("failed=0", "changed=0"):
        status, output = monitor.play(ANSIBLE_RUN_TAGS="prometheus")
        assert status == 0, failures(output)
        assert words in output
    found = {one["labels"]["instance"] for one in monitor.ask("targets")["activeTargets"]}
    assert found == {own, other}


SECRET = "quite-a-Secret"
LOGIN = {"alice": SECRET + "-1", "bob": SECRET + "-2"}
CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=monitor"
    " -keyout /etc/tls/key.pem -out /etc/tls/cert.pem"
)


@pytest.mark.reliability(
    "Prometheus: passwords and certificates that come, change and go",
    "no secret is shown, none is left",
)
def test_users_passwords_and_certificates_come_change_and_go(monitor: Host) -> None:
    monitor.run(f"mkdir -p /etc/tls && {CERTIFICATE} && chgrp -R linmonitor-prometheus /etc/tls")
    monitor.run("chmod 640 /etc/tls/key.pem")
    tls = {"tls_server_config": {"cert_file": "/etc/tls/cert.pem", "key_file": "/etc/tls/key.pem"}}
    wanted = {
        "prometheus_external_url": "https://metrics.example.com/below/",
        "prometheus_web_config": tls | {"basic_auth_users": LOGIN},
        "prometheus_scrape_configs": [
            {"job_name": "mine", "authorization": {"credentials": SECRET}}
        ],
    }
    shown = {"ANSIBLE_VERBOSITY": "3", "ANSIBLE_DIFF_ALWAYS": "true"}
    status, output = monitor.play(wanted, **shown)
    assert status == 0, failures(output)
    again = monitor.play(wanted, **shown)[1]
    assert "changed=0" in again, failures(again)
    assert SECRET not in output + again
    assert monitor.run(f"journalctl --no-pager | grep --count {SECRET}") == "0"
    modes = monitor.run("stat --format '%a %U %G' /etc/linmonitor/prometheus/*.yml | sort -u")
    assert modes == "640 root linmonitor-prometheus"
    assert monitor.up(LOGIN["alice"]) == {"prometheus": "1"}

    process = monitor.process()
    wanted["prometheus_web_config"]["basic_auth_users"] = {"alice": SECRET + "-3"}
    assert "action: reloaded" in monitor.deploy(**wanted)
    assert monitor.process() == process
    assert monitor.up(SECRET + "-3") == {"prometheus": "1"}
    assert monitor.status("alice", LOGIN["alice"]) == monitor.status("bob", LOGIN["bob"]) == "401"

    assert "action: restarted" in monitor.deploy()
    assert monitor.ask("status/flags")["web.external-url"] != wanted["prometheus_external_url"]
    assert SECRET not in monitor.run("cat /etc/linmonitor/prometheus/*.yml")
