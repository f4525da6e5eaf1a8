# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a machine's processors are emulated, and how it gets at this machine's folders.

By turns nothing is lost where a kernel changes itself, and a busy machine slows it down least. At
once it meets the races between processors, in moments that emulation stretches.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.lab.debian import Archive, run

NAME = "qemu-system-x86_64"
# In older ones a processor at times keeps what it made of an instruction that another one was just
# changing, as it does where a program comes or goes: the machine then crashes, or does nothing but
# the breakpoint that was there for a moment of the change. Seen in 7.2, not in 10.0.
SOUND = (8, 1)
SUITE = "bookworm-backports"
PACKAGES = ["qemu-system-x86", "qemu-system-common", "qemu-system-data"]
# Shares folders with a kernel that has no 9p. Debian has it since 13: with it comes all that it
# runs on, so that it runs on older systems too.
SHARER = "virtiofsd"
SHARER_SUITE = "trixie"
SHARER_PACKAGES = [SHARER, "libc6", "libcap-ng0", "libgcc-s1", "libseccomp2"]


def version(program: str) -> tuple[int, ...]:
    """Return the major and minor number that a QEMU says of itself."""
    said = run(program, "--version")
    return tuple(map(int, re.findall(r"version (\d+)\.(\d+)", said)[0]))


def newer(cache: Path) -> str:
    """Return the path of a QEMU from the archive, which stays in the cache."""
    home = cache / "qemu"
    root = home / "root"
    if not root.exists():
        archive = Archive([SUITE], home / "apt")
        archive.names(NAME)
        archive.unpack(PACKAGES, root)
    return str(root / "usr/bin" / NAME)


def by_turns() -> list[str]:
    """Return the options of virtme-ng for processors of which one runs at a time."""
    return ["--qemu-opts=-accel tcg,thread=single"]


def at_once(cache: Path) -> list[str]:
    """Return the options of virtme-ng for processors that run at the same time."""
    program = shutil.which(NAME) or NAME
    if version(program) < SOUND:
        program = newer(cache)
    return ["--qemu", program, "--qemu-opts=-accel tcg,thread=multi"]


def sharer(cache: Path) -> Path:
    """Return a folder of the cache with a program `virtiofsd`, which virtme-ng takes from PATH."""
    home = cache / SHARER
    root, program = home / "root", home / "bin" / SHARER
    if not root.exists():
        libraries = root / "usr/lib/x86_64-linux-gnu"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            f"#!/bin/sh\nexec {libraries}/ld-linux-x86-64.so.2 --library-path {libraries} "
            f'{root}/usr/libexec/{SHARER} "$@"\n',
            encoding="utf-8",
        )
        program.chmod(0o755)
        archive = Archive([SHARER_SUITE], home / "apt")
        archive.names(SHARER)
        archive.unpack(SHARER_PACKAGES, root)
    return program.parent
