// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Block layer types, from linux/blk-mq.h and linux/blkdev.h.
#pragma once

#include "kernel.bpf.h"

#define NAME_WORDS 4 // DISK_NAME_LEN, 32, in words of 8 letters

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

static __always_inline struct gendisk *disk_of(struct request *rq)
{
	struct request___disk *old = (void *)rq;

	if (bpf_core_field_exists(old->rq_disk))
		return READ(old, rq_disk);
	return READ(rq, q, disk);
}

// A disk's name, filled up with zeroes whatever the driver left behind its end.
static __always_inline void read_name(struct gendisk *disk, u64 name[NAME_WORDS])
{
	const char *text = disk->disk_name;

#ifdef TYPED
	const u64 ones = 0x0101010101010101, highs = 0x8080808080808080;
	u64 word, end = 0;

#pragma unroll
	for (int i = 0; i < NAME_WORDS; i++) {
		word = end ? 0 : *(u64 *)(text + 8 * i);
		// The high bit of the first byte that is 0.
		end = (word - ones) & ~word & highs;
		end &= -end;
		name[i] = end ? word & (end - 1) : word;
	}
#else
	__builtin_memset(name, 0, 8 * NAME_WORDS);
	bpf_probe_read_kernel_str(name, 8 * NAME_WORDS, text);
#endif
}

static __always_inline bool is_digit(char letter)
{
	return letter >= '0' && letter <= '9';
}

// Memory (ram), and disks that hand on to others, which count (loop, device
// mapper's request queues, CD-ROMs).
static __always_inline bool is_left_out(const u64 words[NAME_WORDS])
{
	const char *name = (const char *)words;
	u32 four = words[0], three = four & 0xffffff;

	return (four == 0x706f6f6c && is_digit(name[4])) || // "loop"
	       (three == 0x2d6d64 && is_digit(name[3])) || // "dm-"
	       (three == 0x6d6172 && is_digit(name[3])) || // "ram"
	       ((four & 0xffff) == 0x7273 && is_digit(name[2])); // "sr"
}

// When the request was born; 0 where the kernel keeps no account of it: since
// 6.16 the field then still holds the birth of an earlier request. The flush
// that the block layer makes itself is never accounted and always has a birth.
static __always_inline u64 born(struct request *rq, bool is_flush)
{
	if (READ(rq, part) || (is_flush && READ(rq, mq_hctx, fq, flush_rq) == rq))
		return READ(rq, start_time_ns);
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
