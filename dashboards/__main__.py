# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the dashboards: python -m dashboards."""

from __future__ import annotations

from pathlib import Path

from . import fleet, host, programs, prometheus

TARGET = Path(__file__).parent.parent / "files/dashboards"
DASHBOARDS = {"fleet": fleet, "host": host, "programs": programs, "prometheus": prometheus}


def documents() -> dict[str, str]:
    """Return the JSON of each dashboard by its file name."""
    return {f"{name}.json": module.build() for name, module in DASHBOARDS.items()}


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for file_name, text in documents().items():
        (TARGET / file_name).write_text(text)
