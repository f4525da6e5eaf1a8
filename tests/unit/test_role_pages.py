# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each role has a page with an example, and each entry point that is called a specification."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.linmonitor.stack.plugins.filter.variables import known_names

CHECKOUT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir())
PLACES = ("roles/*/tasks/**/*.yml", "playbooks/**/*.yml", "molecule/**/*.yml", "tests/**/*.yml")


def entries(role: str) -> set[str]:
    specs = yaml.safe_load((CHECKOUT / f"roles/{role}/meta/argument_specs.yml").read_text())
    return set(specs["argument_specs"])


def calls(node: object) -> Iterator[tuple[str, str]]:
    """Give role and entry point of every task that calls one of ours."""
    if isinstance(node, list):
        for item in node:
            yield from calls(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in ("ansible.builtin.include_role", "ansible.builtin.import_role"):
                role = value["name"].removeprefix("linmonitor.stack.")
                yield role, value.get("tasks_from", "main").removesuffix(".yml")
            yield from calls(value)


@pytest.mark.parametrize("role", ROLES)
def test_called_entry_points_have_specifications(role):
    files = [path for place in PLACES for path in sorted(CHECKOUT.glob(place))]
    called = {call for path in files for call in calls(yaml.safe_load(path.read_text()))}
    wanted = {entry for name, entry in called if name == role and "{" not in entry}
    assert wanted <= entries(role)


@pytest.mark.parametrize("role", ROLES)
def test_entry_points_and_nothing_else_lie_at_the_top_of_tasks(role):
    assert {path.stem for path in (CHECKOUT / f"roles/{role}/tasks").glob("*.yml")} == entries(role)


@pytest.mark.parametrize("role", ROLES)
def test_page_names_every_entry_point(role):
    page = (CHECKOUT / f"roles/{role}/README.md").read_text()
    (table,) = re.findall(r"^\| entry point .*\n\|.*\n((?:\|.*\n)+)", page, re.M)
    assert set(re.findall(r"^\| `(\w+)`", table, re.M)) == entries(role)


@pytest.mark.parametrize("role", ROLES)
def test_page_names_variables_that_exist(role):
    page = (CHECKOUT / f"roles/{role}/README.md").read_text()
    names = set(re.findall(rf"\b(?:{'|'.join(ROLES)})_\w+", page)) - set(ROLES)
    assert names - known_names() - {f"{role}_config"} == set()


@pytest.mark.parametrize("role", ROLES)
def test_page_has_one_example_that_is_a_play(role):
    page = (CHECKOUT / f"roles/{role}/README.md").read_text()
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)
    (play,) = yaml.safe_load(example)
    assert play["become"]
    used = play["roles"][-1]
    assert used["role"].removeprefix("linmonitor.stack.") in ROLES
    assert used["vars"].keys() <= known_names()


@pytest.mark.parametrize("path", sorted(CHECKOUT.glob("plugins/filter/*.py")), ids=lambda p: p.stem)
def test_filters_say_that_they_are_private(path):
    assert "\n  - Private to this collection, " in path.read_text()
