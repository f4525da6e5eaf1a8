// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// How long a segment had been on its way when it was sent again.
#include "regs-ip.bpf.h"
#include "retransmit.bpf.h"

#define DROPPED tcp_retransmit_delay_dropped_total
#include "maps.bpf.h"

#define MIN_SLOT 10 // 1 ms
#define MAX_SLOT 27 // 134 s
#define TYPES 4
#define MAX_SENDING 65536
// A red-black tree of 100,000 segments has no more.
#define LEVELS 34
#define LAST_OF_QUEUE 0

struct delay_key {
	u8 family;
	u8 scope;
	u8 type;
	u8 bucket;
};

struct rb_node {
	struct rb_node *rb_right;
} __relocated;

struct rb_root {
	struct rb_node *rb_node;
} __relocated;

struct sock___queue {
	struct rb_root tcp_rtx_queue;
} __relocated;

struct sk_buff___queued {
	struct rb_node rbnode;
	u64 skb_mstamp_ns;
} __relocated;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAMILIES * SCOPES * TYPES * (MAX_SLOT - MIN_SLOT + 2));
	__type(key, struct delay_key);
	__type(value, u64);
} tcp_retransmit_delay_seconds SEC(".maps");

// The segment a socket is sending again and when it was last sent. The socket
// lock allows one at a time.
struct sending {
	u64 skb;
	u64 last_sent;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_SENDING);
	__type(key, u64);
	__type(value, struct sending);
} sending SEC(".maps");

// Sending stamps the segment anew, so its last transmission must be read
// before; whether it was sent is known only behind, at the tracepoint.
static __always_inline int begin(struct sock *sk, u64 skb, u64 last_sent)
{
	u64 socket = (u64)sk;
	struct sending entry = {.skb = skb, .last_sent = last_sent};

	if (bpf_map_update_elem(&sending, &socket, &entry, BPF_ANY))
		count_dropped();
	return 0;
}

// The first calls the second, and either may be reached alone, or be inlined
// into a caller of its own file: together they see every retransmission.
FUNCTION(tcp_retransmit_skb)
int BPF_FUNCTION(retransmit, struct sock *sk, struct sk_buff *skb)
{
	return begin(sk, (u64)skb, READ(skb, skb_mstamp_ns));
}

FUNCTION(__tcp_retransmit_skb)
int BPF_FUNCTION(retransmit_now, struct sock *sk, struct sk_buff *skb)
{
	return begin(sk, (u64)skb, READ(skb, skb_mstamp_ns));
}

// A tail loss probe sends the last segment of the queue again, or the end of
// it, which becomes a segment of its own. It calls the second function, or a
// part of it without a name where gcc split it (Ubuntu's 5.15).
FUNCTION(tcp_send_loss_probe)
int BPF_FUNCTION(probe, struct sock *sk)
{
	struct rb_node *last = 0, *next;
	struct sk_buff___queued *skb;

	next = BPF_CORE_READ((struct sock___queue *)sk, tcp_rtx_queue.rb_node);
	for (int level = 0; next && level < LEVELS; level++) {
		last = next;
		next = BPF_CORE_READ(last, rb_right);
	}
	if (!last)
		return 0;
	skb = (void *)last - bpf_core_field_offset(struct sk_buff___queued, rbnode);
	return begin(sk, LAST_OF_QUEUE, BPF_CORE_READ(skb, skb_mstamp_ns));
}

TRACEPOINT(tcp_retransmit_skb)
int BPF_PROG(sent, struct sock *sk, struct sk_buff *skb)
{
	u64 socket = (u64)sk;
	struct sending *entry = bpf_map_lookup_elem(&sending, &socket);
	struct delay_key key = {};
	struct peer peer;

	if (!entry || (entry->skb != LAST_OF_QUEUE && entry->skb != (u64)skb)) {
		count_dropped();
		return 0;
	}
	if (was_sent(ctx)) {
		peer = peer_of(&sk->__sk_common);
		key.family = peer.family;
		key.scope = peer.scope;
		key.type = retransmit_type_of(sk);
		increment_duration(&tcp_retransmit_delay_seconds, &key, MIN_SLOT, MAX_SLOT,
				   elapsed(entry->last_sent, bpf_ktime_get_ns()));
	}
	bpf_map_delete_elem(&sending, &socket);
	return 0;
}

// A segment that could not be sent leaves its entry until the socket's next
// try, or its end.
TRACEPOINT(tcp_destroy_sock)
int BPF_PROG(destroy, struct sock *sk)
{
	u64 socket = (u64)sk;

	bpf_map_delete_elem(&sending, &socket);
	return 0;
}
