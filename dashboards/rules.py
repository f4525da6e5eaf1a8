# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule files as the prometheus role renders them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import jinja2
import yaml

from .metrics import PROGRAMS

ROOT = Path(__file__).parent.parent
RECORDING = ROOT / "files/rules/recording.yml"
ALERTS = ROOT / "templates/prometheus/rules/alerts.yml.j2"
RUNBOOKS = "https://github.com/linmonitor/ansible-collection-stack/blob/main/docs/runbooks.md"

# As Ansible reads it: the first line says what the template's delimiters are.
HEADER, TEMPLATE = ALERTS.read_text().split("\n", 1)
DELIMITERS: dict[str, Any] = {
    name.strip(): ast.literal_eval(value)
    for name, value in (part.split(":", 1) for part in HEADER.removeprefix("#jinja2:").split(","))
}


def settings() -> dict[str, dict]:
    """Return the default threshold and hold time of each alert."""
    return yaml.safe_load((ROOT / "files/rules/alert_settings.yml").read_text())


def configs() -> list[str]:
    """Return the names of the BPF configs that the collection ships."""
    return sorted(PROGRAMS)


def render(
    changes: dict[str, dict] | None = None,
    names: list[str] | None = None,
    alertmanager: bool = True,
) -> str:
    """Return the alerting rules, with `changes` over the default settings."""
    alerts = {name: own | (changes or {}).get(name, {}) for name, own in settings().items()}
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, **DELIMITERS
    )
    environment.filters["comment"] = "# {}".format
    return environment.from_string(TEMPLATE).render(
        ansible_managed="Ansible managed",
        alerts=alerts,
        configs=configs() if names is None else names,
        alertmanager=alertmanager,
        runbooks=RUNBOOKS,
    )


def write(folder: Path, **choices) -> list[Path]:
    """Write both rule files into `folder` and return their paths."""
    recording, alerts = folder / "recording.yml", folder / "alerts.yml"
    recording.write_text(RECORDING.read_text())
    alerts.write_text(render(**choices))
    return [recording, alerts]


def parsed(text: str) -> list[dict]:
    """Return the rules of all groups of a rule file."""
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
