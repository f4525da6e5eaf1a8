# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The artifact of a release, unpacked without trust in what it says of paths and modes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile

from ansible_collections.linmonitor.stack.plugins.module_utils import _release


def sha256(path):
    # type: (str) -> str
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def unpack(artifact, folder):
    # type: (str, str) -> None
    """Unpack files and folders, nothing else and nothing outside, with modes that do not vary."""
    try:
        with tarfile.open(artifact) as packed:
            for member in packed:
                _unpack_member(packed, member, folder)
    except (tarfile.TarError, EOFError) as error:
        raise _release.Fault("The artifact cannot be unpacked: %s" % error) from error


def _unpack_member(packed, member, folder):
    # type: (tarfile.TarFile, tarfile.TarInfo, str) -> None
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if member.name.startswith("/") or ".." in parts:
        raise _release.Fault("The artifact has %s, which lies outside it" % member.name)
    path = os.path.join(folder, *parts)
    if member.isdir():
        _release.make_folders(path)
        return
    source = packed.extractfile(member) if member.isreg() else None
    if source is None:
        raise _release.Fault("The artifact has %s, which is neither file nor folder" % member.name)
    _release.make_folders(os.path.dirname(path))
    with source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)
    os.chmod(path, 0o755 if member.mode & 0o111 else 0o644)
