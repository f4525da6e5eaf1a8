// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// What a program on a function finds: its arguments, and for a kprobe, which
// gets registers, the function's own address.
#pragma once

#include "kernel.bpf.h"

#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#define KPROBE_ARG0 di
#define KPROBE_ARG1 si
#define KPROBE_ARG2 dx
#define KPROBE_ARG3 cx
#define KPROBE_RESULT ax

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
struct pt_regs {
	u64 regs[31];
	u64 sp, pc, pstate;
};
#define KPROBE_ARG0 regs[0]
#define KPROBE_ARG1 regs[1]
#define KPROBE_ARG2 regs[2]
#define KPROBE_ARG3 regs[3]
#define KPROBE_RESULT regs[0]

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

// Arguments of a function, by number, whichever way the program came in.
#ifdef TYPED
typedef u64 function_context;
#define ARGUMENT(ctx, n) ((ctx)[n])
#else
typedef struct pt_regs function_context;
#define ARGUMENT(ctx, n) ((ctx)->KPROBE_ARG##n)
#endif
