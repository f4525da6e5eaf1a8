# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The matrix runs every variant, however many a program has, and holds cases to their word."""

from __future__ import annotations

import json
import subprocess

import pytest
from catalogues import variant

from tests import gate  # noqa: F401 (brings the collection's path)
from tests.kernel import guest, matrix
from tests.kernel.lab import UNFINISHED, Lab, NotHere, Row, proves

ADMIN = "CAP_SYS_ADMIN"
CONFIGS = {
    "one": [variant("raw_tp", ("raw_tp", "a"))],
    "three": [
        variant("fentry", ("fentry", "f")),
        variant("tp_btf", ("tp_btf", "a")),
        variant("kprobe", ("kprobe", "f")),
    ],
}


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Start no exporter; return what each would have been started with."""

    class Started:
        def __init__(self, artifact, variants, capabilities, label):
            self.said = (label, variants, capabilities)

        def wait(self):
            pass

    configs = {config: {"variants": variants} for config, variants in CONFIGS.items()}
    (tmp_path / "manifest.json").write_text(json.dumps({"catalogue": {"configs": configs}}))
    monkeypatch.setattr(guest, "Exporter", Started)
    return lambda live: [exporter.said for exporter in guest.exporters(tmp_path, live)]


def test_each_place_in_the_order_has_its_exporter(started):
    assert started(live=False) == [
        ("choice 1", {"one": "raw_tp", "three": "fentry"}, guest.SERVICE),
        ("choice 2", {"three": "tp_btf"}, guest.SERVICE),
        ("choice 3", {"three": "kprobe"}, [*guest.SERVICE, ADMIN]),
    ]


def test_machine_in_use_runs_tracepoints_only(started):
    assert started(live=True) == [
        ("choice 1", {"one": "raw_tp"}, guest.SERVICE),
        ("choice 2", {"three": "tp_btf"}, guest.SERVICE),
    ]


@pytest.mark.parametrize(("live", "fails"), [(False, True), (True, False)])
def test_case_without_a_row_of_what_it_proves_is_an_error(tmp_path, live, fails):
    @proves("a_total", "b_total")
    def case(lab):
        lab.rows.append(Row("a_total", "case", "raw_tp", 1, 1, 0, is_timing=False))

    lab = Lab(tmp_path, [], live)
    if fails:
        with pytest.raises(AssertionError, match="no row for b_total, which the case proves"):
            guest.run_case(lab, case)
    else:
        guest.run_case(lab, case)
    assert [row.metric for row in lab.rows] == ["a_total"]


@pytest.mark.parametrize(("is_timing", "is_race", "tried"), [
    (False, False, 2), (False, True, 1), (True, False, 4), (True, True, 4),
])  # fmt: skip
def test_a_wrong_case_is_tried_again_unless_processors_race_for_its_count(
    tmp_path, is_timing, is_race, tried
):
    runs = []

    @proves("a_total")
    def case(lab):
        runs.append(lab)
        lab.rows.append(Row("a_total", "case", "raw_tp", 1, 2, 0, is_timing))

    lab = Lab(tmp_path, [], live=False)
    assert len(guest.run_case(lab, case, is_race)) == tried - 1
    assert len(runs) == tried
    assert not lab.rows[0].passed


@pytest.mark.parametrize("others", [0, 7])
def test_a_wrong_count_on_a_machine_in_use_is_judged_unless_others_accept_connections(
    tmp_path, others
):
    @proves("a_total")
    def case(lab):
        lab.others += others
        for measured in (1, 2):
            row = Row("a_total", "case", "raw_tp", 1, measured, 0, is_timing=False)
            lab.rows.append(row)

    lab = Lab(tmp_path, [], live=True)
    said = guest.run_case(lab, case)
    assert [row.passed for row in lab.rows] == ([True] if others else [True, False])
    assert ("NOT JUDGED, for others accepted 7 connections" in said[-1]) == bool(others)


def test_a_case_says_what_its_kernel_lacks_and_leaves_no_row(tmp_path):
    @proves("a_total")
    def case(lab):
        raise NotHere("no such disk")

    lab = Lab(tmp_path, [], live=False)
    with pytest.raises(NotHere, match="no such disk"):
        guest.run_case(lab, case)
    assert lab.rows == []


@pytest.mark.parametrize("error", [UNFINISHED, "case: wrong"])
def test_what_went_wrong_comes_with_the_last_words_of_the_machine(monkeypatch, tmp_path, error):
    class Machine:
        def boot(self, script, log, at_once):
            result = {"kernel": "7.0", "rows": [{}], "disturbed": [], "errors": [error]}
            (tmp_path / "7.0.json.began").touch()
            (tmp_path / "7.0.json").write_text(json.dumps(result))
            log.write_text("Kernel panic - not syncing: told to")
            return subprocess.Popen(["true"], start_new_session=True)

        def unlink(self):
            pass

    monkeypatch.setattr(matrix.kernels, "fetch", lambda series: Machine())
    errors = matrix.run_kernel("7.0", tmp_path, "")["errors"]
    assert errors == [f"7.0: {error}", "7.0: Kernel panic - not syncing: told to"]
