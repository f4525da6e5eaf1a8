# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that say where things lie on the controller."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from ansible import constants

DOCUMENTATION = r"""
name: folders
short_description: Say where things lie on the controller
version_added: 1.0.0
description:
  - Used by all roles that keep something on the controller, and by the playbooks.
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

BASES = {"cache": ("XDG_CACHE_HOME", "~/.cache"), "config": ("XDG_CONFIG_HOME", "~/.config")}
# What Ansible reads variables from, not hosts.
VARIABLES = ("group_vars", "host_vars")
# Of a file's name, on every file system.
LONGEST = 255


def user_folder(kind: str, chosen: str = "") -> str:
    """Return the chosen folder, or the collection's own below the user's cache or configuration."""
    variable, usual = BASES[kind]
    folder = Path(chosen) if chosen else Path(os.environ.get(variable) or usual) / "linmonitor"
    return str(folder.expanduser())


def _place(source: str) -> Path:
    """Return a source's own place: a folder with one inventory file in it is that file."""
    path = Path(source)
    if path.is_dir():
        files = [
            file
            for file in path.iterdir()
            if not file.name.startswith(".")
            and not file.name.endswith(tuple(constants.INVENTORY_IGNORE_EXTS))
            and file.name not in VARIABLES
        ]
        path = files[0] if len(files) == 1 and files[0].is_file() else path
    # A link's own folder has variables of its own beside it, so the link is not followed.
    return path.parent.resolve() / path.name


def inventory_id(sources: Iterable[str]) -> str:
    """Return a name of an inventory, from where its sources lie: two never share one."""
    places = [source if "," in source else str(_place(source)) for source in sources]
    digest = hashlib.sha256("\0".join(places).encode()).hexdigest()[:8]
    first = Path(places[0]) if places else Path("none")
    words = re.findall(r"[A-Za-z0-9.]+", f"{first.parent.name} {first.stem}")
    return "-".join([*words, digest])[-64:]


def host_file(host: str) -> str:
    """Return a file name for a host, whatever the inventory calls it."""
    name = quote(host, safe="")
    if len(name) > LONGEST:
        # No quoted name has a - behind a %.
        return f"{name[: LONGEST - 66]}%-{hashlib.sha256(host.encode()).hexdigest()}"
    return name.replace(".", "%2E") if set(name) <= {"."} else name


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"host_file": host_file, "inventory_id": inventory_id, "user_folder": user_folder}
