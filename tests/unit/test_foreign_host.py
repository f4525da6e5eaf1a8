# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles refuse hosts of another family; facts are given, so nothing is asked of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PLAY = """\
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.set_fact:
        architecture: {architecture}
        kernel: 6.1.0
        os_family: {family}
        service_mgr: {manager}
        cacheable: true
    - ansible.builtin.include_role:
        name: linmonitor.stack.{role}
"""


@pytest.mark.parametrize("role", ["ebpf_exporter", "prometheus"])
@pytest.mark.parametrize(
    ("family", "manager", "architecture"),
    [
        ("RedHat", "systemd", "x86_64"),
        ("Debian", "openrc", "x86_64"),
        ("Debian", "systemd", "riscv64"),
    ],
)
def test_foreign_hosts_are_refused(tmp_path, role, family, manager, architecture):
    play = tmp_path / "play.yml"
    play.write_text(
        PLAY.format(role=role, family=family, manager=manager, architecture=architecture)
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", play],
        env=os.environ | {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert f"localhost is {family} with {manager} on {architecture}" in said
    assert "needs Debian or Ubuntu with systemd on x86_64" in said
