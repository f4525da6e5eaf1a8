# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cells of disks and operations: bounded, found again, and all of them exported."""

from __future__ import annotations

import ctypes

import pytest
import yaml
from bpf_build import SOURCES, compile_c
from hypothesis import given
from hypothesis import strategies as st

# The headers themselves, on maps that are arrays.
SHIM = """
#define DROPPED test_dropped_total
#define VARIANT_RAW_TP
#include "publish.bpf.h"

struct entry { struct key key; u64 value; };
static struct part adds[CELLS * PARTS];
static struct { struct owner owner; u32 cell; } found[OWN_CELLS];
struct entry exported[CELLS * (MAX_SLOT + 2)];
static u64 now, ignored;
static int known, entries, is_full;

static void *look_up(void *map, const void *key)
{
	if (map == &parts)
		return *(u32 *)key < CELLS * PARTS ? &adds[*(u32 *)key] : 0;
	if (map == &known_owners)
		for (int i = 0; i < known; i++)
			if (!__builtin_memcmp(&found[i].owner, key, sizeof(struct owner)))
				return &found[i].cell;
	if (map == &bio_latency_seconds)
		for (int i = 0; i < entries; i++)
			if (!__builtin_memcmp(&exported[i].key, key, sizeof(struct key)))
				return &exported[i].value;
	return map == &bio_errors_total || map == &bio_total_latency_seconds ? &ignored : 0;
}

static long update(void *map, const void *key, const void *value, u64 flags)
{
	if (map == &known_owners) {
		__builtin_memcpy(&found[known].owner, key, sizeof(struct owner));
		found[known++].cell = *(u32 *)value;
	} else if (is_full) {
		return -7;
	} else {
		__builtin_memcpy(&exported[entries].key, key, sizeof(struct key));
		exported[entries++].value = *(u64 *)value;
	}
	return 0;
}

static u64 jiffies(void) { return now; }
static u32 processor;
static u32 this_processor(void) { return processor; }

void begin(void)
{
	__builtin_memset(adds, 0, sizeof(adds));
	known = entries = next_cell = published_at = cursor = is_full = 0;
	now = 1000;
	bpf_map_lookup_elem = look_up;
	bpf_map_update_elem = update;
	bpf_jiffies64 = jiffies;
	bpf_get_smp_processor_id = this_processor;
}

void count(u64 disk, u64 operation, u64 ns, u32 cpu)
{
	struct owner wanted = {.name = {disk}, .operation = operation + 1};
	u8 hint = disk; // anything
	struct part *part;

	processor = cpu;
	part = find_part(&wanted, &hint);
	add_duration(part->device, ns);
	mark_changed(part);
}

void fill(int full) { is_full = full; }
void wait(void) { now += TICKS; }
void tick(void) { publish(0); }
int exports(void) { return entries; }
u32 slot(u64 ns) { return duration_slot(ns); }
u32 bound(u32 slot) { return bound_of(slot); }
"""
OWN, OPERATIONS = 96, 9
SECOND = 1_000_000_000
# In microseconds: a half step to each step between 64 us and 65,536 us.
BOUNDS = [
    1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144,
    8192, 12288, 16384, 24576, 32768, 49152, 65536, *(2**power for power in range(17, 28)),
]  # fmt: skip
LAST = len(BOUNDS) - 1
SUM = BOUNDS[LAST] + 1


class Key(ctypes.Structure):
    _fields_ = [("device", ctypes.c_char * 32), ("operation", ctypes.c_uint8),
                ("cell", ctypes.c_uint8), ("padding", ctypes.c_uint16),
                ("bucket", ctypes.c_uint32), ("value", ctypes.c_uint64)]  # fmt: skip


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    target = tmp_path_factory.mktemp("cells") / "cells.so"
    compile_c(SHIM, target, "-shared", "-fPIC", "-Wno-unused-function", "-D__TARGET_ARCH_x86",
              f"-I{SOURCES / 'biolatency'}")  # fmt: skip
    library = ctypes.CDLL(str(target))
    library.count.argtypes = [ctypes.c_uint64] * 3 + [ctypes.c_uint32]
    library.slot.argtypes = [ctypes.c_uint64]
    return library


@pytest.fixture
def cells(library):
    library.begin()
    return library


