// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Receive windows cut: falls of rcv_ssthresh, wherever the kernel lowers it.
#include "sock.bpf.h"

#define DROPPED tcp_window_clamps_dropped_total
#include "maps.bpf.h"

#define MAX_CONNECTIONS 65536

struct clamp_key {
	u8 family;
	u8 padding[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAMILIES);
	__type(key, struct clamp_key);
	__type(value, u64);
} tcp_window_clamps_total SEC(".maps");

// The threshold of each connection when it was last looked at. The kernel
// lowers it in several places, on arrival and on departure; each shows at the
// connection's next segment, or at its end.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__type(key, u64);
	__type(value, u32);
} thresholds SEC(".maps");

static __always_inline void compare(struct sock *sk, u32 threshold, u32 *last)
{
	struct clamp_key key = {};

	if (threshold < *last) {
		key.family = peer_of(&sk->__sk_common).family;
		increment_map(&tcp_window_clamps_total, &key, 1);
	}
	if (threshold != *last)
		*last = threshold;
}

TRACEPOINT(tcp_probe)
int BPF_PROG(receive, struct sock *sk)
{
	struct tcp_sock *tp = tcp_sock_of(sk);
	u64 socket = (u64)sk;
	u32 threshold, *last;

	if (!tp)
		return 0;
	threshold = READ(tp, rcv_ssthresh);
	last = bpf_map_lookup_elem(&thresholds, &socket);
	if (last)
		compare(sk, threshold, last);
	else if (bpf_map_update_elem(&thresholds, &socket, &threshold, BPF_ANY))
		count_dropped();
	return 0;
}

TRACEPOINT(tcp_destroy_sock)
int BPF_PROG(destroy, struct sock *sk)
{
	struct tcp_sock *tp = tcp_sock_of(sk);
	u64 socket = (u64)sk;
	u32 *last = bpf_map_lookup_elem(&thresholds, &socket);

	if (!tp || !last)
		return 0;
	compare(sk, READ(tp, rcv_ssthresh), last);
	bpf_map_delete_elem(&thresholds, &socket);
	return 0;
}
