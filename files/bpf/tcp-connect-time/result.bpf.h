// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// How an attempt to connect ended.
#pragma once

#include "sock.bpf.h"

// Of asm-generic/errno.h.
#define ECONNABORTED 103
#define ETIMEDOUT 110
#define ECONNREFUSED 111

#define RESULTS 5

enum result {
	OK,
	REFUSED,
	TIMEOUT,
	ABORTED,
	OTHER,
};

// Before 6.11 (853c3bd7b791) the kernel tells the application of an error first and
// ends the connection then: who waits for the error has often taken it by now.
static __always_inline u8 result_without_error(struct sock *sk)
{
	struct inet_connection_sock *icsk = (struct inet_connection_sock *)sk;

	if (READ(sk, sk_lock.owned)) // by a process: close(), or its end
		return ABORTED;
	// The timer of the last SYN has run out, or an ICMP message came before.
	return BPF_CORE_READ(icsk, icsk_pending) ? OTHER : TIMEOUT;
}

static __always_inline u8 result_of(struct sock *sk, int state)
{
	if (state == TCP_ESTABLISHED)
		return OK;
	switch (READ(sk, sk_err)) {
	case ECONNREFUSED:
		return REFUSED;
	case ETIMEDOUT:
		return TIMEOUT;
	case ECONNABORTED:
		return ABORTED;
	case 0:
		return result_without_error(sk);
	default:
		return OTHER;
	}
}
