# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time: the other one is told, and the lock ends with whoever has it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
from ansible_collections.linmonitor.stack.plugins.action import owned_files
from ansible_collections.linmonitor.stack.plugins.module_utils import _lock
from ansible_collections.linmonitor.stack.plugins.plugin_utils import _turn

ADA = {"id": "laptop/7/1", "owner": "ada on laptop (process 7)"}
BOB = {"id": "desk/8/1", "owner": "bob on desk (process 8)"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """Give a folder that stands for the host's."""
    path = tmp_path / "run/linmonitor"
    monkeypatch.setattr(_lock, "FOLDER", str(path))
    return path


def keep(run: dict) -> None:
    with _lock.Lock("a", run) as lock:
        lock.stays = True


def test_nothing_stays_of_a_lock_that_is_let_go(folder):
    with _lock.Lock("a", ADA):
        assert (folder / "a.lock").stat().st_mode & 0o777 == 0o600
    assert not folder.exists()


def test_host_without_room_for_a_lock_says_where(monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(_lock.json, "dump", mock.Mock(side_effect=full))
    with pytest.raises(OSError, match=r"No space left on device: '.*/a\.lock'"), _lock.Lock(
        "a", ADA
    ):
        pass


def test_module_at_work_keeps_others_out_with_its_owner():
    with _lock.Lock("a", ADA), pytest.raises(_lock.Busy) as busy, _lock.Lock("a", BOB):
        pass
    assert busy.value.holder["owner"] == ADA["owner"]
    assert busy.value.holder["since"]


def test_module_at_work_keeps_out_who_thinks_its_run_dead():
    after = dict(BOB, ended=[ADA["id"]])
    with _lock.Lock("a", ADA), pytest.raises(_lock.Busy), _lock.Lock("a", after):
        pass


def test_run_keeps_others_out_between_its_modules_and_comes_in_itself(folder):
    keep(ADA)
    with pytest.raises(_lock.Busy), _lock.Lock("a", BOB):
        pass
    with _lock.Lock("a", ADA) as lock:
        assert lock.stays
        lock.stays = False
    assert not folder.exists()
    with _lock.Lock("a", BOB):
        pass


def test_module_that_fails_leaves_the_lock_as_it_was(folder):
    with pytest.raises(OSError, match="full"), _lock.Lock("a", ADA):
        raise OSError("full")
    assert not folder.exists()
    keep(ADA)
    with pytest.raises(OSError, match="full"), _lock.Lock("a", ADA):
        raise OSError("full")
    with pytest.raises(_lock.Busy), _lock.Lock("a", BOB):
        pass


def test_locks_of_two_names_are_two():
    with _lock.Lock("a", ADA), _lock.Lock("b", BOB):
        pass


def test_lock_ends_a_while_after_the_last_step(monkeypatch):
    keep(ADA)
    now = _lock._now()
    monkeypatch.setattr(_lock, "_now", lambda: now + _lock.LEASE_SECONDS - 1)
    with pytest.raises(_lock.Busy), _lock.Lock("a", BOB):
        pass
    with _lock.Lock("a", ADA):
        pass
    monkeypatch.setattr(_lock, "_now", lambda: now + 2 * _lock.LEASE_SECONDS - 2)
    with pytest.raises(_lock.Busy), _lock.Lock("a", BOB):
        pass
    monkeypatch.setattr(_lock, "_now", lambda: now + 2 * _lock.LEASE_SECONDS)
    with _lock.Lock("a", BOB):
        pass


def test_lock_ends_with_a_run_that_is_known_to_be_dead():
    keep(ADA)
    with _lock.Lock("a", dict(BOB, ended=[ADA["id"]])):
        pass


def test_module_that_is_killed_keeps_nobody_out(folder):
    child = multiprocessing.get_context("fork").Process(
        target=lambda: _lock.Lock("a", ADA).__enter__() and os._exit(0)
    )
    child.start()
    child.join()
    assert (folder / "a.lock").exists()
    with _lock.Lock("a", BOB):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"id": 3}'])
def test_lock_whose_file_says_nothing_keeps_nobody_out(folder, text):
    folder.mkdir(parents=True)
    (folder / "a.lock").write_text(text)
    with _lock.Lock("a", BOB):
        pass


# --- the controller's part


def test_run_is_alive_until_its_process_ends(monkeypatch):
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: sleeper)
    run = _turn.this_run()
    assert f"process {sleeper.pid}" in run["owner"]
    assert not _turn.has_ended(run["id"])
    sleeper.kill()
    while not _turn.has_ended(run["id"]):
        pass  # also as a zombie
    sleeper.wait()
    assert _turn.has_ended(run["id"])