def name(number: int) -> int:
    return int.from_bytes(f"disk{number:03}".encode(), "little")


def publish(cells) -> dict[tuple[str, int], int]:
    """Publish until nothing is left; return counts by device and operation."""
    for _ in range(2 * (OWN + OPERATIONS)):
        cells.wait()
        cells.tick()
    return exported(cells)


def exported(cells) -> dict[tuple[str, int], int]:
    """Return the exported counts by device and operation."""
    entries = (Key * cells.exports()).in_dll(cells, "exported")
    counts: dict[tuple[str, int], int] = {}
    for entry in entries:
        if entry.bucket != SUM:
            key = entry.device.decode(), entry.operation
            counts[key] = counts.get(key, 0) + entry.value
    return counts


@given(ns=st.integers(0, 200 * SECOND))
def test_a_slot_is_the_smallest_that_holds_the_duration(library, ns) -> None:
    slot = library.slot(ns)
    assert slot == LAST or ns <= 1000 * BOUNDS[slot]
    assert slot == 0 or ns > 1000 * BOUNDS[slot - 1]


@pytest.mark.parametrize("slot", range(len(BOUNDS)))
def test_a_bound_belongs_to_its_own_slot(library, slot) -> None:
    assert library.bound(slot) == BOUNDS[slot]
    assert library.slot(1000 * BOUNDS[slot] - 1) == slot
    assert library.slot(1000 * BOUNDS[slot]) == slot
    assert library.slot(1000 * BOUNDS[slot] + 1) == min(slot + 1, LAST)


@pytest.mark.parametrize("ns", [1 << 63, (1 << 64) - 1])
def test_what_is_longer_than_all_bounds_is_in_the_last_slot(library, ns) -> None:
    assert library.slot(ns) == LAST


def test_the_exporter_reads_the_bounds_of_the_slots() -> None:
    text = (SOURCES / "biolatency/biolatency.yaml").read_text(encoding="utf-8")
    for histogram in yaml.safe_load(text)["metrics"]["histograms"]:
        assert histogram["bucket_keys"] == BOUNDS


def test_each_slot_is_exported_by_its_bound_and_the_sum_behind_the_last(cells) -> None:
    for bound in BOUNDS:
        cells.count(name(1), 0, 1000 * bound, 0)
    publish(cells)
    entries = (Key * cells.exports()).in_dll(cells, "exported")
    found = {entry.bucket: entry.value for entry in entries}
    assert found == dict.fromkeys(BOUNDS, 1) | {SUM: sum(BOUNDS)}


def test_parts_of_all_processors_add_up(cells) -> None:
    for cpu in range(20):
        cells.count(name(1), 0, 5000, cpu)
    assert publish(cells) == {("disk001", 0): 20}


def test_disks_beyond_the_bound_share_what_is_left(cells) -> None:
    for number in range(OWN + 30):
        cells.count(name(number), number % 2, 5000, 0)
    counts = publish(cells)
    assert counts.pop(("other", 0)) == counts.pop(("other", 1)) == 15
    assert len(counts) == OWN
    assert set(counts.values()) == {1}


def test_what_came_last_is_published_without_another_request(cells) -> None:
    cells.count(name(1), 0, 5000, 0)
    publish(cells)
    cells.count(name(1), 0, 5000, 3)
    cells.wait()
    cells.tick()
    assert exported(cells) == {("disk001", 0): 2}


def test_all_have_their_turn_while_all_of_them_change(cells) -> None:
    numbers = range(OWN)
    for _ in range(OWN):
        for number in numbers:
            cells.count(name(number), 0, 5000, 0)
        cells.wait()
        cells.tick()
    assert len(exported(cells)) == OWN


def test_publications_are_apart(cells) -> None:
    cells.count(name(1), 0, 5000, 0)
    cells.wait()
    cells.tick()
    cells.count(name(1), 0, 5000, 0)
    cells.tick()
    assert exported(cells) == {("disk001", 0): 1}


def test_what_a_map_refuses_is_published_later(cells) -> None:
    cells.count(name(1), 0, 5000, 0)
    cells.fill(1)
    assert publish(cells) == {}
    cells.fill(0)
    assert publish(cells) == {("disk001", 0): 1}
