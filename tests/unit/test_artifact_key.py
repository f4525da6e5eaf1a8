# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An artifact is named by what decides its bytes, and by nothing else."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.filter import artifact
from role_play import play

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


OTHER_VALUES: dict[str, dict] = {
    "architecture": {"ebpf_exporter_architecture": "aarch64"},
    # Its libbpfgo comes with it.
    "libbpf": {"ebpf_exporter_libbpf_version": "1.5.0"},
    "suite": {"toolchain_suite": "trixie"},
    "flag of a user": {"toolchain_environment": {"GOFLAGS": "-gcflags=-N"}},
    "flag of the C compiler": {"__ebpf_exporter_cflags": "-O1"},
    "flag of the Go compiler": {"__ebpf_exporter_go_flags": ["-trimpath"]},
    "flag of libbpf": {"__ebpf_exporter_libbpf": {"tree": "t", "cflags": "-O1"}},
    "hash of libbpf": {"__ebpf_exporter_libbpf": {"tree": "0" * 64, "cflags": "-O2"}},
    "hash of the exporter": {"__ebpf_exporter_source": {"tree": "0" * 64, "commit": "c"}},
    "compiler": {"__ebpf_exporter_toolchain": {"clang": "99", "go": "1.23"}},
}
BUILDER = {"toolchain_suite": "trixie", "toolchain_environment": {"GOFLAGS": "-gcflags=-N"}}
PAIRS = {
    "libbpf and libbpfgo": "v0.9.1-libbpf-1.5.1",
    "libbpf and another libbpfgo": "v0.6.0-libbpf-1.3",
}
SAME_VALUES: dict[str, dict] = {
    "proxies": {
        "toolchain_environment": {
            "https_proxy": "http://proxy.example.com",
            "GOPROXY": "https://modules.example.com",
            "SSL_CERT_FILE": "/etc/ssl/own.pem",
        }
    },
    "where it runs": {"ebpf_exporter_root": "/srv/linmonitor", "ebpf_exporter_strict": True},
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Let Ansible evaluate the key under each case, in one run."""
    scratch = tmp_path_factory.mktemp("keys")
    cases = {"plain": {}} | OTHER_VALUES | SAME_VALUES
    cases |= {"build host": BUILDER, "its target": {"linmonitor_inventory_builder": BUILDER}}
    for case, libbpfgo in PAIRS.items():
        cases[case] = OTHER_VALUES["libbpf"] | {"ebpf_exporter_libbpfgo_version": libbpfgo}
    found = "{{ keys | default({}) | combine({case: __ebpf_exporter_key}) }}"
    tasks: list[dict] = [
        {"ansible.builtin.set_fact": {"keys": found}, "vars": given | {"case": name}}
        for name, given in cases.items()
    ]
    written = {"content": "{{ keys | to_json }}", "dest": f"{scratch}/keys.json"}
    tasks.append({"ansible.builtin.copy": written})
    play(scratch, ("ebpf_exporter", "bpf_programs"), tasks)
    return json.loads((scratch / "keys.json").read_text())


@pytest.mark.parametrize("case", OTHER_VALUES)
def test_value_that_decides_bytes_changes_the_key(keys, case):
    assert keys[case] != keys["plain"]


@pytest.mark.parametrize("case", SAME_VALUES)
def test_value_that_decides_no_byte_leaves_the_key(keys, case):
    assert keys[case] == keys["plain"]


def test_a_libbpf_brings_the_libbpfgo_of_its_set(keys):
    assert keys["libbpf"] == keys["libbpf and libbpfgo"] != keys["libbpf and another libbpfgo"]


def test_a_target_wants_what_the_build_host_of_its_inventory_makes(keys):
    assert keys["its target"] == keys["build host"] != keys["plain"]


def test_all_cases_differ_from_each_other(keys):
    assert len({keys[case] for case in OTHER_VALUES}) == len(OTHER_VALUES)


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
        {"ebpf_exporter_artifact_path": "/c/artifacts/a/a.tar.gz"},
        {"prometheus_archive_path": "/c/prometheus/p/p.tar.gz"},
        {"grafana_exported_package": "/c/grafana/g"},
    ]
    builders = [
        {
            # Handed in by path, or of another host: never part of the bundle.
            "ebpf_exporter_artifact_path": "/mine/a.tar.gz",
            "ebpf_exporter_exported_sources": "/c/sources/e.tar",
            "toolchain_exported_packages": ["/c/packages/a.tar", "/c/packages/b.tar"],
        },
        {},
    ]
    assert artifact.bundle_entries(hosts, builders) == [
        "/c/artifacts/a",
        "/c/grafana/g",
        "/c/packages/a.tar",
        "/c/packages/b.tar",
        "/c/prometheus/p",
        "/c/sources/e.tar",
    ]


def test_lock_knows_the_files_it_names_and_no_others():
    lock = "aaaa  artifacts/key/a.tar.gz\nbbbb  artifacts/key/b.tar.gz\n"
    assert artifact.locked_sha256(lock, "artifacts/key/b.tar.gz") == "bbbb"
    assert artifact.locked_sha256(lock, "key/b.tar.gz") == ""
    assert artifact.locked_sha256("", "artifacts/key/b.tar.gz") == ""


def test_archive_has_the_same_bytes_under_any_umask_and_order(tmp_path):
    packed = []
    for umask, names in (("0022", ("a", "b")), ("0077", ("b", "a"))):
        folder = tmp_path / umask
        script = f"umask {umask}; mkdir -p {folder}/d"
        script += f"; chmod 3777 {folder}/d"
        script += "".join(f"; echo {name} > {folder}/d/{name}; sleep 0.01" for name in names)
        subprocess.run(["sh", "-c", f"{script}; chmod u+x {folder}/d/a"], check=True)
        archive = str(tmp_path / f"{umask}.tar.gz")
        command = artifact.reproducible_tar([f"--directory={folder}", "."], archive)
        subprocess.run(command, check=True)
        packed.append(Path(archive).read_bytes())
    assert packed[0] == packed[1]


def test_versions_that_do_not_fit_together_are_refused_with_those_that_do():
    known = artifact.pins("sets")
    for one in known:
        assert artifact.version_fault(one["exporter"], one["libbpf"], one["libbpfgo"], "box") == ""
    said = artifact.version_fault("2.5.1", "1.2.0", "v0.9.1-libbpf-1.5.1", "box")
    assert "do not fit together (asked for by box)" in said
    for one in known:
        assert "{exporter} with {libbpf} and {libbpfgo}".format(**one) in said
