// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Connections refused because the accept queue was full.
#include "regs-ip.bpf.h"
#include "sock.bpf.h"

#define DROPPED tcp_listen_overflows_dropped_total
#include "maps.bpf.h"

#define ETH_P_IP 0x0800

struct overflow_key {
	u8 family;
	u8 padding[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAMILIES);
	__type(key, struct overflow_key);
	__type(value, u64);
} tcp_listen_overflows_total SEC(".maps");

static __always_inline int count_if_full(struct sock *listener)
{
	struct overflow_key key = {};

	if (READ(listener, sk_ack_backlog) > READ(listener, sk_max_ack_backlog)) {
		key.family = family_of(&listener->__sk_common);
		increment_map(&tcp_listen_overflows_total, &key, 1);
	}
	return 0;
}

// Without SYN cookies, more half-open connections than the backlog drop a SYN
// earlier, and the kernel counts that as something else. Not a SYN that meets
// its own connection of before in TIME_WAIT: its peer is known.
static __always_inline bool is_dropped_before(struct sock *listener, struct sk_buff *skb)
{
	struct inet_connection_sock *icsk = (struct inet_connection_sock *)listener;
	struct net *net = READ(listener, __sk_common.skc_net.net);

	return !BPF_CORE_READ_BITFIELD_PROBED(net, ipv4.sysctl_tcp_syncookies) &&
	       (u32)BPF_CORE_READ(icsk, icsk_accept_queue.qlen.counter) >
		       READ(listener, sk_max_ack_backlog) &&
	       !READ(TCP_SKB_CB(skb), tcp_tw_isn);
}

FUNCTION(tcp_conn_request)
int BPF_FUNCTION(syn, void *ops, void *af_ops, struct sock *listener, struct sk_buff *skb)
{
	return is_dropped_before(listener, skb) ? 0 : count_if_full(listener);
}

FUNCTION(tcp_v4_syn_recv_sock)
int BPF_FUNCTION(handshake_v4, struct sock *listener)
{
	return count_if_full(listener);
}

// An IPv4 client of an IPv6 listener passes here on its way to the former.
FUNCTION(tcp_v6_syn_recv_sock)
int BPF_FUNCTION(handshake_v6, struct sock *listener, struct sk_buff *skb)
{
	if (READ(skb, protocol) == bpf_htons(ETH_P_IP))
		return 0;
	return count_if_full(listener);
}
