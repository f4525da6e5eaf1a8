# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of stores and exporters: compiled from Go modules, or out of Debian's packages."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab import go
from tests.lab.cache import cache, made_once
from tests.lab.debian import Archive
from tests.lab.hosts import LabError

STRIPPED = "-ldflags=-s -w"


@dataclass(frozen=True)
class Module:
    """A pinned Go module, and which of its commands are wanted."""

    module: str
    version: str
    h1: str
    commands: tuple[str, ...]
    tags: str = "netgo"

    @property
    def origin(self) -> str:
        """Where its programs come from, in words."""
        return "compiled from its Go module"

    def inputs(self) -> list:
        """Return what decides the bytes."""
        return [asdict(self), [*go.BUILD, STRIPPED], go.ENVIRONMENT, go.version()]

    def make(self, folder: Path) -> str:
        """Compile the commands into a folder; return the version."""
        print(f"stores: compiling {self.module} {self.version} (minutes)", file=sys.stderr)
        tree = go.source(f"{self.module}@{self.version}", self.h1)
        go.compile_into(folder, tree, self.commands, STRIPPED, f"-tags={self.tags}")
        return self.version.removeprefix("v")


@dataclass(frozen=True)
class Package:
    """A package of a suite of Debian, and which of its programs are wanted."""

    package: str
    suite: str
    names: tuple[str, ...]

    @property
    def origin(self) -> str:
        """Where its programs come from, in words."""
        return f"package of Debian's {self.suite}"

    def inputs(self) -> list:
        """Return what decides which programs these are."""
        return [asdict(self)]

    def make(self, folder: Path) -> str:
        """Take the programs out of the package; return its version."""
        with tempfile.TemporaryDirectory(prefix="linmonitor-stores-") as scratch:
            archive = Archive([self.suite], Path(scratch, "apt"))
            archive.apt("apt-get", "update")
            shown = archive.apt("apt-cache", "show", self.package)
            archive.unpack([self.package], Path(scratch, "root"))
            for name in self.names:
                shutil.copy(Path(scratch, "root/usr/bin", name), folder)
        return re.findall(r"^Version: (\S+)", shown, re.MULTILINE)[0]


def programs(source: Module | Package) -> Path:
    """Return the folder of a source's programs, made once; LabError where they cannot be had."""
    if isinstance(source, Module):
        go.require()

    def make(folder: Path) -> None:
        try:
            version = source.make(folder)
        except (RuntimeError, LookupError, OSError, subprocess.SubprocessError) as error:
            raise LabError(str(error)) from error
        (folder / "version").write_text(version)

    key = hashlib.sha256(json.dumps(source.inputs(), sort_keys=True).encode()).hexdigest()[:16]
    return made_once(cache() / "stores" / key, make)


def version_of(source: Module | Package) -> str:
    """Return the version of a source's programs."""
    return (programs(source) / "version").read_text()
