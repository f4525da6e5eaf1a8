# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: linmonitor.stack contributors
"""Look into BPF maps with the bpf() system call: leaks and full maps."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

SYSCALL_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
UPDATE, NEXT_KEY, LOOKUP = 2, 4, 1
NEXT_MAP_ID, MAP_FD_BY_ID, INFO_BY_FD = 12, 14, 15
LIBC = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes) -> tuple[int, bytes]:
    """Call bpf(); return its result and the attributes it may have changed."""
    buffer = ctypes.create_string_buffer(attributes, 128)
    result = LIBC.syscall(SYSCALL_BPF, command, buffer, 128)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result, buffer.raw


class Map:
    """A loaded map."""

    def __init__(self, number: int) -> None:
        """Open the map with this id."""
        self.fd, _ = bpf(MAP_FD_BY_ID, struct.pack("<I", number))
        info = ctypes.create_string_buffer(128)
        bpf(INFO_BY_FD, struct.pack("<IIQ", self.fd, 128, ctypes.addressof(info)))
        _, _, self.key_size, self.value_size, self.max_entries, _ = struct.unpack_from(
            "<6I", info.raw
        )
        self.name = info.raw[24:40].rstrip(b"\0").decode()

    def call(self, command: int, key: bytes | None, value: bytes = b"") -> bytes:
        """Run a command on an entry; return the bytes the kernel wrote."""
        keys = ctypes.create_string_buffer(key, self.key_size) if key is not None else None
        values = ctypes.create_string_buffer(value, max(self.value_size, self.key_size))
        address = ctypes.addressof(keys) if keys is not None else 0
        bpf(command, struct.pack("<IxxxxQQQ", self.fd, address, ctypes.addressof(values), 0))
        return values.raw

    def keys(self) -> list[bytes]:
        """Return all keys."""
        found: list[bytes] = []
        try:
            while True:
                last = found[-1] if found else None
                found.append(self.call(NEXT_KEY, last)[: self.key_size])
        except FileNotFoundError:
            return found

    def values(self) -> list[bytes]:
        """Return all values."""
        return [self.call(LOOKUP, key)[: self.value_size] for key in self.keys()]

    def fill(self) -> None:
        """Put entries with keys that no program uses until nothing more fits."""
        for number in range(self.max_entries):
            key = struct.pack("<I", number).ljust(self.key_size, b"\xee")
            try:
                self.call(UPDATE, key[::-1], bytes(self.value_size))
            except OSError as error:
                if error.errno != errno.E2BIG:
                    raise
                return


def named(name: str) -> list[Map]:
    """Return the loaded maps of a name; the kernel keeps 15 characters of it."""
    found, number = [], 0
    try:
        while True:
            _, raw = bpf(NEXT_MAP_ID, struct.pack("<I", number))
            number = struct.unpack_from("<II", raw)[1]
            candidate = Map(number)
            if candidate.name == name[:15]:
                found.append(candidate)
            else:
                os.close(candidate.fd)
    except FileNotFoundError:
        return found
