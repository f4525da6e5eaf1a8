# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers with Grafana's units, as text."""

from __future__ import annotations

import math
import time

SECONDS = ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1, "s"), (60, "min"), (3600, "h"))
THOUSANDS = ((1, ""), (1e3, "K"), (1e6, "M"), (1e9, "G"))
BYTES = ((1, "B"), (2**10, "KiB"), (2**20, "MiB"), (2**30, "GiB"))
RATES = {"iops": " io/s", "reqps": " req/s", "cps": " c/s"}


def _scaled(value: float, scale: tuple[tuple[float, str], ...]) -> str:
    fitting = [step for step in scale if step[0] <= abs(value) * (1 + 1e-9)] or [scale[0]]
    size, name = fitting[-1]
    return f"{value / size:.3g} {name}".rstrip()


def text(value: float, unit: str) -> str:
    """Return `value` as Grafana writes it, near enough for a picture."""
    if not math.isfinite(value):
        return str(value)
    if unit == "dateTimeFromNow":
        return f"{_scaled(max(1, time.time() - value / 1000), SECONDS)} ago"
    scale = {"s": SECONDS, "bytes": BYTES, "binBps": BYTES}.get(unit)
    if scale:
        words = _scaled(value, scale) if value else f"0 {unit[0].replace('b', 'B')}"
        return words + ("/s" if unit == "binBps" else "")
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "locale":
        return f"{value:,.0f}"
    counted = unit.removeprefix("count:")
    return _scaled(value, THOUSANDS) + (f" {counted}" if counted != unit else RATES.get(unit, ""))
