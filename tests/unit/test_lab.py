# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test hosts go away even where podman fails at first, and say why they do not come."""

from __future__ import annotations

import subprocess

import pytest

from tests.lab import hosts


@pytest.fixture
def podman(monkeypatch):
    """Put a podman in place that fails as often as `fails` says; return the calls."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(hosts.time, "sleep", lambda _seconds: None)

    def replace(fails: int) -> list[tuple[str, ...]]:
        def run(*command: str) -> str:
            calls.append(command)
            if len(calls) <= fails:
                raise hosts.LabError("podman rm ended with 125")
            return ""

        monkeypatch.setattr(hosts, "run", run)
        return calls

    return replace


def test_removal_is_tried_again(podman):
    calls = podman(fails=hosts.REMOVE_ATTEMPTS - 1)
    hosts.remove("box")
    assert len(calls) == hosts.REMOVE_ATTEMPTS
    assert calls[-1][-1] == "box"


def test_removal_that_never_works_is_an_error(podman):
    podman(fails=hosts.REMOVE_ATTEMPTS)
    with pytest.raises(hosts.LabError, match="podman rm"):
        hosts.remove("box")


@pytest.mark.parametrize(
    ("systemd", "cgroup", "why"),
    [
        ("259-1ubuntu3", 1, "systemd from 258 on wants cgroup v2"),
        ("259-1ubuntu3", 2, "each takes 7 of the 20 in fs.inotify.max_user_instances"),
        ("252.39-1~deb12u2", 1, "each takes 7 of the 20 in fs.inotify.max_user_instances"),
    ],
)
def test_a_host_that_ends_instead_of_booting_says_so_at_once(
    monkeypatch, tmp_path, systemd, cgroup, why
):
    asked = []

    def ended(command, **_options):
        asked.append(command)
        return subprocess.CompletedProcess(command, 255, "", "Error: container state improper\n")

    (tmp_path / "limit").write_text("20\n")
    monkeypatch.setattr(hosts.subprocess, "run", ended)
    monkeypatch.setattr(hosts, "run", lambda *words: systemd if words[-1] == "systemd" else "image")
    monkeypatch.setattr(hosts.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(hosts, "INOTIFY", tmp_path / "limit")
    monkeypatch.setattr(hosts, "CGROUP_V2", tmp_path / ("absent" if cgroup == 1 else ""))
    with pytest.raises(hosts.LabError, match=f"box ended instead of booting; {why}"):
        hosts.Lab("try")._let_in("box")
    assert len(asked) == 1
