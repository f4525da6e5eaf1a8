// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Block I/O latency by disk and operation.
#define DROPPED biolatency_dropped_total
#include "block.bpf.h"
#include "publish.bpf.h"
#include "starts.bpf.h"

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
	u64 rq = number_of(REQUEST_OF(block_rq_requeue, ctx));
	struct start *start = start_of(rq);

	if (start)
		recall(start, rq);
	return 0;
}

TRACEPOINT(block_rq_complete)
int BPF_PROG(complete, struct request *rq, int error, u32 bytes)
{
	u64 now = bpf_ktime_get_ns(), issued = 0, birth;
	struct start *start = start_of(number_of(rq));
	struct owner wanted;
	struct part *part;
	struct end end;
	u32 operation;
	bool whole;

	if (!start)
		return 0;
	read_end(rq, &end);
	whole = bytes >= end.length;
	if (whole)
		issued = recall(start, number_of(rq));
	operation = operation_of(end.cmd_flags);
	// A write with a flush around it ends twice, at last without data.
	if (!bytes && operation == WRITE)
		return 0;
	name_disk(end.disk, wanted.name);
	wanted.operation = operation + 1;
	part = find_part(&wanted, &start->cell[operation % sizeof(start->cell)]);
	if (!part)
		return 0;
	if (error)
		__sync_fetch_and_add(&part->errors, 1);
	if (whole) {
		birth = birth_of(rq, &end, operation);
		if (issued)
			add_duration(part->device, elapsed(issued, now));
		else if (was_skipped(birth) && !error)
			count_dropped();
		if (birth)
			add_duration(part->total, elapsed(birth, now));
	}
	mark_changed(part);
	return 0;
}
