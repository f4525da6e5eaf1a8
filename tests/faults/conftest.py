# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One test host, and what the fault tests do to it and ask of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.artifact import cached
from tests.lab.deployed import PLAYBOOK, failures
from tests.lab.hosts import CHECKOUT, Lab, run

CURRENT = "/opt/linmonitor/current"
# One program keeps the trials short; what is tested here does not depend on which.
SETTINGS = {"bpf_programs_enabled": ["biolatency"]}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what costs too much to be tried whole in every run."""
    parser.addoption(
        "--boundaries", type=int, default=1, metavar="N",
        help="how often each role's first run and change are cut off, evenly spread over its tasks",
    )  # fmt: skip


@dataclass(frozen=True)
class Box:
    """A Debian host under test."""

    lab: Lab
    artifact: Path
    checkout: Path = CHECKOUT

    def command(self, playbook: str, **variables: object) -> list[str]:
        """Return the command line of a play with these variables."""
        extra = SETTINGS | {"ebpf_exporter_artifact": str(self.artifact)} | variables
        handed_in = Path(str(extra["ebpf_exporter_artifact"]))
        if handed_in.is_file():
            extra.setdefault("ebpf_exporter_artifact_sha256", sha256(handed_in))
        return [
            PLAYBOOK, "--inventory", str(self.lab.inventory),
            "--extra-vars", json.dumps(extra), f"playbooks/{playbook}.yml",
        ]  # fmt: skip

    def start(self, playbook: str, verbosity: int = 0, **variables: Any) -> subprocess.Popen:
        """Start a play in a process group of its own."""
        return subprocess.Popen(
            self.command(playbook, **variables),
            cwd=self.checkout,
            env=os.environ
            | {
                "ANSIBLE_CONFIG": str(self.checkout / "ansible.cfg"),
                "ANSIBLE_VERBOSITY": str(verbosity),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def play(self, playbook: str, **variables: Any) -> tuple[int, str]:
        """Run a play; return its exit status and output without line breaks."""
        process = self.start(playbook, **variables)
        output, _ = process.communicate()
        return process.returncode, " ".join(output.split())

    def deploy(self, **variables: object) -> str:
        """Deploy, insist on success and health, and return the release's folder."""
        status, output = self.play("site", **variables)
        assert status == 0, failures(output)
        assert self.faults() == ""
        return self.current()

    def run(self, command: str) -> str:
        """Run a command in the host; return its standard output, stripped.

        Not its errors: podman writes warnings of its own there.
        """
        done = subprocess.run(
            ["podman", "exec", self.lab.container("box"), "sh", "-c", command],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip()

    def current(self) -> str:
        """Return the folder of the release that is on."""
        return self.run(f"readlink {CURRENT}")

    def faults(self) -> str:
        """Return what the release that is on finds wrong with itself."""
        return self.run(f"python3 -B {CURRENT}/health.py || echo ended with $?")

    def cut_connections(self) -> None:
        """End every ssh session of the host, as a lost network does."""
        self.run("pkill -KILL --full '^sshd: root'")

    def settle(self) -> None:
        """Wait until nobody deploys on the host any more, modules without a connection included."""
        busy = "systemctl --quiet is-active linmonitor-release || pgrep '^python3'"
        # For three seconds: a shell of the cut session may be about to start one.
        self.run(
            "quiet=0; until [ $quiet = 15 ]; do sleep 0.2;"
            f" if {busy} >/dev/null; then quiet=0; else quiet=$((quiet + 1)); fi; done"
        )

    def serves(self) -> bool:
        """Say whether somebody answers on the exporter's port, waiting a little for a restart."""
        program = (
            "import sys; sys.path.insert(0, sys.argv[1]); import health;"
            "print(len(health.scrape('http://127.0.0.1:9435/metrics')) > 0)"
        )
        releases = "$(ls -d /opt/linmonitor/releases/*/ | head -1)"
        return self.run(f'python3 -B -c "{program}" {releases}').endswith("True")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def bare_box() -> Iterator[Box]:
    """Boot the host; nothing is deployed to it yet."""
    lab = Lab("faults")
    artifact = cached()
    lab.up({"box": "bookworm"}, {"linmonitor_targets": ["box"]})
    yield Box(lab, artifact)
    lab.down()


@pytest.fixture
def box(bare_box: Box) -> Box:
    """Have a healthy release of the good artifact on the host, whatever ran before."""
    if bare_box.faults():
        bare_box.deploy()
    return bare_box


@pytest.fixture
def fabricate(bare_box: Box, tmp_path: Path) -> Callable[[Callable[[Path], None]], Path]:
    """Make an artifact from the good one by a change to its unpacked files."""

    def change_and_pack(change: Callable[[Path], None]) -> Path:
        folder = tmp_path / "artifact"
        folder.mkdir()
        run("tar", "-xzf", str(bare_box.artifact), "-C", str(folder))
        change(folder)
        # Whoever makes a bad artifact lists its files.
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"] = {name: sha256(folder / name) for name in manifest["files"]}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        made = tmp_path / "linmonitor-x86_64.tar.gz"
        with tarfile.open(made, "w:gz", compresslevel=1) as packed:
            packed.add(folder, arcname=".")
        return made

    return change_and_pack
