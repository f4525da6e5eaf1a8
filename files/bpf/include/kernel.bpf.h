// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// The few kernel types our programs read, declared by hand. Only names and
// kinds count: libbpf rewrites every offset for the running kernel (CO-RE).
#pragma once

#include <stdbool.h>

typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;

typedef __u8 u8;
typedef __u16 u16;
typedef __s32 s32;
typedef __u32 u32;
typedef __s64 s64;
typedef __u64 u64;

// linux/bpf.h: fixed by the kernel's ABI.
enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define __relocated __attribute__((preserve_access_index))

// One source, several ways in: tracepoints as tp_btf or raw_tp, functions as
// fentry or kprobe. With types (tp_btf, fentry) a program follows pointers
// itself; without, it copies through a helper, which costs more. A program on
// a tracepoint takes its arguments by BPF_PROG, one on a function by
// BPF_FUNCTION.
#if defined(VARIANT_TP_BTF) || defined(VARIANT_FENTRY)
#define TYPED
#define TRACEPOINT(name) SEC("tp_btf/" #name)
#define FUNCTION(name) SEC("fentry/" #name)
#define FUNCTION_EXIT(name) SEC("fexit/" #name)
#define BPF_FUNCTION BPF_PROG
#define READ(pointer, ...) ___arrow(pointer, __VA_ARGS__)
#else
#define TRACEPOINT(name) SEC("raw_tp/" #name)
#define FUNCTION(name) SEC("kprobe/" #name)
#define FUNCTION_EXIT(name) SEC("kretprobe/" #name)
#define BPF_FUNCTION BPF_KPROBE
#define READ(pointer, ...) BPF_CORE_READ(pointer, __VA_ARGS__)
#endif

char LICENSE[] SEC("license") = "GPL";
