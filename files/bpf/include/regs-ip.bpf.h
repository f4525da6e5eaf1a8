// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// The registers that a kprobe gets, with the names that libbpf's macros use,
// and the function's own address.
#pragma once

#include "kernel.bpf.h"

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
	unsigned long rax, rcx, rdx, rsi, rdi;
	unsigned long orig_rax, rip, cs, eflags, rsp, ss;
};

// The trap is one byte long and ip points behind it. Where functions begin
// with a landing pad for indirect calls, the trap lies behind its four bytes:
// endbr64, or the no-operation the kernel puts in the place of an unused one.
static __always_inline u64 kprobe_function(u64 ip)
{
	u32 before = 0;

	ip -= 1;
	bpf_probe_read_kernel(&before, sizeof(before), (void *)(ip - sizeof(before)));
	if (before == 0xfa1e0ff3 || before == 0x001f0f66 || before == 0xd6401f0f)
		ip -= sizeof(before);
	return ip;
}
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	u64 regs[31];
	u64 sp, pc, pstate;
};

static __always_inline u64 kprobe_function(u64 ip)
{
	return ip;
}
#else
#error "unknown architecture"
#endif

// From a kprobe's ip to the address that /proc/kallsyms names, for a label
// decoded by ksym.
#define KPROBE_REGS_IP_FIX(ip) kprobe_function(ip)
