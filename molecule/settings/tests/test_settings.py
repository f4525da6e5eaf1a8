# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever the reader's Ansible is set to, hosts get the same files and run the same service."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://linmonitor_targets?sudo=True"]
UNIT = "/etc/systemd/system/ebpf_exporter.service"
ROOT = "/srv/monitoring/linmonitor"


def test_exporter_is_healthy(host):
    assert host.run(f"python3 {ROOT}/current/health.py").stdout == ""


def test_what_marks_files_is_a_comment_however_long_it_is(host):
    lines = host.file(UNIT).content_string.splitlines()
    head = lines[: lines.index("[Unit]")]
    assert head[0] == "# Managed by linmonitor.stack"
    assert any("100 %" in line for line in head)
    assert all(line.startswith("#") for line in head)
    assert "false" not in host.check_output("systemctl show --property=ExecStart ebpf_exporter")


def test_every_file_of_the_release_can_be_read_by_the_service(host):
    closed = host.check_output(f"find {ROOT}/releases ! -perm -o=r -printf '%m %p\\n'")
    assert closed == ""
    assert host.file(f"{ROOT}/current/bin/ebpf_exporter").mode == 0o755


@pytest.mark.parametrize("path", [UNIT, f"{ROOT}/current/settings.json"])
def test_files_have_their_own_modes_under_a_strict_umask(host, path):
    assert host.file(path).mode == 0o644
    assert host.file(path).user == "root"
