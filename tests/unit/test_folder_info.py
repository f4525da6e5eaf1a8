# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""folder_info: where a folder lies or would lie, on this machine's own file systems."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.modules import folder_info


@pytest.fixture
def opened():
    """Give a folder that everybody may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_a_folder_that_does_not_exist_is_described_by_the_nearest_one_above(run, opened):
    found = run(folder_info, path=f"{opened}/a/b/c")
    assert (found["resolved"], found["existing"]) == (f"{opened}/a/b/c", str(opened))
    assert found["is_folder"] is True
    assert found["free_bytes"] > 0
    assert found["changed"] is False


def test_links_are_followed_as_far_as_they_go(run, opened):
    (opened / "link").symlink_to(opened / "elsewhere")
    found = run(folder_info, path=f"{opened}/link/releases")
    assert found["resolved"] == f"{opened}/elsewhere/releases"
    assert found["existing"] == str(opened)


def test_a_file_in_the_way_is_no_folder(run, opened):
    (opened / "file").touch()
    assert run(folder_info, path=f"{opened}/file/releases")["is_folder"] is False


@pytest.mark.parametrize(("mode", "closed"), [(0o700, True), (0o750, True), (0o711, False)])
def test_a_folder_that_others_cannot_enter_is_named(run, opened, mode, closed):
    (opened / "own").mkdir()
    (opened / "own").chmod(mode)
    assert run(folder_info, path=f"{opened}/own")["closed"] == (f"{opened}/own" if closed else "")


@pytest.mark.parametrize(("flag", "answer"), [("ST_NOEXEC", "noexec"), ("ST_RDONLY", "read_only")])
def test_flags_of_the_file_system_are_read(run, opened, monkeypatch, flag, answer):
    system = folder_info.os.statvfs(opened)
    flags = getattr(folder_info.os, flag)
    seen = type(system)([*system[:8], system.f_flag | flags, *system[9:], 0])
    monkeypatch.setattr(folder_info.os, "statvfs", lambda _path: seen)
    assert run(folder_info, path=str(opened))[answer] is True


def test_a_relative_path_is_refused(run):
    assert run(folder_info, path="opt")["msg"] == "path: opt is not absolute"
