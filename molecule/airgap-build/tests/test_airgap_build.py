# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bare host without internet builds the same artifact from the bundle alone."""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
from pathlib import Path

testinfra_hosts = ["ansible://bare"]
SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
LOCK = (SCRATCH / "site.tar.lock.txt").read_text()


def test_host_has_no_way_out(host):
    assert "Network is unreachable" in host.run("ip route get 192.0.2.1").stderr


def test_artifact_has_the_bytes_of_the_connected_build():
    (built,) = (SCRATCH / "cache/artifacts").glob("*/linmonitor-x86_64.tar.gz")
    name = built.relative_to(SCRATCH / "cache")
    digest = hashlib.sha256(built.read_bytes()).hexdigest()
    print(f"{digest}  {name}")
    assert f"{digest}  {name}" in LOCK.splitlines()


def test_compilers_are_those_of_the_bundle(host):
    assert host.package("clang-14").is_installed
    assert not host.file("/etc/apt/sources.list.d/linmonitor-backports.sources").exists


def test_sources_needed_no_cargo(host):
    assert not host.exists("cargo")


def test_lock_names_sources_and_packages():
    packages, sources = re.findall(r"  (sources|packages)/(.+)", LOCK)
    assert packages == ("packages", "bookworm-x86_64.tar")
    assert sources[0] == "sources"


def test_bundle_made_twice_has_the_same_bytes():
    assert filecmp.cmp(SCRATCH / "site.tar", SCRATCH / "again.tar", shallow=False)
