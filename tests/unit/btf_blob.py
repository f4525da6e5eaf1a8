# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write small BTF files, with what the tests ask for and each kind of type at least once."""

from __future__ import annotations

import struct
import sys

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)


class Blob:
    """BTF under construction; `first` and `strings_from` continue a kernel's for a module."""

    def __init__(self, first: int = 1, strings_from: int = 0) -> None:
        self.words: list[int] = []
        self.strings = b"" if strings_from else b"\0"
        self.strings_from = strings_from
        self.next_id = first

    def name(self, text: str) -> int:
        if not text:
            return 0
        self.strings += text.encode() + b"\0"
        return self.strings_from + len(self.strings) - len(text) - 1

    def add(self, kind: int, name: str = "", third: int = 0, elements: int = 0, *extra: int) -> int:
        """Add a type; `third` is its size or the type it refers to."""
        self.words += [self.name(name), kind << 24 | elements, third, *extra]
        self.next_id += 1
        return self.next_id - 1

    def composite(self, kind: int, name: str, *members: tuple[str, int]) -> int:
        extra = [word for label, type_id in members for word in (self.name(label), type_id, 0)]
        return self.add(kind, name, 8, len(members), *extra)

    def prototype(self, *parameters: tuple[str, int]) -> int:
        extra = [word for label, type_id in parameters for word in (self.name(label), type_id)]
        return self.add(FUNC_PROTO, "", 0, len(parameters), *extra)

    def function(self, name: str, *parameters: tuple[str, int]) -> int:
        return self.add(FUNC, name, self.prototype(*parameters))

    def tracepoint(self, name: str, *arguments: int) -> int:
        prototype = self.prototype(("", 0), *(("", one) for one in arguments))
        return self.add(TYPEDEF, f"btf_trace_{name}", self.add(PTR, "", prototype))

    def bytes(self, byteorder: str = sys.byteorder) -> bytes:
        prefix = "<" if byteorder == "little" else ">"
        types = struct.pack(f"{prefix}{len(self.words)}I", *self.words)
        sizes = (24, 0, len(types), len(types), len(self.strings))
        return struct.pack(prefix + "HBB5I", 0xEB9F, 1, 0, *sizes) + types + self.strings


def kernel(functions: int = 0) -> Blob:
    """Build the types of a small kernel; `functions` adds as many plain functions."""
    blob = Blob()
    number = blob.add(INT, "int", 4, 0, 32)
    disk = blob.composite(STRUCT, "gendisk", ("major", number))
    disk_pointer = blob.add(PTR, "", disk)
    const_disk = blob.add(PTR, "", blob.add(CONST, "", disk))
    inner = blob.composite(UNION, "", ("__sector", number), ("disk", disk_pointer))
    array = blob.add(ARRAY, "", 0, 0, number, number, 4)
    request = blob.composite(STRUCT, "request", ("tag", number), ("", inner), ("cpus", array))
    pointer = blob.add(PTR, "", request)
    blob.tracepoint("block_rq_issue", pointer)
    blob.tracepoint("block_rq_complete", pointer, number, number)
    blob.function("blk_start", ("rq", pointer), ("disk", const_disk))
    blob.function("seven", *((f"a{i}", number) for i in range(7)))
    blob.add(ENUM, "colour", 4, 1, blob.name("red"), 0)
    blob.add(FWD, "later")
    blob.add(PTR, "", blob.add(VOLATILE, "", blob.add(PTR, "", number)))
    blob.add(RESTRICT, "", pointer)
    variable = blob.add(VAR, "jiffies", number, 0, 1)
    blob.add(DATASEC, ".data", 8, 1, variable, 0, 8)
    blob.add(FLOAT, "double", 8)
    blob.add(DECL_TAG, "tag", request, 0, 0)
    blob.add(PTR, "", blob.add(TYPE_TAG, "user", number))
    blob.add(ENUM64, "wide", 8, 1, blob.name("one"), 1, 0)
    for i in range(functions):
        blob.function(f"function_{i}", ("rq", pointer))
    return blob
