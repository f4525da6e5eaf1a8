# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One test host, and what the fault tests do to it and ask of it."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.artifact import cached
from tests.lab.deployed import Deployed
from tests.lab.hosts import run
from tests.lab.prometheus import sha256

CURRENT = "/opt/linmonitor/current"
# One program keeps the trials short; what is tested here does not depend on which.
SETTINGS = {"bpf_programs_enabled": ["biolatency"]}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what costs too much to be tried whole in every run."""
    parser.addoption(
        "--boundaries", type=int, default=1, metavar="N",
        help="how often each role's first run and change are cut off, evenly spread over its tasks",
    )  # fmt: skip


def handed_in(artifact: Path) -> dict[str, str]:
    """Return the variables of the role that hand an artifact in."""
    return {
        "ebpf_exporter_artifact": str(artifact),
        "ebpf_exporter_artifact_sha256": sha256(artifact),
    }


class Box(Deployed):
    """A Debian host under test."""

    def __init__(self) -> None:
        """Boot it; nothing is deployed to it yet."""
        self.artifact = cached()
        groups = {"linmonitor_targets": ["box"]}
        super().__init__("faults", groups, SETTINGS | handed_in(self.artifact))

    def deploy(self, **variables: object) -> str:
        """Deploy, insist on success and health, and return the release's folder."""
        super().deploy(**variables)
        assert self.faults() == ""
        return self.current()

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


@pytest.fixture(scope="session")
def bare_box() -> Iterator[Box]:
    """Boot the host; nothing is deployed to it yet."""
    box = Box()
    yield box
    box.close()


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
