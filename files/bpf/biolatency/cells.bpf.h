// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// What was counted for each disk and operation: in cells, which are found and
// changed without a helper call, where each exported value would cost a search
// in a hash. publish.bpf.h copies them to the exported maps.
#pragma once

#include "maps.bpf.h"
#include "labels.bpf.h"

// The bound of the series: disks and operations beyond it share the cells of
// `other`, the first ones, one for each operation.
#define OWN_CELLS 96
#define CELLS (OPERATIONS + OWN_CELLS)
// Each processor adds to a part of its own of a cell, or shares it with few.
#define PARTS 8

// A slot for each power of two in microseconds, and between these two of them
// another one for each half step: 64, 96, 128, 192, ... 65,536 us.
#define FIRST_HALVED 6 // 64 us
#define LAST_HALVED 16 // 66 ms
#define HALF_STEPS (LAST_HALVED - FIRST_HALVED)
#define MAX_POWER 27 // 134 s
#define MAX_SLOT (MAX_POWER + HALF_STEPS)
#define SUM (MAX_SLOT + 1)
#define SLOTS 64 // a power of two

// Whose cell it is. Set once and for all, its operation at last.
struct owner {
	u64 name[NAME_WORDS];
	u64 operation; // and one more: 0 is nobody's
};

struct part {
	u64 device[SLOTS]; // from issue to completion
	u64 total[SLOTS]; // from birth to completion
	u64 errors;
	struct owner owner; // the same in all parts
	u64 claims; // in the first part only
	u64 state; // of being published
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, CELLS *PARTS);
	__type(key, u32);
	__type(value, struct part);
} parts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, OWN_CELLS);
	__type(key, struct owner);
	__type(value, u32);
} known_owners SEC(".maps");

static u64 next_cell; // of OWN_CELLS

static __always_inline struct part *part_of(u32 cell, u32 cpu)
{
	u32 index = cell * PARTS + (cpu & (PARTS - 1));

	return bpf_map_lookup_elem(&parts, &index);
}

static __always_inline bool is_owner(const struct owner *owner, const struct owner *wanted)
{
	return *(volatile u64 *)&owner->operation == wanted->operation &&
	       owner->name[0] == wanted->name[0] && owner->name[1] == wanted->name[1] &&
	       owner->name[2] == wanted->name[2] && owner->name[3] == wanted->name[3];
}

static __always_inline void give(u32 cell, const struct owner *owner)
{
	for (u32 cpu = 0; cpu < PARTS; cpu++) {
		struct part *part = part_of(cell, cpu);

		if (!part)
			return;
		__builtin_memcpy(part->owner.name, owner->name, sizeof(owner->name));
		*(volatile u64 *)&part->owner.operation = owner->operation;
	}
}

// The first claim wins a free cell. Two in the same instant both see two, and
// leave it. A disk may get two cells so: the exporter adds them up.
static __noinline u32 find_cell(const struct owner *wanted)
{
	struct owner other = {.operation = wanted->operation};
	u32 *known = bpf_map_lookup_elem(&known_owners, wanted), cell;
	struct part *first;
	u64 next;

	if (known)
		return *known;
#pragma unroll
	for (int tries = 0; tries < 4; tries++) {
		next = *(volatile u64 *)&next_cell;
		if (next >= OWN_CELLS)
			break;
		*(volatile u64 *)&next_cell = next + 1;
		cell = OPERATIONS + next;
		first = part_of(cell, 0);
		if (!first)
			break;
		__sync_fetch_and_add(&first->claims, 1);
		if (*(volatile u64 *)&first->claims != 1)
			continue;
		give(cell, wanted);
		bpf_map_update_elem(&known_owners, wanted, &cell, BPF_NOEXIST);
		return cell;
	}
	cell = wanted->operation - 1;
	first = part_of(cell, 0);
	__builtin_memcpy(other.name, "other", sizeof("other"));
	if (first && !is_owner(&first->owner, &other))
		give(cell, &other);
	return cell;
}

// This processor's part of an owner's cell. The hint is where the last such
// request of the same slot was counted. NULL for a disk that is left out.
static __always_inline struct part *find_part(const struct owner *wanted, u8 *hint)
{
	u32 cpu = bpf_get_smp_processor_id(), cell = *hint;
	struct part *part = part_of(cell, cpu);

	if (part && is_owner(&part->owner, wanted))
		return part;
	if (is_left_out(wanted->name))
		return 0;
	cell = find_cell(wanted);
	*hint = cell;
	return part_of(cell, cpu);
}

// The longest that a slot holds, in microseconds.
static __always_inline u32 bound_of(u32 slot)
{
	u32 steps = slot - FIRST_HALVED; // in halved powers of two

	if (slot <= FIRST_HALVED)
		return 1U << slot;
	if (slot >= LAST_HALVED + HALF_STEPS)
		return 1U << (slot - HALF_STEPS);
	return (2U + (steps & 1)) << (FIRST_HALVED - 1 + steps / 2);
}

// The first slot whose bound is no shorter; what is outside is clamped. 1,000 is
// a little less than 2^10: without a division.
static __always_inline u32 duration_slot(u64 ns)
{
	u32 power = log2l_ceil(ns);

	power = power > 10 ? power - 10 : 0;
	power += ns > 1000ULL << power;
	if (power <= FIRST_HALVED)
		return power;
	if (power <= LAST_HALVED)
		return 2 * power - FIRST_HALVED - (ns <= 1500ULL << (power - 1));
	return (power > MAX_POWER ? MAX_POWER : power) + HALF_STEPS;
}

static __always_inline void add_duration(u64 slots[SLOTS], u64 ns)
{
	__sync_fetch_and_add(&slots[duration_slot(ns) & (SLOTS - 1)], 1);
	__sync_fetch_and_add(&slots[SUM], ns);
}
