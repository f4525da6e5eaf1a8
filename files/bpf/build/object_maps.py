# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read maps and programs from a compiled BPF object.

A map is a variable in the section `.maps` whose struct type says everything:
numbers are array lengths behind pointers, key and value are pointed-to types.
"""

from __future__ import annotations

import struct
from pathlib import Path

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

MAP_TYPES = {1: "hash", 2: "array", 5: "percpu_hash", 6: "percpu_array"}

# Kinds of linux/btf.h that a map definition can reach.
INT, PTR, ARRAY, STRUCT, UNION, ENUM = 1, 2, 3, 4, 5, 6
VAR, DATASEC = 14, 15
# Bytes that follow a type's 12-byte head: once, or for each of its members.
TRAILER = {INT: 4, ARRAY: 12, VAR: 4, 17: 4}
PER_MEMBER = {STRUCT: 12, UNION: 12, ENUM: 8, 13: 8, DATASEC: 12, 19: 12}


class Btf:
    """The type information of one object."""

    def __init__(self, data: bytes) -> None:
        """Split the section into types, numbered from 1."""
        head, types, types_len, strings = struct.unpack_from("<HBBIIIII", data)[3:7]
        self.strings = data[head + strings :]
        self.types = [("", 0, 0, b"")]
        at, end = head + types, head + types + types_len
        while at < end:
            name, info, size = struct.unpack_from("<III", data, at)
            kind = info >> 24 & 0x1F
            extra = TRAILER.get(kind, 0) + PER_MEMBER.get(kind, 0) * (info & 0xFFFF)
            self.types.append((self.string(name), kind, size, data[at + 12 : at + 12 + extra]))
            at += 12 + extra

    def string(self, offset: int) -> str:
        """Return the string at an offset of the string table."""
        return self.strings[offset : self.strings.index(b"\0", offset)].decode()

    def members(self, number: int) -> dict[str, int]:
        """Return a struct's members and their types."""
        triples = struct.iter_unpack("<III", self.types[number][3])
        return {self.string(name): kind for name, kind, _offset in triples}

    def size(self, number: int) -> int:
        """Return the size of a type in bytes."""
        _name, kind, size, extra = self.types[number]
        if kind in (INT, STRUCT, UNION, ENUM, 19):
            return size
        if kind == PTR:
            return 8
        if kind == ARRAY:
            element, _index, count = struct.unpack("<III", extra)
            return self.size(element) * count
        return self.size(size)  # typedef, const, volatile: `size` is the type meant

    def number(self, pointer: int) -> int:
        """Return a number written as a pointer to an array of that length."""
        return struct.unpack("<III", self.types[self.types[pointer][2]][3])[2]

    def maps(self) -> list[dict]:
        """Return the map definitions, by name."""
        found = []
        for section, kind, _size, entries in self.types:
            if kind != DATASEC or section != ".maps":
                continue
            for variable, _offset, _size in struct.iter_unpack("<III", entries):
                name, _kind, definition, _extra = self.types[variable]
                members = self.members(definition)
                map_type = self.number(members["type"])
                found.append(
                    {
                        "name": name,
                        "type": MAP_TYPES.get(map_type, str(map_type)),
                        "key_size": self.size(self.types[members["key"]][2]),
                        "value_size": self.size(self.types[members["value"]][2]),
                        "max_entries": self.number(members["max_entries"]),
                    }
                )
        return sorted(found, key=lambda entry: entry["name"])


def read_object(path: Path) -> dict:
    """Return the hooks and maps of an object file."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        btf = elf.get_section_by_name(".BTF")
        if btf is None:
            raise ValueError(f"{path} has no BTF")
        maps = Btf(btf.data()).maps()
        programs = [
            section.name.partition("/")
            for section in elf.iter_sections()
            if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR and "/" in section.name
        ]
    hooks = sorted(
        ({"type": kind, "target": target} for kind, _section, target in programs), key=str
    )
    return {"hooks": hooks, "maps": maps}
