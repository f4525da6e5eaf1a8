# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that name an artifact by what it is made from."""

from __future__ import annotations

import hashlib
import json

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


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {
            "artifact_key": artifact_key,
            "file_sha256": _sources.file_sha256,
            "programs_sha256": programs_sha256,
            "tree_sha256": tree_sha256,
        }
