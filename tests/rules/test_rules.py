# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules and alerts, judged by the real promtool of the default version and of the others."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dashboards import rules
from tests.lab.hosts import LabError
from tests.lab.prometheus import tool
from tests.versions import OTHERS

HERE = Path(__file__).parent
# promtool makes a database for each case, and would wait for the disk.
MEMORY = {"TMPDIR": "/dev/shm"} if Path("/dev/shm").is_dir() else {}
NAMES = ["biolatency", "tcp-rtt"]
ALERT_CASES = yaml.safe_load((HERE / "alert_cases.yml").read_text())
RECORDING_CASES = yaml.safe_load((HERE / "recording_cases.yml").read_text())
ALERTS = [rule for rule in rules.parsed(rules.render(names=NAMES)) if "alert" in rule]
RECORDINGS = [
    rule
    for text in (rules.RECORDING.read_text(), rules.render(names=NAMES))
    for rule in rules.parsed(text)
    if "record" in rule
]
BY_NAME = {rule["alert"]: rule for rule in ALERTS}


@pytest.fixture(scope="session")
def promtool() -> Path:
    """Return the real promtool; without it nothing here is proved, so its absence is a failure."""
    try:
        return tool("promtool")
    except LabError as error:
        pytest.fail(str(error))


@pytest.fixture
def run(promtool, tmp_path):
    """Return a function that runs promtool over the rendered rules and returns its result."""

    def execute(*words, tests: list[dict] | None = None, promtool: Path = promtool, **choices):
        files = rules.write(tmp_path, **({"names": NAMES} | choices))
        if tests is None:
            arguments = [*words, *files]
        else:
            document = {
                "rule_files": [file.name for file in files],
                "evaluation_interval": "1m",
                "tests": tests,
            }
            (tmp_path / "test.yml").write_text(yaml.safe_dump(document))
            arguments = [*words, tmp_path / "test.yml"]
        done = subprocess.run(
            [promtool, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | MEMORY,
        )
        return done.returncode, done.stdout + done.stderr

    return execute


@pytest.mark.parametrize("alertmanager", [True, False])
@pytest.mark.parametrize("names", [NAMES, []])
def test_rules_are_valid_and_without_duplicates(run, alertmanager, names):
    code, said = run("check", "rules", "--lint-fatal", alertmanager=alertmanager, names=names)
    assert code == 0, said
    assert said.count("SUCCESS") == 2


def test_promtool_refuses_what_prometheus_2_37_lacks(promtool, tmp_path):
    """Guards the guard: this promtool must be one that refuses newer syntax."""
    newer = {"alert": "A", "expr": "up == 0", "keep_firing_for": "5m"}
    file = tmp_path / "newer.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [newer]}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, check=False)
    assert done.returncode != 0


def _test(case: dict) -> dict:
    series = [{"series": name, "values": values} for name, values in case["series"].items()]
    return {"interval": "1m", "input_series": series}


def _alert_test(name: str, kind: str) -> dict:
    case = ALERT_CASES[name][kind]
    expected = []
    if kind == "firing":
        rule = BY_NAME[name]
        annotations = rule["annotations"] | {"description": case["description"]}
        labels = rule["labels"] | case["labels"]
        expected = [{"exp_labels": labels, "exp_annotations": annotations}]
    ask = {"alertname": name, "eval_time": case.get("at", "30m"), "exp_alerts": expected}
    return _test(case) | {"alert_rule_test": [ask]}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, kinds in ALERT_CASES.items() for kind in kinds]
)
def test_alert(run, name, kind):
    code, said = run("test", "rules", tests=[_alert_test(name, kind)])
    assert code == 0, said


def test_each_alert_has_a_firing_and_a_quiet_case():
    complete = {name for name, kinds in ALERT_CASES.items() if set(kinds) == {"firing", "quiet"}}
    assert complete | {"Watchdog"} == set(BY_NAME), "Watchdog alone is never quiet"


