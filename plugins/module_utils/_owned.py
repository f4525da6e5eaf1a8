# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What on a host is ours: by a record that is written before the files, or by our marker."""

from __future__ import annotations

import contextlib
import errno
import filecmp
import grp
import json
import os
import pwd
import re
import shutil
import stat
import tempfile

from ansible_collections.linmonitor.stack.plugins.module_utils import _writing

# In a comment of every file of ours whose format has comments.
MARKER = "Managed by linmonitor.stack"
INSTALLED = "/var/lib/linmonitor/installed"
# What an uninstall left: data, and the users that own it.
LEFT = "/var/lib/linmonitor/left"
COPY = ".before-linmonitor"
FORMAT = 1
# Where systemd takes units from that it did not generate.
UNIT_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)


def new_record():
    # type: () -> dict
    """Return a record of nothing.

    files: path to {marked, copy}; data: path to None, or owner, group and mode of a folder that
    was there; users and groups: name to whether we made it; units: name to the state of somebody
    else's unit that ours replaced.
    """
    return {
        "format": FORMAT, "files": {}, "trees": [], "folders": [], "data": {},
        "users": {}, "groups": {}, "units": {}, "notes": {},
    }  # fmt: skip


def load(path):
    # type: (str) -> dict | None
    """Return the record in `path`, or None where there is none."""
    try:
        with open(path) as stream:
            record = json.load(stream)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    if record.get("format") != FORMAT:
        raise ValueError("%s has the format %s, not %s" % (path, record.get("format"), FORMAT))
    return record


def save(path, record):
    # type: (str, dict) -> None
    """Write a record so that a cut leaves the old one or the new one."""
    while True:
        try:
            for folder in reversed(missing_parents(path)):
                make(folder)
            handle, draft = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path))
            break
        except FileNotFoundError:
            continue  # another execution removed the last record, and the folder with it
    with _writing.naming(path), os.fdopen(handle, "w") as stream:
        json.dump(record, stream, indent=2, sort_keys=True)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(draft, 0o644)
    os.rename(draft, path)


def names_but(name):
    # type: (str) -> list
    """Return the names of the other records."""
    if not os.path.isdir(INSTALLED):
        return []
    names = [entry[:-5] for entry in os.listdir(INSTALLED) if entry.endswith(".json")]
    return sorted(entry for entry in names if entry != name)


def others(name):
    # type: (str) -> list
    """Return the other records."""
    return [load(os.path.join(INSTALLED, other + ".json")) for other in names_but(name)]


def resolved(path):
    # type: (str) -> str
    """Return where a file lies: links above it are followed, it itself may be one."""
    path = os.path.abspath(path)
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def marked(path):
    # type: (str) -> bool
    """Say whether a file carries our marker."""
    try:
        with open(path, "rb") as stream:
            return MARKER.encode() in stream.read(1 << 16)
    except OSError:
        return False


def fault_of_file(path):
    # type: (str) -> str
    """Return why a file is not one of ours, or nothing."""
    if not os.path.lexists(path):
        return ""
    if os.path.islink(path) and os.path.realpath(path) == "/dev/null":
        return "is masked (a link to /dev/null)"
    if os.path.isdir(path):
        return "is a folder"
    if marked(path):
        return ""
    if os.path.islink(path):
        return "is a link to %s, which is not ours" % os.readlink(path)
    return "is there and not ours"


def some(names):
    # type: (list) -> str
    """Return the first names of a list, and how many more there are."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (" and %s more" % more if more > 0 else "")


def missing_parents(path):
    # type: (str) -> list
    """Return the folders above a path that do not exist yet."""
    found = []
    parent = os.path.dirname(path)
    while not os.path.exists(parent):
        found.append(parent)
        parent = os.path.dirname(parent)
    return found


def make(folder):
    # type: (str) -> None
    """Make a folder; another execution may do so at the same time."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    os.chmod(folder, 0o755)  # whatever the umask is


