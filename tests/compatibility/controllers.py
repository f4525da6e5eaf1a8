# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controllers: each ansible-core in an environment of its own, with the collection's tarball.

`python -m tests.compatibility.controllers CORE` makes one and prints where its programs lie.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab.cache import cache
from tests.lab.hosts import CHECKOUT, LabError, run

# The Pythons that each core runs on; the first that this machine has is taken.
CORES = {
    "2.16": ["3.10", "3.12", "3.11"],
    "2.17": ["3.12", "3.11", "3.10"],
    "2.18": ["3.11", "3.13", "3.12"],
    "2.19": ["3.13", "3.11", "3.12"],
    "2.20": ["3.12", "3.14", "3.13"],
    "2.21": ["3.13", "3.14", "3.12"],
}
CACHE = cache() / "compatibility"
COLLECTIONS = "collections"
# What decides how a controller is prepared and a host deployed to; prose and claims follow.
PREPARED = ("Makefile", "requirements.txt", "tests/lab/prepare", "tests/lab/packages/install")
DEPLOYED = ("files/", "playbooks/", "plugins/", "roles/", "templates/", "versions.yml")
CLAIMS = (".md", "/meta/main.yml")


class NoController(LabError):
    """This machine cannot run that core; the message says why."""


def programs(version: str) -> list[str]:
    """Return where a Python of a version may be: on PATH, then what pyenv and uv installed."""
    name = f"python{version}"
    folders = [Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python"]
    found = [path for one in folders for path in sorted(one.glob(f"*{version}.*/bin/{name}"))]
    return [*filter(None, [shutil.which(name)]), *map(str, found)]


def works(program: str) -> bool:
    """Say whether a Python starts and can make environments; a shim may have none behind it."""
    command = [program, "-c", "import ensurepip, venv"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def python(core: str) -> str:
    """Return a Python for a core, one that starts and can make environments."""
    for version in CORES[core]:
        for program in programs(version):
            if works(program):
                return program
    raise NoController(f"no Python {', '.join(sorted(CORES[core]))} on this machine")


@dataclass(frozen=True)
class Controller:
    """An environment with one core."""

    core: str

    @property
    def folder(self) -> Path:
        """Where its environment lies."""
        return CACHE / f"core-{self.core}"

    @property
    def programs(self) -> Path:
        """Where its programs lie."""
        return self.folder / "bin"

    def program(self, name: str) -> str:
        """Return the path of one of its programs."""
        return str(self.programs / name)

    def prepare(self) -> None:
        """Make the environment, once."""
        if Path(self.program("ansible-playbook")).exists():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        run(python(self.core), "-m", "venv", str(self.folder))
        pip = [self.program("python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        try:
            run(*pip, "install", f"ansible-core=={self.core}.*")
        except LabError as error:
            shutil.rmtree(self.folder)
            print(error, flush=True)
            raise NoController(f"pip installed no ansible-core {self.core}") from error

    def versions(self) -> dict[str, str]:
        """Return the exact versions of core and Python."""
        return versions(run(self.program("ansible"), "--version"))

    def install(self, tarball: Path, folder: Path) -> None:
        """Install the collection as its users do, into a folder that has none."""
        done = subprocess.run(
            [
                self.program("ansible-galaxy"), "collection", "install", "--offline",
                "--collections-path", str(folder / COLLECTIONS), str(tarball),
            ],
            cwd=folder, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise LabError(f"the collection was not installed: {done.stdout.strip()}")


def versions(said: str) -> dict[str, str]:
    """Return the versions of core and Python that `ansible --version` says."""
    core = re.search(r"core ([^\]]+)", said)
    version = re.search(r"python version = (\S+)", said)
    return {"core": core[1] if core else "", "python": version[1] if version else ""}


def environment(folder: Path) -> dict[str, str]:
    """Return an environment that knows the installed collection and no settings of the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    (folder / "ansible.cfg").touch()
    return kept | {
        "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(folder / COLLECTIONS),
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_DEPRECATION_WARNINGS": "true",
    }


def build_tarball(folder: Path) -> Path:
    """Build the collection's tarball."""
    run("ansible-galaxy", "collection", "build", "--output-path", str(folder), str(CHECKOUT))
    (tarball,) = folder.glob("linmonitor-stack-*.tar.gz")
    return tarball


def content(tarball: Path) -> str:
    """Return a name of what a tarball and the checkout's verbs do, which no time changes."""
    with tarfile.open(tarball) as packed:
        listed = packed.extractfile("FILES.json")
        files = json.load(listed)["files"] if listed else []
    sums = sorted(
        (one["name"], one["chksum_sha256"] or "")
        for one in files
        if one["name"].startswith(DEPLOYED) and not one["name"].endswith(CLAIMS)
    )
    sums += [(name, (CHECKOUT / name).read_text()) for name in PREPARED]
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:12]


def commit() -> str:
    """Return the last commit of what is content, with a + where files differ from it."""
    git = ["git", "-C", str(CHECKOUT)]
    paths = ["--", *PREPARED, *DEPLOYED, *(f":(exclude)*{claim}" for claim in CLAIMS)]
    last = run(*git, "log", "-1", "--abbrev=10", "--format=%h", *paths).strip()
    return last + ("+" if run(*git, "status", "--porcelain", *paths) else "")


def main() -> int:
    """Make the environment of the core that is named."""
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility.controllers")
    parser.add_argument("core", choices=CORES)
    controller = Controller(parser.parse_args().core)
    try:
        controller.prepare()
    except LabError as error:
        sys.exit(str(error))
    print(controller.programs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
