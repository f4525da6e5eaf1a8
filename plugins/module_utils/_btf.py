# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read BTF, the kernel's own description of its types.

Layout: a header, a section of types numbered from 1, a section of NUL-ended strings
(Linux: Documentation/bpf/btf.rst). The reader walks the types once, keeps four bytes
per type and an index of the names that can be asked for, and trusts nothing it reads:
every error is a BtfError, every loop ends within the size of the input.
"""

from __future__ import annotations

import struct
import sys
from array import array
from pathlib import Path
from typing import Dict, List, Literal, NamedTuple, Optional, Set, Union

MAGIC = 0xEB9F
# The kernel's own limits on type numbers and string offsets, and more than both need.
MAX_TYPES = 0xFFFFF
MAX_STRINGS = 0xFFFFFF
MAX_SIZE = 32 << 20
# C declarations nest a few levels; only a loop in a broken file goes deeper.
MAX_DEPTH = 16

PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(2, 12)
FUNC, FUNC_PROTO, TYPE_TAG, ENUM64 = 12, 13, 18, 19
QUALIFIERS = {VOLATILE: "volatile", CONST: "const", RESTRICT: "restrict"}
TAGS = {STRUCT: "struct", UNION: "union", ENUM: "enum", ENUM64: "enum", FWD: "struct"}
# Words that follow the three common ones, by kind 0..19: a fixed number, and one per element.
FIXED = (0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0)
PER_ELEMENT = (0, 0, 0, 0, 3, 3, 2, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 3)


class BtfError(ValueError):
    """The input is not BTF that this host can use; the message says why."""


class Parameter(NamedTuple):
    """One parameter of a function or tracepoint; old kernels leave the name empty."""

    name: str
    type: str


class Btf:
    """The types of one kernel (or, with `base`, of one of its modules)."""

    def __init__(
        self,
        data: bytes,
        base: Optional[Btf] = None,
        byteorder: Literal["little", "big"] = sys.byteorder,
    ) -> None:
        """Check the header and walk all types; raises BtfError."""
        types, self._strings = _sections(data, byteorder)
        # Only a module may do without strings: it can use its kernel's.
        if not self._strings.endswith(b"\0") and (self._strings or not base):
            raise BtfError("string section does not end with a NUL byte")
        self._base = base
        self._first_id = base.count + 1 if base else 1
        self._first_string = base.string_end if base else 0
        # The header was checked to be in the host's byte order, hence the native cast.
        self._words = memoryview(types).cast("I")
        self._starts = array("I")
        self._functions: Dict[int, int] = {}
        self._typedefs: Dict[int, int] = {}
        self._composites: Dict[int, List[int]] = {}
        self._walk()

    @property
    def count(self) -> int:
        """Number of types, those of the base included."""
        return self._first_id - 1 + len(self._starts)

    @property
    def string_end(self) -> int:
        """Where the strings of a module that builds on this one begin."""
        return self._first_string + len(self._strings)

    def function(self, name: str) -> Optional[List[Parameter]]:
        """Give the parameters of a function, or None where it does not exist."""
        for offset in self._offsets_of(name):
            if offset in self._functions:
                return self._parameters(self._target(self._functions[offset]))
        return self._base.function(name) if self._base else None

    def tracepoint(self, name: str) -> Optional[List[Parameter]]:
        """Give what a raw tracepoint hands to a program, or None where it does not exist.

        The kernel declares `typedef void (*btf_trace_<name>)(void *data, ...)`.
        """
        for offset in self._offsets_of("btf_trace_" + name):
            if offset in self._typedefs:
                pointer = self._target(self._typedefs[offset])
                return self._parameters(self._target(pointer))[1:]
        return self._base.tracepoint(name) if self._base else None

    def member(self, composite: str, name: str) -> Optional[str]:
        """Give the type of a struct's or union's member, or None where there is none.

        Members of anonymous structs and unions inside count as members, as they do in C.
        """
        seen: Set[int] = set()
        for offset in self._offsets_of(composite):
            for type_id in self._composites.get(offset, ()):
                found = self._find_member(type_id, name, seen)
                if found is not None:
                    return self._c_type(found)
        return self._base.member(composite, name) if self._base else None

    def function_names(self) -> Set[str]:
        """Names of all functions described here, the base's excluded."""
        return {self._string(offset) for offset in self._functions}

    def _walk(self) -> None:
        words, starts, end = self._words, self._starts, len(self._words)
        string_end = self.string_end
        position, type_id = 0, self._first_id
        while position < end:
            if type_id > MAX_TYPES:
                raise BtfError(f"more than {MAX_TYPES} types")
            if position + 3 > end:
                raise BtfError(f"type {type_id} runs past the end of the type section")
            name, info = words[position], words[position + 1]
            kind = info >> 24 & 0x1F
            if not 0 < kind <= ENUM64:
                raise BtfError(f"type {type_id} is of unknown kind {kind}")
            if name >= string_end:
                raise BtfError(f"type {type_id} has its name outside the string section")
            starts.append(position)
            if kind == FUNC:
                self._functions.setdefault(name, type_id)
            elif kind == TYPEDEF:
                self._typedefs.setdefault(name, type_id)
            elif kind in (STRUCT, UNION):
                self._composites.setdefault(name, []).append(type_id)
            position += 3 + FIXED[kind] + PER_ELEMENT[kind] * (info & 0xFFFF)
            type_id += 1
        if position > end:
            raise BtfError(f"type {type_id - 1} runs past the end of the type section")

    def _offsets_of(self, name: str):
        """Yield each place of the strings where this name is written."""
        wanted = name.encode() + b"\0"
        at = self._strings.find(wanted) if name else -1
        while at >= 0:
            yield self._first_string + at
            at = self._strings.find(wanted, at + 1)
        if self._base and name:
            # A module names what its kernel names too without writing the string again.
            yield from self._base._offsets_of(name)

    def _string(self, offset: int) -> str:
        if self._base and offset < self._first_string:
            return self._base._string(offset)
        start = offset - self._first_string
        if not 0 <= start < len(self._strings):
            return ""
        return self._strings[start : self._strings.index(b"\0", start)].decode("ascii", "replace")

    def _locate(self, type_id: int):
        """Give the words and the position of a type; (None, 0) for void and what is not there."""
        if type_id < self._first_id:
            return self._base._locate(type_id) if self._base else (None, 0)
        if type_id > self.count:
            return None, 0
        return self._words, self._starts[type_id - self._first_id]

    def _kind(self, type_id: int) -> int:
        words, at = self._locate(type_id)
        return words[at + 1] >> 24 & 0x1F if words else 0

    def _target(self, type_id: int) -> int:
        """Give the type that a pointer, typedef, function or qualifier refers to."""
        words, at = self._locate(type_id)
        return words[at + 2] if words else 0

    def _parameters(self, type_id: int) -> List[Parameter]:
        if self._kind(type_id) != FUNC_PROTO:
            return []
        words, at = self._locate(type_id)
        pairs = range(at + 3, at + 3 + 2 * (words[at + 1] & 0xFFFF), 2)
        return [Parameter(self._string(words[i]), self._c_type(words[i + 1])) for i in pairs]

    def _find_member(self, type_id: int, name: str, seen: Set[int]) -> Optional[int]:
        """Search a composite and, without recursion, the anonymous ones inside it."""
        pending = [type_id]
        while pending:
            type_id = pending.pop()
            if type_id in seen or self._kind(type_id) not in (STRUCT, UNION):
                continue
            seen.add(type_id)
            words, at = self._locate(type_id)
            for i in range(at + 3, at + 3 + 3 * (words[at + 1] & 0xFFFF), 3):
                label = self._string(words[i])
                if label == name:
                    return words[i + 1]
                if not label:
                    pending.append(words[i + 1])
        return None

    def _c_type(self, type_id: int, depth: int = 0) -> str:
        """Write a type as C does, near enough for a person and for comparison."""
        words, at = self._locate(type_id)
        if not words or depth > MAX_DEPTH:
            return "..." if words else "void"
        kind = words[at + 1] >> 24 & 0x1F
        if kind in (PTR, TYPE_TAG, ARRAY) or kind in QUALIFIERS:
            target = words[at + (3 if kind == ARRAY else 2)]
            return _wrap(kind, self._c_type(target, depth + 1))
        name = "function" if kind == FUNC_PROTO else self._string(words[at])
        return f"{TAGS[kind]} {name or '{...}'}" if kind in TAGS else name


