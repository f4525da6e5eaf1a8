// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// From the cells to the exported maps. There is no timer for programs before
// 5.15, so this happens when one of the kernel's own timers ends: with every
// tick of a busy processor, and when a process wakes up to serve a scrape.
#pragma once

#include "cells.bpf.h"

#define TICKS 25 // between two publications: 25 to 250 ms
#define CELLS_AT_ONCE 8 // some 40 us

struct key {
	u64 device[NAME_WORDS];
	u8 operation;
	u8 cell; // for the exporter padding: it adds up what has the same labels
	u16 padding;
	u32 bucket; // its bound in microseconds; the sum's is one more than the last
};

#define EXPORTED(name, entries)                                                                    \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_HASH);                                                   \
		__uint(max_entries, entries);                                                      \
		__type(key, struct key);                                                           \
		__type(value, u64);                                                                \
	} name SEC(".maps")

EXPORTED(bio_latency_seconds, CELLS *(MAX_SLOT + 2));
EXPORTED(bio_total_latency_seconds, CELLS *(MAX_SLOT + 2));
EXPORTED(bio_errors_total, CELLS);

// A change is published twice: on some processors, whoever adds while a cell
// is copied may still read here that it is to be copied.
enum { PUBLISHED = 0, ONCE_MORE = 1, CHANGED = 2 };

static u64 publishers, published_at;
static u32 cursor, left; // the next cell, and how many of CELLS_AT_ONCE

static __always_inline void mark_changed(struct part *part)
{
	if (*(volatile u64 *)&part->state != CHANGED)
		*(volatile u64 *)&part->state = CHANGED;
}

static __always_inline bool take_change(u32 cell)
{
	bool has_changed = false;

	for (u32 cpu = 0; cpu < PARTS; cpu++) {
		struct part *part = part_of(cell, cpu);

		if (part && *(volatile u64 *)&part->state != PUBLISHED) {
			__sync_fetch_and_add(&part->state, -1);
			has_changed = true;
		}
	}
	return has_changed;
}

static __always_inline u64 sum_of(u32 cell, u32 word)
{
	u64 sum = 0;

	for (u32 cpu = 0; cpu < PARTS; cpu++) {
		struct part *part = part_of(cell, cpu);

		if (part)
			sum += ((u64 *)part)[word];
	}
	return sum;
}

// Into the value itself: the exporter may be reading it.
static __always_inline bool publish_value(void *map, const struct key *key, u64 value)
{
	u64 *exported;

	if (!value)
		return true;
	exported = value_of(map, key);
	if (exported)
		*exported = value;
	return exported;
}

// Not static: so the verifier looks at it once, and not once for each cell.
__noinline int publish_cell(u32 cell)
{
	struct key key = {.cell = cell};
	struct part *first = part_of(cell, 0);
	bool whole;
	u32 unit;

	if (!first || !first->owner.operation || !take_change(cell))
		return 0;
	left--;
	__builtin_memcpy(key.device, first->owner.name, sizeof(key.device));
	key.operation = first->owner.operation - 1;
	whole = publish_value(&bio_errors_total, &key, sum_of(cell, 2 * SLOTS));
	for (u32 slot = 0; slot <= SUM; slot++) {
		unit = slot == SUM ? 1000 : 1; // the exporter reads microseconds
		key.bucket = slot == SUM ? bound_of(MAX_SLOT) + 1 : bound_of(slot);
		whole &= publish_value(&bio_latency_seconds, &key, sum_of(cell, slot) / unit);
		whole &= publish_value(&bio_total_latency_seconds, &key,
				       sum_of(cell, SLOTS + slot) / unit);
	}
	if (!whole)
		mark_changed(first);
	return 0;
}

TRACEPOINT(hrtimer_expire_entry)
int BPF_PROG(publish)
{
	u64 now = bpf_jiffies64();

	if (now - published_at < TICKS)
		return 0;
	// One at a time: an older value must not follow a newer one.
	__sync_fetch_and_add(&publishers, 1);
	if (*(volatile u64 *)&publishers == 1) {
		left = CELLS_AT_ONCE;
		for (u32 cells = 0; cells < CELLS && left; cells++) {
			publish_cell(cursor);
			if (++cursor >= CELLS) {
				cursor = 0;
				published_at = now;
				break;
			}
		}
	}
	__sync_fetch_and_add(&publishers, -1);
	return 0;
}
