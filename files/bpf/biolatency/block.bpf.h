// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Block layer types, from linux/blk-mq.h and linux/blkdev.h.
#pragma once

#include "labels.bpf.h"

struct gendisk {
	char disk_name[8 * NAME_WORDS];
} __relocated;

struct request_queue {
	struct gendisk *disk;
} __relocated;

struct blk_flush_queue {
	struct request *flush_rq;
} __relocated;

struct blk_mq_hw_ctx {
	struct blk_flush_queue *fq;
} __relocated;

struct block_device;

struct request {
	struct request_queue *q;
	struct blk_mq_hw_ctx *mq_hctx;
	unsigned int cmd_flags;
	unsigned int __data_len;
	struct block_device *part;
	u64 start_time_ns;
} __relocated;

// Up to 5.16 the request itself named its disk (until f3fa33acca9f).
struct request___disk {
	struct gendisk *rq_disk;
} __relocated;

// What is read of a request that ends. Without types each field would cost a
// call of a helper: there one call copies the part that has them all.
struct end {
	struct gendisk *disk;
	u32 cmd_flags, length;
	bool is_accounted;
	u64 start_time_ns;
};

#ifdef TYPED
#define COPY_REQUEST(rq)
#define FIELD(type, rq, field) (((type *)(rq))->field)
#else
#define REQUEST_BYTES 256
#define COPY_REQUEST(rq)                                                                           \
	u8 copy[REQUEST_BYTES] __attribute__((aligned(8)));                                        \
	bpf_probe_read_kernel(copy, sizeof(copy), rq)
#define FIELD(type, rq, field)                                                                     \
	(*(typeof(((type *)0)->field) *)(copy + bpf_core_field_offset(type, field)))
#endif

static __always_inline void read_end(struct request *rq, struct end *end)
{
	COPY_REQUEST(rq);

	end->cmd_flags = FIELD(struct request, rq, cmd_flags);
	end->length = FIELD(struct request, rq, __data_len);
	end->is_accounted = FIELD(struct request, rq, part);
	end->start_time_ns = FIELD(struct request, rq, start_time_ns);
	if (bpf_core_field_exists(struct request___disk, rq_disk))
		end->disk = FIELD(struct request___disk, rq, rq_disk);
	else
		end->disk = READ(FIELD(struct request, rq, q), disk);
}

// "other" for a request without a disk.
static __always_inline void name_disk(struct gendisk *disk, u64 name[NAME_WORDS])
{
	__builtin_memset(name, 0, 8 * NAME_WORDS);
	if (disk)
		copy_name(disk->disk_name, name);
	else
		__builtin_memcpy(name, "other", sizeof("other"));
}

// When the request was born; 0 where the kernel keeps no account of it: since
// 6.16 the field then still holds the birth of an earlier request. The flush
// that the block layer makes itself is never accounted and always has a birth.
static __always_inline u64 birth_of(struct request *rq, const struct end *end, u32 operation)
{
	if (end->is_accounted || (operation == FLUSH && READ(rq, mq_hctx, fq, flush_rq) == rq))
		return end->start_time_ns;
	return 0;
}

// Before 5.10.137 (stable) and 5.11 two of the tracepoints passed the queue
// first (until a54895fa057c). The number of arguments is asked from the kernel's own types: a
// version number would be wrong for backports.
typedef void (*btf_trace_block_rq_issue___queue)(void *, struct request_queue *, struct request *);
typedef void (*btf_trace_block_rq_requeue___queue)(void *, struct request_queue *,
						   struct request *);

#define REQUEST_OF(event, ctx)                                                                     \
	((struct request *)(bpf_core_type_exists(btf_trace_##event##___queue) ? (ctx)[1] :         \
										(ctx)[0]))
