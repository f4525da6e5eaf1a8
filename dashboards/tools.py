# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real prometheus and promtool of the version that the collection installs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "2.37.8"
REVISION = "3a804ec5688b3d88eb9718b0093a8fffae69ccf4"
MODULE = "github.com/prometheus/prometheus@v0.37.8"
MODULE_SUM = "h1:OHPMOq9EkK6kEcO3Ul8Vby3b0FlwE0JE/I/xAgtlJhE="


class ToolError(Exception):
    """The tool is neither cached nor can it be built."""


def cache_dir() -> Path:
    """Return the collection's folder below the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "linmonitor"


def tool(name: str) -> Path:
    """Return the path of `name` (prometheus or promtool), building both where neither is cached."""
    built = cache_dir() / "tools" / f"{name}-{VERSION}"
    built.parent.mkdir(parents=True, exist_ok=True)
    # Parallel tests ask at once; the first builds for all.
    with (built.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for candidate in [built, *sorted((cache_dir() / "prometheus").glob(f"*/{name}"))]:
            if _is_wanted(candidate):
                return candidate
        _build(built.parent)
    if not _is_wanted(built):
        raise ToolError(f"{built} does not say that it is version {VERSION}")
    return built


def _is_wanted(binary: Path) -> bool:
    if not binary.is_file():
        return False
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    return f"version {VERSION} " in said.stdout + said.stderr


def _build(target: Path) -> None:
    """Build both tools from the Go module, accepted by its checksum."""
    go = shutil.which("go")
    if go is None:
        raise ToolError(
            f"prometheus and promtool {VERSION} are not in {cache_dir()} and there is no Go to "
            f"build them: install Go, or put both into {cache_dir()}/prometheus/{VERSION}/"
        )
    module = json.loads(_run([go, "mod", "download", "-json", MODULE]))
    if module["Sum"] != MODULE_SUM:
        raise ToolError(f"{MODULE} has checksum {module['Sum']}, expected {MODULE_SUM}")
    with tempfile.TemporaryDirectory(dir=target) as scratch:
        # The module cache is read-only, and `go install` refuses modules with replace directives.
        source = Path(scratch, "source")
        shutil.copytree(module["Dir"], source, copy_function=shutil.copyfile)
        for folder in (source, *source.rglob("*/")):
            folder.chmod(0o755)
        where = "github.com/prometheus/common/version"
        flags = f"-s -w -X {where}.Version={VERSION} -X {where}.Revision={REVISION}"
        command = [go, "build", "-trimpath", "-ldflags", flags, "-o", f"{scratch}/out/"]
        _run([*command, "./cmd/prometheus", "./cmd/promtool"], cwd=source)
        for binary in Path(scratch, "out").iterdir():
            binary.replace(target / f"{binary.name}-{VERSION}")


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(tool(argument))