def _recording_test(name: str) -> dict:
    case = RECORDING_CASES[name]
    # promtool compares floats bit by bit, so compare them as whole millionths.
    samples = [
        {"labels": labels, "value": round(value * 1e6)} for labels, value in case["gives"].items()
    ]
    # The thresholds are many series of one name: ask for the one of the case.
    asked = name + (next(iter(case["gives"])) if name == "linmonitor:alert_threshold" else "")
    ask = {"expr": f"round({asked} * 1e6)", "eval_time": "30m", "exp_samples": samples}
    return _test(case) | {"promql_expr_test": [ask]}


@pytest.mark.parametrize("name", RECORDING_CASES)
def test_recording(run, name):
    code, said = run("test", "rules", tests=[_recording_test(name)])
    assert code == 0, said


@pytest.mark.parametrize("version", OTHERS)
def test_other_versions_say_the_same(run, version):
    """All rules, and every case above, in one run."""
    try:
        promtool = tool("promtool", version)
    except LabError as error:
        pytest.skip(str(error))
    code, said = run("check", "rules", "--lint-fatal", promtool=promtool)
    assert (code, said.count("SUCCESS")) == (0, 2), said
    cases = [_alert_test(name, kind) for name, kinds in ALERT_CASES.items() for kind in kinds]
    cases += [_recording_test(name) for name in RECORDING_CASES]
    code, said = run("test", "rules", tests=cases, promtool=promtool)
    assert code == 0, said
    cases[0]["alert_rule_test"][0]["exp_alerts"] = [{"exp_labels": {"never": "seen"}}]
    assert run("test", "rules", tests=cases[:1], promtool=promtool)[0] != 0


def test_each_recording_rule_has_a_value_check():
    assert {rule["record"] for rule in RECORDINGS} == set(RECORDING_CASES)


def test_a_dead_host_pages_once(run):
    """A host dies while its disk is slow and a program is broken: one alert is left."""
    case = {
        "series": {
            name: values.replace("x60", "x30") + " stale"
            for alert in ("DiskLatencyP99High", "EbpfProgramNotAttached", "TcpListenOverflows")
            for name, values in ALERT_CASES[alert]["firing"]["series"].items()
        }
        | {'up{job="ebpf_exporter",instance="h1:9435",ebpf_configs=",tcp-rtt,"}': "1x30 0x30"}
    }
    ask = {
        "expr": 'count by (alertname) (ALERTS{alertstate="firing",alertname!="Watchdog"})',
        "eval_time": "50m",
        "exp_samples": [{"labels": '{alertname="EbpfExporterDown"}', "value": 1}],
    }
    before = {
        "expr": 'count(ALERTS{alertstate="firing",alertname!="Watchdog"})',
        "eval_time": "30m",
        "exp_samples": [{"labels": "{}", "value": 3}],
    }
    code, said = run("test", "rules", tests=[_test(case) | {"promql_expr_test": [before, ask]}])
    assert code == 0, said


WANTED = 'up{job="ebpf_exporter",instance="h1",ebpf_configs=",tcp-rtt,"}'
WANTED_NO_MORE = 'up{job="ebpf_exporter",instance="h1",ebpf_configs=",biolatency,"}'
RUNS = 'ebpf_exporter_enabled_configs{job="ebpf_exporter",instance="h1",name="tcp-rtt"}'


def test_a_server_that_stores_nothing_any_more_pages_once(run):
    """What it says of itself it does not store either."""
    of_itself = '{job="prometheus",instance="p:9090"}'
    series = dict.fromkeys(
        [
            WANTED,
            RUNS,
            f"up{of_itself}",
            f"prometheus_tsdb_head_samples_appended_total{of_itself}",
            f"prometheus_notifications_alertmanagers_discovered{of_itself}",
        ],
        "1+1x30 stale",
    )
    expr = 'count by (alertname) (ALERTS{alertstate="firing",alertname!="Watchdog"})'
    samples = [{"labels": '{alertname="PrometheusNotIngesting"}', "value": 1}]
    asked = [
        {"expr": expr, "eval_time": at, "exp_samples": found}
        for at, found in (("30m", []), ("60m", samples), ("1d", samples))
    ]
    test = _test({"series": series}) | {"promql_expr_test": asked}
    code, said = run("test", "rules", tests=[test])
    assert code == 0, said


