# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs is what was asked for, or what ran before; systemd and the server are of words here.

tests/faults does the same to a real server.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import time

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _bcrypt,
    _files,
    _hidden,
    _lock,
    _prometheus,
    _service,
)
from ansible_collections.linmonitor.stack.plugins.modules import prometheus_server
from fake_unit import Host

ME = {"user": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
SERVICE = "linmonitor-prometheus.service"
# check config FILE, check web-config FILE
PROMTOOL = """\
#!/bin/sh
grep --quiet --recursive --dereference-recursive broken "$(dirname "$3")" || exit 0
echo "FAILED: $3"; grep --no-filename broken "$3"; exit 1
"""
PROMETHEUS = """\
#!/bin/sh
case "$*" in *15days*) echo 'not a valid duration string: "15days"'; exit 2 ;; esac
for word; do last=$word; done
echo "Error loading config ($last)"; exit 2
"""


def is_of(known, password):
    """Say whether a hash is one of a password."""
    return _bcrypt.hashed(password, known) == known


class World(Host):
    """A host: what systemd and the server know, and what was done to them."""

    def __init__(self, folder, monkeypatch):
        super().__init__(folder, monkeypatch, prometheus_server, SERVICE)
        self.taken, self.good, self.ready = 0.0, True, 200
        (folder / "home").mkdir()
        for name, text in (("promtool", PROMTOOL), ("prometheus", PROMETHEUS)):
            (folder / "home" / name).write_text(text)
            (folder / "home" / name).chmod(0o755)
        # Files belong to root there.
        monkeypatch.setattr(_files.os, "chown", lambda *_arguments: None)
        monkeypatch.setattr(_files.os, "fchown", lambda *_arguments: None)
        monkeypatch.setattr(_files, "present", self.present)
        monkeypatch.setattr(_service, "ask", self.ask)
        monkeypatch.setattr(_prometheus, "RELOAD_SECONDS", 0)

    def present(self, path, folder=False, really=_files.present):
        """Give everything to root, as far as the module can see."""
        entry = really(path, folder)
        return entry and entry._replace(owner=self.owner(path), group=self.group(path))

    def owner(self, path):
        return os.getuid() if "/data" in path else 0

    def group(self, path):
        return 0 if path.endswith(SERVICE) else os.getgid()

    def systemd(self, command, *words):
        said = super().systemd(command, *words)
        if words[0] == "restart":
            self.taken, self.good = time.time(), True
        elif words[0] == "reload":
            self.good = "refused" not in (self.folder / "etc/prometheus.yml").read_text()
            self.taken = time.time() if self.good else self.taken
        return said

    def ask(self, url, login=None):
        known = dict(prometheus_server.USER.findall((self.folder / "etc/web.yml").read_text()))
        if self.process and known and not (login and is_of(known[f'"{login[0]}"'], login[1])):
            return 401, ""
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

    def call(unit="works", config="good", rules="good", web="", arguments=(), **more):
        more = {"version": "2.37.8", "data_since": "2.32"} | more
        world.done.clear()
        return run(
            prometheus_server,
            host="box",
            record="prometheus",
            service=SERVICE,
            unit=unit,
            home=str(world.folder / "home"),
            config_dir=str(world.folder / "etc"),
            arguments=["--config.file=/absent", *arguments],
            files={"rules/alerts.yml": rules, "targets/a.json": "[]"},
            secret_files={"prometheus.yml": config, "web.yml": web},
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


def test_a_run_that_failed_keeps_no_other_controller_waiting(deploy, tmp_path, monkeypatch):
    monkeypatch.setattr(_lock, "FOLDER", str(tmp_path / "run"))
    ada = {"id": "laptop/7/1", "owner": "ada on laptop"}
    with _lock.Lock("prometheus", ada) as lock:
        lock.stays = True
    assert deploy(unit="fails", run=ada)["failed"]
    assert not deploy(run={"id": "desk/8/1", "owner": "bob on desk"}).get("failed")


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

    def put(entry, really=_files.put):
        if entry.path.endswith(SERVICE):
            raise OSError("No space left on device")
        really(entry)

    monkeypatch.setattr(_files, "put", put)
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
    assert "promtool refuses what is to be written to box" in said
    assert "nothing was changed" in said
    assert (world.folder / "etc/rules/alerts.yml").read_text() == "good"
    assert acts(world) == []


def test_check_mode_says_what_would_be_and_does_nothing(deploy, world):
    nobody = {"user": "nobody-yet", "group": "nobody-yet"}
    said = deploy(config="a: configuration", _ansible_check_mode=True, **nobody)
    assert (said["action"], said["changed"]) == ("started", True)
    shown = {entry["after"] for entry in said["diff"]}
    record = '{"data_since": "2.32", "version": "2.37.8"}\n'
    assert shown == {"works", "good", "[]", "", f"a: {_hidden.HIDDEN}", record}
    assert not world.file.exists()
    assert world.done == []


def test_the_address_of_before_is_asked_when_going_back(deploy, world, monkeypatch):
    asked = []
    monkeypatch.setattr(
        _service, "ask", lambda url, login=None: asked.append(url) or world.ask(url, login)
    )
    deploy(unit="# Answers at https://127.0.0.1:8/x\n")
    deploy(unit="# Answers at http://127.0.0.1:9\nfails")
    assert asked[-1] == "https://127.0.0.1:8/x/-/ready"


THREE = {"version": "3.5.3", "data_since": "2.55"}


def written_by(world):
    return json.loads((world.folder / "data/linmonitor-version.json").read_text())


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("version", ["2.37.8", "2.54.1", "2.6.0"])
def test_a_version_that_cannot_read_the_data_is_refused(deploy, world, version, check):
    deploy(**THREE)
    said = deploy(version=version, unit="other", _ansible_check_mode=check)
    assert said["failed"]
    assert "written by Prometheus 3.5.3 and can be read from 2.55 on" in said["msg"]
    assert f"prometheus_version is {version}" in said["msg"]
    for way in ("prometheus_version to 2.55", "prometheus_data_dir", "linmonitor-version.json"):
        assert way in said["msg"]
    assert (world.done, world.unit, written_by(world)) == ([], "works", THREE)


def test_one_that_can_read_it_does_not_hide_what_newer_ones_wrote(deploy, world):
    deploy(**THREE)
    assert not deploy(version="2.55.1", unit="other").get("failed")
    assert written_by(world) == THREE
    assert deploy(version="2.53.3")["failed"]


def test_the_record_is_written_once_on_the_way_up(deploy, world):
    deploy()
    assert written_by(world)["version"] == "2.37.8"
    deploy(version="2.55.1")
    assert written_by(world)["version"] == "2.37.8"
    deploy(**THREE)
    assert written_by(world) == THREE
    assert not deploy(**THREE | {"version": "3.9.0"})["changed"]


def test_what_did_not_start_has_written_nothing(deploy, world):
    deploy()
    assert deploy(unit="fails", **THREE)["failed"]
    assert written_by(world)["data_since"] == "2.32"
    assert not deploy().get("failed")


def test_an_agent_s_log_is_no_time_series(deploy, world):
    agent = ["--storage.agent.path=/absent"]
    deploy(arguments=agent, **THREE)
    assert not (world.folder / "data/linmonitor-version.json").exists()
    assert not deploy(arguments=agent, unit="other").get("failed")


def test_flags_that_the_program_does_not_take_change_nothing(deploy, world):
    deploy()
    said = deploy(unit="other", arguments=["--storage.tsdb.retention.time=15days"])["msg"]
    assert "nothing was changed" in said
    assert 'not a valid duration string: "15days"' in said
    assert acts(world) == []
    assert world.file.read_text() == "works"


def test_a_password_can_change_and_come_back(deploy, world):
    file = world.folder / "etc/web.yml"
    deploy(web_users={"alice": "one", "bob": "one"})
    first = dict(prometheus_server.USER.findall(file.read_text()))
    assert len(set(first.values())) == 2, "a salt is drawn for each"
    same = {"web_users": {"alice": "two", "bob": "one"}}
    assert deploy(**same)["action"] == "reloaded"
    second = dict(prometheus_server.USER.findall(file.read_text()))
    assert (second['"bob"'] == first['"bob"']) and is_of(second['"alice"'], "two")
    assert deploy(**same)["changed"] is False
    failed = deploy(config="refused", web_users={"alice": "three"})
    assert "runs again" in failed["msg"]
    assert dict(prometheus_server.USER.findall(file.read_text())) == second
    assert deploy(**same)["changed"] is False


def test_bcrypt_is_what_others_call_so():
    known = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"
    assert _bcrypt.hashed("U*U", known) == known
    drawn = _bcrypt.hashed("U*V", known)
    assert drawn.startswith("$2b$10$")
    assert _bcrypt.hashed("U*V", drawn) == drawn


SECRETS = """\
# A head
scrape_configs:
- job_name: mine
  basic_auth:
    password: broken 'tis topsecret
  authorization:
    credentials: topsecret too
"""


@pytest.mark.parametrize("mode", [{}, {"_ansible_check_mode": True}])
def test_secrets_are_shown_nowhere(deploy, mode, capsys):
    deploy(config="- job_name: yours\n  password: topsecret as well")
    config = SECRETS.replace("broken", "sound")
    said = deploy(config=config, _ansible_diff=True, _ansible_verbosity=5, **mode)
    assert "topsecret" not in str(said)
    (shown,) = [entry["after"] for entry in said["diff"]]
    assert "- job_name: mine\n" in shown
    assert f"    password: {_hidden.HIDDEN}\n" in shown


def test_a_program_that_quotes_a_secret_is_quoted_without_it():
    text = 'password: "tops\\"ecret"\nurl: http://me:mine@host\nscheme: htps\n'
    shown, hidden = _hidden.view(text)
    assert shown == "password: (hidden)\nurl: (hidden)\nscheme: htps\n"
    said = 'cannot read `http://...`, parse "http://me:mine@host" of "htps"'
    assert _hidden.without(said, hidden) == ('cannot read `(hidden)`, parse "(hidden)" of "htps"')


def test_nobody_answers_is_an_answer():
    assert _service.ask("http://127.0.0.1:9/metrics") == (0, "")


def test_metrics_without_a_reload_are_not_good():
    assert _prometheus.loaded("# HELP x\n") == (False, 0)


def test_the_journal_of_a_failed_start_ends_where_it_ended_and_lacks_the_help():
    said = "Stopping it\nError: a flag\nFlags:\n  --a\n\tmore\nMain process exited, 2\nStarted it\n"
    unit = _service.Unit("a.service", "/absent", lambda _command: (0, said, ""))
    told = "Stopping it\nError: a flag\nFlags:\nMain process exited, 2"
    assert unit.journal(0, True) == told
    assert unit.journal(0, False) == told + "\nStarted it"
