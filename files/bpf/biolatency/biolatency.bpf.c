// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Block I/O latency by disk and operation.
#include "block.bpf.h"

#define DROPPED biolatency_dropped_total
#include "starts.bpf.h"

#define MAX_SLOT 27 // 134 s
#define MAX_DISKS 64
#define MAX_OPERATIONS 6 // that one disk really sees, on average

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
	u64 device[NAME_WORDS];
	u8 operation;
	u8 bucket; // unused, 0, in the error counter's key
	u8 padding[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DISKS * MAX_OPERATIONS * (MAX_SLOT + 2));
	__type(key, struct disk_operation);
	__type(value, u64);
} bio_latency_seconds SEC(".maps"), bio_total_latency_seconds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_DISKS *MAX_OPERATIONS);
	__type(key, struct disk_operation);
	__type(value, u64);
} bio_errors_total SEC(".maps");

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
	case 32: // a SCSI command of its own kind, before 5.14
		return DRIVER_IN;
	case 33:
		return DRIVER_OUT;
	default: // among them the zone operations, renumbered in 6.8
		return OTHER;
	}
}

// "other" for a request without a disk.
static __always_inline void name_disk(struct request *rq, u64 name[NAME_WORDS])
{
	struct gendisk *disk = disk_of(rq);

	if (disk)
		read_name(disk, name);
	else
		__builtin_memcpy(name, "other", sizeof("other"));
}

TRACEPOINT(block_rq_complete)
int BPF_PROG(complete, struct request *rq, int error, u32 bytes)
{
	struct disk_operation key = {};
	u64 now = bpf_ktime_get_ns(), issued = 0, begun;
	bool whole = bytes >= READ(rq, __data_len);

	if (whole)
		issued = recall(number_of(rq));
	key.operation = operation_of(READ(rq, cmd_flags));
	// A write with a flush around it ends twice, at last without data.
	if (!bytes && key.operation == WRITE)
		return 0;
	name_disk(rq, key.device);
	if (is_left_out(key.device))
		return 0;
	if (error)
		increment_map(&bio_errors_total, &key, 1);
	if (!whole)
		return 0;
	begun = born(rq, key.operation == FLUSH);
	if (issued)
		increment_duration(&bio_latency_seconds, &key, 0, MAX_SLOT, elapsed(issued, now));
	else if (was_skipped(begun) && !error)
		count_dropped();
	if (begun)
		increment_duration(&bio_total_latency_seconds, &key, 0, MAX_SLOT,
				   elapsed(begun, now));
	return 0;
}
