// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Programs that do nothing, on the hooks of the others: what the kernel's own
// measuring costs.
#include "kernel.bpf.h"

#define DROPPED empty_total
#include "maps.bpf.h"

#define EMPTY(hook)                                                                                \
	TRACEPOINT(hook) int empty_##hook(u64 *ctx)                                                \
	{                                                                                          \
		return 0;                                                                          \
	}

EMPTY(block_rq_issue)
EMPTY(block_rq_complete)
EMPTY(inet_sock_set_state)
EMPTY(tcp_probe)
EMPTY(tcp_retransmit_skb)
