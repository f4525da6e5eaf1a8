// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Segments for which a receive buffer, or all memory, was too small.
#include "regs-ip.bpf.h"
#include "sock.bpf.h"

#define DROPPED tcp_receive_memory_dropped_total
#include "maps.bpf.h"

struct family_key {
	u8 family;
	u8 padding[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FAMILIES);
	__type(key, struct family_key);
	__type(value, u64);
} tcp_rcvbuf_overlimit_total SEC(".maps"), tcp_rcv_rmem_failures_total SEC(".maps");

static __always_inline void count(void *map, struct sock *sk)
{
	struct family_key key = {.family = peer_of(&sk->__sk_common).family};

	increment_map(map, &key, 1);
}

static __always_inline bool is_full(struct sock *sk)
{
	return READ(sk, sk_backlog.rmem_alloc.counter) > READ(sk, sk_rcvbuf);
}

#ifdef TYPED
FUNCTION(tcp_try_rmem_schedule)
int BPF_PROG(called, struct sock *sk)
{
	if (is_full(sk))
		count(&tcp_rcvbuf_overlimit_total, sk);
	return 0;
}

FUNCTION_EXIT(tcp_try_rmem_schedule)
int BPF_PROG(returned, struct sock *sk, struct sk_buff *skb, u32 size, int error)
{
	if (error)
		count(&tcp_rcv_rmem_failures_total, sk);
	return 0;
}
#else
#define MAX_CALLS 1024

// A kretprobe sees no arguments: the task and its CPU tell calls apart.
struct call_id {
	u64 caller;
	u64 cpu;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_CALLS);
	__type(key, struct call_id);
	__type(value, u64); // the socket
} calls SEC(".maps");

static __always_inline struct call_id this_call(void)
{
	struct call_id id = {.caller = bpf_get_current_pid_tgid(),
			     .cpu = bpf_get_smp_processor_id()};

	return id;
}

FUNCTION(tcp_try_rmem_schedule)
int BPF_KPROBE(called, struct sock *sk, struct sk_buff *skb, int size)
{
	struct call_id id = this_call();
	u64 socket = (u64)sk;
	bool full = is_full(sk);

	if (full)
		count(&tcp_rcvbuf_overlimit_total, sk);
	// Within the limit and with memory at hand the call cannot fail.
	if (!full && size <= READ(sk, sk_forward_alloc))
		return 0;
	if (bpf_map_update_elem(&calls, &id, &socket, BPF_ANY))
		count_dropped();
	return 0;
}

FUNCTION_EXIT(tcp_try_rmem_schedule)
int BPF_KRETPROBE(returned, int error)
{
	struct call_id id = this_call();
	u64 *socket = bpf_map_lookup_elem(&calls, &id);

	if (!socket)
		return 0;
	if (error)
		count(&tcp_rcv_rmem_failures_total, (struct sock *)*socket);
	bpf_map_delete_elem(&calls, &id);
	return 0;
}
#endif
