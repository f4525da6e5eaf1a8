# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs of stores and exporters: compiled from Go modules, or out of Debian's packages."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab import prometheus
from tests.lab.debian import Archive
from tests.lab.hosts import LabError

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "linmonitor/stores"
BUILD = ["build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w"]


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
        compiler = prometheus.go("env", "GOVERSION").strip()
        return [asdict(self), BUILD, prometheus.ENVIRONMENT, compiler]

    def make(self, folder: Path) -> str:
        """Compile the commands into a folder; return the version."""
        print(f"stores: compiling {self.module} {self.version} (minutes)", file=sys.stderr)
        pinned = f"{self.module}@{self.version}"
        found = json.loads(prometheus.go("mod", "download", "-json", pinned))
        if found["Sum"] != self.h1:
            raise LabError(f"{pinned} has the hash {found['Sum']}, pinned is {self.h1}")
        with tempfile.TemporaryDirectory(prefix="linmonitor-stores-") as scratch:
            # Go does not compile inside of its cache.
            tree = shutil.copytree(found["Dir"], Path(scratch, "source"))
            for path in (tree, *tree.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            prometheus.go(
                *BUILD, f"-tags={self.tags}", f"-o={folder}/", *self.commands, folder=tree
            )
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
        prometheus.require_go()
    key = hashlib.sha256(json.dumps(source.inputs(), sort_keys=True).encode()).hexdigest()[:16]
    folder = CACHE / key
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel runs ask at once
        if not folder.exists():
            draft = folder.with_name(f"{key}.new")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            try:
                version = source.make(draft)
            except (RuntimeError, LookupError, OSError, subprocess.SubprocessError) as error:
                raise LabError(str(error)) from error
            (draft / "version").write_text(version)
            draft.rename(folder)
    return folder


def version_of(source: Module | Package) -> str:
    """Return the version of a source's programs."""
    return (programs(source) / "version").read_text()
