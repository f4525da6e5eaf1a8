# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The helper headers: slots round up, and relocations find both old and new forms."""

from __future__ import annotations

import ctypes
import subprocess

import pytest
from bpf_build import compile_c, programs

BITS = """
#include "bits.bpf.h"
unsigned slot(unsigned long long v, unsigned min, unsigned max) { return exp2_slot(v, min, max); }
unsigned zero(unsigned long long v, unsigned max) { return exp2zero_slot(v, max); }
unsigned floor_(unsigned long long v) { return log2l(v); }
"""

# The kernel's types around block_rq_issue, in the form of before 5.10.137 and after.
EVENT = """
struct request_queue {{ int id; }};
struct request {{ int tag; }};
typedef void (*btf_trace_block_rq_issue)(void *, {arguments}struct request *);
btf_trace_block_rq_issue keep(void) {{ return 0; }}
"""


@pytest.fixture(scope="module")
def bits(tmp_path_factory):
    target = tmp_path_factory.mktemp("bits") / "bits.so"
    compile_c(BITS, target, "-shared", "-fPIC", "-Wno-unused-function")
    library = ctypes.CDLL(str(target))
    for name in ("slot", "zero", "floor_"):
        getattr(library, name).argtypes = [ctypes.c_uint64, *[ctypes.c_uint32] * 2][
            : ({"slot": 3, "zero": 2, "floor_": 1}[name])
        ]
    return library


@pytest.mark.parametrize("k", range(1, 63))
def test_log2_rounds_down_and_slots_round_up(bits, k: int) -> None:
    for value in (2**k - 1, 2**k, 2**k + 1):
        assert bits.floor_(value) == value.bit_length() - 1
        # The smallest k whose bound is not below the value.
        assert bits.slot(value, 0, 64) == (value - 1).bit_length()
        assert bits.zero(value, 64) == (value - 1).bit_length() + 1


def test_slots_are_clamped(bits) -> None:
    assert [bits.slot(v, 5, 25) for v in (0, 1, 32, 33, 2**25, 2**25 + 1, 2**64 - 1)] == [
        5, 5, 5, 6, 25, 25, 25
    ]  # fmt: skip
    assert [bits.zero(v, 17) for v in (0, 1, 2, 3, 65536, 65537)] == [0, 1, 2, 3, 17, 17]


@pytest.mark.parametrize(
    ("arguments", "found"), [("struct request_queue *, ", True), ("", False)], ids=["two", "one"]
)
@pytest.mark.parametrize("variant", ["tp_btf", "raw_tp"])
def test_both_forms_of_block_rq_issue(tmp_path, arguments: str, found: bool, variant: str) -> None:
    # No kernel of the matrix has the two-argument form. libbpf itself, in
    # bpftool, says which types of a kernel an object's relocations resolve to.
    kernel = compile_c(
        EVENT.format(arguments=arguments), tmp_path / "kernel.o", "-target", "bpf", "-c"
    )
    base = tmp_path / "kernel.btf"
    subprocess.run(["llvm-objcopy", f"--dump-section=.BTF={base}", kernel], check=True)
    program = programs() / "programs" / "biolatency" / f"{variant}.bpf.o"
    used = tmp_path / "used.btf"
    subprocess.run(["bpftool", "gen", "min_core_btf", base, used, program], check=True)
    types = subprocess.run(
        ["bpftool", "btf", "dump", "file", used], check=True, capture_output=True, text=True
    ).stdout
    assert ("btf_trace_block_rq_issue" in types) == found
