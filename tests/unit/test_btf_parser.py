# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The BTF reader: right answers from good files, a reason from bad ones."""

from __future__ import annotations

import struct
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _btf
from btf_blob import CONST, PTR, STRUCT, TYPEDEF, Blob, kernel
from hypothesis import example, given, settings
from hypothesis import strategies as st

LIVE = Path("/sys/kernel/btf/vmlinux")
GOOD = kernel().bytes()
OTHER = "big" if sys.byteorder == "little" else "little"


@pytest.fixture
def btf() -> _btf.Btf:
    return _btf.Btf(GOOD)


def test_function_gives_its_parameters(btf):
    assert btf.function("blk_start") == [
        ("rq", "struct request *"),
        ("disk", "const struct gendisk *"),
    ]
    assert len(btf.function("seven")) == 7


def test_tracepoint_leaves_out_the_first_hidden_argument(btf):
    assert [one.type for one in btf.tracepoint("block_rq_issue")] == ["struct request *"]
    assert len(btf.tracepoint("block_rq_complete")) == 3


def test_member_is_found_in_anonymous_parts_and_only_there(btf):
    assert btf.member("request", "tag") == "int"
    assert btf.member("request", "disk") == "struct gendisk *"
    assert btf.member("request", "cpus") == "int[]"
    assert btf.member("request", "major") is None


@pytest.mark.parametrize("name", ["", "tart", "blk_star", "request", "nope"])
def test_only_the_whole_name_of_a_function_counts(btf, name):
    assert btf.function(name) is None


def test_names_are_kept_apart_by_kind(btf):
    assert btf.tracepoint("start") is None
    assert btf.member("blk_start", "rq") is None


def test_all_structs_of_one_name_are_searched():
    blob = Blob()
    number = blob.add(1, "int", 4, 0, 32)
    blob.composite(STRUCT, "twin", ("first", number))
    blob.composite(STRUCT, "twin", ("second", number))
    assert _btf.Btf(blob.bytes()).member("twin", "second") == "int"


def test_module_continues_the_kernels_types_and_strings(btf):
    blob = Blob(btf.count + 1, btf.string_end)
    blob.function("module_start", ("rq", 3))
    module = _btf.Btf(blob.bytes(), base=btf)
    assert module.function("module_start") == [("rq", "struct gendisk *")]
    assert len(module.function("seven")) == 7
    assert module.tracepoint("block_rq_issue") and module.member("request", "tag")
    assert btf.function("module_start") is None


def test_module_may_name_its_types_with_the_kernels_strings(btf):
    blob = Blob(btf.count + 1, btf.string_end)
    blob.words += [kernel().strings.index(b"\0gendisk\0") + 1, STRUCT << 24, 0]
    blob.composite(STRUCT, "", ("", 1))
    module = _btf.Btf(blob.bytes(), base=btf)
    assert blob.strings == b""
    assert module.member("gendisk", "major") == "int"


def test_loops_end():
    blob = Blob()
    blob.add(CONST, "", 1)
    pointer = blob.add(PTR, "", 2)
    blob.composite(STRUCT, "", ("", 3))
    blob.composite(STRUCT, "loop", ("x", pointer), ("y", 1), ("", 3), ("", 4))
    blob.add(TYPEDEF, "btf_trace_loop", 5)
    btf = _btf.Btf(blob.bytes())
    assert "..." in btf.member("loop", "x")
    assert btf.member("loop", "z") is None
    assert btf.tracepoint("loop") == []


def test_references_past_the_end_are_void():
    blob = Blob()
    blob.add(12, "lost", 4000)
    blob.composite(STRUCT, "thing", ("far", 4000))
    btf = _btf.Btf(blob.bytes())
    assert btf.function("lost") == []
    assert btf.member("thing", "far") == "void"


def header(**changed: int) -> bytes:
    """Give the good file with some fields of its header changed."""
    names = ("magic", "version", "flags", "size", "type_at", "type_len", "string_at", "string_len")
    fields = dict(zip(names, struct.unpack_from("=HBB5I", GOOD)))
    fields.update(changed)
    return struct.pack("=HBB5I", *fields.values()) + GOOD[24:]


