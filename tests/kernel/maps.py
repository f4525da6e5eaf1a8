# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look into BPF maps and programs with the bpf() system call: leaks, full maps, skipped runs."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path

SYSCALL_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
UPDATE, DELETE, NEXT_KEY, LOOKUP_BATCH = 2, 3, 4, 24
NEXT_MAP_ID, PROGRAM_FD_BY_ID, MAP_FD_BY_ID, INFO_BY_FD = 12, 13, 14, 15
# Of struct bpf_prog_info; kernels before 5.12 do not fill it, and skip nothing.
RECURSION_MISSES, PROGRAM_INFO = 208, 256
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

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)

    def keys(self) -> list[bytes]:
        """Return all keys."""
        found: list[bytes] = []
        try:
            while True:
                last = found[-1] if found else None
                found.append(self.call(NEXT_KEY, last)[: self.key_size])
        except FileNotFoundError:
            return found

    def values(self) -> bytes:
        """Return all values of an array, with one call: it may have thousands."""
        position = ctypes.create_string_buffer(self.key_size)
        keys = ctypes.create_string_buffer(self.max_entries * self.key_size)
        values = ctypes.create_string_buffer(self.max_entries * self.value_size)
        addresses = [ctypes.addressof(buffer) for buffer in (position, keys, values)]
        bpf(LOOKUP_BATCH, struct.pack("<QQQQIIQQ", 0, *addresses, self.max_entries, self.fd, 0, 0))
        return values.raw

    def fill(self) -> None:
        """Put entries with keys that no program uses in the place of all others."""
        for used in self.keys():
            key = ctypes.create_string_buffer(used, self.key_size)
            # The kernel refuses a value here, even one that it would not read.
            bpf(DELETE, struct.pack("<IxxxxQ", self.fd, ctypes.addressof(key)))
        numbers = (struct.pack("<I", number) for number in range(self.max_entries))
        self.put((n.ljust(self.key_size, b"\xee")[::-1] for n in numbers), bytes(self.value_size))

    def put(self, keys: Iterable[bytes], value: bytes) -> int:
        """Put entries in until there is no room, which programs take too; return how many."""
        added = 0
        for key in keys:
            try:
                self.call(UPDATE, key, value)
            except OSError as error:
                if error.errno != errno.E2BIG:
                    raise
                break
            added += 1
        return added


def of(process: int) -> list[Map]:
    """Return the maps that a process has open."""
    found = {}
    for info in Path(f"/proc/{process}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            number = re.search(r"^map_id:\s*(\d+)", info.read_text(), re.MULTILINE)
            if number:
                found[number[1]] = Map(int(number[1]))
    return list(found.values())


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
                candidate.close()
    except FileNotFoundError:
        return found


def recursion_misses(program: int) -> int:
    """Return how often the kernel skipped the program with this id, because it was running."""
    fd, _ = bpf(PROGRAM_FD_BY_ID, struct.pack("<I", program))
    info = ctypes.create_string_buffer(PROGRAM_INFO)
    bpf(INFO_BY_FD, struct.pack("<IIQ", fd, PROGRAM_INFO, ctypes.addressof(info)))
    os.close(fd)
    return struct.unpack_from("<Q", info.raw, RECURSION_MISSES)[0]
