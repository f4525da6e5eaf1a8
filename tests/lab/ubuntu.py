# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch packages of Ubuntu's archive: mmdebstrap knows where it is, and Debian has its keys."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from . import debian
from .cache import cache

SUITES = ("bionic", "focal", "jammy", "noble", "resolute")
KEYRING = Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")
# The first suite of Debian that has a package of them.
KEYRING_SUITE, KEYRING_PACKAGE = "trixie", "ubuntu-keyring"


def keyring() -> Path:
    """Return the keys of Ubuntu's archive: this machine's, or those that Debian packages."""
    if KEYRING.exists():
        return KEYRING
    kept = cache() / "tools" / KEYRING.name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            archive = debian.Archive([KEYRING_SUITE], Path(scratch, "apt"))
            archive.names(KEYRING_PACKAGE)
            archive.unpack([KEYRING_PACKAGE], Path(scratch, "root"))
            shutil.move(f"{scratch}/root{KEYRING}", kept)
    return kept


class Archive(debian.Archive):
    """Some suites of Ubuntu's archive, each with its updates."""

    def sources(self) -> list[str]:
        """Return the lines of apt's sources, at the addresses that mmdebstrap would take."""
        options = f"arch={self.architecture} signed-by={keyring()}"
        lines = []
        for suite in self.suites:
            with tempfile.TemporaryDirectory() as root:
                debian.run("mmdebstrap", "--quiet", "--simulate", "--variant=extract",
                           "--skip=update", "--components=main", f"--keyring={keyring()}",
                           f"--architectures={self.architecture}", suite, root)  # fmt: skip
                listed = Path(root, "etc/apt/sources.list").read_text(encoding="ascii")
            lines += [
                f"deb [{options}] {' '.join(line.split()[-3:])}" for line in listed.splitlines()
            ]
        return lines
