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
# How the query of a stat begins that answers where it has no number.
NOTHING = "-2 * max("
# What a variable stands for while a dashboard shows everything.
ALL = ".+"
RATE_INTERVAL = "2m"
RANGE = "15m"


def documents() -> list[dict]:
    """Return all dashboards, Fleet first."""
    return [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]


def panels(document: dict) -> Iterator[dict]:
    """Yield the panels that draw something, those of closed rows too."""
    for panel in document["panels"]:
        yield from panel.get("panels", []) if panel["type"] == "row" else [panel]


def opened(document: dict) -> dict:
    """Return a dashboard after a click on each of its closed rows."""
    found, down = [], 0
    for panel in document["panels"]:
        place = panel["gridPos"] | {"y": panel["gridPos"]["y"] + down}
        inside = panel.get("panels") or []
        found.append({k: v for k, v in panel.items() if k != "panels"} | {"gridPos": place})
        if inside:
            lift = place["y"] + 1 - min(one["gridPos"]["y"] for one in inside)
            found += [
                one | {"gridPos": one["gridPos"] | {"y": one["gridPos"]["y"] + lift}}
                for one in inside
            ]
            down += max(one["gridPos"]["y"] + one["gridPos"]["h"] for one in found) - place["y"] - 1
    return document | {"panels": found}


def filled(expr: str, values: dict[str, str] | None = None) -> str:
    """Return a query with its variables replaced, by `values` or by everything."""
    known = {"__rate_interval": RATE_INTERVAL, "__range": RANGE} | (values or {})
    return re.sub(r"\$([a-z_]\w*)", lambda found: known.get(found[1], ALL), expr)


def asked(panel: dict) -> list[tuple[str, str]]:
    """Return letter and query of what a panel that has all its data must have an answer to.

    The queries of a stat share its one number out among its colours. Those of hosts where a program
    does not run are empty where all is well, and those that say that nothing was counted.
    """
    targets = [
        one
        for one in panel["targets"]
        if ABSENT not in one.get("legendFormat", "") and not one["expr"].startswith(NOTHING)
    ]
    if panel["type"] == "stat":
        return [("A", " or ".join(f"({one['expr']})" for one in targets))]
    return [(one["refId"], one["expr"]) for one in targets]


def of_node() -> set[str]:
    """Return the queries, as `asked` names them, that only node_exporter answers."""
    return {
        f"{document['title']}: {panel['title']} {letter}"
        for document in documents()
        for panel in panels(document)
        for letter, query in asked(panel)
        if ("node_" in query and " or " not in query) or "retransmit_ratio" in query
    }


def queries(document: dict, values: dict[str, str] | None = None) -> Iterator[tuple[dict, dict]]:
    """Yield each panel with each of its targets, the target's variables filled in."""
    for panel in panels(document):
        for target in panel["targets"]:
            yield panel, target | {"expr": filled(target["expr"], values)}
