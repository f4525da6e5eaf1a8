# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An alert or a panel that has data only with an optional part says which part that is."""

from __future__ import annotations

import pytest

from tests.rules.test_runbooks import SECTIONS

from .promql import selectors
from .reading import queries
from .test_dashboards import FOREIGN, PANELS, RULES

# What makes series that not every deployment has, and the word that a person looks for.
OPTIONAL = {
    "node_exporter": set(FOREIGN["node"]),
    "Alertmanager": set(FOREIGN["alertmanager"])
    | {name for name in FOREIGN["prometheus"] if name.startswith("prometheus_notifications_")},
    "bpf_stats_enabled": {
        "ebpf_exporter_ebpf_program_run_count_total",
        "ebpf_exporter_ebpf_program_run_time_seconds",
    },
}
RECORDINGS: dict[str, list[str]] = {}
for rule, _ in RULES:
    if "record" in rule:
        RECORDINGS.setdefault(rule["record"], []).append(rule["expr"])


def series(expr: str) -> set[str]:
    """Return what an expression reads in the end, behind recording rules."""
    names = {name for name, _, _ in selectors(expr)}
    recorded = {name for name in names if name in RECORDINGS}
    behind = [series(one) for name in recorded for one in RECORDINGS[name]]
    return (names - recorded).union(*behind)


def unsaid(expressions: list[str], words: str) -> set[str]:
    """Return the optional parts that some expression reads and the words do not name."""
    read = set().union(*(series(expr) for expr in expressions))
    return {part for part, names in OPTIONAL.items() if read & names and part not in words}


ALERTS = {rule["alert"]: rule for rule, _ in RULES if "alert" in rule}


@pytest.mark.parametrize("name", ALERTS)
def test_alert_says_what_it_needs_in_its_runbook(name):
    said = SECTIONS[name] + " ".join(ALERTS[name]["annotations"].values())
    assert unsaid([ALERTS[name]["expr"]], said) == set()


@pytest.mark.parametrize(("document", "panel"), PANELS)
def test_panel_says_what_it_needs(document, panel):
    asked = [target["expr"] for one, target in queries(document) if one["title"] == panel["title"]]
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    said = [panel["title"], panel.get("description", ""), defaults.get("noValue", "")]
    for mapping in defaults.get("mappings", []):
        said += [result["text"] for result in mapping["options"].values()]
    assert unsaid(asked, " ".join(said)) == set()


def test_what_is_read_is_found_behind_recordings():
    """Guards the guard."""
    assert "node_netstat_Tcp_OutSegs" in series("1 + instance:ebpf_tcp_retransmit_ratio:rate5m")
    assert unsaid(["rate(node_netstat_Tcp_OutSegs[5m])"], "nothing") == {"node_exporter"}
