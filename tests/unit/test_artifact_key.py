# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact is named by what decides its bytes, and by nothing else."""

from __future__ import annotations

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
