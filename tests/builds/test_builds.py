# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same inputs give the same bytes, on a build host and in a container on the controller."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.hosts import CHECKOUT, Lab, build_image, image_tag, run

SUITE = "bookworm"
# An inventory without any build host; targets are not contacted by a build.
FLEET = {"all": {"children": {"linmonitor_targets": {"hosts": {"web1": None}}}}}


def build(inventory: Path, cache: Path, **variables: str) -> Path:
    """Build with an empty cache and return the only tarball that it holds then."""
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")), "--inventory", str(inventory),
        "--extra-vars", json.dumps(variables), "playbooks/build.yml",
    ]  # fmt: skip
    environment = {
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "CONTAINERS_CONF": str(CHECKOUT / "tests/lab/containers.conf"),
        "XDG_CACHE_HOME": str(cache),
    }
    done = subprocess.run(
        command, cwd=CHECKOUT, env=os.environ | environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    (tarball,) = cache.rglob("linmonitor-*.tar.gz")
    return tarball


@pytest.fixture(scope="module")
def from_host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lab = Lab("builds")
    inventory = lab.up({"builder": SUITE}, {"linmonitor_build": ["builder"]})
    try:
        return build(inventory, tmp_path_factory.mktemp("host"))
    finally:
        lab.down()


@pytest.fixture(scope="module")
def from_container(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build_image(SUITE)
    folder = tmp_path_factory.mktemp("container")
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps(FLEET))
    return build(
        inventory, folder / "cache", ebpf_exporter_build_method="container",
        toolchain_container_image=image_tag(SUITE),
    )  # fmt: skip


def test_container_gives_the_bytes_of_a_build_host(from_host, from_container):
    sums = {
        where: hashlib.sha256(tarball.read_bytes()).hexdigest()
        for where, tarball in (("host", from_host), ("container", from_container))
    }
    print(f"\nhost      {sums['host']}\ncontainer {sums['container']}")
    assert sums["host"] == sums["container"]
    assert from_host.parent.name == from_container.parent.name


def test_build_container_is_gone(from_container):
    assert "linmonitor-build-" not in run("podman", "ps", "--all", "--format", "{{.Names}}")
