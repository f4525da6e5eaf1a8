// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright: linmonitor.stack contributors
//
// What was counted for each disk and operation: in cells, which are found and
// changed without a helper call, where each exported value would cost a search
// in a hash. publish.bpf.h copies them to the exported maps.
#pragma once

#include "maps.bpf.h"
#include "labels.bpf.h"

// The bound of the series: disks and operations beyond it share the cells of
// `other`, one for each operation.
#define OWN_CELLS 96
#define CELLS (OWN_CELLS + OPERATIONS)
// Each processor adds to a part of its own of a cell, or shares it with few.
#define PARTS 8

#define MAX_SLOT 27 // 134 s
#define SUM (MAX_SLOT + 1)
#define SLOTS 32 // a power of two

struct key {
	u64 device[NAME_WORDS];
	u8 operation;
	u8 bucket;
	u8 cell; // for the exporter padding: it adds up what has the same labels
	u8 padding[5];
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

struct part {
	u64 device[SLOTS]; // from issue to completion
	u64 total[SLOTS];  // from birth to completion
	u64 errors, fill[7]; // to whole cache lines
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CELLS *PARTS);
	__type(key, u32);
	__type(value, struct part);
} parts SEC(".maps");

// Whose cell it is. Set once and for all, its operation at last.
struct owner {
	u64 name[NAME_WORDS];
	u64 operation; // and one more: 0 is nobody's
};

static struct cell {
	struct owner owner;
	u64 claims;
} cells[OWN_CELLS];

static u64 next_cell;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OWN_CELLS);
	__type(key, struct owner);
	__type(value, u32);
} known_owners SEC(".maps");

static __always_inline bool is_owner(const struct owner *owner, const struct owner *wanted)
{
	return *(volatile u64 *)&owner->operation == wanted->operation &&
	       owner->name[0] == wanted->name[0] && owner->name[1] == wanted->name[1] &&
	       owner->name[2] == wanted->name[2] && owner->name[3] == wanted->name[3];
}

// The first claim wins a free cell. Two in the same instant both see two, and
// leave it. A disk may get two cells so: the exporter adds them up.
static __always_inline u32 find_cell(const struct owner *wanted)
{
	u32 *known = bpf_map_lookup_elem(&known_owners, wanted), found;
	struct cell *cell;
	u64 next;

	if (known)
		return *known;
#pragma unroll
	for (int tries = 0; tries < 4; tries++) {
		next = *(volatile u64 *)&next_cell;
		if (next >= OWN_CELLS)
			break;
		cell = &cells[next];
		*(volatile u64 *)&next_cell = next + 1;
		__sync_fetch_and_add(&cell->claims, 1);
		if (*(volatile u64 *)&cell->claims != 1)
			continue;
		__builtin_memcpy(cell->owner.name, wanted->name, sizeof(wanted->name));
		*(volatile u64 *)&cell->owner.operation = wanted->operation;
		found = next;
		bpf_map_update_elem(&known_owners, wanted, &found, BPF_NOEXIST);
		return next;
	}
	return OWN_CELLS + wanted->operation - 1;
}

// The hint is where the last such request of the same slot was counted. CELLS
// for a disk that is left out.
static __always_inline u32 cell_of(const struct owner *wanted, u8 *hint)
{
	u32 cell = *hint;

	if (cell < OWN_CELLS && is_owner(&cells[cell].owner, wanted))
		return cell;
	if (is_left_out(wanted->name))
		return CELLS;
	cell = find_cell(wanted);
	*hint = cell;
	return cell;
}

static __always_inline struct part *part_of(u32 cell, u32 cpu)
{
	u32 index = cell * PARTS + (cpu & (PARTS - 1));

	return bpf_map_lookup_elem(&parts, &index);
}

// Slot k holds what lasted no longer than 2^k microseconds; what is outside is
// clamped. 1,000 is a little less than 2^10: without a division.
static __always_inline u32 duration_slot(u64 ns)
{
	u32 power = log2l_ceil(ns), slot = power > 10 ? power - 10 : 0;

	slot += ns > 1000ULL << slot;
	return slot > MAX_SLOT ? MAX_SLOT : slot;
}

static __always_inline void add_duration(u64 slots[SLOTS], u64 ns)
{
	__sync_fetch_and_add(&slots[duration_slot(ns) & (SLOTS - 1)], 1);
	__sync_fetch_and_add(&slots[SUM], ns);
}
