# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that name an artifact by what it is made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ansible_collections.linmonitor.stack.plugins.module_utils import _sources

DOCUMENTATION = r"""
name: artifact
short_description: Name an artifact by what it is made from
version_added: 1.0.0
description:
  - Used by the ebpf_exporter and prometheus roles.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

KEY_LENGTH = 16


def artifact_key(inputs: dict) -> str:
    """Return the short name of an artifact: a hash of its declared inputs."""
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_LENGTH]


def tree_sha256(root: str) -> str:
    """Return one hash over all files below a folder of the controller."""
    return _sources.tree_sha256(root, ["."])


def programs_sha256(root: str) -> str:
    """Return one hash over a folder of BPF programs; pages (*.md) decide no byte of an artifact."""
    return _sources.tree_sha256(root, ["."], leave_out=".md")


def lock_lines(folders: list[str], root: str) -> list[str]:
    """Return what `sha256sum` prints in `root` for all files below its folders."""
    files = sorted(path for folder in set(folders) for path in Path(folder).rglob("*"))
    return [
        f"{_sources.file_sha256(str(path))}  {path.relative_to(root)}"
        for path in files
        if path.is_file()
    ]


def locked_sha256(lock: str, name: str) -> str:
    """Return what a lock, in the form of `sha256sum`, says about a file; nothing if it does not."""
    lines = (line.split(maxsplit=1) for line in lock.splitlines())
    return next((line[0] for line in lines if line[1:] == [name]), "")


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {
            "artifact_key": artifact_key,
            "file_sha256": _sources.file_sha256,
            "lock_lines": lock_lines,
            "locked_sha256": locked_sha256,
            "programs_sha256": programs_sha256,
            "tree_sha256": tree_sha256,
        }
