# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pictures that stand in where Grafana cannot be installed."""

from __future__ import annotations

import re
import sys
import time

import pytest

from tests.dashboards import reading, snapshot
from tests.dashboards.api import Series
from tests.dashboards.units import text

from .promql import selectors

LABELS = {"instance": "web1:9435", "device": "sda", "scope": "public", "alertname": "DiskErrors"}


class _Server:
    """Answers every query with a few series; `empty` is a server that knows nothing."""

    empty = False

    def __init__(self, url: str) -> None:
        self.url = url

    def range(self, expr, window):
        if self.empty:
            return []
        times = [window.start + window.step * n for n in range(0, 60)]
        edges = ["0.001", "0.01", "0.1", "+Inf"] if "histogram_quantile(1," in expr else [None]
        return [
            Series(LABELS | ({"le": edge} if edge else {}), times, [float(n + 1)] * 60)
            for n, edge in enumerate(edges)
        ]

    def instant(self, expr, at):
        assert list(selectors(expr))
        return [] if self.empty else [Series(LABELS, [at], [0.5])]


@pytest.mark.parametrize("empty", [False, True])
def test_page_holds_every_panel_and_says_what_it_is(monkeypatch, tmp_path, empty):
    monkeypatch.setattr(_Server, "empty", empty)
    monkeypatch.setattr(snapshot, "Prometheus", _Server)
    arguments = ["snapshot", "--prometheus", "http://x", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    snapshot.main()
    page = (tmp_path / "index.html").read_text()
    panels = [panel for document in reading.documents() for panel in reading.panels(document)]
    assert page.count("<img ") == len(panels)
    assert "Rendering without Grafana" in page
    assert not re.search(r'(src|href)="(?!data:)', page), "self-contained"
    assert {path.stem for path in tmp_path.glob("*.png")} == {
        document["uid"] for document in reading.documents()
    }


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.000128, "s", "128 µs"),
        (0, "s", "0 s"),
        (90, "s", "1.5 min"),
        (0.0277, "percentunit", "2.77 %"),
        (3 * 2**20, "bytes", "3 MiB"),
        (90000, "count:segments/s", "90 K segments/s"),
        (12000, "short", "12 K"),
        (12003, "locale", "12,003"),
        (2.5, "iops", "2.5 io/s"),
        (float("nan"), "s", "nan"),
    ],
)
def test_units(value, unit, expected):
    assert text(value, unit) == expected


def test_ages_count_from_now():
    assert text((time.time() - 7200) * 1000, "dateTimeFromNow") == "2 h ago"
