# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Roles tell each other by documented facts; what begins with two underscores stays inside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir())
PRIVATE = re.compile(rf"(?<!\w)__({'|'.join(ROLES)})_\w+")
# Unit tests evaluate one role from within.
ROOMS = ("roles", "templates", "plugins", "playbooks", "molecule", "tests/[!u]*")
FILES = sorted(
    path.relative_to(CHECKOUT)
    for room in ROOMS
    for path in CHECKOUT.glob(f"{room}/**/*")
    if path.is_file() and path.suffix != ".pyc"
)
FACTS = yaml.safe_load((CHECKOUT / "meta/variables.yml").read_text())["facts"]


def private_wires(path: Path, text: str) -> list[str]:
    """Return the private names of other roles in a file."""
    own = path.parts[1] if path.parts[0] in ("roles", "templates") else ""
    return [name[0] for name in PRIVATE.finditer(text) if name[1] != own]


def test_no_file_reads_what_is_private_to_another_role():
    found = {
        str(path): private_wires(path, (CHECKOUT / path).read_text(errors="replace"))
        for path in FILES
    }
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("roles/libbpf/vars/main.yml", "{{ __toolchain_x }}"),
        ("playbooks/a.yml", "hostvars.box.__grafana_x"),
        ("plugins/filter/a.py", '("__ebpf_exporter_x",)'),
        ("templates/grafana/a.j2", "{{ __prometheus_x }}"),
        ("molecule/a/prepare.yml", "__bpf_programs_x: 1"),
    ],
)
def test_a_private_wire_is_found(path, text):
    assert private_wires(Path(path), text)


def given(node: object) -> Iterator[str]:
    """Give the names that tasks register or set as facts."""
    if isinstance(node, list):
        for item in node:
            yield from given(item)
    elif isinstance(node, dict):
        yield from node.get("ansible.builtin.set_fact", {})
        if "register" in node:
            yield node["register"]
        for block in ("block", "rescue", "always"):
            yield from given(node.get(block))


@pytest.mark.parametrize("role", ROLES)
def test_facts_that_a_role_sets_are_the_documented_ones(role):
    found = {
        name
        for path in sorted((CHECKOUT / "roles" / role).glob("tasks/**/*.yml"))
        for name in given(yaml.safe_load(path.read_text()))
        if not name.startswith("__")
    }
    assert found == {name for name in FACTS if name.startswith(f"{role}_")}
