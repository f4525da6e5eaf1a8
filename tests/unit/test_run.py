# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A failed part fails the run, a budget is kept, and what was not run is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import run

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def ran(monkeypatch, tmp_path):
    """Replace the commands by a clock: each part takes what it is expected to; "unit" fails."""
    now, names = [0.0], []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(run.time, "monotonic", lambda: now[0])

    def run_part(commands):
        name = next(part for part in run.PARTS if run.PARTS[part].commands is commands)
        names.append(name)
        now[0] += run.Times().expected(name)
        return ["a row is wrong", "exit code 1"] if name == "unit" else []

    monkeypatch.setattr(run, "run_part", run_part)
    return names


def test_a_failed_part_fails_the_run_and_the_others_still_run(ran, capsys):
    assert run.run(["unit", "lint"], [], 0) == 1
    assert ran == ["unit", "lint"]
    shown = capsys.readouterr().out
    assert "FAILED" in shown
    assert shown.endswith("1 passed, 1 failed\n")
    *_, not_run, _ = shown.splitlines()
    assert not_run == "not run: " + ", ".join(part for part in run.PARTS if part not in ran)


def test_the_end_says_again_what_a_failed_part_said_last(ran, capsys):
    run.run(["unit", "lint"], [], 0)
    shown = capsys.readouterr().out
    assert "\n=== the last words of unit\na row is wrong\nexit code 1\n" in shown
    assert "last words of lint" not in shown


def test_a_command_is_shown_and_its_last_words_are_kept(capfd):
    code = "import sys; print(*range(99), sep='\\n'); sys.exit('no such disk')"
    *words, end = run.run_command([sys.executable, "-c", code])
    assert len(words) == run.LAST_WORDS
    assert "no such disk" in words
    assert end == "exit code 1"
    assert "\n0\n1\n" in capfd.readouterr().out


def test_a_command_that_fails_in_silence_has_failed():
    assert run.run_command([sys.executable, "-c", "raise SystemExit(3)"]) == ["exit code 3"]
    assert run.run_command([sys.executable, "-c", "print('fine')"]) == []


def test_others_run_in_their_order_as_long_as_they_fit(ran):
    assert run.run(["lint"], ["matrix", "sanity", "fleet"], 7 * 60) == 0
    assert ran == ["lint", "sanity"]


def test_what_a_part_took_last_counts(ran):
    run.Times().passed("matrix", 60)
    run.Times().passed("sanity", 600)
    run.run(["lint"], ["matrix", "sanity", "fleet"], 5 * 60)
    assert ran == ["lint", "matrix"]


def test_what_failed_early_says_nothing_of_its_time(ran):
    run.run(["unit", "lint"], [], 0)
    assert set(run.Times().seconds) == {"lint"}


def test_every_scenario_and_every_folder_of_tests_is_a_part():
    words = [word for part in run.PARTS.values() for command in part.commands for word in command]
    for scenario in CHECKOUT.glob("molecule/*/molecule.yml"):
        assert scenario.parent.name in words
    for folder in {path.parent for path in CHECKOUT.glob("tests/*/test_*.py")}:
        assert str(folder.relative_to(CHECKOUT)) in words


def test_what_a_change_must_pass_are_parts():
    assert set(run.TEST) <= set(run.PARTS)
