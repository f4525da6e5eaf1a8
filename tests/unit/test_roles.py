# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Defaults, argument specifications and the README tell the same story."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.docs import variables

CHECKOUT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir())
TYPES = {"str": str, "path": str, "bool": bool, "int": int, "list": list, "dict": dict}


def load(role: str, part: str) -> dict:
    return yaml.safe_load((CHECKOUT / "roles" / role / part).read_text())


def options(role: str) -> dict:
    """Options of all entry points together; those with a default belong to defaults/."""
    merged: dict = {}
    for entry in load(role, "meta/argument_specs.yml")["argument_specs"].values():
        merged |= entry["options"]
    return merged


@pytest.mark.parametrize("role", ROLES)
def test_defaults_are_those_of_the_argument_specs(role):
    specified = {
        name: option["default"] for name, option in options(role).items() if "default" in option
    }
    assert load(role, "defaults/main.yml") == specified


@pytest.mark.parametrize("role", ROLES)
def test_defaults_have_the_comments_of_the_argument_specs(role):
    written = (CHECKOUT / "roles" / role / "defaults/main.yml").read_text()
    assert written == variables.commented(CHECKOUT / "roles" / role), "run `make docs`"


def playbook_options() -> dict:
    return yaml.safe_load((CHECKOUT / variables.SHARED).read_text())["options"]


@pytest.mark.parametrize("owner", [*ROLES, "playbooks"])
def test_defaults_have_the_specified_type(owner):
    for name, option in (playbook_options() if owner == "playbooks" else options(owner)).items():
        assert option["description"], name
        # What a template gives is known to Ansible alone.
        if "default" in option and "{{" not in str(option["default"]):
            assert isinstance(option["default"], TYPES[option["type"]]), name


@pytest.mark.parametrize("role", ROLES)
def test_variables_carry_the_name_of_their_role(role):
    assert all(name.startswith(f"{role}_") for name in load(role, "defaults/main.yml"))
    internal = load(role, "vars/main.yml")
    assert all(name.startswith(f"__{role}_") for name in internal)


def test_docs_have_the_variables_of_the_argument_specs():
    page = (CHECKOUT / variables.PAGE).read_text()
    assert page == variables.render(), "run `make docs`"


# In a template Ansible doubles a backslash, unless YAML has made another character of it before.
LITERAL = re.compile(r"(?:\b(?:split|join|replace)\(|~)\s*'[^']*\\[nt]")


def texts(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    """Return the texts of a YAML document that keep their backslashes."""
    if isinstance(node, yaml.ScalarNode):
        yield from [node] if node.style != '"' else []
    elif isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from (text for part in pair for text in texts(part))
    else:
        yield from (text for part in node.value for text in texts(part))


def test_no_template_means_a_line_break_and_says_a_backslash():
    files = [*(CHECKOUT / "roles").rglob("*.yml"), *(CHECKOUT / "playbooks").rglob("*.yml")]
    wrong = [
        f"{file.relative_to(CHECKOUT)}:{text.start_mark.line + 1}"
        for file in files
        for text in texts(yaml.compose(file.read_text()))
        if LITERAL.search(text.value)
    ]
    assert wrong == []


READ = re.compile(r"lookup\('ansible\.builtin\.file', \*?([a-z]\w*)")


def scalars(value: object) -> Iterator[str]:
    """Return the texts in a variable's value, however deep."""
    if isinstance(value, dict):
        value = list(value.values())
    for one in value if isinstance(value, list) else []:
        yield from scalars(one)
    if isinstance(value, str):
        yield value


@pytest.mark.parametrize("role", ROLES)
def test_a_file_of_the_users_is_read_behind_its_own_condition(role):
    # Cores before 2.19 read each variable that an expression names, also in the branch not taken.
    for text in scalars(load(role, "vars/main.yml")):
        for name in READ.findall(text):
            assert f" if {name}" in text
