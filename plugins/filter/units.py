# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that write units of systemd."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

DOCUMENTATION = r"""
name: units
short_description: Write units of systemd
version_added: 1.0.0
description:
  - Used by the ebpf_exporter role.
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

KINDS = (".service", ".socket")


def rendered_units(folder: str, words: Mapping[str, Any]) -> dict[str, str]:
    """Return the units whose templates lie in a folder, by name; `words` are all they can say."""
    # As Ansible sets Jinja up, so that a template reads like any other here.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    paths = sorted(Path(folder).glob("*.j2"))
    return {
        path.stem: environment.get_template(path.name).render(words) + "\n"
        for path in paths
        if path.stem.endswith(KINDS)
    }


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"rendered_units": rendered_units}
