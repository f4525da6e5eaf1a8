# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that read folders of BPF programs on the controller."""

from __future__ import annotations

from collections.abc import Mapping
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


def program_faults(enabled: list[str], catalogue: Mapping, host: str) -> list[str]:
    """Say what is wrong with the names of programs and sets that a host asks for."""
    named = {*catalogue["sets"], *catalogue["configs"]}
    if enabled and named.issuperset(enabled) and len(set(enabled)) == len(enabled):
        return []
    return [
        f"bpf_programs_enabled of {host} is {', '.join(enabled) or 'empty'}. It must name "
        f"each program or set once; sets are {', '.join(sorted(catalogue['sets']))}, programs are "
        f"{', '.join(sorted(catalogue['configs']))}."
    ]


def wanted_programs(enabled: list[str], catalogue: Mapping) -> list[str]:
    """Return the programs that names stand for, a set for its members, as they were asked for."""
    sets = catalogue["sets"]
    return list(dict.fromkeys(one for name in enabled for one in sets.get(name, [name])))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {
            "program_faults": program_faults,
            "programs_catalogue": programs_catalogue,
            "wanted_programs": wanted_programs,
        }
