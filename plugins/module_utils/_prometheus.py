# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Prometheus: how its versions compare, and which configuration it has taken."""

from __future__ import annotations

import re
import time
from typing import List, Tuple

from ansible_collections.linmonitor.stack.plugins.module_utils import _service

# A store that does not answer holds up a reload for a minute, each store after the other.
RELOAD_SECONDS = 600
# Beside the data: which version wrote them.
DATA_RECORD = "linmonitor-version.json"


def numbers(version: str) -> List[int]:
    """Return the numbers of a version, which compare as versions do."""
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def loaded(metrics: str) -> Tuple[bool, float]:
    """Return whether the newest configuration is in use, and when one was last taken."""
    pattern = r"^prometheus_config_last_reload_(successful|success_timestamp_seconds) (\S+)$"
    found = dict(re.findall(pattern, metrics, re.MULTILINE))
    taken = float(found.get("success_timestamp_seconds", 0))
    return float(found.get("successful", 0)) == 1, taken


class Server(_service.Server):
    """A Prometheus, which reads its files again when it is told to."""

    def loaded(self) -> Tuple[bool, float]:
        """Return whether the newest configuration is in use, and when one was last taken."""
        return loaded(self.ask("/metrics")[1])

    def reload(self) -> None:
        """Let it read its files again, and wait until it says that it has taken them."""
        good, before = self.loaded()
        self.unit.systemctl("reload", self.unit.name)
        deadline = time.monotonic() + RELOAD_SECONDS
        while True:
            now_good, taken = self.loaded()
            if now_good and taken > before:
                return
            # It says at once that it refuses, unless it had refused something before too.
            refused = good and not now_good and taken == before
            if refused or time.monotonic() > deadline:
                raise _service.Fault("it does not take its configuration")
            time.sleep(_service.PAUSE)
