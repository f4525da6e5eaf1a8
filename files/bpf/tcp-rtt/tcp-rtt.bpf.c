// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Smoothed round-trip time, sampled when an ACK brings news, and once for each
// connection at its end.
#include "sock.bpf.h"

#define DROPPED tcp_rtt_dropped_total
#include "maps.bpf.h"

#define MIN_SLOT 5 // 32 us
#define MAX_SLOT 25 // 33.6 s

struct rtt_key {
	u8 family;
	u8 scope;
	u8 bucket;
	u8 padding;
};

// Per CPU: the only program that may run for every received segment.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, FAMILIES * SCOPES * (MAX_SLOT - MIN_SLOT + 2));
	__type(key, struct rtt_key);
	__type(value, u64);
} tcp_rtt_seconds SEC(".maps"), tcp_connection_rtt_seconds SEC(".maps");

static __always_inline void sample(void *map, struct sock *sk, struct tcp_sock *tp)
{
	u32 srtt = READ(tp, srtt_us) >> 3; // kept in eighths
	struct rtt_key key = {};
	struct peer peer;

	if (!srtt)
		return;
	peer = peer_of(&sk->__sk_common);
	key.family = peer.family;
	key.scope = peer.scope;
	increment_histogram(map, &key, exp2_slot(srtt, MIN_SLOT, MAX_SLOT), MAX_SLOT, srtt);
}

TRACEPOINT(tcp_probe)
int BPF_PROG(receive, struct sock *sk, struct sk_buff *skb)
{
	struct tcp_sock *tp = tcp_sock_of(sk);

	if (!tp)
		return 0;
	// Sequence numbers wrap: later means a positive difference. A segment
	// that acknowledges nothing new says nothing new about the way.
	if ((s32)(READ(TCP_SKB_CB(skb), ack_seq) - READ(tp, snd_una)) > 0)
		sample(&tcp_rtt_seconds, sk, tp);
	return 0;
}

TRACEPOINT(tcp_destroy_sock)
int BPF_PROG(destroy, struct sock *sk)
{
	struct tcp_sock *tp = tcp_sock_of(sk);

	if (tp)
		sample(&tcp_connection_rtt_seconds, sk, tp);
	return 0;
}
