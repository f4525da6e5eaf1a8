# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that read folders of BPF programs on the controller."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleFilterError
from ansible_collections.linmonitor.stack.files.bpf.build import catalogue

DOCUMENTATION = r"""
name: programs
short_description: Read folders of BPF programs
version_added: 1.0.0
description:
  - Used by the bpf_programs, ebpf_exporter and prometheus roles.
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""


def programs_catalogue(roots: list[str]) -> dict:
    """Return sets and configs of the programs below some folders, from each program.yml."""
    try:
        return catalogue.load([Path(root) for root in roots])
    except ValueError as error:
        own = "bpf_programs_extra names a folder of your own programs"
        raise AnsibleFilterError(f"{error} ({own})") from None


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"programs_catalogue": programs_catalogue}
