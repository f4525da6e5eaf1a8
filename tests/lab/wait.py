# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for what takes a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def settled(what: str, holds: Callable[[], Any], seconds: float = 180) -> None:
    """Wait until something holds; a server that does not answer yet, or no JSON, says no."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = holds()
        except (OSError, ValueError):
            found = None
        if found:
            return
        assert time.monotonic() < deadline, f"{what}: {found}"
        time.sleep(0.5)
