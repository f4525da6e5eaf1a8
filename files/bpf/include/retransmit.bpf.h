// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Why the kernel sent a segment again.
#pragma once

#include "sock.bpf.h"

enum retransmit_type {
	PROBE,
	FAST,
	RTO,
	SYN,
	SYNACK,
};

// States of congestion control, linux/tcp.h.
#define TCP_CA_RECOVERY 3
#define TCP_CA_LOSS 4

static __always_inline u8 ca_state_of(struct sock *sk)
{
	struct inet_connection_sock *icsk = (struct inet_connection_sock *)sk;

	return BPF_CORE_READ_BITFIELD_PROBED(icsk, icsk_ca_state);
}

static __always_inline u8 retransmit_type_of(struct sock *sk)
{
	u8 state = READ(sk, __sk_common.skc_state), ca_state;

	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV)
		return SYN;
	ca_state = ca_state_of(sk);
	return ca_state == TCP_CA_LOSS ? RTO : ca_state == TCP_CA_RECOVERY ? FAST : PROBE;
}

// The tracepoint gained its third argument, the result of sending, in 6.17
// (ad892e912b84); from then on it fires for failures too.
typedef void (*btf_trace_tcp_retransmit_skb___result)(void *, const struct sock *,
						      const struct sk_buff *, int);

static __always_inline bool was_sent(u64 *ctx)
{
	return !bpf_core_type_exists(btf_trace_tcp_retransmit_skb___result) || (int)ctx[2] == 0;
}
