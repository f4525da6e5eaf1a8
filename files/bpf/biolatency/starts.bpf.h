// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// When each block request was handed to its driver.
#pragma once

#include "maps.bpf.h"

struct request;

#define START_SLOTS 16384
#define SPILL_SLOTS 4096

// The kernel makes its requests once and uses them again, each at least 256
// bytes long, so its address picks a slot without any read and, within one
// queue's memory, without collision. A slot stays its request's: from the second
// issue on there is nothing to claim and nothing to give back, only a time to
// write. A request that finds its slot taken goes to the spill hash.
//
// The owner is only ever changed by atomic addition of the difference. Two CPUs
// that claim at the same instant both see a sum that is not theirs and both step
// back: nothing is lost without compare-and-swap, which 5.10 does not have.
struct start {
	u64 owner;
	u64 ns; // of the last issue; DONE is set once it has been read
	u8 cell[8]; // where its last requests were counted, by operation (cells.bpf.h)
};

#define DONE (1ULL << 63)

// An owner that has been silent for so long may be gone with its disk.
#define STALE_NS 60000000000ULL

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, START_SLOTS);
	__type(key, u32);
	__type(value, struct start);
} starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SPILL_SLOTS);
	__type(key, u64);
	__type(value, u64);
} spilled_starts SEC(".maps");

// A request's address as a number. A typed pointer may not be shifted, but the
// distance between two pointers is a number, and this one's other end is fixed.
static __always_inline u64 number_of(struct request *rq)
{
	u64 number = (u64)rq;

#ifdef TYPED
	asm volatile("%0 -= %1" : "+r"(number) : "r"(&starts));
#endif
	return number;
}

static __always_inline struct start *start_of(u64 rq)
{
	u32 slot = (rq >> 8) & (START_SLOTS - 1);

	return bpf_map_lookup_elem(&starts, &slot);
}

static __always_inline u64 owner_of(struct start *start)
{
	return *(volatile u64 *)&start->owner;
}

// When the first request was seen. Requests that are older were under way.
static u64 watching_since;

// Take a slot that nobody has, or whose owner is long silent.
static __always_inline bool claim(struct start *start, u64 rq, u64 now)
{
	u64 owner = owner_of(start), ns = start->ns;

	if (!watching_since)
		watching_since = now;
	if (owner && !((ns & DONE) && now - (ns & ~DONE) > STALE_NS))
		return false;
	__sync_fetch_and_add(&start->owner, rq - owner);
	if (owner_of(start) == rq)
		return true;
	__sync_fetch_and_add(&start->owner, owner - rq);
	return false;
}

static __always_inline void remember(u64 rq, u64 now)
{
	struct start *start = start_of(rq);

	if (!start)
		return;
	if (owner_of(start) == rq) {
		if (!(start->ns & DONE)) // the kernel skipped its end
			count_dropped();
		start->ns = now;
	} else if (claim(start, rq, now))
		start->ns = now;
	else if (bpf_map_update_elem(&spilled_starts, &rq, &now, BPF_ANY))
		count_dropped();
}

// The time in a request's own slot, marked as read; 0 when there is none.
static __always_inline u64 recall_own(struct start *start, u64 rq)
{
	u64 ns = start->ns;

	if (owner_of(start) != rq || (ns & DONE))
		return 0;
	start->ns = ns | DONE;
	return ns;
}

// The issue time of a request, forgotten here; 0 when none was seen.
static __always_inline u64 recall(struct start *start, u64 rq)
{
	u64 ns, *spilled;

	ns = recall_own(start, rq);
	if (ns)
		return ns;
	spilled = bpf_map_lookup_elem(&spilled_starts, &rq);
	if (!spilled) // a claim that was stepping back a moment ago hid our own
		return recall_own(start, rq);
	ns = *spilled;
	bpf_map_delete_elem(&spilled_starts, &rq);
	return ns;
}

// A request without an issue time that was born while we watched: the kernel
// skips a program that it is running on that CPU already.
static __always_inline bool was_skipped(u64 born)
{
	return watching_since && born > watching_since;
}
