// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// What it measures.
#include "kernel.bpf.h"

#define DROPPED METRIC_dropped_total
#include "maps.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} METRIC_total SEC(".maps");

// TRACEPOINT and BPF_PROG where the kernel has one; FUNCTION and BPF_FUNCTION, with
// regs-ip.bpf.h, where it has none.
TRACEPOINT(sched_process_exec)
int BPF_PROG(count)
{
	u32 zero = 0;

	increment_map(&METRIC_total, &zero, 1);
	return 0;
}
