// Copyright: linmonitor.stack contributors
// SPDX-License-Identifier: GPL-2.0-or-later
//
// Exported maps: u64 values that only grow. A program names its drop counter
// before the include: `#define DROPPED tcp_rtt_dropped_total`.
#pragma once

#include "bits.bpf.h"

#ifndef DROPPED
#error "DROPPED must name the program's drop counter"
#endif

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} DROPPED SEC(".maps");

// An event was lost because a map was full. The only place that loses one.
static __always_inline void count_dropped(void)
{
	u32 zero = 0;
	u64 *count = bpf_map_lookup_elem(&DROPPED, &zero);

	if (count)
		__sync_fetch_and_add(count, 1);
}

// The value below a key, made when it is new. NULL only when the map is full.
static __always_inline u64 *value_of(void *map, const void *key)
{
	u64 zero = 0, *value = bpf_map_lookup_elem(map, key);

	if (value)
		return value;
	// Another CPU may be first: then the lookup finds its entry.
	bpf_map_update_elem(map, key, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(map, key);
}

static __always_inline void increment_map(void *map, const void *key, u64 amount)
{
	u64 *value = value_of(map, key);

	if (value)
		__sync_fetch_and_add(value, amount);
	else
		count_dropped();
}

// One sample into a histogram whose key has a `bucket` field. Count and sum
// move together or not at all. The exporter reads the sum from slot max + 1.
#define increment_histogram(map, key, slot, max, value)                                            \
	({                                                                                         \
		u64 *count_, *sum_;                                                                \
		(key)->bucket = (slot);                                                            \
		count_ = value_of(map, key);                                                       \
		(key)->bucket = (max) + 1;                                                         \
		sum_ = value_of(map, key);                                                         \
		if (count_ && sum_) {                                                              \
			__sync_fetch_and_add(count_, 1);                                           \
			__sync_fetch_and_add(sum_, (value));                                       \
		} else {                                                                           \
			count_dropped();                                                           \
		}                                                                                  \
	})

// A duration in nanoseconds into an exp2 histogram of microseconds. The slot
// is rounded up, so that `le` holds; the sum to the nearest, so that it has
// no bias.
#define increment_duration(map, key, min, max, ns)                                                 \
	({                                                                                         \
		u64 ns_ = (ns), us_ = ns_ / 1000, rest_ = ns_ - us_ * 1000;                        \
		increment_histogram(map, key, exp2_slot(us_ + (rest_ > 0), min, max), max,         \
				    us_ + (rest_ >= 500));                                         \
	})

// Clocks of two CPUs may differ by a hair; a duration is never negative.
static __always_inline u64 elapsed(u64 since, u64 now)
{
	return now > since ? now - since : 0;
}
