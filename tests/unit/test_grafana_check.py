# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a real Grafana find what is missing."""

from __future__ import annotations

import pytest

from tests.grafana import check

PANEL = {"title": "Latency", "targets": [{"refId": "A", "expr": 'up{job=~"$job"}'}]}
MODEL = {
    "uid": "a",
    "title": "A",
    "templating": {"list": [{"name": "job", "allValue": ".+", "current": {"value": ["$__all"]}}]},
    "panels": [{"title": "row", "panels": [PANEL]}],
}


class Grafana:
    """Answers as a healthy Grafana; a test spoils one answer."""

    def __init__(self) -> None:
        self.asked: list[dict] = []
        self.answers = {
            "/api/datasources": [{"uid": "p", "type": "prometheus", "isDefault": True}],
            "/api/search?type=dash-db": [{"uid": "a", "title": "A"}],
            "/api/ds/query": {"results": {"A": {"frames": [{"data": {"values": [[1], [2]]}}]}}},
        }

    def ask(self, path: str, body: dict | None = None) -> object:
        self.asked += body["queries"] if body else []
        return self.answers[path]


@pytest.fixture
def grafana():
    return Grafana()


def test_healthy_one_has_no_fault(grafana):
    assert check.faults_of_dashboards(grafana, [MODEL]) == []
    (query,) = grafana.asked
    assert query["expr"] == 'up{job=~".+"}'
    assert query["datasource"]["uid"] == "p"


@pytest.mark.parametrize(
    ("path", "answer", "fault"),
    [
        ("/api/datasources", [], "no Prometheus is the default"),
        ("/api/search?type=dash-db", [], "'A' (a) is not loaded"),
        ("/api/search?type=dash-db", [{"uid": "a", "title": "B"}], "'A' (a) is not loaded"),
        ("/api/ds/query", {"results": {"A": {"frames": []}}}, "A: panel 'Latency' has no data"),
        ("/api/ds/query", {"results": {"A": {"error": "parse error"}}}, "parse error"),
    ],
)
def test_what_is_missing_is_named(grafana, path, answer, fault):
    grafana.answers[path] = answer
    (found,) = check.faults_of_dashboards(grafana, [MODEL])
    assert fault in found


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("a{b=~'$job'}", "a{b=~'.+'}"),
        ("a{b=~'${job}'}", "a{b=~'.+'}"),
        ("a{b=~'${job:regex}'}", "a{b=~'.+'}"),
        ("rate(a[$__rate_interval])", "rate(a[$__rate_interval])"),
        ("a{b=~'x$'}", "a{b=~'x$'}"),
    ],
)
def test_variables_of_the_page_are_filled_in(expression, result):
    assert check.filled(expression, {"job": ".+"}) == result


def test_without_an_address_nothing_passes(monkeypatch, capsys):
    monkeypatch.delenv("GRAFANA_URL", raising=False)
    monkeypatch.setattr("sys.argv", ["check"])
    assert check.main() == 2
    assert "nothing was checked" in capsys.readouterr().err
