# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A build takes what a bundle brought, unless the user's own variables say otherwise."""

from __future__ import annotations

import json

import pytest
from role_play import play

from tests.pins import DEFAULT

SOURCES = (
    f"sources/ebpf_exporter-{DEFAULT['exporter']}-libbpf-{DEFAULT['libbpf']}"
    f"-libbpfgo-{DEFAULT['libbpfgo']}.tar"
)
PACKAGES = "packages/bookworm-x86_64.tar"
BUNDLED = {name: {"path": f"/cache/{name}", "sha256": "a" * 64} for name in (SOURCES, PACKAGES)}
OWN = {
    "toolchain_environment": {"GOPROXY": "https://modules.example.com"},
    "toolchain_packages": "/own/packages.tar",
    "ebpf_exporter_sources": "/own/sources.tar",
    "libbpf_archive": "/own/libbpf.tar.gz",
}
ASKED = {
    "packages": "{{ toolchain_packages }}",
    "sources": "{{ ebpf_exporter_sources }}",
    "proxy": "{{ __toolchain_build_environment.GOPROXY | default('') }}",
    "sumdb": "{{ __toolchain_build_environment.GOSUMDB | default('') }}",
    "apt": "{{ __toolchain_apt_environment.APT_CONFIG | default('') }}",
    "libbpf": "{{ __libbpf_places | map(attribute='location') }}",
}
CASES: dict[str, dict] = {
    "nothing": {},
    "bundle": {"linmonitor_bundled": BUNDLED},
    "other suite": {"linmonitor_bundled": BUNDLED, "toolchain_suite": "trixie"},
    "own": {"linmonitor_bundled": BUNDLED} | OWN,
    "declined": {
        "linmonitor_bundled": BUNDLED,
        "toolchain_packages": "",
        "ebpf_exporter_sources": "",
    },
}
BROUGHT = "/var/cache/linmonitor/toolchain"


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Let Ansible itself evaluate every case, in one run."""
    scratch = tmp_path_factory.mktemp("bundled")
    # As the roles hand them on.
    common = {
        "linmonitor_sources": "{{ ebpf_exporter_sources }}",
        "toolchain_brought_sources": "{{ __toolchain_brought_sources }}",
        "asked": ASKED,
    }
    tasks: list[dict] = [
        {
            "ansible.builtin.set_fact": {
                "answers": "{{ answers | default({}) | combine({case: asked}) }}"
            },
            "vars": common | given | {"case": name},
        }
        for name, given in CASES.items()
    ]
    written = {"content": "{{ answers | to_json }}", "dest": f"{scratch}/answers.json"}
    tasks.append({"ansible.builtin.copy": written})
    play(scratch, ("toolchain", "libbpf", "ebpf_exporter"), tasks)
    return json.loads((scratch / "answers.json").read_text())


@pytest.mark.parametrize("case", ["nothing", "declined"])
def test_without_a_bundle_s_files_everything_is_asked_as_ever(answers, case):
    found = answers[case]
    assert [found[name] for name in ("packages", "sources", "proxy", "sumdb", "apt")] == [""] * 5
    assert found["libbpf"] == ["https://github.com/libbpf/libbpf.git", "libbpf-sys"]


def test_bundle_is_used_by_itself(answers):
    found = answers["bundle"]
    assert found["packages"] == f"/cache/{PACKAGES}"
    assert found["sources"] == f"/cache/{SOURCES}"
    assert found["proxy"] == f"file://{BROUGHT}/sources/cache/download"
    assert found["sumdb"] == "off"
    assert found["apt"] == f"{BROUGHT}/packages/apt.conf"
    assert found["libbpf"][0] == f"{BROUGHT}/sources/libbpf-{DEFAULT['libbpf']}.tar.gz"


def test_packages_of_another_suite_are_not_used(answers):
    assert answers["other suite"]["packages"] == ""
    assert answers["other suite"]["sources"] == f"/cache/{SOURCES}"


def test_own_variables_win(answers):
    found = answers["own"]
    assert found["packages"] == OWN["toolchain_packages"]
    assert found["sources"] == OWN["ebpf_exporter_sources"]
    assert found["proxy"] == OWN["toolchain_environment"]["GOPROXY"]
    assert found["libbpf"][0] == OWN["libbpf_archive"]
