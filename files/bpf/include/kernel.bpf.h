// SPDX-License-Identifier: GPL-2.0-or-later
// Copyright: linmonitor.stack contributors
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
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define __relocated __attribute__((preserve_access_index))

// One source, two ways in. Both get the tracepoint's arguments as an array.
// tp_btf may follow typed pointers itself; raw_tp copies through a helper.
#if defined(VARIANT_TP_BTF)
#define TRACEPOINT(name) SEC("tp_btf/" #name)
#define READ(pointer, ...) ___arrow(pointer, __VA_ARGS__)
#else
#define TRACEPOINT(name) SEC("raw_tp/" #name)
#define READ(pointer, ...) BPF_CORE_READ(pointer, __VA_ARGS__)
#endif

char LICENSE[] SEC("license") = "GPL";
