# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: linmonitor.stack contributors
"""Print `<config>/<variant>` for every object that a catalogue asks for."""

import json
import sys
from pathlib import Path

import yaml


def load(path: Path) -> dict:
    """Read a catalogue; what it shares by anchors becomes independent copies."""
    shared = yaml.safe_load(path.read_text(encoding="utf-8"))
    return json.loads(json.dumps(shared))


if __name__ == "__main__":
    for config, entry in load(Path(sys.argv[1]))["configs"].items():
        for variant in entry["variants"]:
            print(f"{config}/{variant['name']}")
