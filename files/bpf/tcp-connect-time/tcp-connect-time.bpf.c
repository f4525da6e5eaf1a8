// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// How long active opens take and how they end.
#include "result.bpf.h"

#define DROPPED tcp_connect_time_dropped_total
#include "maps.bpf.h"

#define MAX_SLOT 27 // 134 s, beyond the last SYN's timeout
#define MAX_OPENING 65536

struct connect_key {
	u8 family;
	u8 scope;
	u8 result;
	u8 bucket;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAMILIES * SCOPES * RESULTS * (MAX_SLOT + 2));
	__type(key, struct connect_key);
	__type(value, u64);
} tcp_connect_time_seconds SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_OPENING);
	__type(key, u64);
	__type(value, u64); // nanoseconds, and CROSSED
} opening SEC(".maps");

#define CROSSED (1ULL << 63)

// When the first connection was seen to open. What is older was under way.
static u64 watching_since;

// With TCP_FASTOPEN_CONNECT connect() only promises: the SYN leaves with the
// first write, and the time until then is the application's.
static __always_inline bool is_fast_open(struct tcp_sock *tp)
{
	return BPF_CORE_READ_BITFIELD_PROBED(tp, fastopen_connect);
}

// Two programs on one event. From 6.1 on (05b24ff9b2cf) the kernel skips a
// program that is still running on that CPU: what interrupts the start of one connection is
// often the end of another, and must not be lost. A start or an end that was
// skipped all the same leaves the other one behind: whoever finds it counts it
// as dropped.
TRACEPOINT(inet_sock_set_state)
int BPF_PROG(begin, struct sock *sk, int from, int to)
{
	u64 socket = (u64)sk, now;

	if (to != TCP_SYN_SENT || !is_tcp(sk))
		return 0;
	now = bpf_ktime_get_ns();
	if (!watching_since)
		watching_since = now;
	// Full, or the end of the socket's last connection was skipped.
	if (bpf_map_update_elem(&opening, &socket, &now, BPF_NOEXIST)) {
		count_dropped();
		bpf_map_update_elem(&opening, &socket, &now, BPF_ANY);
	}
	return 0;
}

TRACEPOINT(inet_sock_set_state)
int BPF_PROG(end, struct sock *sk, int from, int to)
{
	struct connect_key key = {};
	u64 socket = (u64)sk, now, since, syn, *begun;
	struct tcp_sock *tp;
	struct peer peer;

	if (from != TCP_SYN_SENT && from != TCP_SYN_RECV && from != TCP_ESTABLISHED)
		return 0;
	begun = bpf_map_lookup_elem(&opening, &socket);
	if (!begun && from != TCP_SYN_SENT)
		return 0;
	tp = is_tcp(sk) ? tcp_sock_of(sk) : 0;
	if (!tp)
		return 0;
	now = bpf_ktime_get_ns();
	if (!begun) { // its start was skipped, or before this program's own
		if (watching_since && first_syn(tp, to, now) > watching_since + NS_PER_MS)
			count_dropped();
		return 0;
	}
	// Both ends opened at once: the answer is still to come.
	if (from == TCP_SYN_SENT && to == TCP_SYN_RECV) {
		*begun |= CROSSED;
		return 0;
	}
	since = *begun;
	bpf_map_delete_elem(&opening, &socket);
	// Its end was skipped, or that of a client whose memory a server's socket has now.
	if (from == TCP_ESTABLISHED || (from == TCP_SYN_RECV && !(since & CROSSED))) {
		count_dropped();
		return 0;
	}
	since &= ~CROSSED;
	if (is_fast_open(tp)) {
		syn = first_syn(tp, to, now);
		if (!syn && to != TCP_ESTABLISHED) // nothing was ever written
			return 0;
		since = syn ? syn : since;
	}
	peer = peer_of(&sk->__sk_common);
	key.family = peer.family;
	key.scope = peer.scope;
	key.result = result_of(sk, to);
	increment_duration(&tcp_connect_time_seconds, &key, 0, MAX_SLOT, elapsed(since, now));
	return 0;
}

// A lost SYN of Fast Open: only now is it known when it left.
TRACEPOINT(tcp_retransmit_skb)
int BPF_PROG(again, struct sock *sk)
{
	struct tcp_sock *tp;
	u64 socket = (u64)sk, *begun;

	if (READ(sk, __sk_common.skc_state) != TCP_SYN_SENT)
		return 0;
	tp = tcp_sock_of(sk);
	begun = bpf_map_lookup_elem(&opening, &socket);
	if (tp && begun && is_fast_open(tp))
		*begun = first_syn(tp, TCP_SYN_SENT, bpf_ktime_get_ns());
	return 0;
}
