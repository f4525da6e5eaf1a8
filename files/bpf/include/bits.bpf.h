// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Logarithms for histogram slots. A slot's label is its upper bound ("le"),
// so a slot is found by rounding up: log2_ceil(4) is 2, log2_ceil(5) is 3.
#pragma once

#include "kernel.bpf.h"

// The highest set bit of a 32-bit value, 0 for 0. No branches, no loop.
static __always_inline u32 log2(u32 value)
{
	u32 shift, result;

	result = (value > 0xffff) << 4;
	value >>= result;
	shift = (value > 0xff) << 3;
	value >>= shift;
	result |= shift;
	shift = (value > 0xf) << 2;
	value >>= shift;
	result |= shift;
	shift = (value > 0x3) << 1;
	value >>= shift;
	return result | shift | (value >> 1);
}

static __always_inline u32 log2l(u64 value)
{
	u32 high = value >> 32;

	return high ? log2(high) + 32 : log2(value);
}

// The smallest k with value <= 2^k.
static __always_inline u32 log2l_ceil(u64 value)
{
	return value <= 1 ? 0 : log2l(value - 1) + 1;
}

// Slot of an exp2 histogram with keys min..max; what is outside is clamped.
static __always_inline u32 exp2_slot(u64 value, u32 min, u32 max)
{
	u32 slot = log2l_ceil(value);

	return slot < min ? min : slot > max ? max : slot;
}

// Slot of an exp2zero histogram: 0 has a slot of its own, 2^k lies in k + 1.
static __always_inline u32 exp2zero_slot(u64 value, u32 max)
{
	u32 slot = value ? log2l_ceil(value) + 1 : 0;

	return slot > max ? max : slot;
}
