# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small catalogue, joined with hooks and maps as the build joins it."""

from __future__ import annotations


def variant(name: str, *hooks: tuple[str, str]) -> dict:
    """Describe one object: its needs follow from its hooks."""
    return {
        "name": name,
        "hooks": [{"type": kind, "target": target} for kind, target in hooks],
        "maps": [
            {"name": "m", "type": "hash", "key_size": 8, "value_size": 8, "max_entries": 1024}
        ],
    }


CATALOGUE = {
    "sets": {"default": ["biolatency", "tcp-window-clamps"]},
    "configs": {
        "biolatency": {
            "variants": [
                variant(kind, (kind, "block_rq_issue"), (kind, "block_rq_complete"))
                for kind in ("tp_btf", "raw_tp")
            ]
        },
        "tcp-window-clamps": {
            "variants": [
                variant(
                    "fentry",
                    ("fentry", "tcp_try_rmem_schedule"),
                    ("fexit", "tcp_try_rmem_schedule"),
                ),
                variant("kprobe", ("kprobe", "tcp_try_rmem_schedule")),
            ]
        },
        "tcp-syn-recv": {
            "variants": [
                variant(kind, (kind, "tcp_v4_syn_recv_sock")) for kind in ("fentry", "kprobe")
            ]
        },
    },
}