def unit_files(unit):
    # type: (str) -> list
    """Return the files and drop-ins that a unit has, each once."""
    found = {}
    for folder in UNIT_FOLDERS:
        path = os.path.join(folder, unit)
        if os.path.lexists(path):
            found[resolved(path)] = path
        if os.path.isdir(path + ".d"):
            for name in sorted(os.listdir(path + ".d")):
                if name.endswith(".conf"):
                    found[resolved(os.path.join(path + ".d", name))] = path + ".d/" + name
    return [found[key] for key in sorted(found)]


def units_as(user):
    # type: (str) -> list
    """Return the unit files that run as a user, also those that are stopped."""
    line = re.compile(r"^User=%s\s*$" % re.escape(user), re.M)
    found = []
    for folder in filter(os.path.isdir, UNIT_FOLDERS):
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if name.endswith(".service") and os.path.isfile(path):
                with open(path, errors="replace") as stream:
                    if line.search(stream.read()):
                        found.append(path)
    return found


def same(one, other):
    # type: (str, str) -> bool
    """Say whether two paths hold the same file or the same link."""
    if os.path.islink(one) or os.path.islink(other):
        both = os.path.islink(one) and os.path.islink(other)
        return both and os.readlink(one) == os.readlink(other)
    return os.path.isfile(other) and filecmp.cmp(one, other, shallow=False)


def save_copy(path):
    # type: (str) -> str
    """Copy a file with owner, mode and times beside itself; a cut leaves no half copy."""
    copy, draft = path + COPY, path + COPY + ".new"
    if os.path.lexists(copy):
        return copy
    if os.path.lexists(draft):
        os.unlink(draft)
    shutil.copy2(path, draft, follow_symlinks=False)
    before = os.lstat(path)
    os.chown(draft, before.st_uid, before.st_gid, follow_symlinks=False)
    if not os.path.islink(path):
        os.chmod(draft, stat.S_IMODE(before.st_mode))
    os.rename(draft, copy)
    return copy


def compare(path, content, owner, group, mode):
    # type: (str, str, str, str, str) -> tuple
    """Return what a file holds, and whether that, its owner, group and mode are the wanted ones."""
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as stream:
            before = stream.read()
        status = os.lstat(path)
    except OSError:
        return "", False
    same = before == content and stat.S_IMODE(status.st_mode) == int(mode, 8)
    try:
        ids = pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
    except KeyError:
        return before, False
    return before, same and stat.S_ISREG(status.st_mode) and ids == (status.st_uid, status.st_gid)


def write(path, content, owner, group, mode):
    # type: (str, str, str, str, str) -> None
    """Put a file in its place, with the folders above it that are missing."""
    uid, gid = pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
    for folder in reversed(missing_parents(path)):
        make(folder)
        os.chown(folder, uid, gid)
    replace(path, content.encode("utf-8"), uid, gid, int(mode, 8))


def replace(path, content, uid, gid, mode):
    # type: (str, bytes, int, int, int) -> None
    """Put a file in its place by one rename; nobody else can read it before it has its mode."""
    handle, draft = tempfile.mkstemp(prefix=".linmonitor-", dir=os.path.dirname(path))
    try:
        with _writing.naming(path), os.fdopen(handle, "wb") as stream:
            stream.write(content)
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def take_away(path, entry):
    # type: (str, dict) -> str
    """Remove a recorded file, or put back what it replaced; return why it was kept, or nothing."""
    if entry["copy"] and not os.path.lexists(entry["copy"]):
        return ""  # put back by an earlier run
    if os.path.lexists(path) and entry["marked"] and not marked(path):
        beside = "; what it replaced is %s" % entry["copy"] if entry["copy"] else ""
        return "somebody put another file in the place of ours" + beside
    if entry["copy"]:
        os.replace(entry["copy"], path)
    elif os.path.lexists(path):
        os.unlink(path)
    return ""


def uids_of(names):
    # type: (list) -> set
    """Return the ids of those users that exist."""
    found = set()
    for name in names:
        with contextlib.suppress(KeyError):
            found.add(pwd.getpwnam(name).pw_uid)
    return found
