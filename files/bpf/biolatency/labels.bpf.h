// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// What labels a request: its operation, and its disk's name.
#pragma once

#include "kernel.bpf.h"

// As in the label `operation`; of the kernel's own numbers there are gaps.
enum operation {
	READ_OP,
	WRITE,
	FLUSH,
	DISCARD,
	SECURE_ERASE,
	WRITE_ZEROES,
	DRIVER_IN,
	DRIVER_OUT,
	OTHER, // among them the zone operations, renumbered in 6.8
	OPERATIONS,
};

static __always_inline u32 operation_of(u32 cmd_flags)
{
	u8 operation = cmd_flags;

	switch (operation) {
	case 0 ... 3:
		return operation;
	case 5:
		return SECURE_ERASE;
	case 9:
		return WRITE_ZEROES;
	case 32: // a SCSI command of its own kind, before 5.14
	case 34:
		return DRIVER_IN;
	case 33:
	case 35:
		return DRIVER_OUT;
	default:
		return OTHER;
	}
}

#define NAME_WORDS 4 // DISK_NAME_LEN, 32, in words of 8 letters

// A name into words that are 0, whatever the driver left behind its end.
static __always_inline void copy_name(const char *text, u64 name[NAME_WORDS])
{
#ifdef TYPED
	const u64 ones = 0x0101010101010101, highs = 0x8080808080808080;
	u64 word, end;

#pragma unroll
	for (int i = 0; i < NAME_WORDS; i++) {
		word = *(u64 *)(text + 8 * i);
		end = (word - ones) & ~word & highs; // lowest: at the first byte that is 0
		if (end) {
			name[i] = word & ((end & -end) - 1);
			break;
		}
		name[i] = word;
	}
#else
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
