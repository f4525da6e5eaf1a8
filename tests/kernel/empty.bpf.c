// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Programs that do nothing, on the hooks of the others: what the kernel's own
// measuring costs. With LOOKS_AT_CLOCK they look at the clock, as whoever takes a time
// must.
#include "kernel.bpf.h"

#define DROPPED empty_total
#include "maps.bpf.h"

#ifdef LOOKS_AT_CLOCK
static volatile u64 seen;
#define WORK seen = bpf_ktime_get_ns()
#else
#define WORK
#endif

#define EMPTY(hook)                                                                                \
	TRACEPOINT(hook) int empty_##hook(u64 *ctx)                                                \
	{                                                                                          \
		WORK;                                                                              \
		return 0;                                                                          \
	}

EMPTY(block_rq_issue)
EMPTY(block_rq_complete)
EMPTY(inet_sock_set_state)
EMPTY(tcp_probe)
EMPTY(tcp_retransmit_skb)
