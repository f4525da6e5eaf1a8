// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright: linmonitor.stack contributors
//
// Block I/O latency by disk and operation: docs/programs.md, biolatency.
#include "block.bpf.h"

#define DROPPED biolatency_dropped_total
#include "maps.bpf.h"

#define MAX_SLOT 27 // 134 s
#define MAX_DISKS 64
#define MAX_OPERATIONS 6 // that one disk really sees, on average

#define START_SLOTS 16384
#define SPILL_SLOTS 4096

enum operation {
	READ_OP = 0,
	WRITE = 1,
	FLUSH = 2,
	DISCARD = 3,
	SECURE_ERASE = 5,
	WRITE_ZEROES = 9,
	DRIVER_IN = 34,
	DRIVER_OUT = 35,
	OTHER = 255,
};

struct disk_operation {
	u32 device;
	u8 operation;
	u8 bucket; // unused, 0, in the error counter's key
	u16 padding;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DISKS *MAX_OPERATIONS *(MAX_SLOT + 2));
	__type(key, struct disk_operation);
	__type(value, u64);
} bio_latency_seconds SEC(".maps"), bio_total_latency_seconds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DISKS *MAX_OPERATIONS);
	__type(key, struct disk_operation);
	__type(value, u64);
} bio_errors_total SEC(".maps");

// Issue times. The kernel makes its requests once and uses them again, each
// at least 256 bytes long, so its address picks a slot without any read and,
// within one queue's memory, without collision. A slot that another request
// holds sends the newcomer to the spill hash.
//
// The owner is only ever changed by atomic addition: it is the sum of the
// requests that claim the slot. Two CPUs that claim at the same instant both
// see a sum that is not theirs and both step back: nothing is lost without
// compare-and-swap, which 5.10 does not have.
struct start {
	u64 owner;
	u64 ns;
};

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

static __always_inline void remember(u64 rq, u64 now)
{
	struct start *start = start_of(rq);

	if (!start)
		return;
	if (owner_of(start) == 0) {
		__sync_fetch_and_add(&start->owner, rq);
		if (owner_of(start) != rq)
			__sync_fetch_and_add(&start->owner, -rq);
	}
	if (owner_of(start) == rq)
		start->ns = now;
	else if (bpf_map_update_elem(&spilled_starts, &rq, &now, BPF_ANY))
		count_dropped();
}

// The issue time of a request, forgotten here; 0 when none was seen.
static __always_inline u64 recall(u64 rq)
{
	struct start *start = start_of(rq);
	u64 ns, *spilled;

	if (!start)
		return 0;
	if (owner_of(start) != rq) {
		spilled = bpf_map_lookup_elem(&spilled_starts, &rq);
		if (spilled) {
			ns = *spilled;
			bpf_map_delete_elem(&spilled_starts, &rq);
			return ns;
		}
		// A claim that was stepping back a moment ago hid our own.
		if (owner_of(start) != rq)
			return 0;
	}
	ns = start->ns;
	__sync_fetch_and_add(&start->owner, -rq);
	return ns;
}

TRACEPOINT(block_rq_issue)
int issue(u64 *ctx)
{
	remember(number_of(REQUEST_OF(block_rq_issue, ctx)), bpf_ktime_get_ns());
	return 0;
}

// The driver gave it back; it will be issued again.
TRACEPOINT(block_rq_requeue)
int requeue(u64 *ctx)
{
	recall(number_of(REQUEST_OF(block_rq_requeue, ctx)));
	return 0;
}

static __always_inline u8 operation_of(u32 cmd_flags)
{
	u8 operation = cmd_flags;

	switch (operation) {
	case READ_OP ... DISCARD:
	case SECURE_ERASE:
	case WRITE_ZEROES:
	case DRIVER_IN:
	case DRIVER_OUT:
		return operation;
	default: // among them the zone operations, renumbered in 6.8
		return OTHER;
	}
}

// 0, shown as "other", for a request without a disk. False for disks that
// only repeat what another one does, or that are no disks.
static __always_inline bool is_counted(struct request *rq, u32 *device)
{
	struct gendisk *disk = disk_of(rq);
	u32 major, minor;

	*device = 0;
	if (!disk)
		return true;
	major = READ(disk, major);
	minor = READ(disk, first_minor);
	*device = (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
	return major != 1 && major != 7 && major != 11; // ram, loop, CD-ROM
}

TRACEPOINT(block_rq_complete)
int complete(u64 *ctx)
{
	struct request *rq = (struct request *)ctx[0];
	u32 error = ctx[1], bytes = ctx[2];
	struct disk_operation key = {};
	u64 now = bpf_ktime_get_ns(), issued = 0, begun;
	bool whole = bytes >= READ(rq, __data_len);

	if (whole)
		issued = recall(number_of(rq));
	key.operation = operation_of(READ(rq, cmd_flags));
	// A write with a flush around it ends twice, at last without data.
	if (!bytes && key.operation != FLUSH)
		return 0;
	if (!is_counted(rq, &key.device))
		return 0;
	if (error)
		increment_map(&bio_errors_total, &key, 1);
	if (!whole)
		return 0;
	if (issued)
		increment_duration(&bio_latency_seconds, &key, 0, MAX_SLOT, elapsed(issued, now));
	begun = READ(rq, start_time_ns); // 0 where the disk keeps no statistics
	if (begun)
		increment_duration(&bio_total_latency_seconds, &key, 0, MAX_SLOT,
				   elapsed(begun, now));
	return 0;
}
