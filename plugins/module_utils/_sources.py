# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What identifies a source tree by its content, and safe unpacking of archives."""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
import zipfile

MARKER = ".verified"
CHUNK = 1 << 20


class SourceError(Exception):
    """A place did not give the source; the message says what it said instead."""


def file_sha256(path):
    # type: (str) -> str
    """Return the hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _files(root, paths, leave_out=None):
    # type: (str, list, str | None) -> list
    """Return the regular files below `paths`, relative to `root`, in byte order.

    Files whose names end with `leave_out` are not among them.
    """
    found = []
    for path in paths:
        top = os.path.normpath(os.path.join(root, path))
        if os.path.isfile(top) and not os.path.islink(top):
            found.append(os.path.relpath(top, root))
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
            for name in names:
                full = os.path.join(folder, name)
                if name != MARKER and os.path.isfile(full) and not os.path.islink(full):
                    found.append(os.path.relpath(full, root))
    kept = [name for name in found if leave_out is None or not name.endswith(leave_out)]
    return sorted(kept, key=os.fsencode)


def tree_sha256(root, paths, leave_out=None):
    # type: (str, list, str | None) -> str
    """Return one hash over all files below `paths` but those whose names end with `leave_out`.

    The same as, in `root`:
    find PATHS -type f | LC_ALL=C sort | xargs sha256sum | sha256sum
    """
    lines = "".join(
        "%s  %s\n" % (file_sha256(os.path.join(root, name)), name)
        for name in _files(root, paths, leave_out)
    )
    return hashlib.sha256(lines.encode()).hexdigest()


def go_module_h1(root, module, version):
    # type: (str, str, str) -> str
    """Return the `h1:` hash that go.sum has for a module's unpacked tree."""
    prefix = "%s@%s/" % (module, version)
    names = sorted((prefix + name, name) for name in _files(root, ["."]))
    lines = "".join(
        "%s  %s\n" % (file_sha256(os.path.join(root, name)), full) for full, name in names
    )
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


def unpack(archive, dest):
    # type: (str, str) -> None
    """Unpack the regular files of a tar or zip archive below `dest`.

    Links and special files are left out, and a name that would leave `dest` is
    refused: the archive is not trusted before its content has been verified.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for name in bundle.namelist():
                if not name.endswith("/"):
                    with bundle.open(name) as stream:
                        _write(dest, name, stream, 0o644)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as bundle:
            for member in bundle:
                if member.isreg():
                    content = bundle.extractfile(member)
                    if content is not None:
                        _write(dest, member.name, content, 0o644 | member.mode & 0o111)
    else:
        raise SourceError("it is neither a tar nor a zip archive")


def _write(dest, name, stream, mode):
    target = os.path.realpath(os.path.join(dest, name))
    if not target.startswith(os.path.realpath(dest) + os.sep):
        raise SourceError("the archive holds a name outside its own folder: %s" % name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as out:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            out.write(chunk)
    os.chmod(target, mode)


def top_folder(root):
    # type: (str) -> str
    """Return the folder below `root` that holds more than one single folder."""
    while True:
        entries = os.listdir(root)
        if len(entries) != 1 or not os.path.isdir(os.path.join(root, entries[0])):
            return root
        root = os.path.join(root, entries[0])
