# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same inputs give the same bytes, on a build host and in a container on the controller.

Both build for x86_64 and aarch64, each from an empty cache of its own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.lab.hosts import CHECKOUT, Lab, build_image, image_tag, run
from tests.pins import DEFAULT

SUITE = "bookworm"
ARCHITECTURES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}
# One target of each architecture; a build contacts none of them.
TARGETS = {name: {"ebpf_exporter_architecture": name} for name in ARCHITECTURES}


@dataclass(frozen=True)
class Build:
    """A play of build.yml that has ended."""

    output: str
    status: int
    cache: Path

    def tarball(self, architecture: str) -> Path:
        """Return the only artifact of an architecture in the cache."""
        (found,) = self.cache.rglob(f"linmonitor-{architecture}.tar.gz")
        return found

    def sha256(self, architecture: str) -> str:
        """Return what that artifact hashes to."""
        return hashlib.sha256(self.tarball(architecture).read_bytes()).hexdigest()


def build(folder: Path, *inventories: Path, **variables: str) -> Build:
    """Build for the targets with a cache below `folder`."""
    targets = folder / "targets.json"
    targets.write_text(
        json.dumps({"all": {"children": {"linmonitor_targets": {"hosts": TARGETS}}}})
    )
    command = [
        str(Path(sys.executable).with_name("ansible-playbook")),
        *(f"--inventory={path}" for path in (targets, *inventories)),
        "--extra-vars", json.dumps(variables), "playbooks/build.yml",
    ]  # fmt: skip
    environment = {
        "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
        "CONTAINERS_CONF": str(CHECKOUT / "tests/lab/containers.conf"),
        "XDG_CACHE_HOME": str(folder),
    }
    done = subprocess.run(
        command, cwd=CHECKOUT, env=os.environ | environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return Build(" ".join(done.stdout.split()), done.returncode, folder)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab("builds")
    lab.up({"builder": SUITE}, {"linmonitor_build": ["builder"]})
    yield lab
    lab.down()


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lock that the build host's build writes and the container's build must satisfy."""
    return tmp_path_factory.mktemp("lock") / "linmonitor.lock.txt"


@pytest.fixture(scope="module")
def from_host(lab: Lab, lock: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    built = build(tmp_path_factory.mktemp("host"), lab.inventory, linmonitor_lock=str(lock))
    assert built.status == 0, built.output[-3000:]
    return built


@pytest.fixture(scope="module")
def from_container(from_host: Build, lock: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """No build host in this inventory, and an empty cache: a second controller."""
    build_image(SUITE)
    built = build(
        tmp_path_factory.mktemp("container"), linmonitor_lock=str(lock),
        ebpf_exporter_build_method="container", toolchain_container_image=image_tag(SUITE),
    )  # fmt: skip
    assert built.status == 0, built.output[-3000:]
    return built


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


def exporter(tarball: Path) -> ELFFile:
    """Return the exporter of an artifact."""
    with tarfile.open(tarball) as packed:
        return ELFFile(io.BytesIO(packed.extractfile("./bin/ebpf_exporter").read()))


def test_container_gives_the_bytes_of_a_build_host(from_host, from_container, architecture):
    host, container = from_host.sha256(architecture), from_container.sha256(architecture)
    print(f"\n{architecture} host      {host}\n{architecture} container {container}")
    assert host == container
    key = from_host.tarball(architecture).parent.name
    assert key == from_container.tarball(architecture).parent.name


def test_exporter_is_static_and_of_its_architecture(from_host, architecture):
    elf = exporter(from_host.tarball(architecture))
    assert elf["e_machine"] == ARCHITECTURES[architecture]
    assert "PT_INTERP" not in {segment["p_type"] for segment in elf.iter_segments()}


def test_manifest_names_the_architecture_and_its_packages(from_host, architecture):
    manifest = json.loads((from_host.tarball(architecture).parent / "manifest.json").read_text())
    assert manifest["arch"] == architecture
    assert "libelf-dev" in manifest["observed"]


def test_aarch64_exporter_runs(lab, from_host):
    """Under emulation of an aarch64 processor; programs need a kernel: the part arm64 has one."""
    folder = f"/var/cache/linmonitor/build/{from_host.tarball('aarch64').parent.name}/artifact"
    said = run(
        "podman", "exec", lab.container("builder"), "sh", "-c",
        "apt-get install --quiet=2 --yes --no-install-recommends qemu-user >/dev/null 2>&1 &&"
        f" qemu-aarch64 {folder}/bin/ebpf_exporter --version 2>&1",
    )  # fmt: skip
    print(f"\n{said}")
    assert f"version {DEFAULT['exporter']}" in said
    assert "linux/arm64" in said


def test_build_container_is_gone(from_container):
    assert "linmonitor-build-" not in run("podman", "ps", "--all", "--format", "{{.Names}}")


def test_lock_has_a_line_for_each_architecture(from_container, lock, architecture):
    key, digest = (
        from_container.tarball(architecture).parent.name,
        from_container.sha256(architecture),
    )
    line = f"{digest}  artifacts/{key}/linmonitor-{architecture}.tar.gz"
    assert lock.read_text().splitlines().count(line) == 1


def test_other_bytes_than_the_lock_s_are_refused(lab, from_host, lock, tmp_path):
    other = tmp_path / "other.lock.txt"
    other.write_text(lock.read_text().replace(from_host.sha256("x86_64"), "0" * 64))
    built = build(tmp_path, lab.inventory, linmonitor_lock=str(other))
    assert built.status != 0
    assert f"{other} says {'0' * 64}" in built.output
    assert f"builder built {from_host.sha256('x86_64')}" in built.output
    assert not list(tmp_path.rglob("SHA256SUMS"))
