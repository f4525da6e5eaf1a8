# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs compiled from pinned Go modules by the Go of this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.lab.hosts import CHECKOUT, LabError, run

BUILD = ["build", "-buildvcs=false", "-trimpath"]
# The compiler of this machine and no flags of its user: the same bytes for everybody who has it.
ENVIRONMENT = {
    "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off",
    "GOOS": "linux", "GOARCH": "amd64", "GOAMD64": "v1", "CGO_ENABLED": "0",
}  # fmt: skip


def go(*arguments: str, folder: Path = CHECKOUT) -> str:
    """Return what Go prints; LabError with its last lines where it fails."""
    done = subprocess.run(
        ["go", *arguments], cwd=folder, env=os.environ | ENVIRONMENT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise LabError(f"go {arguments[0]} ended with {done.returncode}:\n{tail}")
    return done.stdout


def version() -> str:
    """Return the compiler's version, which decides the bytes too."""
    return go("env", "GOVERSION").strip()


def require() -> None:
    """Install the distribution's Go where there is none; LabError that says how, if not as root."""
    if shutil.which("go"):
        return
    installer = str(CHECKOUT / "tests/lab/packages/install")
    if os.geteuid() != 0:
        raise LabError(
            f"Programs are compiled with Go, which is missing here: sudo {installer} golang-go"
        )
    run(installer, "golang-go")


def source(module: str, pinned: str) -> Path:
    """Return a module (NAME@VERSION) in Go's cache; LabError where it has another hash."""
    found = json.loads(go("mod", "download", "-json", module))
    if found["Sum"] != pinned:
        raise LabError(f"{module} has the hash {found['Sum']}, pinned is {pinned}")
    return Path(found["Dir"])


def compile_into(folder: Path, tree: Path, commands: Iterable[str], *flags: str) -> None:
    """Compile commands of a source tree into a folder."""
    with tempfile.TemporaryDirectory(prefix="linmonitor-go-") as scratch:
        # Go does not compile inside of its cache, where nobody may write.
        copy = shutil.copytree(tree, Path(scratch, "source"))
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        go(*BUILD, *flags, f"-o={folder}/", *commands, folder=copy)
