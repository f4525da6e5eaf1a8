# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch packages of any suite of Debian, which are unpacked and never installed.

apt itself, with a configuration of its own, checks the signed Release files and the packages'
hashes.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Where Debian's archive is for a machine whose own apt knows none of it, as Ubuntu's.
MIRROR = "LINMONITOR_DEBIAN_MIRROR"


def run(*command: str, **options) -> str:
    """Run a command and return what it prints; its errors end the run."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def mirrors() -> dict[bool, str]:
    """Return the addresses this machine's apt uses, by 'is it for security'.

    LINMONITOR_DEBIAN_MIRROR goes first: the address that has debian and debian-security below it.
    """
    if given := os.environ.get(MIRROR, "").rstrip("/"):
        return {False: f"{given}/debian", True: f"{given}/debian-security"}
    targets = run("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)",
                  "Created-By: Packages", "Origin: Debian")  # fmt: skip
    found = dict(line.split() for line in targets.splitlines() if not line.endswith(" "))
    if not (main := found.get("Debian")):
        raise RuntimeError(
            "apt of this machine knows no archive of Debian, from which the tests' kernels and "
            f"programs come: set {MIRROR} to an address with debian and debian-security below it"
        )
    return {False: main, True: found.get("Debian-Security", main)}


class Archive:
    """Some suites of Debian's archive."""

    def __init__(self, suites: Iterable[str], folder: Path, architecture: str = "amd64") -> None:
        """Prepare an apt configuration below the folder, for an architecture by Debian's name."""
        self.suites, self.folder, self.architecture = list(suites), folder, architecture
        for name in ("etc", "state/lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        sources = "".join(f"{line}\n" for line in self.sources())
        (folder / "etc" / "sources.list").write_text(sources, encoding="utf-8")

    def sources(self) -> list[str]:
        """Return the lines of apt's sources, at this machine's mirrors."""
        uris = mirrors()
        options = f"arch={self.architecture} signed-by={KEYRING}"
        return [
            f"deb [{options}] {uris[suite.endswith('-security')]} {suite} main"
            for suite in self.suites
        ]

    def apt(self, program: str, *arguments: str) -> str:
        """Run apt-get or apt-cache on this archive alone."""
        options = {
            "Dir::Etc": self.folder / "etc",
            "Dir::State": self.folder / "state",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": self.folder / "cache",
            "APT::Architecture": self.architecture,
            "APT::Architectures": self.architecture,
            "Acquire::Languages": "none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "3",
        }
        flags = [f"-o{name}={value}" for name, value in options.items()]
        return run(program, *flags, *arguments, cwd=self.folder)

    def names(self, prefix: str) -> list[str]:
        """Return the names of the packages that begin so, as the archive has them now."""
        self.apt("apt-get", "update")
        return self.apt("apt-cache", "pkgnames", prefix).split()

    def download(self, packages: list[str]) -> list[Path]:
        """Download packages; apt checks their hashes."""
        self.apt("apt-get", "download", *packages)
        return list(self.folder.glob("*.deb"))

    def unpack(self, packages: list[str], folder: Path) -> None:
        """Unpack packages to a folder, which comes when all of them are in it."""
        draft = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        for package in self.download(packages):
            run("dpkg", "-x", str(package), str(draft))
            package.unlink()
        draft.rename(folder)
