# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles refuse hosts of another family; facts are given, so nothing is asked of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _host

CHECKOUT = Path(__file__).parents[2]
# Stands before Ansible's own, and answers what the play says.
SETUP = """\
#!/usr/bin/python
import json, os, sys
facts = json.loads(os.environ["GIVEN"])
if facts["ansible_distribution_version"] == "18.04":
    sys.exit("SyntaxError: future feature annotations is not defined")
print(json.dumps({"ansible_facts": facts}))
"""
PLAY = """\
- hosts: {host}
  connection: local
  gather_facts: false
  environment:
    GIVEN: >-
      {{"ansible_architecture": "{architecture}", "ansible_effective_user_id": {user},
      "ansible_user_id": "operator", "ansible_kernel": "6.1.0", "ansible_os_family": "{family}",
      "ansible_distribution": "{system}", "ansible_distribution_version": "{version}",
      "ansible_service_mgr": "{manager}"}}
  tasks:
    - block:
        - ansible.builtin.include_role:
            name: linmonitor.stack.{role}
            tasks_from: {entry}
      rescue:
        - ansible.builtin.debug:
            msg: refused
"""
DEBIAN = {
    "family": "Debian",
    "system": "Debian",
    "version": "12.5",
    "manager": "systemd",
    "architecture": "x86_64",
}
FOREIGN = [
    DEBIAN | {"family": "RedHat", "system": "CentOS", "version": "9"},
    DEBIAN | {"family": "Alpine", "system": "Alpine", "version": "3.20.1", "manager": "openrc"},
    DEBIAN | {"version": "10.13"},
    DEBIAN | {"system": "Ubuntu", "version": "20.04"},
    DEBIAN | {"manager": "sysvinit"},
    DEBIAN | {"architecture": "riscv64"},
]
# Its Python cannot read Ansible's modules any more.
OLD = DEBIAN | {"system": "Ubuntu", "version": "18.04"}
# Every entry point that changes a host; for those of ebpf_exporter its module says it.
ENTRIES = [
    "grafana main",
    "grafana purge",
    "grafana uninstall",
    "libbpf main",
    "prometheus main",
    "prometheus purge",
    "prometheus uninstall",
    "toolchain diagnostics",
    "toolchain main",
]


def answers(folder: Path, plays: list[dict[str, str]]) -> list[str]:
    """Let each play try its role on a host of its own, and return what each host was told."""
    names = [f"host{number}" for number in range(len(plays))]
    (folder / "library").mkdir()
    (folder / "library/setup.py").write_text(SETUP)
    written = folder / "plays.yml"
    written.write_text("".join(PLAY.format(host=n, **play) for n, play in zip(names, plays)))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"), "-i", ",".join(names) + ",",
            "-e", f"ansible_python_interpreter={sys.executable}", written,
        ],
        env=os.environ
        | {
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_LIBRARY": str(folder / "library"),
        },
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    said = " ".join((done.stdout + done.stderr).split())
    parts = re.split(r"PLAY \[host\d+\]|PLAY RECAP", said)
    assert len(parts) == len(plays) + 2, said
    return parts[1:-1]


@pytest.fixture(scope="module")
def refusals(tmp_path_factory):
    """Return what foreign hosts and hosts without root are told, all in one run."""
    as_root = {"role": "prometheus", "entry": "main", "user": "0"}
    foreign = [given | as_root for given in [*FOREIGN, OLD]]
    without_root = [
        DEBIAN | {"role": entry.split()[0], "entry": entry.split()[1], "user": "1000"}
        for entry in ENTRIES
    ]
    said = answers(tmp_path_factory.mktemp("hosts"), foreign + without_root)
    return list(zip(foreign, said)), dict(zip(ENTRIES, said[len(foreign) :]))


def test_foreign_hosts_are_refused(refusals):
    for given, said in refusals[0][:-1]:
        words = "is {system} {version} with {manager} on {architecture}".format(**given)
        assert words in said
        assert "needs Debian from 11 or Ubuntu from 22.04 on, with systemd, on x86_64" in said


def test_a_host_whose_python_cannot_read_modules_is_refused(refusals):
    said = refusals[0][-1][1]
    assert f"on host{len(FOREIGN)}, and its ansible_python_interpreter is older" in said
    assert "needs Debian from 11 or Ubuntu from 22.04 on" in said


@pytest.mark.parametrize(
    ("names", "version", "ours"),
    [
        (["Debian"], "11", True),
        (["debian"], "", True),
        (["Debian"], "forky/sid", True),
        (["Debian"], "10.13", False),
        (["Debian"], "9", False),
        (["Ubuntu", "Debian"], "22.04", True),
        (["ubuntu", "debian"], "26.04", True),
        (["Ubuntu", "Debian"], "21.10", False),
        (["Ubuntu", "Debian"], "18.04", False),
        (["raspbian", "debian"], "12", True),
        (["linuxmint", "ubuntu", "debian"], "21.3", True),
        (["kali", "debian"], "2026.1", True),
        (["centos", "rhel", "fedora"], "9", False),
        (["alpine"], "3.20.1", False),
        ([""], "", False),
    ],
)
def test_systems_of_ours_are_known_by_name_and_version(names, version, ours):
    assert _host.supported(names, version) is ours


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_host_without_root_is_refused_before_anything_else(refusals, entry):
    said = refusals[1][entry]
    assert re.search(r"On host\d+ it has to be root, and it is operator", said), said
    names = re.findall(r"TASK \[(?:linmonitor.stack.\w+ : )?(.*?)\] \*", said)
    assert len(names) <= 6, names
    assert re.match("Refuse a host (without|that)", names[-2]), names
    assert names[-1] == "ansible.builtin.debug"
