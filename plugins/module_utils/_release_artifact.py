# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifact of a release, unpacked without trust in what it says of itself."""

from __future__ import annotations

import json
import os
import re
from typing import Any, Dict, Iterable, Iterator

from ansible_collections.linmonitor.stack.plugins.module_utils import _archive, _program, _release

MANIFEST = "manifest.json"
EXPORTER = "bin/ebpf_exporter"
# Nothing else: root runs Python in the folder of a release, which would import from there.
KNOWN = re.compile(r"bin/ebpf_exporter|programs/([\w.-]+)/(\1\.yaml|[\w.-]+\.bpf\.o)", re.ASCII)


def unpack(artifact: str, folder: str) -> Dict[str, Any]:
    """Unpack an artifact whose files are those of its manifest; return the manifest."""
    try:
        sums = _archive.unpack(artifact, folder)
    except _archive.ArchiveError as error:
        raise _release.Fault(f"The artifact cannot be unpacked: {error}") from error
    manifest = _release.read_json(os.path.join(folder, MANIFEST))
    for wrong in faults(manifest, sums):
        raise _release.Fault(f"The artifact is refused: {wrong}")
    _archive.remember(folder, sums)
    return manifest


def manifest_of(artifact: str) -> Dict[str, Any]:
    """Return the manifest of an artifact without unpacking anything."""
    try:
        text, paths = _archive.look(artifact, MANIFEST)
        manifest = json.loads(text or "{}")
    except (_archive.ArchiveError, ValueError) as error:
        raise _release.Fault(f"The artifact cannot be unpacked: {error}") from error
    for wrong in _foreign(paths):
        raise _release.Fault(f"The artifact is refused: {wrong}")
    return manifest if isinstance(manifest, dict) else {}


def _foreign(paths: Iterable[str]) -> Iterator[str]:
    for path in sorted(paths):
        if path != MANIFEST and not KNOWN.fullmatch(path):
            yield f"{path} is no part of an artifact"


def faults(manifest: Dict[str, Any], sums: Dict[str, str]) -> Iterator[str]:
    """Name what is in an artifact and does not belong there, or is not what its manifest says."""
    listed = manifest.get("files")
    if not isinstance(listed, dict):
        yield f"its {MANIFEST} lists no files"
        return
    there = {path: digest for path, digest in sums.items() if path != MANIFEST}
    yield from _foreign(there)
    if EXPORTER not in there:
        yield f"it has no {EXPORTER}"
    for path in sorted({*there, *map(str, listed)}):
        if there.get(path) != listed.get(path):
            yield (
                f"its {MANIFEST} lies about {path}: it says {listed.get(path, 'nothing')}, there "
                f"is {there.get(path, 'nothing')}"
            )
    try:
        _program.check(manifest.get("catalogue"))
    except _program.CatalogueError as error:
        yield f"its {MANIFEST}: {error}"
        return
    for config, entry in manifest["catalogue"]["configs"].items():
        objects = [f"{variant['name']}.bpf.o" for variant in entry["variants"]]
        for name in (f"{config}.yaml", *objects):
            if f"programs/{config}/{name}" not in there:
                yield f"its {MANIFEST} names programs/{config}/{name}, which is not in it"
