# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs is what was asked for, or what ran before; systemd and the server are of words here.

tests/faults does the same to a real server.
"""

from __future__ import annotations

import grp
import os
import pwd
import time

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _prometheus
from ansible_collections.linmonitor.stack.plugins.modules import prometheus_server

ME = {"user": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
SERVICE = "linmonitor-prometheus.service"
PROMTOOL = """\
#!/bin/sh
grep --quiet broken "$(dirname "$3")"/rules/* || exit 0
echo "FAILED: $3"; exit 1
"""


class World:
    """A host: what systemd and the server know, and what was done to them."""

    def __init__(self, folder, monkeypatch):
        self.folder, self.done = folder, []
        self.process, self.started, self.unit = 0, 0.0, ""
        self.taken, self.good, self.enabled = 0.0, True, False
        self.ready = 200
        (folder / "units").mkdir()
        (folder / "home").mkdir()
        (folder / "home/promtool").write_text(PROMTOOL)
        (folder / "home/promtool").chmod(0o755)
        self.file = folder / "units" / SERVICE
        monkeypatch.setattr(prometheus_server, "UNITS", str(folder / "units"))
        # Files belong to root there.
        monkeypatch.setattr(prometheus_server.os, "chown", lambda *_arguments: None)
        monkeypatch.setattr(prometheus_server.os, "fchown", lambda *_arguments: None)
        monkeypatch.setattr(prometheus_server, "present", self.present)
        monkeypatch.setattr(_prometheus, "ask", self.ask)
        monkeypatch.setattr(_prometheus, "PAUSE", 0)
        monkeypatch.setattr(_prometheus, "RELOAD_SECONDS", 0)
        monkeypatch.setattr(_prometheus.Unit, "outdated", lambda unit, _program: self.outdated())
        self.really = prometheus_server.AnsibleModule.run_command
        world = self

        def run_command(module, command, *_arguments, **_options):
            if command[0] in ("systemctl", "journalctl"):
                return 0, world.systemd(*command), ""
            return world.really(module, command)

        monkeypatch.setattr(prometheus_server.AnsibleModule, "run_command", run_command)

    def present(self, path, folder=False, really=prometheus_server.present):
        """Give everything to root, as far as the module can see."""
        entry = really(path, folder)
        return entry and entry._replace(owner=self.owner(path), group=self.group(path))

    def owner(self, path):
        return os.getuid() if path.endswith("data") else 0

    def group(self, path):
        return 0 if path.endswith(SERVICE) else os.getgid()

    def outdated(self):
        return self.unit != self.file.read_text()

    def systemd(self, command, *words):
        if command == "journalctl":
            return "its last words\nMain process exited, code=exited\n"
        if words[0] == "show":
            state = "active" if self.process else "inactive"
            enabled = "enabled" if self.enabled else "disabled"
            return f"ActiveState={state}\nMainPID={self.process}\nUnitFileState={enabled}\n"
        self.done.append(words[0])
        if words[0] == "restart":
            self.unit = self.file.read_text()
            self.process = 0 if "fails" in self.unit else self.process + 1
            self.taken, self.good = time.time(), True
        elif words[0] == "reload":
            self.good = "refused" not in (self.folder / "etc/prometheus.yml").read_text()
            self.taken = time.time() if self.good else self.taken
        elif words[0] == "stop":
            self.process = 0
        elif words[0] in ("enable", "disable"):
            self.enabled = words[0] == "enable"
        return ""

    def ask(self, url):
        if url.endswith("/-/ready"):
            return (self.ready if self.process else 0), ""
        name = "prometheus_config_last_reload_success"
        return 200, f"{name}ful {int(self.good)}\n{name}_timestamp_seconds {self.taken!r}\n"


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


@pytest.fixture
def deploy(run, world):
    """Return a function that runs the module with some settings."""

    def call(unit="works", config="good", rules="good", **more):
        world.done.clear()
        return run(
            prometheus_server,
            host="box",
            service=SERVICE,
            unit=unit,
            home=str(world.folder / "home"),
            config_dir=str(world.folder / "etc"),
            files={"prometheus.yml": config, "rules/alerts.yml": rules, "targets/a.json": "[]"},
            data_dir=str(world.folder / "data"),
            url="http://127.0.0.1:9",
            start_seconds=0,
            **(ME | more),
        )

    return call


def acts(world):
    """Return what was done to the server."""
    return [verb for verb in world.done if verb in ("restart", "reload", "stop")]


def test_first_run_starts_and_the_second_changes_nothing(deploy, world):
    first = deploy()
    assert (first["action"], first["changed"], acts(world)) == ("started", True, ["restart"])
    assert world.enabled
    second = deploy()
    assert (second["action"], second["changed"], acts(world)) == ("", False, [])


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ({"unit": "other"}, "restarted"),
        ({"config": "other"}, "reloaded"),
        ({"rules": "o"}, "reloaded"),
    ],
)
def test_a_change_reaches_the_server(deploy, world, change, action):
    deploy()
    assert deploy(**change)["action"] == action
    assert deploy(**change)["changed"] is False


def test_what_an_earlier_run_wrote_and_did_not_load_is_loaded(deploy, world):
    deploy()
    world.taken -= 60
    assert deploy()["action"] == "reloaded"


def test_what_the_server_refused_is_loaded_again(deploy, world):
    deploy()
    world.good = False
    assert deploy()["action"] == "reloaded"


def test_a_unit_that_was_written_and_not_started_is_started(deploy, world):
    deploy()
    world.unit = "of before"
    assert deploy()["action"] == "restarted"


def test_after_a_failed_start_everything_of_before_is_back(deploy, world):
    deploy()
    failed = deploy(unit="fails", config="other")
    assert failed["failed"]
    assert "Prometheus of box" in failed["msg"]
    assert "its last words" in failed["msg"]
    assert "runs again" in failed["msg"]
    assert acts(world) == ["restart", "restart"]
    assert world.file.read_text() == "works"
    assert (world.folder / "etc/prometheus.yml").read_text() == "good"
    assert deploy()["changed"] is False


def test_after_a_failed_first_start_nothing_is_left(deploy, world):
    assert "It is stopped" in deploy(unit="fails")["msg"]
    assert acts(world) == ["restart", "stop"]
    assert not world.enabled
    assert not world.file.exists()
    assert [path for path in (world.folder / "etc").rglob("*") if path.is_file()] == []


def test_after_a_refused_configuration_that_of_before_is_loaded(deploy, world):
    deploy()
    assert "does not take its configuration" in deploy(config="refused")["msg"]
    assert acts(world) == ["reload", "reload"]
    assert world.good
    assert (world.folder / "etc/prometheus.yml").read_text() == "good"


def test_a_server_that_replays_its_log_is_left_to_it(deploy, world):
    deploy()
    world.ready = 503
    assert "prometheus_start_seconds" in deploy(unit="other")["msg"]
    assert acts(world) == ["restart"]
    assert world.file.read_text() == "other"


def test_a_disk_without_room_leaves_server_and_files_alone(deploy, world, monkeypatch):
    deploy()

    def put(entry, really=prometheus_server.put):
        if entry.path.endswith(SERVICE):
            raise OSError("No space left on device")
        really(entry)

    monkeypatch.setattr(prometheus_server, "put", put)
    said = deploy(unit="other", config="other")["msg"]
    assert (
        "No space left on device. The files of before are back; the server was left alone" in said
    )
    assert acts(world) == []
    assert (world.folder / "etc/prometheus.yml").read_text() == "good"


def test_what_promtool_refuses_is_not_written(deploy, world):
    deploy()
    said = deploy(rules="broken")["msg"]
    assert f"FAILED: {world.folder}/etc/prometheus.yml" in said
    assert "nothing was changed" in said
    assert (world.folder / "etc/rules/alerts.yml").read_text() == "good"
    assert acts(world) == []


def test_check_mode_says_what_would_be_and_does_nothing(deploy, world):
    said = deploy(_ansible_check_mode=True, user="nobody-yet", group="nobody-yet")
    assert (said["action"], said["changed"]) == ("started", True)
    assert {entry["after"] for entry in said["diff"]} == {"works", "good", "[]"}
    assert not world.file.exists()
    assert world.done == []


def test_the_address_of_before_is_asked_when_going_back(deploy, world, monkeypatch):
    asked = []
    monkeypatch.setattr(_prometheus, "ask", lambda url: asked.append(url) or world.ask(url))
    deploy(unit="--web.listen-address=:8")
    deploy(unit="fails --web.listen-address=:9")
    assert asked[-1] == "http://127.0.0.1:8/-/ready"


def test_nobody_answers_is_an_answer():
    assert _prometheus.ask("http://127.0.0.1:9/metrics") == (0, "")


def test_metrics_without_a_reload_are_not_good():
    assert _prometheus.loaded("# HELP x\n") == (False, 0)


def test_the_journal_of_a_failed_start_ends_where_it_ended_and_lacks_the_help():
    said = "Stopping it\nError: a flag\nFlags:\n  --a\n\tmore\nMain process exited, 2\nStarted it\n"
    unit = _prometheus.Unit("a.service", "/absent", lambda _command: (0, said, ""))
    told = "Stopping it\nError: a flag\nFlags:\nMain process exited, 2"
    assert unit.journal(0, True) == told
    assert unit.journal(0, False) == told + "\nStarted it"
