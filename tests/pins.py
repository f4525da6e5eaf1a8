# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The versions and pins of versions.yml, for tests."""

from __future__ import annotations

from pathlib import Path

import yaml

PINS = yaml.safe_load((Path(__file__).parents[1] / "versions.yml").read_text())
# What is built where nobody asks for another.
DEFAULT = PINS["sets"][0]
EXPORTER = PINS["exporter"][DEFAULT["exporter"]]
LIBBPF = PINS["libbpf"][DEFAULT["libbpf"]]
