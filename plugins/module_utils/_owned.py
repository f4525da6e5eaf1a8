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
import socket
import stat
import tempfile

from ansible_collections.linmonitor.stack.plugins.module_utils import _address

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
# Folders of the system: what lies in them belongs to many.
IN_VAR = ("backups", "cache", "lib", "lib/private", "local", "log", "mail", "opt", "spool", "tmp")
IN_USR = ("bin", "etc", "games", "include", "lib", "libexec", "local", "sbin", "share", "src")
SHARED = {"/var/" + name for name in IN_VAR}
SHARED |= {prefix + name for prefix in ("/usr/", "/usr/local/") for name in IN_USR}
NOT_THEIRS = ("lost+found",)
# What ProtectHome=, PrivateTmp= and PrivateDevices= of our units hide.
HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp", "/dev", "/proc", "/sys")
UNIT_SAFE = re.compile(r"^/[\w./@:+,-]*$")


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
    for folder in reversed(missing_parents(path)):
        os.mkdir(folder)
        os.chmod(folder, 0o755)  # whatever the umask is
    handle, draft = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path))
    with os.fdopen(handle, "w") as stream:
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


def too_wide(path):
    # type: (str) -> bool
    """Say whether a folder is one of the system's, or holds the records themselves."""
    path = os.path.realpath(path)
    parts = path.strip("/").split("/")
    return (
        len(parts) < 2
        or path in SHARED
        or (parts[0] == "home" and len(parts) == 2)
        or os.path.realpath(INSTALLED).startswith(path + "/")
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
    return "holds %s, which is not ours" % some(names) if names else ""


def some(names):
    # type: (list) -> str
    """Return the first names of a list, and how many more there are."""
    more = len(names) - 3
    return ", ".join(names[:3]) + (" and %s more" % more if more > 0 else "")


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


def missing_parents(path):
    # type: (str) -> list
    """Return the folders above a path that do not exist yet."""
    found = []
    parent = os.path.dirname(path)
    while not os.path.exists(parent):
        found.append(parent)
        parent = os.path.dirname(parent)
    return found


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


def keep_copy(path):
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
    """Put a file in its place, whole; nobody else can read it before it has its mode."""
    uid, gid = pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid
    for folder in reversed(missing_parents(path)):
        os.mkdir(folder)
        os.chown(folder, uid, gid)
        os.chmod(folder, 0o755)  # whatever the umask is
    handle, draft = tempfile.mkstemp(prefix=".linmonitor-", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chown(draft, uid, gid)
        os.chmod(draft, int(mode, 8))
        os.rename(draft, path)
    except OSError:
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


def empty(path):
    # type: (str) -> None
    """Remove everything in a folder but what the file system brought."""
    for name in held(path):
        full = os.path.join(path, name)
        if os.path.isdir(full) and not os.path.islink(full):
            shutil.rmtree(full)
        else:
            os.unlink(full)


def _row_address(text):
    # type: (str) -> tuple
    """Return host, which is empty for any address, and port from a column of /proc/net/tcp."""
    host, port = text.split(":")
    words = [bytes.fromhex(host[start : start + 8])[::-1] for start in range(0, len(host), 8)]
    raw = b"".join(words)
    family = socket.AF_INET if len(raw) == 4 else socket.AF_INET6
    host = socket.inet_ntop(family, raw) if any(raw) else ""
    return _row_host(host), int(port, 16)


def _row_host(host):
    # type: (str) -> str
    """Return IPv4 in the clothes of IPv6 as IPv4."""
    return host[7:] if host.startswith("::ffff:") else host


def listening_sockets(address, proc="/proc"):
    # type: (str, str) -> set
    """Return the inodes of sockets that a listener at `address` (host:port) would collide with."""
    place = _address.parse(address)
    try:
        # A name listens on whatever it resolves to.
        known = [] if place.wildcard else socket.getaddrinfo(place.host, None)
        hosts = {_row_host(str(entry[4][0])) for entry in known}
    except OSError:
        hosts = {place.host}
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            with open("%s/net/%s" % (proc, table)) as stream:
                rows = [line.split() for line in stream][1:]
        except OSError:
            continue
        for row in rows:
            there, port = _row_address(row[1])
            meets = not hosts or not there or there in hosts
            if row[3] == "0A" and port == place.port and meets:
                found.add(row[9])
    return found


def _opened(folder):
    # type: (str) -> set
    """Return what a process has open; descriptors come and go while one looks."""
    found = set()
    for number in os.listdir(folder):
        with contextlib.suppress(OSError):
            found.add(os.readlink(os.path.join(folder, number)))
    return found


def _text(path):
    # type: (str) -> str
    with open(path) as stream:
        return stream.read().strip()


def programs(sockets, proc="/proc"):
    # type: (set, str) -> list
    """Return (name, process id, unit) of the programs that hold these sockets."""
    wanted = {"socket:[%s]" % inode for inode in sockets}
    found = []
    for process in sorted(filter(str.isdigit, os.listdir(proc)), key=int):
        folder = os.path.join(proc, process)
        # It may have ended meanwhile, or be not ours to look at.
        with contextlib.suppress(OSError):
            if _opened(os.path.join(folder, "fd")) & wanted:
                groups = _text(os.path.join(folder, "cgroup"))
                units = re.findall(r"/([^/\n]+\.(?:service|scope))(?:/|$)", groups, re.M)
                name = _text(os.path.join(folder, "comm"))
                found.append((name, int(process), units[-1] if units else ""))
    return found
