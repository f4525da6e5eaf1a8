# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a service of ours may have its folders, and what of them is somebody else's."""

from __future__ import annotations

import os
import re
import shutil
import stat

from ansible_collections.linmonitor.stack.plugins.module_utils import _owned

# Folders of the system: what lies in them belongs to many.
IN_VAR = ("backups", "cache", "lib", "lib/private", "local", "log", "mail", "opt", "spool", "tmp")
IN_USR = ("bin", "etc", "games", "include", "lib", "libexec", "local", "sbin", "share", "src")
SHARED = {"/var/" + name for name in IN_VAR}
SHARED |= {prefix + name for prefix in ("/usr/", "/usr/local/") for name in IN_USR}
NOT_THEIRS = ("lost+found",)
# What ProtectHome=, PrivateTmp= and PrivateDevices= of our units hide.
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev", "/proc", "/sys")
# In memory: what is there is gone with the next boot.
PASSING = "/run"
UNIT_SAFE = re.compile(r"^/[\w./@:+,-]*$")


def too_wide(path):
    # type: (str) -> bool
    """Say whether a folder is one of the system's, or holds the records themselves."""
    path = os.path.realpath(path)
    parts = path.strip("/").split("/")
    return (
        len(parts) < 2
        or path in SHARED
        or (parts[0] == "home" and len(parts) == 2)
        or os.path.realpath(_owned.INSTALLED).startswith(path + "/")
    )


def within(path, folder):
    # type: (str, str) -> bool
    """Say whether a path is a folder or lies in it."""
    return (path + "/").startswith(folder.rstrip("/") + "/")


def fault_of_place(path, uids):
    # type: (str, set) -> str
    """Return why a service of ours could not use a folder at this place, or nothing."""
    place = os.path.realpath(path)
    hiding = [folder for folder in HIDDEN if within(place, folder)]
    if not UNIT_SAFE.match(place):
        return "has a character that a unit cannot name"
    if os.path.islink(path) and not os.path.exists(path):
        return "is a link to %s, which does not exist" % os.readlink(path)
    if hiding:
        return "lies in %s, which the service's sandbox hides" % hiding[0]
    if within(place, PASSING):
        return "lies in %s, which is empty after a boot" % PASSING
    return _fault_of_parents(place, uids)


def _fault_of_parents(place, uids):
    # type: (str, set) -> str
    parent = place
    while not os.path.isdir(parent):
        if os.path.lexists(parent):
            return "cannot be made: %s is no folder" % parent
        parent = os.path.dirname(parent)
    if os.statvfs(parent).f_flag & os.ST_RDONLY:
        return "lies on a file system that is mounted read-only"
    parent = os.path.dirname(parent) if parent == place else parent
    while parent != "/":
        status = os.stat(parent)
        if not status.st_mode & 0o001 and status.st_uid not in uids:
            mode = "%04o" % stat.S_IMODE(status.st_mode)
            return "cannot be reached by the service's user: %s has the mode %s" % (parent, mode)
        parent = os.path.dirname(parent)
    return ""


def fault_of_tree(path, uids):
    # type: (str, set) -> str
    """Return why programs cannot be put at this place, or nothing."""
    parent = os.path.realpath(path)
    while not os.path.isdir(parent):
        parent = os.path.dirname(parent)
    if os.statvfs(parent).f_flag & os.ST_NOEXEC:
        return "lies on a file system that is mounted noexec"
    return fault_of_place(path, uids)


def held(path):
    # type: (str) -> list
    """Return the names in a folder but those that a file system brings."""
    return sorted(name for name in os.listdir(path) if name not in NOT_THEIRS)


def fault_of_data(path, uids):
    # type: (str, set) -> str
    """Return why a folder cannot take our data, or nothing; `uids` are our service's users."""
    if too_wide(path):
        return "is a folder that others use; name a folder below it"
    if not os.path.exists(path):
        return ""
    if os.stat(path).st_uid in uids:
        return ""
    names = held(path)
    return "holds %s, which is not ours" % _owned.some(names) if names else ""


def strangers(path, uids):
    # type: (str, set) -> list
    """Return what below a folder belongs to none of the users."""
    found = []
    for parent, folders, names in os.walk(path):
        if parent == path:
            folders[:] = [name for name in folders if name not in NOT_THEIRS]
        full = (os.path.join(parent, name) for name in folders + names)
        found += [entry for entry in full if os.lstat(entry).st_uid not in uids]
    return sorted(found)


def empty(path):
    # type: (str) -> None
    """Remove everything in a folder but what the file system brought."""
    for name in held(path):
        full = os.path.join(path, name)
        if os.path.isdir(full) and not os.path.islink(full):
            shutil.rmtree(full)
        else:
            os.unlink(full)
