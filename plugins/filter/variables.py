# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find what nothing reads: misspelled variables and groups, and those that never were."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from ansible_collections.linmonitor.stack.plugins.plugin_utils import _yaml

DOCUMENTATION = r"""
name: variables
short_description: Find variables and groups of an inventory that nothing reads
version_added: 1.0.0
description:
  - Used by C(playbooks/variables.yml).
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

COLLECTION = Path(__file__).parents[2]
GROUPS = frozenset(
    f"linmonitor_{part}"
    for part in ("build", "targets", "node_exporter", "alertmanager", "prometheus", "grafana")
)
# Prefixes that other people's roles use too; of these only a near miss is taken for ours.
SHARED = ("alertmanager_", "grafana_", "node_exporter_", "prometheus_")
# Well-known variables of theirs that a letter or two make one of ours.
THEIRS = frozenset({"grafana_api_key", "grafana_api_keys", "grafana_api_url"})
# Letters that are wrong, missing or too many in a near miss.
NEAR = 2
SHOWN_HOSTS = 3


@cache
def known_names() -> frozenset[str]:
    """Return the variables of all roles and playbooks and the facts that they leave behind."""
    roles = COLLECTION.glob("roles/*/meta/argument_specs.yml")
    specs = [entry for path in roles for entry in _yaml.read(path)["argument_specs"].values()]
    shared = _yaml.read(COLLECTION / "meta/variables.yml")
    named = frozenset(name for spec in [*specs, shared] for name in spec["options"])
    return named | shared["facts"].keys()


def _prefixes() -> tuple[str, ...]:
    """Return what variables of ours begin with."""
    roles = (path.name for path in (COLLECTION / "roles").iterdir())
    return ("linmonitor_", *sorted(f"{role}_" for role in roles))


def _distance(one: str, other: str) -> int:
    """Count the letters to change, add, take away or swap until one is the other."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        above = row
        row = [i]
        for j, b in enumerate(other, 1):
            best = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and (a, one[i - 2]) == (other[j - 2], b):
                best = min(best, before[j - 2] + 1)
            row.append(best)
        before = above
    return row[-1]


def _nearest(name: str, known: frozenset[str]) -> tuple[str, bool]:
    """Return the known name most like this one, if any is, and whether it is a near miss."""
    similar = difflib.get_close_matches(name, known, n=3, cutoff=0.8)
    nearest = min(similar, key=lambda other: _distance(name, other), default="")
    return nearest, bool(nearest) and _distance(name, nearest) <= NEAR


def _line(name: str, hosts: list[str], nearest: str) -> str:
    """Say which variable of which hosts nothing reads."""
    more = len(hosts) - SHOWN_HOSTS
    where = ", ".join(hosts[:SHOWN_HOSTS]) + (f" and {more} more" if more > 0 else "")
    return f"{name} of {where}" + (f" (did you mean {nearest}?)" if nearest else "")


def unknown_variables(
    hosts: Iterable[str],
    hostvars: Mapping,
    foreign: Iterable[str] = (),
    known: frozenset[str] | None = None,
) -> dict[str, list[str]]:
    """Return the hosts' variables with our prefixes that nothing reads, each as a line.

    `wrong` are those that nobody else can mean, `others` those that may be another role's.
    Names that match a pattern of `foreign` are somebody else's. Only names are looked at.
    """
    known = known_names() if known is None else known
    prefixes, foreign = _prefixes(), list(foreign)
    holders: dict[str, list[str]] = {}
    for host in hosts:
        for name in hostvars[host]:
            if name.startswith(prefixes) and name not in known:
                holders.setdefault(name, []).append(host)
    found: dict[str, list[str]] = {"wrong": [], "others": []}
    for name, named in sorted(holders.items()):
        if any(fnmatchcase(name, pattern) for pattern in foreign):
            continue
        nearest, near = _nearest(name, known)
        wrong = (near and name not in THEIRS) or not name.startswith(SHARED)
        found["wrong" if wrong else "others"].append(_line(name, named, nearest))
    return found


def group_faults(groups: Mapping[str, Iterable[str]], sources: Iterable[object] = ()) -> list[str]:
    """Return why a run would leave out what its inventory means, each as a line.

    `groups` are all of the inventory, with their hosts; `sources` are where it was read. A group
    whose name is nearly one of ours is meant to be it, unless that one has its hosts. Who has none
    of our groups named another inventory; who has empty ones, or limits the run, means it.
    """
    faults = []
    for name in sorted(groups.keys() - GROUPS):
        nearest, near = _nearest(name, GROUPS)
        if near and set(groups[name]) - set(groups.get(nearest, ())):
            faults.append(
                f"Nothing reads the group {name} (did you mean {nearest}?). If it is another "
                f"playbook's, give it another name, or name its hosts in {nearest} too."
            )
    if not faults and GROUPS.isdisjoint(groups):
        read = f"The inventory {' and '.join(map(str, sources))}".strip()
        faults.append(
            f"{read} has none of the groups {', '.join(sorted(GROUPS))}, so there is nothing to "
            "do. ansible-inventory --graph shows what was read; name another inventory by -i, put "
            "hosts into these groups, or have an empty one where nothing is to be done."
        )
    return faults


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"group_faults": group_faults, "unknown_variables": unknown_variables}
