// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright: linmonitor.stack contributors
//
// From the cells to the exported maps. There is no timer for programs before
// 5.15, so this happens when one of the kernel's own timers ends: with every
// tick of a busy processor, and when a process wakes up to serve a scrape.
#pragma once

#include "cells.bpf.h"

#define TICKS 25      // between two publications: 25 to 250 ms
#define CELLS_AT_ONCE 8 // some 30 us

// A change is published twice: whoever adds while a cell is copied may still
// read here that it is to be copied.
enum { PUBLISHED = 0, ONCE_MORE = 1, CHANGED = 2 };

static u8 states[CELLS];
static u64 publishers, published_at;
static u32 left; // of CELLS_AT_ONCE

static __always_inline void mark_changed(u32 cell)
{
	if (cell < CELLS && *(volatile u8 *)&states[cell] != CHANGED)
		*(volatile u8 *)&states[cell] = CHANGED;
}

static __always_inline bool publish_value(void *map, struct key *key, u64 value)
{
	return !value || !bpf_map_update_elem(map, key, &value, BPF_ANY);
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

static __always_inline bool copy_cell(u32 cell)
{
	struct key key = {.cell = cell};
	bool whole;
	u32 unit;

	if (cell < OWN_CELLS) {
		__builtin_memcpy(key.device, cells[cell].owner.name, sizeof(key.device));
		key.operation = cells[cell].owner.operation - 1;
	} else {
		__builtin_memcpy(key.device, "other", sizeof("other"));
		key.operation = cell - OWN_CELLS;
	}
	whole = publish_value(&bio_errors_total, &key, sum_of(cell, 2 * SLOTS));
	for (u32 slot = 0; slot <= SUM; slot++) {
		unit = slot == SUM ? 1000 : 1; // the exporter reads microseconds
		key.bucket = slot;
		whole &= publish_value(&bio_latency_seconds, &key, sum_of(cell, slot) / unit);
		whole &= publish_value(&bio_total_latency_seconds, &key,
				       sum_of(cell, SLOTS + slot) / unit);
	}
	return whole;
}

// Not static: so the verifier looks at it once, and not once for each cell.
__noinline int publish_cell(u32 cell)
{
	u8 state;

	if (cell >= CELLS || !left)
		return 0;
	state = *(volatile u8 *)&states[cell];
	if (state == PUBLISHED)
		return 0;
	*(volatile u8 *)&states[cell] = state - 1;
	if (!copy_cell(cell))
		mark_changed(cell);
	left--;
	return 0;
}

TRACEPOINT(hrtimer_expire_entry)
int publish(u64 *ctx)
{
	u64 now = bpf_jiffies64();

	if (now - published_at < TICKS)
		return 0;
	// One at a time: an older value must not follow a newer one.
	__sync_fetch_and_add(&publishers, 1);
	if (*(volatile u64 *)&publishers == 1) {
		left = CELLS_AT_ONCE;
		for (u32 cell = 0; cell < CELLS; cell++)
			publish_cell(cell);
		if (left)
			published_at = now;
	}
	__sync_fetch_and_add(&publishers, -1);
	return 0;
}
