# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: linmonitor.stack contributors
"""What bpf_program_info forecasts of each variant, against what its trial says."""

from __future__ import annotations

import json
import platform

from ansible_collections.linmonitor.stack.plugins.module_utils import _program

from .exporter import refusal
from .lab import Lab, Row

SERVICE = ["CAP_BPF", "CAP_PERFMON"]
# Capabilities beyond the service's own matter to hooks that pass through perf events.
CEILINGS = {"kprobe": [SERVICE, [*SERVICE, "CAP_SYS_ADMIN"]]}


def forecasts(lab: Lab) -> None:
    """Load every variant alone; compare with the forecast."""
    manifest = json.loads((lab.artifact / "manifest.json").read_text(encoding="utf-8"))
    kernel = _program.Kernel("/", platform.release())
    for config, entry in manifest["catalogue"]["configs"].items():
        for variant in entry["variants"]:
            name = variant["name"]
            # The kernel of some sandboxes refuses fentry although its BTF has all that it needs.
            if lab.live and name == "fentry":
                continue
            for ceiling in CEILINGS.get(name, [SERVICE]):
                reasons = _program.forecast(variant, kernel, set(ceiling)).reasons
                refused = refusal(lab.artifact, config, name, ceiling)
                print(f"  {config}/{name} {ceiling}: {reasons} / {refused}", flush=True)
                case = f"{config} loads with {' and '.join(ceiling)}"
                lab.rows.append(
                    Row("forecast", case, name, not refused, not reasons, 0, is_timing=False)
                )


VM = LIVE = (forecasts,)
