# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller keeps lies where the user says, apart for each inventory."""

from __future__ import annotations

import pytest
from ansible_collections.linmonitor.stack.plugins.filter.folders import (
    host_file,
    inventory_id,
    user_folder,
)


@pytest.mark.parametrize(
    ("environment", "chosen", "folder"),
    [
        ({}, "", "/home/me/.cache/linmonitor"),
        ({"XDG_CACHE_HOME": ""}, "", "/home/me/.cache/linmonitor"),
        ({"XDG_CACHE_HOME": "/var/cache/me"}, "", "/var/cache/me/linmonitor"),
        ({"XDG_CACHE_HOME": "/var/cache/me"}, "~/kept", "/home/me/kept"),
    ],
)
def test_folder_of_the_user(monkeypatch, environment, chosen, folder):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    for name, value in ({"HOME": "/home/me"} | environment).items():
        monkeypatch.setenv(name, value)
    assert user_folder("cache", chosen) == folder


@pytest.fixture
def inventories(tmp_path):
    """Make folders with inventories as people lay them out, and return their parent."""
    for place in ("staging/hosts.yml", "production/hosts.yml", "one.yml", "two.yml"):
        file = tmp_path / place
        file.parent.mkdir(exist_ok=True)
        file.write_text("all: {hosts: {mon: }}")
    (tmp_path / "staging/group_vars").mkdir()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/hosts.yml").symlink_to("../staging/hosts.yml")
    (tmp_path / "current").symlink_to("staging")
    return tmp_path


def test_no_two_environments_share_a_name(inventories):
    sources = [
        ["staging/hosts.yml"],
        ["production/hosts.yml"],
        ["linked/hosts.yml"],  # the same hosts with variables of its own
        ["one.yml"],
        ["two.yml"],
        ["one.yml", "two.yml"],
        ["."],
    ]
    names = [inventory_id(str(inventories / one) for one in several) for several in sources]
    names += [inventory_id(["mon,"]), inventory_id(["mon,db,"]), inventory_id([])]
    assert len(set(names)) == len(names)


def test_a_folder_is_the_only_inventory_in_it(inventories):
    file = inventory_id([str(inventories / "staging/hosts.yml")])
    assert inventory_id([str(inventories / "staging")]) == file
    assert inventory_id([str(inventories / "current")]) == file
    assert file.startswith("staging-hosts-")


@pytest.mark.parametrize("host", ["web1.example.com", "web-1_a"])
def test_a_plain_host_has_a_file_of_its_name(host):
    assert host_file(host) == host


def test_hosts_of_strange_names_have_files_of_their_own(tmp_path):
    hosts = [
        "..",
        ".",
        "...",
        "../web1",
        "a/b",
        "a b=c",
        "fd00::1",
        "éclair",
        "a%2Fb",
        "a\nb",
        "'",
        "-x",
    ]
    for host in hosts:
        file = tmp_path / host_file(host)
        file.write_text(host)
        assert file.parent.resolve() == tmp_path.resolve()
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == sorted(hosts)
