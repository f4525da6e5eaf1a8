# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a real Grafana find what is missing."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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
        ("/api/datasources", [], "no datasource is a Prometheus"),
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


def panel_of(kind: str, **defaults) -> dict:
    return PANEL | {"type": kind, "fieldConfig": {"defaults": defaults}}


@pytest.mark.parametrize(
    ("panel", "faults"),
    [
        (panel_of("stat", noValue="unknown"), 1),
        (panel_of("timeseries", noValue="No data"), 1),
        (panel_of("table"), 1),
        (panel_of("table", noValue="Nothing fires"), 0),
        (panel_of("timeseries", custom={"scaleDistribution": {"type": "log"}}), 0),
    ],
)
def test_a_panel_that_says_why_it_is_empty_may_be(grafana, panel, faults):
    for frames in ([], [{"data": {"values": [[1], [None]]}}]):
        grafana.answers["/api/ds/query"] = {"results": {"A": {"frames": frames}}}
        assert len(check.faults_of_panel(grafana, panel, {}, "p")) == faults
    grafana.answers["/api/ds/query"] = {"results": {"A": {"error": "parse error"}}}
    assert check.faults_of_panel(grafana, panel, {}, "p") == ["panel 'Latency': parse error"]


@pytest.mark.parametrize(("kind", "faults"), [("stat", 1), ("table", 1), ("timeseries", 0)])
def test_no_number_is_no_data_and_shown_to_nobody(grafana, kind, faults):
    """Grafana writes NaN beside the values, where JSON has null."""
    data = {"values": [[1], [None]], "entities": [None, {"NaN": [0]}]}
    grafana.answers["/api/ds/query"] = {"results": {"A": {"frames": [{"data": data}]}}}
    panel = panel_of(kind, noValue="Nothing")
    found = check.faults_of_panel(grafana, panel, {}, "p")
    assert found == ["panel 'Latency' shows NaN"] * faults
    assert not check.numbers({"data": data})
    assert check.numbers({"data": {"values": [[1], [0.5]]}}) == [0.5]


def seen(*tables: dict) -> str:
    return f'<script id="seen-of-tables" type="application/json">{json.dumps(tables)}</script>'


TABLE = {"right": 400, "columns": [["instance", 200.5], ["p99", 400.5]], "cells": ["a", "2 s"]}
TABLES = {
    "panels": [{"type": "table", "fieldConfig": {"defaults": {"noValue": "Nothing fires"}}}],
}


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        (seen(TABLE), ""),
        (seen(TABLE, TABLE | {"columns": [["instance", 200], ["p99", 460]]}), "['p99'] of"),
        (seen(TABLE | {"cells": ["a", "NaN"]}), "say 'NaN'"),
        (seen(TABLE | {"cells": ["Nothing fires", "2 s"]}), "say 'Nothing fires'"),
        ("<html></html>", "did not run"),
    ],
)
def test_tables_are_read_as_the_browser_saw_them(page, fault):
    found = check.faults_of_tables(page, TABLES)
    assert len(found) == bool(fault)
    assert not fault or fault in found[0]


def test_a_picture_is_as_high_as_its_dashboard():
    places = [{"y": 0, "h": 1}, {"y": 90, "h": 8}]
    assert check.height({"panels": [{"gridPos": place} for place in places]}) > 98 * 38


CHROMIUM = """#!{python}
import pathlib, sys, urllib.request
try:
    content = urllib.request.urlopen(sys.argv[-1]).read()
except urllib.error.HTTPError as error:
    content = error.read()
for picture in [a.partition("=")[2] for a in sys.argv if a.startswith("--screenshot=")]:
    pathlib.Path(picture).write_bytes(content)
if "--dump-dom" in sys.argv:
    print(content.decode() + '{seen}')
"""


def test_pictures_are_drawn_by_who_is_logged_in(tmp_path, monkeypatch):
    """The browser is a stand-in here: what is proved is what it is given."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.headers["Authorization"] == "Basic bG9naW4=" and "/d/a?" in self.path
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "text/html; charset=UTF-8")
            self.end_headers()
            self.wfile.write(b"the page")

    browser = tmp_path / "bin/chromium"
    browser.parent.mkdir()
    browser.write_text(
        CHROMIUM.format(python=sys.executable, seen=seen(TABLE | {"cells": ["NaN"]}))
    )
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", str(browser.parent), prepend=":")
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as grafana:
        threading.Thread(target=grafana.serve_forever, daemon=True).start()
        server = check.Server(f"http://127.0.0.1:{grafana.server_port}", "bG9naW4=")
        places = {"panels": [{"type": "stat", "gridPos": {"y": 0, "h": 3}}]}
        wanted = [{"uid": "a", "title": "A"} | places, {"uid": "b", "title": "B"} | places]
        nan, missing = check.draw(server, wanted, tmp_path / "pictures")
        grafana.shutdown()
    assert nan == "A: cells of the table ['instance', 'p99'] say 'NaN'"
    assert missing == "B: its page answered 404"
    drawn = (tmp_path / "pictures/a.png").read_text()
    assert drawn == "the page" + check.MEASURE


def test_a_browser_that_breaks_is_a_fault_of_each_page_in_its_words(tmp_path, monkeypatch):
    browser = tmp_path / "chromium"
    browser.write_text("#!/bin/sh\necho more >&2; echo no display >&2; exit 3\n")
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    places = {"panels": [{"type": "stat", "gridPos": {"y": 0, "h": 3}}]}
    wanted = [{"uid": "a", "title": "A"} | places, {"uid": "b", "title": "B"} | places]
    assert check.draw(check.Server("http://127.0.0.1:9", ""), wanted, tmp_path / "pictures") == [
        f"{title}: not drawn, chromium ended with 3: no display" for title in "AB"
    ]


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
