# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A database moves whole, alone, and also when an earlier run was cut off."""

from __future__ import annotations

import grp
import os
import pwd

import pytest
from ansible_collections.linmonitor.stack.plugins.modules import tsdb_moved

ME = {"user": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}
BLOCK = "01J8Z3C1V5W7Y9A2B4D6F8H0JK"


@pytest.fixture
def src(tmp_path):
    folder = tmp_path / "old"
    for name in (f"{BLOCK}/chunks", "wal", "chunks_head", "node-exporter"):
        (folder / name).mkdir(parents=True)
    (folder / f"{BLOCK}/chunks/000001").write_text("samples")
    (folder / "wal/00000000").write_text("log")
    (folder / "lock").write_text("")
    return folder


@pytest.fixture
def move(run, src, tmp_path):
    return lambda **more: run(
        tsdb_moved, src=str(src), **({"dest": str(tmp_path / "new/data")} | ME | more)
    )


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_database_goes_and_the_rest_stays(move, src, tmp_path):
    assert move()["moved"] == [BLOCK, "chunks_head", "wal"]
    assert names(tmp_path / "new/data") == [BLOCK, "chunks_head", "wal"]
    assert (tmp_path / "new/data/wal/00000000").read_text() == "log"
    assert names(src) == ["node-exporter"]


def test_move_that_was_cut_off_is_finished(move, src, tmp_path):
    (tmp_path / "new/data").mkdir(parents=True)
    (src / BLOCK).rename(tmp_path / "new/data" / BLOCK)
    assert move()["moved"] == ["chunks_head", "wal"]
    assert move()["moved"] == []
    assert names(tmp_path / "new/data") == [BLOCK, "chunks_head", "wal"]


def test_nothing_is_overwritten(move, src, tmp_path):
    (tmp_path / "new/data/wal").mkdir(parents=True)
    assert "both hold wal" in move()["msg"]
    assert "wal" in names(src)


def test_other_file_system_is_refused(move, src, monkeypatch):
    monkeypatch.setattr(tsdb_moved, "nearest", lambda path: "/proc")
    assert "two file systems" in move(_ansible_check_mode=True)["msg"]
    assert names(src) == sorted([BLOCK, "wal", "chunks_head", "node-exporter", "lock"])


def test_own_folder_must_hold_nothing_else(move, src):
    assert "node-exporter" in move(dest=str(src))["msg"]
    (src / "node-exporter").rmdir()
    assert move(dest=str(src))["moved"] == []
    assert names(src) == [BLOCK, "chunks_head", "wal"]


def test_check_mode_needs_no_user(move, src):
    answer = move(user="linmonitor-nobody", _ansible_check_mode=True)
    assert (answer["changed"], answer["moved"]) == (True, [])
    assert "wal" in names(src)
