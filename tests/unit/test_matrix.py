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
from tests.kernel.lab import UNFINISHED, Lab, Row, proves

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


@pytest.fixture
def machines(monkeypatch, tmp_path):
    """Let machines end as told, one run after the other: each with its errors."""

    def run(*ends):
        left = iter(ends)

        class Machine:
            release = "7.0"

            def boot(self, script, log, cpus=2):
                errors = next(left)
                result = {"kernel": "7.0", "rows": [{}], "disturbed": [], "errors": errors}
                (tmp_path / "7.0.json.began").touch()
                (tmp_path / "7.0.json").write_text(json.dumps(result))
                log.write_text("Kernel panic - not syncing: told to")
                return subprocess.Popen(["true"], start_new_session=True)

            def unlink(self):
                pass

        monkeypatch.setattr(matrix.kernels, "fetch", lambda series: Machine())
        return matrix.run_kernel("7.0", tmp_path, "")

    return run


def test_a_machine_that_breaks_off_runs_again_and_the_run_says_so(machines, capsys):
    result = machines([UNFINISHED], [])
    assert result["errors"] == []
    assert result["disturbed"] == ["the machine broke off in run 1"]
    assert "Kernel panic - not syncing: told to" in capsys.readouterr().out


def test_a_machine_that_breaks_off_twice_is_an_error_with_its_last_words(machines):
    unfinished, said = machines([UNFINISHED], [UNFINISHED])["errors"]
    assert unfinished == f"7.0: {UNFINISHED}"
    assert said == "7.0: Kernel panic - not syncing: told to"


def test_a_case_that_fails_is_no_machine_that_broke_off(machines):
    result = machines(["case: wrong"])
    assert result["errors"] == ["7.0: case: wrong", "7.0: Kernel panic - not syncing: told to"]
    assert result["disturbed"] == []
