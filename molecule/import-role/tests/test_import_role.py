# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role alone, from an installed tarball, measures the kernel of a foreign host."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

testinfra_hosts = ["ansible://warehouse"]
FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def test_collection_is_the_installed_one():
    installed = FOLDER / "collections/ansible_collections/linmonitor/stack"
    assert (installed / "MANIFEST.json").exists()
    assert not (installed / ".git").exists()


def test_release_is_named_by_the_artifact_that_was_handed_in(host):
    digest = hashlib.sha256((FOLDER / "artifact.tar.gz").read_bytes()).hexdigest()
    release = host.file("/opt/linmonitor/current").linked_to.rpartition("/")[2]
    assert release.startswith(f"{digest[:16]}-")


def test_url_was_downloaded_to_the_controller_once():
    (downloaded,) = (FOLDER / "cache").rglob("*.tar.gz")
    assert downloaded.read_bytes() == (FOLDER / "artifact.tar.gz").read_bytes()


def test_only_the_wanted_program_runs_and_is_healthy(host):
    assert host.service("ebpf_exporter").is_running
    assert host.run("python3 /opt/linmonitor/current/health.py").stdout == ""
    program = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9435/metrics').read())"
    metrics = host.check_output("python3 -c %s", program)
    assert 'ebpf_exporter_enabled_configs{name="biolatency"} 1' in metrics
    assert "tcp-rtt" not in metrics


def test_host_has_no_compiler(host):
    assert not any(host.exists(tool) for tool in ("clang", "gcc", "cc", "go", "make"))
