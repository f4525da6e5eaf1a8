# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checks of a real Grafana find what is missing."""

from __future__ import annotations

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


NONE = "$^"


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
    assert check.faults_of_dashboards(grafana, [MODEL], NONE) == []
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
    (found,) = check.faults_of_dashboards(grafana, [MODEL], NONE)
    assert fault in found


def test_only_panels_that_are_named_may_be_empty(grafana):
    grafana.answers["/api/ds/query"] = {"results": {"A": {"frames": []}}}
    assert check.faults_of_dashboards(grafana, [MODEL], "^A: Latency$") == []
    assert check.faults_of_dashboards(grafana, [MODEL], "^B: Latency$")
    grafana.answers["/api/ds/query"] = {"results": {"A": {"error": "parse error"}}}
    assert check.faults_of_dashboards(grafana, [MODEL], "^A: Latency$")


CHROMIUM = """#!{python}
import pathlib, sys, urllib.request
(picture,) = [a.partition("=")[2] for a in sys.argv if a.startswith("--screenshot=")]
try:
    content = urllib.request.urlopen(sys.argv[-1]).read()
except urllib.error.HTTPError as error:
    content = error.read()
pathlib.Path(picture).write_bytes(content)
"""


def test_pictures_are_drawn_by_who_is_logged_in(tmp_path, monkeypatch):
    """The browser is a stand-in here: what is proved is what it is given."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            known = self.headers["Authorization"] == "Basic bG9naW4=" and "/d/a?" in self.path
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(b"the page")

    browser = tmp_path / "bin/chromium"
    browser.parent.mkdir()
    browser.write_text(CHROMIUM.format(python=sys.executable))
    browser.chmod(0o755)
    monkeypatch.setenv("PATH", str(browser.parent), prepend=":")
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as grafana:
        threading.Thread(target=grafana.serve_forever, daemon=True).start()
        server = check.Server(f"http://127.0.0.1:{grafana.server_port}", "bG9naW4=")
        wanted = [{"uid": "a", "title": "A"}, {"uid": "b", "title": "B"}]
        assert check.draw(server, wanted, tmp_path / "pictures") == ["B: its page answered 404"]
        grafana.shutdown()
    assert (tmp_path / "pictures/a.png").read_bytes() == b"the page"


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
