# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact is named by what decides its bytes, and by nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.filter import artifact

SOURCES = ("a/program.yml", "a/a.bpf.c", "a/a.yaml", "a/README.md", "include/a.h", "build/Makefile")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name in SOURCES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("name", [name for name in SOURCES if not name.endswith(".md")])
def test_source_of_a_program_is_part_of_the_key(programs, name):
    before = artifact.programs_sha256(str(programs))
    (programs / name).write_text("edited")
    assert artifact.programs_sha256(str(programs)) != before


@pytest.mark.parametrize("name", ["a/README.md", "include/NOTES.md"])
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


def test_lock_has_the_files_that_are_entries_themselves(tmp_path):
    for name in ("packages/a.tar", "packages/b.tar", "grafana/one/a.deb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    entries = [str(tmp_path / name) for name in ("packages/a.tar", "grafana/one", "absent")]
    lines = artifact.lock_lines(entries, str(tmp_path))
    assert [line.split()[1] for line in lines] == ["grafana/one/a.deb", "packages/a.tar"]


def test_bundle_has_what_the_roles_remember_for_targets_and_build_hosts():
    hosts = [
        {"__ebpf_exporter_found": {"stat": {"exists": True, "path": "/c/artifacts/a/a.tar.gz"}}},
        {"__prometheus_archive": {"stat": {"exists": True, "path": "/c/prometheus/p/p.tar.gz"}}},
        {"__grafana_kept_files": ["/c/grafana/g"], "__ebpf_exporter_found": {"skipped": True}},
    ]
    builders = [
        {
            # Handed in by path, or of another host: never part of the bundle.
            "__ebpf_exporter_found": {"stat": {"exists": True, "path": "/mine/a.tar.gz"}},
            "__ebpf_exporter_kept_files": ["/c/sources/e.tar"],
            "__toolchain_kept_files": ["/c/packages/a.tar", "/c/packages/b.tar"],
        },
        {"__ebpf_exporter_found": {"stat": {"exists": False}}},
    ]
    assert artifact.bundle_entries(hosts, builders) == [
        "/c/artifacts/a",
        "/c/grafana/g",
        "/c/packages/a.tar",
        "/c/packages/b.tar",
        "/c/prometheus/p",
        "/c/sources/e.tar",
    ]


def test_locked_files_are_found_below_the_cache():
    assert artifact.locked_files("aaaa  packages/a.tar\n", "/c") == {
        "packages/a.tar": {"path": "/c/packages/a.tar", "sha256": "aaaa"}
    }


def test_lock_knows_the_files_it_names_and_no_others():
    lock = "aaaa  artifacts/key/a.tar.gz\nbbbb  artifacts/key/b.tar.gz\n"
    assert artifact.locked_sha256(lock, "artifacts/key/b.tar.gz") == "bbbb"
    assert artifact.locked_sha256(lock, "key/b.tar.gz") == ""
    assert artifact.locked_sha256("", "artifacts/key/b.tar.gz") == ""
