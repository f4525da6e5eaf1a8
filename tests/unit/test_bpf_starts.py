# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every request finds its own issue time again, however their addresses collide."""

from __future__ import annotations

import ctypes

import pytest
from bpf_build import SOURCES, compile_c
from hypothesis import given, settings
from hypothesis import strategies as st

# The header itself, on maps that are an array and a short list.
SHIM = """
#define DROPPED test_dropped_total
#include "starts.bpf.h"

static struct start slots[START_SLOTS];
static u64 dropped;
static struct { u64 rq, ns; } spill[3];

static void *look_up(void *map, const void *key)
{
	if (map == &starts)
		return &slots[*(u32 *)key];
	if (map == &test_dropped_total)
		return &dropped;
	for (int i = 0; i < 3; i++)
		if (spill[i].rq == *(u64 *)key)
			return &spill[i].ns;
	return 0;
}

static long update(void *map, const void *key, const void *value, u64 flags)
{
	for (int i = 0; i < 3; i++)
		if (!spill[i].rq || spill[i].rq == *(u64 *)key) {
			spill[i].rq = *(u64 *)key;
			spill[i].ns = *(u64 *)value;
			return 0;
		}
	return -7;
}

static long delete(void *map, const void *key)
{
	for (int i = 0; i < 3; i++)
		if (spill[i].rq == *(u64 *)key)
			spill[i].rq = 0;
	return 0;
}

void begin(void)
{
	__builtin_memset(slots, 0, sizeof(slots));
	__builtin_memset(spill, 0, sizeof(spill));
	dropped = watching_since = 0;
	bpf_map_lookup_elem = look_up;
	bpf_map_update_elem = update;
	bpf_map_delete_elem = delete;
}

void issue(u64 rq, u64 now) { remember(rq, now); }
u64 complete(u64 rq) { return recall(start_of(rq), rq); }
u64 lost(void) { return dropped; }
int skipped(u64 born) { return was_skipped(born); }
"""

WINDOW = 16384 * 256  # addresses that far apart share a slot
SECOND = 1_000_000_000
REQUESTS = st.sampled_from([base + WINDOW * n for base in (4096, 8192) for n in range(3)])
# A request, and how long after the last event: soon, or after its slot went stale.
EVENTS = st.lists(st.tuples(REQUESTS, st.sampled_from([1, SECOND, 61 * SECOND])), max_size=60)


@pytest.fixture(scope="module")
def starts(tmp_path_factory):
    target = tmp_path_factory.mktemp("starts") / "starts.so"
    compile_c(SHIM, target, "-shared", "-fPIC", "-Wno-unused-function", "-D__TARGET_ARCH_x86",
              f"-I{SOURCES / 'biolatency'}")  # fmt: skip
    library = ctypes.CDLL(str(target))
    library.issue.argtypes = [ctypes.c_uint64] * 2
    for name, arguments in (("complete", 1), ("lost", 0)):
        getattr(library, name).argtypes = [ctypes.c_uint64] * arguments
        getattr(library, name).restype = ctypes.c_uint64
    library.skipped.argtypes = [ctypes.c_uint64]
    return library


@given(events=EVENTS)
@settings(max_examples=500, deadline=None)
def test_a_request_finds_its_own_time_or_is_dropped(starts, events) -> None:
    starts.begin()
    under_way: dict[int, int] = {}
    missing, now = 0, 1
    for request, pause in [*events, *((request, 1) for request, _ in events)]:
        now += pause
        if request in under_way:
            found = starts.complete(request)
            missing += not found
            assert found in (under_way.pop(request), 0)
            assert starts.complete(request) == 0  # a second end finds nothing
        else:
            starts.issue(request, now)
            under_way[request] = now
    missing += sum(starts.complete(request) != ns for request, ns in under_way.items())
    assert missing == starts.lost()


def test_two_requests_of_one_slot_both_find_their_times(starts) -> None:
    starts.begin()
    starts.issue(4096, 10)
    starts.issue(4096 + WINDOW, 20)
    assert starts.complete(4096) == 10
    assert starts.complete(4096 + WINDOW) == 20


def test_a_request_whose_end_was_skipped_counts_as_dropped_at_its_next_issue(starts) -> None:
    starts.begin()
    starts.issue(4096, 10)
    starts.issue(4096, 20)
    assert starts.lost() == 1
    assert starts.complete(4096) == 20


def test_a_slot_passes_on_only_from_an_idle_owner_that_is_long_silent(starts) -> None:
    starts.begin()
    starts.issue(4096, 10)
    for number in range(1, 4):  # the owner is at work: the newcomers fill the spill map
        starts.issue(4096 + number * WINDOW, 10 + 100 * SECOND)
    starts.issue(4096 + 4 * WINDOW, 10 + 100 * SECOND)
    assert starts.lost() == 1
    assert starts.complete(4096) == 10
    starts.issue(4096 + 4 * WINDOW, 20 + 100 * SECOND)
    assert starts.complete(4096 + 4 * WINDOW) == 20 + 100 * SECOND
    assert starts.complete(4096) == 0


def test_what_was_under_way_at_the_first_issue_is_not_called_skipped(starts) -> None:
    starts.begin()
    assert not starts.skipped(5)
    starts.issue(4096, 100)
    assert not starts.skipped(99)
    assert starts.skipped(101)
    assert not starts.skipped(0)  # a disk without statistics
