# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the collection's own YAML on the controller."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def read(path: Path) -> Any:
    """Return what a file says, read once in each process: many variables ask for the same file."""
    return yaml.load(path.read_text(encoding="utf-8"), LOADER)
