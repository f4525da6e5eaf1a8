// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Block layer types, from linux/blk-mq.h and linux/blkdev.h.
#pragma once

#include "kernel.bpf.h"

struct gendisk {
	int major;
	int first_minor;
} __relocated;

struct request_queue {
	struct gendisk *disk;
} __relocated;

struct request {
	struct request_queue *q;
	unsigned int cmd_flags;
	unsigned int __data_len;
	u64 start_time_ns;
} __relocated;

// Up to 5.16 the request itself named its disk.
struct request___disk {
	struct gendisk *rq_disk;
} __relocated;

static __always_inline struct gendisk *disk_of(struct request *rq)
{
	struct request___disk *old = (void *)rq;

	if (bpf_core_field_exists(old->rq_disk))
		return READ(old, rq_disk);
	return READ(rq, q, disk);
}

// Before 5.10.137 (stable) and 5.11 two of the tracepoints passed the queue
// first. The number of arguments is asked from the kernel's own types: a
// version number would be wrong for backports.
typedef void (*btf_trace_block_rq_issue___queue)(void *, struct request_queue *, struct request *);
typedef void (*btf_trace_block_rq_requeue___queue)(void *, struct request_queue *,
						   struct request *);

#define REQUEST_OF(event, ctx)                                                                     \
	((struct request *)(bpf_core_type_exists(btf_trace_##event##___queue) ? (ctx)[1] : (ctx)[0]))
