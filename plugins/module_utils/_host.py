# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts the roles are made for, in one place for the controller and the host itself."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable

OLDEST = {"debian": (11,), "ubuntu": (22, 4)}
WANTED = "Debian from 11 or Ubuntu from 22.04 on"


def supported(names: Iterable[str], version: str) -> bool:
    """Say whether a system is one of ours, by its name, those of what it is made from, and version.

    What is made from ours counts its versions in its own way, and what is not released has none.
    """
    own, *families = [name.lower() for name in names]
    numbers = tuple(int(number) for number in re.findall(r"\d+", version))
    if own in OLDEST:
        return not numbers or numbers >= OLDEST[own]
    return any(family in OLDEST for family in families)


def described(about: Dict[str, str]) -> bool:
    """Say whether a system is one of ours, by what its /etc/os-release says."""
    names = [about.get("ID", ""), *about.get("ID_LIKE", "").split()]
    return supported(names, about.get("VERSION_ID", ""))


def unreadable(host: str, result: Dict[str, Any]) -> str:
    """Say that a module failed because the host's Python cannot read it; nothing where it could.

    Ansible does not say it: no core finds more there than a module without an answer.
    """
    if "SyntaxError" not in str(result.get("module_stderr", "")):
        return ""
    facts = result.get("ansible_facts", {})
    python = facts.get("discovered_interpreter_python", "its ansible_python_interpreter")
    return (
        f"Python 3.8 or newer has to run the modules on {host}, and {python} is older. This needs "
        f"{WANTED}, with systemd; they have one, which ansible_python_interpreter may have to "
        f"name. Nothing was changed."
    )
