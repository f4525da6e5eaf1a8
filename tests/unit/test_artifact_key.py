# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact is named by what decides its bytes, and by nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.filter import artifact


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    (tmp_path / "include").mkdir()
    for name in ("catalogue.yml", "a.bpf.c", "a.yaml", "include/a.h", "README.md"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("name", ["catalogue.yml", "a.bpf.c", "a.yaml", "include/a.h"])
def test_source_of_a_program_is_part_of_the_key(programs, name):
    before = artifact.programs_sha256(str(programs))
    (programs / name).write_text("edited")
    assert artifact.programs_sha256(str(programs)) != before


@pytest.mark.parametrize("name", ["README.md", "include/NOTES.md"])
def test_page_is_no_part_of_the_key(programs, name):
    before = artifact.programs_sha256(str(programs))
    (programs / name).write_text("edited")
    assert artifact.programs_sha256(str(programs)) == before


def test_lock_is_what_sha256sum_prints(tmp_path):
    (tmp_path / "artifacts/key").mkdir(parents=True)
    (tmp_path / "artifacts/key/a.tar.gz").write_text("a")
    (tmp_path / "artifacts/key/manifest.json").write_text("{}")
    lines = artifact.lock_lines([str(tmp_path / "artifacts/key")] * 2, str(tmp_path))
    said = subprocess.run(
        ["sha256sum", "artifacts/key/a.tar.gz", "artifacts/key/manifest.json"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert lines == said.splitlines()


def test_lock_knows_the_files_it_names_and_no_others():
    lock = "aaaa  artifacts/key/a.tar.gz\nbbbb  artifacts/key/b.tar.gz\n"
    assert artifact.locked_sha256(lock, "artifacts/key/b.tar.gz") == "bbbb"
    assert artifact.locked_sha256(lock, "key/b.tar.gz") == ""
    assert artifact.locked_sha256("", "artifacts/key/b.tar.gz") == ""
