# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pages tell people to set exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir())
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
EXAMPLE = re.compile(r"^```yaml\n(.*?)^```", re.M | re.S)
SET = re.compile(rf"\b((?:{'|'.join(ROLES)})_\w+):")


def known() -> set[str]:
    """Return the variables of all roles."""
    return {
        name
        for path in CHECKOUT.glob("roles/*/meta/argument_specs.yml")
        for entry in yaml.safe_load(path.read_text())["argument_specs"].values()
        for name in entry["options"]
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_set_variables_that_exist(page):
    named = {name for text in EXAMPLE.findall(page.read_text()) for name in SET.findall(text)}
    assert named <= known()


def test_some_example_is_looked_at():
    assert any(SET.search(text) for page in PAGES for text in EXAMPLE.findall(page.read_text()))
