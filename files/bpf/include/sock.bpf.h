// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// TCP types, from net/sock.h, linux/tcp.h and net/tcp.h, and the labels that
// all TCP programs share.
#pragma once

#include "kernel.bpf.h"
#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6

enum tcp_state {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_SYN_RECV = 3,
	TCP_CLOSE = 7,
	TCP_LISTEN = 10,
};

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
} __relocated;

struct ucounts;

struct net {
	struct ucounts *ucounts;
	struct {
		int sysctl_tcp_syncookies;
	} ipv4;
} __relocated;

typedef struct {
	struct net *net;
} __relocated possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	unsigned short skc_family;
	unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
} __relocated;

typedef struct {
	int counter;
} __relocated atomic_t;

struct sock {
	struct sock_common __sk_common;
	struct {
		atomic_t rmem_alloc;
	} sk_backlog;
	struct {
		int owned;
	} sk_lock;
	int sk_err;
	int sk_rcvbuf;
	int sk_forward_alloc;
	u32 sk_ack_backlog;
	u32 sk_max_ack_backlog;
	u16 sk_protocol;
} __relocated;

struct request_sock {
	struct sock_common __req_common;
} __relocated;

struct request_sock_queue {
	atomic_t qlen;
} __relocated;

struct inet_connection_sock {
	struct request_sock_queue icsk_accept_queue;
	u8 icsk_ca_state : 5;
	u8 icsk_pending;
} __relocated;

struct tcp_sock {
	u8 fastopen_connect : 1;
	u32 rcv_ssthresh;
	u32 retrans_stamp;
	u32 snd_una;
	u32 srtt_us;
	u32 total_retrans;
} __relocated;

struct sk_buff {
	u64 skb_mstamp_ns;
	char cb[48];
	unsigned int len;
	__be16 protocol;
} __relocated;

// What TCP keeps in sk_buff.cb.
struct tcp_skb_cb {
	u32 tcp_tw_isn;
	u16 tcp_gso_segs;
	u32 ack_seq;
} __relocated;

#define TCP_SKB_CB(skb) ((struct tcp_skb_cb *)(skb)->cb)

// The TCP part of a socket: typed programs ask the kernel, the others cast.
static __always_inline struct tcp_sock *tcp_sock_of(struct sock *sk)
{
#ifdef TYPED
	return (struct tcp_sock *)bpf_skc_to_tcp_sock(sk);
#else
	return (struct tcp_sock *)sk;
#endif
}

#define NS_PER_MS 1000000ULL

// When the first SYN of a connection left that is now entering a state. Until it
// is answered TCP keeps the millisecond, 0 if none was sent; then how long the
// answer took, which says nothing (0) if a SYN was lost.
static __always_inline u64 first_syn(struct tcp_sock *tp, int state, u64 now)
{
	u32 stamp = READ(tp, retrans_stamp), age = (u32)(now / NS_PER_MS) - stamp;

	if (state == TCP_ESTABLISHED)
		return READ(tp, total_retrans) ? 0 : now - (READ(tp, srtt_us) >> 3) * 1000ULL;
	return stamp ? now - age * NS_PER_MS : 0;
}

enum family {
	FAMILY_OTHER = 0,
	IPV4 = 4,
	IPV6 = 6,
};

enum scope {
	SCOPE_OTHER = 0,
	LOOPBACK = 1,
	PRIVATE = 2,
	PUBLIC = 3,
};

enum netns {
	HOST_NETNS,
	OTHER_NETNS,
};

#define FAMILIES 2
#define SCOPES 3
#define NETNSES 2

struct peer {
	u8 family;
	u8 scope;
};

static __always_inline u8 family_of(struct sock_common *common)
{
	u16 family = READ(common, skc_family);

	return family == AF_INET ? IPV4 : family == AF_INET6 ? IPV6 : FAMILY_OTHER;
}

// Private: 10/8, 172.16/12, 192.168/16, link-local and carrier-grade NAT.
static __always_inline u8 scope_of_ipv4(u32 address)
{
	if (address >> 24 == 127)
		return LOOPBACK;
	if (address >> 24 == 10 || address >> 20 == 0xac1 || address >> 16 == 0xc0a8 ||
	    address >> 16 == 0xa9fe || address >> 22 == 0x191)
		return PRIVATE;
	return PUBLIC;
}

// Private: unique local fc00::/7 and link-local fe80::/10.
static __always_inline u8 scope_of_ipv6(u32 first, bool is_one)
{
	if (is_one)
		return LOOPBACK;
	return first >> 25 == 0x7e || first >> 22 == 0x3fa ? PRIVATE : PUBLIC;
}

// Who is at the other end. An IPv4 peer of an IPv6 socket (::ffff:a.b.c.d) is
// an IPv4 peer: that is what goes over the wire.
static __always_inline struct peer peer_of(struct sock_common *common)
{
	struct peer peer = {.family = family_of(common)};
	u32 a, b, c, d;

	if (peer.family == IPV4) {
		peer.scope = scope_of_ipv4(bpf_ntohl(READ(common, skc_daddr)));
	} else if (peer.family == IPV6) {
		a = bpf_ntohl(READ(common, skc_v6_daddr.in6_u.u6_addr32[0]));
		b = READ(common, skc_v6_daddr.in6_u.u6_addr32[1]);
		c = bpf_ntohl(READ(common, skc_v6_daddr.in6_u.u6_addr32[2]));
		d = bpf_ntohl(READ(common, skc_v6_daddr.in6_u.u6_addr32[3]));
		if (!a && !b && c == 0xffff) {
			peer.family = IPV4;
			peer.scope = scope_of_ipv4(d);
		} else {
			peer.scope = scope_of_ipv6(a, !a && !b && !c && d == 1);
		}
	}
	return peer;
}

// The kernel made the host's own network namespace; every other one was made by
// somebody, who is charged for it.
static __always_inline u8 netns_of(struct sock_common *common)
{
	return READ(common, skc_net.net, ucounts) ? OTHER_NETNS : HOST_NETNS;
}

static __always_inline bool is_tcp(struct sock *sk)
{
	return READ(sk, sk_protocol) == IPPROTO_TCP;
}
