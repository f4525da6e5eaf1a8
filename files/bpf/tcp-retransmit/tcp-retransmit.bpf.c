// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Retransmitted segments by cause.
#include "retransmit.bpf.h"

#define DROPPED tcp_retransmit_dropped_total
#include "maps.bpf.h"

#define TYPES 5

struct retransmit_key {
	u8 family;
	u8 scope;
	u8 type;
	u8 netns;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAMILIES * SCOPES * TYPES * NETNSES);
	__type(key, struct retransmit_key);
	__type(value, u64);
} tcp_retransmits_total SEC(".maps");

static __always_inline void count(struct sock_common *common, u8 type, u64 segments)
{
	struct peer peer = peer_of(common);
	struct retransmit_key key = {
		.family = peer.family,
		.scope = peer.scope,
		.type = type,
		.netns = netns_of(common),
	};

	increment_map(&tcp_retransmits_total, &key, segments);
}

TRACEPOINT(tcp_retransmit_skb)
int BPF_PROG(retransmit_skb, struct sock *sk, struct sk_buff *skb)
{
	// One event may send several segments at once (GSO).
	if (was_sent(ctx))
		count(&sk->__sk_common, retransmit_type_of(sk),
		      READ(TCP_SKB_CB(skb), tcp_gso_segs));
	return 0;
}

TRACEPOINT(tcp_retransmit_synack)
int BPF_PROG(retransmit_synack, struct sock *listener, struct request_sock *request)
{
	count(&request->__req_common, SYNACK, 1);
	return 0;
}