def test_nobody_knows_of_another_machine_whether_its_run_ended():
    assert not _turn.has_ended("laptop/7/1")
    assert not _turn.has_ended("")


class Host:
    """An action on a host that says what the test says, and a clock that moves when it sleeps."""

    def __init__(self, monkeypatch, *answers: dict) -> None:
        self.answers, self.asked, self.warned = list(answers), [], []
        self.slept = 0.0
        task = mock.Mock(args={"name": "a", "lock": "take"}, async_val=0)
        self.action = owned_files.ActionModule(task, *(mock.Mock() for _ in range(5)))
        monkeypatch.setattr(self.action, "_execute_module", self.execute)
        monkeypatch.setattr(_turn.time, "monotonic", lambda: self.slept)
        monkeypatch.setattr(_turn.time, "sleep", self.sleep)
        monkeypatch.setattr(_turn.display, "warning", self.warned.append)

    def execute(self, name: str, module_args: dict, task_vars: dict) -> dict:
        self.asked.append(module_args)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def sleep(self, seconds: float) -> None:
        self.slept += seconds

    def run(self) -> dict:
        return self.action.run(task_vars={"inventory_hostname": "box"})


HELD = dict(ADA, since="10:31:02 UTC", until=1, ends="10:46:02 UTC")
BUSY = {"failed": True, "msg": "busy", "held_by": HELD}


def test_free_host_is_asked_once(monkeypatch):
    host = Host(monkeypatch, {"changed": False})
    host.run()
    assert (len(host.asked), host.warned) == (1, [])
    assert host.asked[0]["run"] == dict(_turn.this_run(), ended=[])


def test_second_run_is_told_of_the_first_and_goes_on_after_it(monkeypatch):
    host = Host(monkeypatch, BUSY, BUSY, {"changed": True})
    assert host.run()["changed"]
    (warned,) = host.warned
    assert "at work on a of box: ada on laptop (process 7), since 10:31:02 UTC." in warned


def test_second_run_that_waits_in_vain_says_what_to_do(monkeypatch):
    host = Host(monkeypatch, BUSY)
    answer = host.run()
    assert answer["failed"]
    assert host.slept > _turn.PATIENCE_SECONDS
    for words in (ADA["owner"], "since 10:31:02 UTC", "of box", "ends at 10:46:02 UTC", "a.lock"):
        assert words in answer["msg"]


def test_lock_of_a_run_that_ended_here_is_taken_over_at_once(monkeypatch):
    machine = _turn.this_run()["id"].rsplit("/", 2)[0]
    dead = f"{machine}/{2**22 + 1}/1"
    host = Host(monkeypatch, dict(BUSY, held_by=dict(HELD, id=dead)), {"changed": True})
    assert host.run()["changed"]
    assert (host.slept, host.warned) == (0, [])
    assert host.asked[1]["run"]["ended"] == [dead]


def test_host_whose_python_cannot_read_the_module_is_told_so_at_once(monkeypatch):
    refused = {"failed": True, "module_stderr": "SyntaxError: future feature annotations", "rc": 1}
    answer = Host(monkeypatch, refused).run()
    assert answer["failed"]
    assert "Python 3.8 or newer has to run the modules on box" in answer["msg"]
