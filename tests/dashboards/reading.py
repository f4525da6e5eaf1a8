# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the committed dashboards as Grafana does: panels, queries, variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "files/dashboards"
ABSENT = "does not run on"
# What a variable stands for while a dashboard shows everything.
ALL = ".+"
RATE_INTERVAL = "2m"


def documents() -> list[dict]:
    """Return all dashboards, Fleet first."""
    return [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]


def panels(document: dict) -> Iterator[dict]:
    """Yield the panels that draw something."""
    return (panel for panel in document["panels"] if panel["type"] != "row")


def filled(expr: str, values: dict[str, str] | None = None) -> str:
    """Return a query with its variables replaced, by `values` or by everything."""
    known = {"__rate_interval": RATE_INTERVAL} | (values or {})
    return re.sub(r"\$([a-z_]\w*)", lambda found: known.get(found[1], ALL), expr)


def asked(panel: dict) -> list[tuple[str, str]]:
    """Return letter and query of what a panel that has all its data must have an answer to.

    The queries of a stat share its one number out among its colours. Those of hosts where a program
    does not run are empty where all is well.
    """
    targets = [one for one in panel["targets"] if ABSENT not in one.get("legendFormat", "")]
    if panel["type"] == "stat":
        return [("A", " or ".join(f"({one['expr']})" for one in targets))]
    return [(one["refId"], one["expr"]) for one in targets]


def queries(document: dict, values: dict[str, str] | None = None) -> Iterator[tuple[dict, dict]]:
    """Yield each panel with each of its targets, the target's variables filled in."""
    for panel in panels(document):
        for target in panel["targets"]:
            yield panel, target | {"expr": filled(target["expr"], values)}
