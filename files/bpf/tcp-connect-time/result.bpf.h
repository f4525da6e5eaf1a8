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

static __always_inline u8 result_of(struct sock *sk, int state)
{
	if (state == TCP_ESTABLISHED)
		return OK;
	switch (READ(sk, sk_err)) {
	case ECONNREFUSED:
		return REFUSED;
	case ETIMEDOUT:
		return TIMEOUT;
	case 0: // given up here: close(), or the process ended
	case ECONNABORTED:
		return ABORTED;
	default:
		return OTHER;
	}
}
