# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package's service runs with a unit and files of ours, or as it ran before."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _owned, _service
from ansible_collections.linmonitor.stack.plugins.modules import packaged_service
from fake_unit import Host

SERVICE = "theirs.service"
# Refuses what begins with bad, and says so with the file's name and its second line.
CHECKER = """#!/bin/sh
read -r first < "$2"
[ "$first" != bad ] || { sed -n '2s/.*: \\(.*\\)/cannot read "\\1"/p' "$2"; echo "in $2"; exit 1; }
"""


class World(Host):
    """A host: what systemd knows, and what was done to the service."""

    def __init__(self, folder, monkeypatch):
        super().__init__(folder, monkeypatch, packaged_service, SERVICE)
        self.checker = folder / "checker"
        self.checker.write_text(CHECKER)
        self.checker.chmod(0o755)
        me = SimpleNamespace(pw_uid=os.getuid()), SimpleNamespace(gr_gid=os.getgid())
        monkeypatch.setattr(_owned.pwd, "getpwnam", lambda _name: me[0])
        monkeypatch.setattr(_owned.grp, "getgrnam", lambda _name: me[1])
        monkeypatch.setattr(_service, "ask", lambda _url, _login: (200 * bool(self.process), ""))

    def loaded(self):
        """Return the unit that systemd would start: ours lies before that of the package."""
        return super().loaded() if self.file.exists() else "the package's"


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


@pytest.fixture
def deploy(run, world):
    """Return a function that runs the module with some settings."""

    def call(unit="works", secret="good", **more):
        world.done.clear()
        path = str(world.folder / "etc/service.yml")
        return run(
            packaged_service,
            title="It of box",
            service=SERVICE,
            unit=unit,
            program="/usr/bin/true",
            secret_files={path: secret},
            files={str(world.folder / "etc/templates/a.tmpl"): "a"},
            check=[str(world.checker), "check", path],
            url="http://127.0.0.1:9",
            start_seconds=0,
            **more,
        )

    return call


def files(world):
    return {
        str(path.relative_to(world.folder)): path.read_text()
        for path in sorted(world.folder.glob("[eu]*/**/*"))
        if path.is_file()
    }


def test_first_run_starts_and_the_second_changes_nothing(deploy, world):
    answer = deploy()
    assert (answer["changed"], answer["action"]) == (True, "started")
    assert world.enabled
    assert (world.folder / "etc/service.yml").stat().st_mode & 0o777 == 0o640
    assert world.file.stat().st_mode & 0o777 == 0o644
    again = deploy()
    assert (again["changed"], again["action"], again["written"]) == (False, "", [])
    assert world.done == []


@pytest.mark.parametrize("change", [{"unit": "works otherwise"}, {"secret": "better"}])
def test_a_change_reaches_the_service(deploy, change):
    deploy()
    assert deploy(**change)["action"] == "restarted"
    assert deploy(**change)["action"] == ""


def test_what_an_earlier_run_wrote_and_did_not_start_is_started(deploy, world):
    deploy()
    world.unit = "another"
    assert deploy()["action"] == "restarted"


def test_after_a_failed_start_everything_of_before_runs(deploy, world):
    deploy()
    before = files(world)
    answer = deploy(unit="fails", secret="other")
    assert answer["failed"]
    assert "It runs again with the unit and the files of before" in answer["msg"]
    assert "its last words" in answer["msg"]
    assert files(world) == before
    assert world.process
    assert world.unit == "works"


def test_after_a_failed_takeover_the_package_runs_as_before(deploy, world):
    world.process, world.enabled, world.unit = 7, True, "the package's"
    assert deploy(unit="fails")["failed"]
    assert files(world) == {}
    assert world.process
    assert world.unit == "the package's"
    assert world.enabled


def test_after_a_failed_first_start_nothing_is_left(deploy, world):
    answer = deploy(unit="fails")
    assert "It is stopped, as it was before" in answer["msg"]
    assert files(world) == {}
    assert not world.enabled


def test_a_disk_without_room_leaves_service_and_files_as_they_were(deploy, world, monkeypatch):
    deploy()
    before = files(world)

    def replace(path, *rest, really=_owned.replace):
        if path.endswith(SERVICE):
            raise OSError("No space left on device")
        really(path, *rest)

    monkeypatch.setattr(_owned, "replace", replace)
    said = deploy(unit="other", secret="other")["msg"]
    assert "No space left on device. It runs again with the unit and the files of before" in said
    assert files(world) == before
    assert world.unit == "works"


def test_what_the_checker_refuses_is_not_written_and_no_secret_is_said(deploy, world):
    deploy()
    before = files(world)
    answer = deploy(secret="bad\npassword: swordfish\n")
    assert "checker refuses its files" in answer["msg"]
    assert f"in {world.folder}/etc/service.yml" in answer["msg"]
    assert "swordfish" not in str(answer)
    assert files(world) == before
    assert world.done == []


def test_check_mode_says_what_would_be_and_does_nothing(deploy, world):
    answer = deploy(_ansible_check_mode=True, _ansible_diff=True, secret="password: swordfish\n")
    assert answer["action"] == "started"
    assert len(answer["written"]) == 3
    assert "swordfish" not in str(answer)
    assert files(world) == {}
    assert world.done == []