@pytest.mark.parametrize(
    ("series", "answers"),
    [
        # Lost after 20 minutes of its life: seen an hour later, and not forgotten for days.
        ({WANTED: "1x6000", RUNS: "1x20 stale"}, {"60m": 0, "76m": 1, "3d": 1}),
        # Off for a night, up with another kernel.
        (
            {WANTED: "1x1600 0x720 1x600", RUNS: "1x1600 stale"},
            {"2330m": 0, "2345m": 1, "2900m": 1},
        ),
        # Lost, then off for some hours, then up again.
        ({WANTED: "1x200 0x300 1x2500", RUNS: "1x100 stale"}, {"190m": 1, "400m": 0, "2900m": 1}),
        ({WANTED: "1x600", RUNS: "1x100 stale _x300 1x200"}, {"390m": 1, "405m": 0, "600m": 0}),
        # The inventory wants less, before or after the host's release follows.
        (
            {WANTED: "1x200 stale", WANTED_NO_MORE: "_x200 1x2000", RUNS: "1x100 stale"},
            {"190m": 1, "202m": 0, "2000m": 0},
        ),
        ({WANTED_NO_MORE: "1x300", RUNS: "1x100 stale"}, {"200m": 0}),
    ],
)
def test_a_lost_config_alerts_as_long_as_it_is_wanted(run, series, answers):
    asked = [
        {
            "expr": 'count(ALERTS{alertname="EbpfConfigMissing",alertstate="firing"}) or vector(0)',
            "eval_time": when,
            "exp_samples": [{"labels": "{}", "value": count}],
        }
        for when, count in answers.items()
    ]
    code, said = run(
        "test", "rules", tests=[_test({"series": series}) | {"promql_expr_test": asked}]
    )
    assert code == 0, said


def test_settings_reach_the_alert_and_the_line_in_the_panel(run):
    changes = {"TcpWindowClamped": {"threshold": 5, "hold": "0s"}}
    series = {'ebpf_exporter_tcp_window_clamps_total{instance="h1"}': "0+240x10"}
    checks = _test({"series": series}) | {
        "promql_expr_test": [
            {
                "expr": 'linmonitor:alert_threshold{alert="TcpWindowClamped"}',
                "eval_time": "10m",
                "exp_samples": [
                    {
                        "labels": 'linmonitor:alert_threshold{alert="TcpWindowClamped"}',
                        "value": 5,
                    }
                ],
            }
        ],
        "alert_rule_test": [
            {"alertname": "TcpWindowClamped", "eval_time": "10m", "exp_alerts": []}
        ],
    }
    code, said = run("test", "rules", tests=[checks], changes=changes)
    assert code == 0, said
    changes["TcpWindowClamped"]["threshold"] = 3
    code, said = run("test", "rules", tests=[checks], changes=changes)
    assert code != 0
    assert "TcpWindowClamped" in said


def test_settings_belong_to_alerts():
    assert set(rules.settings()) == set(BY_NAME) - {"Watchdog"}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_speaks(rule):
    name, notes = rule["alert"], rule["annotations"]
    assert re.fullmatch(r"([A-Z][a-z0-9]+)+", name)
    assert len(name) <= 40
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert "{{" not in notes["summary"], "a summary is constant, so that alerts group"
    assert "{{" in notes["description"] or name == "Watchdog"
    assert notes["runbook_url"] == f"{rules.RUNBOOKS}#{name.lower()}"


def test_groups_are_small_and_named_once():
    groups = [
        group
        for text in (rules.RECORDING.read_text(), rules.render(names=NAMES))
        for group in yaml.safe_load(text)["groups"]
    ]
    assert len({group["name"] for group in groups}) == len(groups)
    assert all(len(group["rules"]) <= 20 for group in groups)


@pytest.mark.parametrize("rule", ALERTS + RECORDINGS, ids=lambda r: r.get("alert") or r["record"])
def test_no_bucket_is_named_by_an_integer(rule):
    assert not re.search(r'le="\d+"', rule["expr"]), 'it would be "1.0" in Prometheus 3'
