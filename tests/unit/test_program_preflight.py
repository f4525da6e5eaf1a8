# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight report and its table, from the modules' own answers."""

from __future__ import annotations

import pytest
from ansible_collections.linmonitor.stack.plugins.filter.preflight import (
    preflight_report,
    preflight_rows,
)
from ansible_collections.linmonitor.stack.plugins.modules import (
    bpf_program_info,
    kernel_headers_info,
)
from catalogues import CATALOGUE
from hosts import HOSTS


@pytest.fixture
def entry(run, tmp_path):
    """Ask both modules about a host and give its part of the report."""

    def ask(name: str, strict: bool = False, architecture: str = "x86_64", **arguments) -> dict:
        root = HOSTS[name].write(tmp_path)
        kernel = run(kernel_headers_info, root=root)
        programs = run(bpf_program_info, root=root, catalogue=CATALOGUE, **arguments)
        (found,) = preflight_report([name], [kernel], [programs], [architecture], strict)
        return found

    return ask


def test_good_host_has_no_fault(entry):
    found = entry("debian12")
    assert found["fault"] == ""
    assert found["kernel"]["release"] == "6.1.0-32-amd64"
    assert found["headers"]["state"] == "unknown"
    assert found["programs"]["biolatency"] == {
        "variant": "tp_btf",
        "forecast": "tp_btf",
        "reason": "",
    }


def test_table_has_a_row_per_host_and_program(entry):
    rows = preflight_rows([entry("debian12", configs=["biolatency", "tcp-syn-recv"])])
    assert rows[0] == {
        "host": "debian12",
        "kernel": "6.1.0-32-amd64",
        "btf": "yes",
        "headers": "unknown",
        "program": "biolatency",
        "variant": "tp_btf",
        "basis": "forecast",
        "needs": "CAP_BPF CAP_PERFMON",
        "reason": "",
    }
    assert rows[1]["program"] == "tcp-syn-recv" and rows[1]["variant"] == "-"
    assert "has 7 parameters" in rows[1]["reason"]


def test_program_left_out_is_a_fault_only_where_strict(entry):
    asked = {"configs": ["default", "tcp-syn-recv"]}
    assert entry("debian12", **asked)["fault"] == ""


def test_strict_names_what_is_missing(entry):
    found = entry("debian12", strict=True, configs=["default", "tcp-syn-recv"])
    assert found["fault"] == "cannot run tcp-syn-recv, and ebpf_exporter_strict wants all"


def test_host_that_runs_nothing_is_a_fault(entry):
    found = entry("no_btf")
    assert found["fault"] == "can run none of the wanted programs"
    assert {row["needs"] for row in preflight_rows([found])} == {"-"}


def test_artifact_of_another_architecture_is_a_fault(entry):
    assert entry("arm64")["fault"].startswith("is aarch64, the artifact is for x86_64")
    assert entry("arm64", architecture="aarch64")["fault"] == ""


def test_reboot_that_is_due_shows(entry):
    found = entry("debian12")
    found["kernel"]["reboot_pending"] = True
    assert preflight_rows([found])[0]["kernel"] == "6.1.0-32-amd64 (reboot due)"


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (({"unreachable": True, "msg": "no route"}, {"skipped": True}), "no route"),
        (({"release": "6.1"}, {"failed": True, "msg": "sudo: a password is required"}), "sudo"),
        (({}, {}), "no answer"),
        (({"failed": True, "module_stderr": "SyntaxError: invalid syntax"}, {}), "Python 3.8 or"),
    ],
)
def test_host_without_an_answer_keeps_its_row(answers, words):
    report = preflight_report(["gone"], [answers[0]], [answers[1]], ["x86_64"], False)
    (row,) = preflight_rows(report)
    assert row["host"] == "gone" and row["variant"] == "-" and words in row["reason"]
