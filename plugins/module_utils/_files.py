# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and folders as they are, as they are to be, and back as they were."""

from __future__ import annotations

import os
import stat
from typing import Dict, NamedTuple, Optional

from ansible.module_utils.common.text.converters import to_text
from ansible_collections.linmonitor.stack.plugins.module_utils import _hidden, _owned


class Entry(NamedTuple):
    """A file, or a folder, which has no content."""

    path: str
    content: Optional[bytes]
    owner: Optional[int]
    group: Optional[int]
    mode: int


def present(path: str, folder: bool = False) -> Optional[Entry]:
    """Return what is at a path, or nothing."""
    try:
        found = os.stat(path)
        content = None
        if not folder:
            with open(path, "rb") as stream:
                content = stream.read()
    except FileNotFoundError:
        return None
    return Entry(path, content, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


def put(entry: Entry) -> None:
    """Write a file by one rename, or make a folder; LookupError where nobody could own it."""
    if entry.owner is None or entry.group is None:
        raise LookupError(f"There is no user or group yet that {entry.path} could belong to.")
    if entry.content is None:
        os.makedirs(entry.path, exist_ok=True)
        os.chown(entry.path, entry.owner, entry.group)
        os.chmod(entry.path, entry.mode)
        return
    path = os.path.realpath(entry.path)
    _owned.replace(path, entry.content, entry.owner, entry.group, entry.mode)


def put_back(path: str, before: Optional[Entry], folder: bool = False) -> None:
    """Have at a path what was there before; a folder that is new stays."""
    if present(path, folder) == before:
        return  # the disk may have no room to write it again
    if before is not None:
        put(before)
    elif not folder:
        os.unlink(path)


def difference(path: str, before: Optional[Entry], text: str, secret: bool) -> Dict[str, str]:
    """Return what --diff shows of a file that is to hold a text, of a secret one the harmless."""
    old, new = to_text(before.content or b"") if before else "", text
    if secret:
        old, new = (_hidden.view(shown)[0] for shown in (old, new))
    return {"before_header": path, "after_header": path, "before": old, "after": new}
