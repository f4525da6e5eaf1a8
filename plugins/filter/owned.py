# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that says what owned_files found on a host and what the way out is."""

from __future__ import annotations

DOCUMENTATION = r"""
name: owned
short_description: Say what is there and not ours, and which variable is the way out
version_added: 1.0.0
description:
  - Used by roles after M(linmonitor.stack.owned_files).
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

ADOPT = (
    "Set {variable} to true to replace what is there; a copy is kept beside it and comes back at "
    "uninstall."
)
WAYS = {
    "data": "Set {variable} to another folder.",
    "port": "Stop that program, or set {variable}.",
    "tree": "Set {variable} to another folder.",
}


def found_words(foreign: list[dict]) -> str:
    """Say what was found."""
    said = []
    for entry in foreign:
        path = entry["path"]
        owner = f" (package {entry['package']})" if entry["package"] else ""
        said.append(f"{path[0].upper()}{path[1:]}{owner} {entry['reason']}")
    return "; ".join(said)


def foreign_words(foreign: list[dict], variables: dict[str, str]) -> str:
    """Say what was found; `variables` has the way out of file, tree, data and port."""
    ways = []
    for entry in foreign:
        path, kind = entry["path"], entry["kind"]
        if kind == "file":
            way = ADOPT if entry["adoptable"] else f"Move {path} away."
        else:
            way = WAYS[kind]
        ways.append(way.format(variable=variables.get(kind, "")))
    return f"{found_words(foreign)}. Nothing was changed. {' '.join(dict.fromkeys(ways))}"


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"foreign_words": foreign_words, "found_words": found_words}
