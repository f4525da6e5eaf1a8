# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which sockets a listener would collide with, and whose they are."""

from __future__ import annotations

import contextlib
import os
import re
import socket

from ansible_collections.linmonitor.stack.plugins.module_utils import _address


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
