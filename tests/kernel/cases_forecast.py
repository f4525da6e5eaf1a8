# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What bpf_program_info forecasts of each variant, against what its trial says."""

from __future__ import annotations

import json
import platform

from ansible_collections.linmonitor.stack.plugins.module_utils import _program

from .exporter import PERF_HOOKS, SERVICE, refusal
from .lab import Lab, Row, proves


def hooks_of(variants: list[dict]) -> set[str]:
    """Return the kinds of hooks that some variants use."""
    return {hook["type"] for variant in variants for hook in variant["hooks"]}


def refusals(
    lab: Lab, name: str, ceiling: list[str], hopeful: list[str], others: list[str]
) -> dict:
    """Try one variant of some configs; return by config what is said against it.

    Those that are expected to load are tried at once, for time: all of them load, or the
    exporter ends and each is tried alone.
    """
    if hopeful and not refusal(lab.artifact, dict.fromkeys(hopeful, name), ceiling):
        said = dict.fromkeys(hopeful, "")
    else:
        said = {config: refusal(lab.artifact, {config: name}, ceiling) for config in hopeful}
    return said | {config: refusal(lab.artifact, {config: name}, ceiling) for config in others}


@proves("forecast")
def forecasts(lab: Lab) -> None:
    """Compare the forecast of every variant with its trial."""
    manifest = json.loads((lab.artifact / "manifest.json").read_text(encoding="utf-8"))
    configs = manifest["catalogue"]["configs"]
    kernel = _program.Kernel("/", platform.release())
    names = {variant["name"] for entry in configs.values() for variant in entry["variants"]}
    for name in sorted(names):
        variants = {
            config: variant
            for config, entry in configs.items()
            for variant in entry["variants"]
            if variant["name"] == name
        }
        hooks = hooks_of(list(variants.values()))
        # The kernel of some sandboxes refuses fentry although its BTF has all that it needs.
        if lab.live and hooks & {"fentry", "fexit"}:
            continue
        # Capabilities beyond the service's own matter to hooks that pass through perf events.
        more = [[*SERVICE, "CAP_SYS_ADMIN"]] if hooks & PERF_HOOKS else []
        for ceiling in [SERVICE, *more]:
            reasons = {
                config: _program.forecast(variant, kernel, set(ceiling)).reasons
                for config, variant in variants.items()
            }
            hopeful = [config for config in variants if not reasons[config]]
            others = [config for config in variants if reasons[config]]
            said = refusals(lab, name, ceiling, hopeful, others)
            for config in variants:
                print(f"  {config}/{name}: {reasons[config]} / {said[config]}", flush=True)
                case = f"{config} loads with {' and '.join(ceiling)}"
                lab.rows.append(
                    Row("forecast", case, name, not said[config], not reasons[config], 0,
                        is_timing=False)
                )  # fmt: skip


VM = LIVE = (forecasts,)
