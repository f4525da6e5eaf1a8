# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real prometheus and promtool of the version that the collection installs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VERSION = "2.37.8"


class ToolError(Exception):
    """The tool is not in the controller's cache."""


def cache_dir() -> Path:
    """Return the collection's folder below the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "linmonitor"


def tool(name: str) -> Path:
    """Return the path of `name` (prometheus or promtool), unpacked from the cached archive.

    The archive is the one that the prometheus role builds or downloads, verifies and deploys.
    """
    unpacked = cache_dir() / "tools" / f"{name}-{VERSION}"
    if _is_wanted(unpacked):
        return unpacked
    for archive in sorted((cache_dir() / "prometheus").glob(f"{VERSION}-*/prometheus-*.tar.gz")):
        _unpack(archive, name, unpacked)
        if _is_wanted(unpacked):
            return unpacked
    raise ToolError(
        f"{name} {VERSION} is not in {cache_dir()}/prometheus. `molecule test` and "
        "playbooks/build.yml with prometheus_source=module build it."
    )


def _is_wanted(binary: Path) -> bool:
    if not binary.is_file():
        return False
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    return f"version {VERSION} " in said.stdout + said.stderr


def _unpack(archive: Path, name: str, target: Path) -> None:
    """Put one binary of an archive in place by one rename; parallel tests ask at once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as bundle, tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        member = next((m for m in bundle if m.isreg() and Path(m.name).name == name), None)
        content = bundle.extractfile(member) if member else None
        if content:
            unpacked = Path(scratch, name)
            with unpacked.open("wb") as file:
                shutil.copyfileobj(content, file)
            unpacked.chmod(0o755)
            unpacked.rename(target)
