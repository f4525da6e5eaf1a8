# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is tried on a controller that starts bare: a distribution, a clone, `make` and nothing else.

Its verbs act on another host over ssh. Artifact, Prometheus and the stand-in for Grafana are handed
in, for a controller's own work is what is tried.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.compatibility.controllers import versions
from tests.compatibility.jobs import CURRENT, GROUPS, HOST, changed, want
from tests.lab.artifact import cached
from tests.lab.hosts import CHECKOUT, Lab, run
from tests.lab.prometheus import sha256

CONTROLLER = "controller"
TARGET_SUITE = "bookworm"
CLONE, HANDED_IN, INVENTORY = "/srv/clone", "/srv/handed-in", "/srv/inventory.yml"
INSTALL_MAKE = """
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update && apt-get -qq install --no-install-recommends make
"""


@dataclass
class Bare:
    """A controller without anything, and a host for it."""

    lab: Lab
    variables: dict[str, Any]

    def ask(self, command: str, host: str = CONTROLLER) -> str:
        """Return what a command says on the controller or on its host; LabError if it fails."""
        return run("podman", "exec", self.lab.container(host), "sh", "-c", f"{command} </dev/null")

    def make(self, verb: str) -> str:
        """Type a verb of the Makefile, without a terminal."""
        return self.ask(f"cd {CLONE} && make {verb} INVENTORY={INVENTORY} 2>&1")

    def send(self, file: Path) -> str:
        """Copy a file to the controller; return where it is there."""
        place = f"{HANDED_IN}/{file.name}"
        run("podman", "cp", str(file), f"{self.lab.container(CONTROLLER)}:{place}")
        return place

    def boot(self, suite: str) -> None:
        """Boot a controller of a suite and its host."""
        hosts = {CONTROLLER: suite, HOST: TARGET_SUITE}
        self.lab.up(hosts, {group: [HOST] for group in GROUPS})

    def furnish(self) -> None:
        """Put a clone, what is handed in and an inventory onto the controller."""
        self.ask(f"mkdir {CLONE} {HANDED_IN}")
        clone = ["git", "-C", str(CHECKOUT), "archive", "HEAD"]
        unpack = ["podman", "exec", "-i", self.lab.container(CONTROLLER), "tar", "-xC", CLONE]
        with subprocess.Popen(clone, stdout=subprocess.PIPE) as packed:
            subprocess.run(unpack, stdin=packed.stdout, check=True)
        artifact = cached()
        given = {"ebpf_exporter_artifact": str(artifact)} | self.variables
        variables = {
            name: self.send(Path(value)) if Path(str(value)).is_file() else value
            for name, value in given.items()
        }
        variables["ebpf_exporter_artifact_sha256"] = sha256(artifact)
        variables["grafana_secrets_dir"] = "/srv/secrets"
        inventory = yaml.safe_load(self.lab.inventory.read_text())
        key, known = (self.send(self.lab.folder / name) for name in ("id_ed25519", "known_hosts"))
        inventory["all"]["vars"] = variables | {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": key,
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known} -o IdentitiesOnly=yes",
        }
        (self.lab.folder / "sent.yml").write_text(yaml.safe_dump(inventory))
        self.ask(f"mv {self.send(self.lab.folder / 'sent.yml')} {INVENTORY}")

    def versions(self) -> dict[str, str]:
        """Return the versions of core and Python on the controller, and of Python on the host."""
        said = self.ask(f"{CLONE}/.venv/bin/ansible --version")
        return versions(said) | {"host_python": self.ask("python3 --version", HOST).split()[1]}


def prepare(bare: Bare) -> None:
    """One package and one verb, and the verb again."""
    bare.ask(INSTALL_MAKE.strip().replace("\n", "; "))
    for _ in range(2):
        want("is ready" in bare.make("prepare"), "it does not say that it is ready")


def preflight(bare: Bare) -> None:
    """The table names a program."""
    want("biolatency" in bare.make("preflight"), "the table does not name biolatency")


def server(bare: Bare) -> None:
    """All is deployed, and again without a change."""
    bare.make("server")
    bare.ask(f"python3 {CURRENT}/health.py", HOST)
    again = changed(bare.make("server"))
    want(again == 0, f"{again} tasks changed something in a second run")


def verify(bare: Bare) -> None:
    """Prometheus has what the programs counted."""
    want("bio_latency_seconds" in bare.make("verify"), "no number of a disk")


def clean(bare: Bare) -> None:
    """Nothing runs any more."""
    bare.make("clean")
    said = bare.ask("systemctl is-active ebpf_exporter linmonitor-prometheus || true", HOST)
    want(said.split() == ["inactive"] * 2, f"exporter and Prometheus are {said.split()}")


VERBS: dict[str, Callable[[Bare], None]] = {
    f"make {verb.__name__}": verb for verb in (prepare, preflight, server, verify, clean)
}
