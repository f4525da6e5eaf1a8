// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Receive windows cut because memory ran out.
#include "regs-ip.bpf.h"
#include "sock.bpf.h"

#define DROPPED tcp_window_clamps_dropped_total
#include "maps.bpf.h"

#define MAX_CALLS 1024

struct clamp_key {
	u8 family;
	u8 padding[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAMILIES);
	__type(key, struct clamp_key);
	__type(value, u64);
} tcp_window_clamps_total SEC(".maps"), tcp_rcvbuf_overlimit_total SEC(".maps"),
	tcp_rcv_rmem_failures_total SEC(".maps");

// Calls of tcp_try_rmem_schedule that may find too little memory. A typed
// program sees the socket at both ends, and the socket lock allows one call at
// a time. A kretprobe sees no arguments: there the task and its CPU tell calls
// apart, and the call carries its socket.
struct call_id {
	u64 caller;
	u64 cpu;
};

struct call {
	struct sock *sk;
	u32 threshold;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CALLS);
	__type(key, struct call_id);
	__type(value, struct call);
} calls SEC(".maps");

// 6.17 began to measure what waits plus the new segment's data, where older
// kernels ask only whether what waits is too much. The same change brought
// this drop reason.
enum skb_drop_reason___ingest {
	SKB_DROP_REASON_TCP_INVALID_END_SEQUENCE___ingest,
};

static __always_inline bool is_over_limit(struct sock *sk, struct sk_buff *skb)
{
	s64 waiting = READ(sk, sk_backlog.rmem_alloc.counter);

	if (bpf_core_enum_value_exists(enum skb_drop_reason___ingest,
				       SKB_DROP_REASON_TCP_INVALID_END_SEQUENCE___ingest))
		waiting += READ(skb, len);
	return waiting > READ(sk, sk_rcvbuf);
}

static __always_inline struct clamp_key key_of(struct sock *sk)
{
	struct clamp_key key = {.family = peer_of(&sk->__sk_common).family};

	return key;
}

static __always_inline struct call_id id_of(struct sock *sk)
{
	struct call_id id = {};

#ifdef TYPED
	id.caller = (u64)sk;
#else
	id.caller = bpf_get_current_pid_tgid();
	id.cpu = bpf_get_smp_processor_id();
#endif
	return id;
}

FUNCTION(tcp_try_rmem_schedule)
int called(function_context *ctx)
{
	struct sock *sk = (struct sock *)ARGUMENT(ctx, 0);
	struct sk_buff *skb = (struct sk_buff *)ARGUMENT(ctx, 1);
	s32 size = ARGUMENT(ctx, 2);
	bool over = is_over_limit(sk, skb);
	struct tcp_sock *tp = tcp_sock_of(sk);
	struct call_id id = id_of(sk);
	struct call call = {};
	struct clamp_key key;

	if (over) {
		key = key_of(sk);
		increment_map(&tcp_rcvbuf_overlimit_total, &key, 1);
	}
	// Within the limit and with memory at hand the kernel changes nothing.
	if (!tp || (!over && size <= READ(sk, sk_forward_alloc)))
		return 0;
	call.sk = sk;
	call.threshold = READ(tp, rcv_ssthresh);
	if (bpf_map_update_elem(&calls, &id, &call, BPF_ANY))
		count_dropped();
	return 0;
}

static __always_inline int leave(struct sock *sk, struct call_id *id, struct call *call, int result)
{
	struct tcp_sock *tp = tcp_sock_of(sk);
	struct clamp_key key = key_of(sk);

	if (tp && READ(tp, rcv_ssthresh) < call->threshold)
		increment_map(&tcp_window_clamps_total, &key, 1);
	if (result)
		increment_map(&tcp_rcv_rmem_failures_total, &key, 1);
	bpf_map_delete_elem(&calls, id);
	return 0;
}

#ifdef TYPED
FUNCTION_EXIT(tcp_try_rmem_schedule)
int returned(u64 *ctx)
{
	struct sock *sk = (struct sock *)ctx[0];
	struct call_id id = id_of(sk);
	struct call *call = bpf_map_lookup_elem(&calls, &id);

	return call ? leave(sk, &id, call, ctx[3]) : 0;
}
#else
FUNCTION_EXIT(tcp_try_rmem_schedule)
int returned(struct pt_regs *ctx)
{
	struct call_id id = id_of(0);
	struct call *call = bpf_map_lookup_elem(&calls, &id);

	return call ? leave(call->sk, &id, call, ctx->KPROBE_RESULT) : 0;
}
#endif
