# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What identifies a source tree by its content."""

from __future__ import annotations

import base64
import hashlib
import os

from ansible_collections.linmonitor.stack.plugins.module_utils._archive import file_sha256

MARKER = ".verified"


class SourceError(Exception):
    """A place did not give the source; the message says what it said instead."""


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


def top_folder(root):
    # type: (str) -> str
    """Return the folder below `root` that holds more than one single folder."""
    while True:
        entries = os.listdir(root)
        if len(entries) != 1 or not os.path.isdir(os.path.join(root, entries[0])):
            return root
        root = os.path.join(root, entries[0])
