# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of variables has those that plays and roles read, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
OURS = (
    r"(?:linmonitor|preflight|bpf_programs?|ebpf_exporter|node_exporter|alertmanager|prometheus|grafana"
    r"|toolchain|libbpf)"
)
# Filters have names like these.
NAME = re.compile(rf"(?<!\w)(?<!stack\.){OURS}_\w+")
EXPRESSION = re.compile(r"\{\{(.*?)\}\}|\{%(.*?)%\}", re.DOTALL)
TEXT = re.compile(r"'[^']*'|\"[^\"]*\"")
# Filters look at other hosts' variables.
ASKED = re.compile(r"_setting\([^,]+, \"(\w+)\"")
# What Ansible takes for an expression without braces.
CONDITIONS = ("when", "that", "until", "failed_when", "changed_when")
GIVEN = re.compile(
    rf"^\s*(?:- )?({OURS}_\w+):|(?:register|loop_var): ({OURS}_\w+)|\bset ({OURS}_\w+)",
    re.MULTILINE,
)
PLACES = (
    "playbooks/**/*.yml",
    "roles/*/*/**/*.yml",
    "templates/**/*.j2",
)
FILES = [
    path
    for place in PLACES
    for path in sorted(CHECKOUT.glob(place))
    if path.name != "argument_specs.yml"
]


def conditions(node: object) -> Iterator[str]:
    """Give every condition of a play, block or task."""
    if isinstance(node, list):
        for item in node:
            yield from conditions(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in CONDITIONS:
                yield from map(str, value if isinstance(value, list) else [value])
            else:
                yield from conditions(value)


def expressions(path: Path) -> Iterator[str]:
    """Give what Ansible evaluates in a file, without the texts in it."""
    text = path.read_text()
    found = [braces or block for braces, block in EXPRESSION.findall(text)]
    if path.suffix == ".yml":
        found += conditions(yaml.safe_load(text))
    yield from (TEXT.sub("", expression) for expression in found)


def documented() -> set[str]:
    """Names of docs/variables.md, which is made from these files."""
    names = set(yaml.safe_load((CHECKOUT / "meta/variables.yml").read_text())["options"])
    for path in CHECKOUT.glob("roles/*/meta/argument_specs.yml"):
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values():
            names |= entry["options"].keys()
    return names


@pytest.fixture(scope="module")
def read() -> set[str]:
    found = {name for path in FILES for text in expressions(path) for name in NAME.findall(text)}
    filters = (path.read_text() for path in CHECKOUT.glob("plugins/filter/*.py"))
    return found.union(*(ASKED.findall(text) for text in filters))


def test_what_is_read_is_documented_or_given_by_a_play_or_role(read):
    given = {name for path in FILES for names in GIVEN.findall(path.read_text()) for name in names}
    assert read - given - documented() == set()


def test_what_is_documented_is_read(read):
    assert documented() - read == set()
