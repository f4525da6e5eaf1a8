# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""docs/reliability.md says what tests did, and what they lost."""

from __future__ import annotations

import json

from tests import reliability

pytest_plugins = ["pytester"]
PASSED = {"tried": "a", "held": "b", "times": 2, "passed": True}
WHEN = {"date": "2026-01-02", "commit": "abc"}


def test_outcomes_take_the_place_of_earlier_ones(tmp_path):
    path = tmp_path / "build/reliability.json"
    reliability.record({"tests/unit/a.py::one": PASSED}, path)
    reliability.record({"tests/unit/a.py::two": PASSED}, path)
    reliability.record({"tests/unit/a.py::one": PASSED | {"passed": False}}, path)
    reliability.record({}, path)
    found = reliability.read(path)
    assert {name: one["passed"] for name, one in found.items()} == {
        "tests/unit/a.py::one": False,
        "tests/unit/a.py::two": True,
    }
    assert all(one["date"] and one["commit"] for one in found.values())


def test_a_page_adds_up_and_hides_no_loss():
    tests = {
        "tests/unit/a.py::one": PASSED | WHEN,
        "tests/unit/a.py::two": PASSED | WHEN | {"passed": False},
        "tests/faults/a.py::three": PASSED | WHEN | {"tried": "c | d", "commit": "def"},
    }
    text = reliability.page(tests)
    assert "| a | 4 | b | **1 of 2 tests failed** |" in text
    assert r"| c \| d | 2 | b | nothing |" in text
    assert text.index("In unit tests") < text.index("On live hosts")
    assert "They ran on 2026-01-02, of commit abc, def." in text


def test_the_marker_is_recorded_with_parameters(pytester, monkeypatch):
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.reliability("a {what}, {id}", "b", times=3)
        @pytest.mark.parametrize("what", ["x", pytest.param("y", id="why")])
        def test_it(what):
            assert what == "x"

        def test_other():
            pass
        """
    )
    kept = []
    monkeypatch.setattr(reliability, "record", kept.append)
    pytester.runpytest_inprocess("-p", "no:xdist", "-p", "no:cacheprovider")
    (found,) = kept
    assert list(found.values()) == [
        {"tried": "a x, x", "held": "b", "times": 3, "passed": True},
        {"tried": "a y, why", "held": "b", "times": 3, "passed": False},
    ]
    assert json.dumps(found)


def test_the_page_that_is_committed_has_lost_nothing():
    rows = [
        line for line in reliability.PAGE.read_text().splitlines() if line.endswith(" nothing |")
    ]
    assert len(rows) >= 50
    assert "failed**" not in reliability.PAGE.read_text()
