// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// The accept queue that each completed handshake meets.
#include "sock.bpf.h"

#define DROPPED tcp_syn_backlog_dropped_total
#include "maps.bpf.h"

#define MAX_SLOT 17 // 65536
#define RATIO_SLOTS 6
#define RATIO_ONE 10000

struct backlog_key {
	u8 family;
	u8 bucket;
	u16 padding;
};

struct ratio_key {
	u8 family;
	u8 padding;
	u16 bucket;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAMILIES *(MAX_SLOT + 2));
	__type(key, struct backlog_key);
	__type(value, u64);
} tcp_syn_backlog SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAMILIES *(RATIO_SLOTS + 1));
	__type(key, struct ratio_key);
	__type(value, u64);
} tcp_accept_queue_utilization_ratio SEC(".maps");

// The bucket keys of the YAML, in ten-thousandths.
static __always_inline u32 ratio_slot(u32 ratio)
{
	return ratio == 0    ? 0 :
	       ratio <= 1000 ? 1000 :
	       ratio <= 2500 ? 2500 :
	       ratio <= 5000 ? 5000 :
	       ratio <= 7500 ? 7500 :
			       RATIO_ONE;
}

TRACEPOINT(inet_sock_set_state)
int BPF_PROG(handshake, struct sock *sk, int from, int to)
{
	struct backlog_key key = {};
	struct ratio_key ratio_key = {};
	u64 waiting, capacity, ratio;

	// A completed handshake clones the listener. The clone still carries
	// the listener's state, queue and family; it is not yet queued itself.
	if (from != TCP_LISTEN || to != TCP_SYN_RECV || !is_tcp(sk))
		return 0;
	waiting = READ(sk, sk_ack_backlog);
	capacity = READ(sk, sk_max_ack_backlog);
	key.family = ratio_key.family = family_of(&sk->__sk_common);
	increment_histogram(&tcp_syn_backlog, &key, exp2zero_slot(waiting, MAX_SLOT), MAX_SLOT,
			    waiting);
	// The kernel lets one more wait than the backlog says, so a handshake
	// meets at most the backlog itself: 1 is the last place.
	ratio = capacity ? (waiting * RATIO_ONE + capacity - 1) / capacity : 0;
	if (ratio > RATIO_ONE)
		ratio = RATIO_ONE;
	increment_histogram(&tcp_accept_queue_utilization_ratio, &ratio_key, ratio_slot(ratio),
			    RATIO_ONE, ratio);
	return 0;
}
