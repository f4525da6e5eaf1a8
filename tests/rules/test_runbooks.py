# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each alert leads to a section that says what to do."""

from __future__ import annotations

import re

import pytest

from dashboards import rules
from tests.dashboards.reading import documents

TEXT = (rules.ROOT / "docs/runbooks.md").read_text()
NAMES = [
    rule["alert"] for rule in rules.parsed(rules.render(names=["biolatency"])) if "alert" in rule
]
# What GitHub makes of the headings.
HEADINGS = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", TEXT, flags=re.M | re.S), flags=re.M)
ANCHORS = [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in HEADINGS]
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", TEXT, flags=re.M | re.S))


def test_each_runbook_link_has_its_anchor():
    assert len(ANCHORS) == len(set(ANCHORS))
    links = re.findall(rf"{re.escape(rules.RUNBOOKS)}#(\S+)", rules.render(names=["biolatency"]))
    assert sorted(set(links)) == sorted(name.lower() for name in NAMES)
    assert set(links) <= set(ANCHORS)


def test_no_section_outlives_its_alert():
    assert set(SECTIONS) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_section_is_complete(name):
    section = SECTIONS[name]
    parts = re.findall(r"^\*\*([\w ]+)\*\*", section, flags=re.M)
    assert parts == ["Meaning", "First commands", "Likely causes", "Confirm", "Silence"]
    (commands,) = re.findall(r"^```\n(.*?)^```", section, flags=re.M | re.S)
    assert len(commands.splitlines()) == 5


def test_panels_name_runbooks_that_exist():
    texts = [panel.get("description", "") for doc in documents() for panel in doc["panels"]]
    named = {name for text in texts for name in re.findall(r"runbook ([A-Z]\w+)", text)}
    assert named
    assert named <= set(NAMES)