def _wrap(kind: int, inner: str) -> str:
    """Write what a pointer, array, tag or qualifier adds to the type inside."""
    star = inner.endswith("*")
    if kind in QUALIFIERS:
        return inner + QUALIFIERS[kind] if star else f"{QUALIFIERS[kind]} {inner}"
    return inner + {PTR: "*" if star else " *", ARRAY: "[]", TYPE_TAG: ""}[kind]


def read(path: Union[str, Path], base: Optional[Btf] = None) -> Btf:
    """Read a raw BTF file such as /sys/kernel/btf/vmlinux; raises BtfError or OSError."""
    return Btf(read_bytes(path), base)


def read_bytes(path: Union[str, Path]) -> bytes:
    """Read at most MAX_SIZE bytes; raises BtfError when there is more."""
    with Path(path).open("rb") as file:
        data = file.read(MAX_SIZE + 1)
    if len(data) > MAX_SIZE:
        raise BtfError(f"larger than {MAX_SIZE >> 20} MiB")
    return data


def _sections(data: bytes, byteorder: Literal["little", "big"]):
    """Check the header and give the type section and the string section."""
    if not data:
        raise BtfError("empty file")
    if data[:4] == b"\x7fELF":
        raise BtfError("an ELF file, not raw BTF: extract its .BTF section first")
    if len(data) < 24:
        raise BtfError(f"{len(data)} bytes are too few for a header")
    magic = int.from_bytes(data[:2], byteorder)
    if magic != MAGIC:
        if magic == int.from_bytes(MAGIC.to_bytes(2, "little"), "big"):
            other = "big" if byteorder == "little" else "little"
            raise BtfError(f"{other}-endian, this host is {byteorder}-endian")
        raise BtfError(f"starts with {data[:2].hex()}, not with the magic number of BTF")
    if data[2] != 1:
        raise BtfError(f"version {data[2]} of the format, only 1 is known")
    prefix = "<" if byteorder == "little" else ">"
    header, type_at, type_len, string_at, string_len = struct.unpack_from(prefix + "5I", data, 4)
    if header < 24 or header > len(data):
        raise BtfError(f"header of {header} bytes in a file of {len(data)}")
    for what, at, length in (("type", type_at, type_len), ("string", string_at, string_len)):
        if header + at + length > len(data):
            raise BtfError(f"truncated: {what} section ends past the {len(data)} bytes of the file")
    if type_len % 4:
        raise BtfError(f"type section of {type_len} bytes, not a multiple of 4")
    if string_len > MAX_STRINGS:
        raise BtfError(f"string section of {string_len} bytes, more than a kernel accepts")
    types, strings = header + type_at, header + string_at
    return data[types : types + type_len], data[strings : strings + string_len]


def fits(btf: Btf, symbols: Set[str]) -> Optional[bool]:
    """Say whether types and kernel belong together; None where there is nothing to compare.

    A kernel lists nearly each function of its own BTF among its symbols (99.4 % were measured:
    what ran only once at boot is gone), and far fewer of another kernel's. The compiler's
    suffixes, as in name.isra.0, are in the symbols alone.
    """
    functions = btf.function_names()
    if not functions or not symbols:
        return None
    names = {symbol.partition(".")[0] for symbol in symbols}
    return len(functions & names) >= 0.98 * len(functions)