BAD = [
    (b"", "empty file"),
    (GOOD[:1], "too few for a header"),
    (GOOD[:23], "too few for a header"),
    (GOOD[:24], "truncated: type section"),
    (GOOD[:-1], "truncated: string section"),
    (kernel().bytes(OTHER), f"{OTHER}-endian, this host is {sys.byteorder}-endian"),
    (b"\x7fELF" + bytes(60), "ELF file"),
    (b"#!/bin/sh\nexit 0\nexit 0\n\n", "magic number"),
    (header(version=2), "version 2"),
    (header(size=8), "header of 8 bytes"),
    (header(size=1 << 31), "header of 2147483648 bytes"),
    (header(type_len=1 << 31), "truncated: type section"),
    (header(type_at=1 << 31), "truncated: type section"),
    (header(string_at=0xFFFFFFFF), "truncated: string section"),
    (header(type_len=26), "not a multiple of 4"),
    (header(type_len=12), "runs past the end"),
    (header(type_len=8), "runs past the end"),
    (header(string_len=0), "NUL byte"),
    (header(string_len=3), "NUL byte"),
    (GOOD[:28] + b"\xff\xff\xff\xff" + GOOD[32:], "unknown kind 31"),
    (GOOD[:24] + b"\xff\xff\xff\x7f" + GOOD[28:], "name outside"),
    (GOOD[:24] + bytes(12) + GOOD[36:], "unknown kind 0"),
]


@pytest.mark.parametrize(("data", "reason"), BAD, ids=[reason for _data, reason in BAD])
def test_bad_file_is_refused_with_its_reason(data, reason):
    with pytest.raises(_btf.BtfError, match=reason):
        _btf.Btf(data)


def test_longer_header_of_a_later_kernel_is_accepted():
    fields = list(struct.unpack_from("=HBB5I", GOOD))
    fields[3] = 32
    assert _btf.Btf(struct.pack("=HBB5I", *fields) + bytes(8) + GOOD[24:]).function("seven")


def test_too_many_types_are_refused_without_keeping_them(monkeypatch):
    monkeypatch.setattr(_btf, "MAX_TYPES", 10)
    with pytest.raises(_btf.BtfError, match="more than 10 types"):
        _btf.Btf(GOOD)


def test_large_file_is_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(_btf, "MAX_SIZE", 1 << 20)
    file = tmp_path / "large"
    with file.open("wb") as stream:
        stream.truncate(1 << 30)
    tracemalloc.start()
    with pytest.raises(_btf.BtfError, match="larger than 1 MiB"):
        _btf.read(file)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_memory_stays_near_the_size_of_the_input():
    data = kernel(functions=40_000).bytes()
    tracemalloc.start()
    btf = _btf.Btf(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert btf.count > 80_000
    assert peak < 12 * len(data)


def test_fits_compares_functions_with_symbols(btf):
    own = btf.function_names()
    assert _btf.fits(btf, {name + ".isra.0" for name in own}) is True
    assert _btf.fits(btf, {"another_kernels_function"}) is False
    assert _btf.fits(btf, set()) is None


def ask_everything(data: bytes) -> None:
    """Read and query; the only error allowed is BtfError."""
    try:
        btf = _btf.Btf(data)
    except _btf.BtfError as error:
        assert str(error)
        return
    for name in (b"blk_start", b"seven"):
        btf.function(name.decode())
    btf.tracepoint("block_rq_issue")
    for member in ("tag", "disk", "nope"):
        btf.member("request", member)
    btf.function_names()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@example(GOOD)
def test_any_bytes_end_in_an_answer_or_a_reason(data):
    ask_everything(data)
    ask_everything(GOOD[:24] + data)


@settings(max_examples=700, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(GOOD)),
)
def test_any_damage_ends_in_an_answer_or_a_reason(changes, length):
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    ask_everything(bytes(data))
    ask_everything(bytes(data[:length]))


@pytest.mark.skipif(not LIVE.exists(), reason="the kernel under the tests has no BTF")
def test_live_kernel_is_read_in_well_under_a_second():
    start = time.process_time()
    btf = _btf.read(LIVE)
    assert time.process_time() - start < 1
    assert btf.count > 10_000
    assert btf.function("schedule") is not None
    assert btf.member("task_struct", "pid")
