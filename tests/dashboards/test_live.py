# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every query and rule against each real Prometheus, fed by the stand-in exporter."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
import yaml

from dashboards import rules
from tests.dashboards import reading
from tests.dashboards.api import Prometheus, Window
from tests.dashboards.server import running
from tests.lab.hosts import LabError
from tests.lab.process import free_port
from tests.lab.prometheus import VERSION, programs
from tests.lab.wait import settled
from tests.versions import NEWEST, OTHERS

from .live import answers, unhealthy
from .promql import selectors
from .standin import serve

# What the stand-in does not make happen, or what only an Alertmanager shows.
EMPTY = {
    "Kernel / Programs: Not attached A",
    "Monitoring / Prometheus: Alerts lost on the way to Alertmanager A",
    "Monitoring / Prometheus: Alerts lost on the way to Alertmanager B",
    "Monitoring / Prometheus: Messages sent by Alertmanager A",
    "Monitoring / Prometheus: Messages that failed A",
}


def _configuration(port: int, target: str, node: bool) -> dict:
    def job(name: str, address: str, action: str) -> dict:
        relabel = {"source_labels": ["__name__"], "regex": "node_.*", "action": action}
        return {
            "job_name": name,
            "static_configs": [{"targets": [address]}],
            "metric_relabel_configs": [relabel],
        }

    jobs = [job("ebpf_exporter", target, "drop"), job("prometheus", f"127.0.0.1:{port}", "drop")]
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["recording.yml", "alerts.yml"],
        "scrape_configs": jobs + ([job("node_exporter", target, "keep")] if node else []),
    }


def _on(version: str) -> Path:
    """Return the programs of a version; only the default's absence is a failure."""
    try:
        return programs(version)
    except LabError as error:
        (pytest.fail if version == VERSION else pytest.skip)(str(error))


# Without node_exporter on one version: what a host lacks is nothing that versions differ in.
@pytest.fixture(scope="module", params=[VERSION, "without node_exporter", *OTHERS])
def server(request, tmp_path_factory):
    """Return a Prometheus whose rules follow each other in seconds, and what it lacks."""
    folder = tmp_path_factory.mktemp("prometheus")
    node = request.param != "without node_exporter"
    programs_of = _on(request.param if node else VERSION)
    standin = serve(rules.ROOT / "files/bpf")
    threading.Thread(target=standin.serve_forever, daemon=True).start()
    port = free_port()
    for file in rules.write(folder, changes={name: {"hold": "0s"} for name in rules.settings()}):
        file.write_text(re.sub(r"\b(30s|1m)\b", "1s", file.read_text()))
    configuration = _configuration(port, f"127.0.0.1:{standin.server_port}", node)
    with running(programs_of, folder, configuration, port) as api:
        yield api, EMPTY | (set() if node else reading.of_node())
    standin.shutdown()
    standin.server_close()


def _settled(server: Prometheus, expected: set[str], seconds: float):
    """Ask until only the expected queries are empty, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = answers(server, Window.last(1), {"__rate_interval": "4s"})
        except OSError:
            found = []
        empty = {answer.name for answer in found if not answer.values}
        if time.monotonic() > deadline or (found and empty <= expected):
            return found, empty
        time.sleep(2)


def test_every_query_returns_data_and_every_rule_is_healthy(server):
    api, expected = server
    found, empty = _settled(api, expected, 90)
    assert [answer for answer in found if answer.error] == []
    assert empty == expected
    assert unhealthy(api) == []


def test_values_have_the_right_magnitude(server):
    """The stand-in counts known events per second: see standin.py."""
    api, expected = server
    by_name: dict[str, list[float]] = {}
    series: dict[str, int] = {}

    def last(name: str) -> float:
        return by_name[name][-1]

    def counted() -> bool:
        """Say whether the known rate is seen: on a starved machine scrapes come too seldom."""
        found, _ = _settled(api, expected, 90)
        series.update({answer.name: len(answer.series) for answer in found})
        by_name.update({answer.name: answer.values for answer in found})
        return last("Kernel / Host: Round-trip samples A") == pytest.approx(40, rel=0.3)

    settled("20 events/s of each scope", counted)
    if expected == EMPTY:
        assert 0.1 < last("Kernel / Host: CPU in use A") < 1
        assert last("Kernel / Host: Load per processor A") == 0.5
        assert last("Kernel / Host: Network bytes B") < 1e8, "not lo"
    assert last("Kernel / Fleet: Hosts answering A") == 1
    assert last("Kernel / Fleet: Hosts down A") == 0
    assert series["Kernel / Programs: Memory of the exporter A"] == 1
    assert series["Monitoring / Prometheus: Memory A"] == 1
    # In buckets around 2^15 us.
    assert 0.05 < last("Kernel / Host: Round-trip time, p99 A") < 134
    # 10 us of 1 s for each program.
    assert last("Kernel / Programs: Cost on the worst host A") < 0.001
    assert 0 <= last("Kernel / Host: Connections that met a queue above 75 % A") < 0.5


def _panel(title: str) -> dict:
    return next(
        panel
        for document in reading.documents()
        for panel in reading.panels(document)
        if f"{document['title']}: {panel['title']}" == title
    )


def _judge(tmp_path, series: dict[str, str], expected: dict[str, dict[str, float]], at: str):
    """Ask a real Prometheus, through promtool, for the answers to queries at one moment."""
    case = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": one, "values": all} for one, all in series.items()],
                "promql_expr_test": [
                    {
                        "expr": expr,
                        "eval_time": at,
                        "exp_samples": [
                            {"labels": labels, "value": value} for labels, value in samples.items()
                        ],
                    }
                    for expr, samples in expected.items()
                ],
            }
        ],
    }
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump(case))
    for version in (VERSION, NEWEST):
        done = subprocess.run(
            [_on(version) / "promtool", "test", "rules", str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


JUDGED = [
    panel
    for document in reading.documents()
    for panel in reading.panels(document)
    if panel["type"] == "stat" and "alert_threshold" in str(panel["targets"])
]
LABELS = (
    'job="ebpf_exporter",instance="a",device="sda",operation="read",scope="public",netns="host",'
    'config="biolatency"'
)


@pytest.mark.parametrize(("value", "red"), [(0.05, False), (0.2, True)])
def test_a_stat_is_red_above_the_threshold_that_the_operator_set(tmp_path, value, red):
    """Both colours' queries by a real Prometheus: one of them has the number, never both."""
    assert len(JUDGED) == 9
    series, expected = {}, {}
    for panel in JUDGED:
        below, above = (reading.filled(target["expr"]) for target in panel["targets"][:2])
        (measured,) = {name for name, _, _ in selectors(below)} - {"linmonitor:alert_threshold"}
        (alert,) = set(re.findall(r'alert="(\w+)"', above))
        series[f"{measured}{{{LABELS}}}"] = f"{value}x5"
        series[f'linmonitor:alert_threshold{{alert="{alert}"}}'] = "0.1x5"
        expected |= {below: {} if red else {"{}": value}, above: {"{}": value} if red else {}}
    _judge(tmp_path, series, expected, "2m")


@pytest.mark.parametrize(
    ("up", "runs", "requests", "expected"),
    [
        ("1x8", "biolatency", None, {"C": {}, "D": {"{}": -2}}),
        ("1x8", "tcp-rtt", None, {"C": {"{}": -1}, "D": {}}),
        ("0x8", None, None, {"C": {}, "D": {}}),
        ("1x8", "biolatency", "0.1x8", {"A": {"{}": 0.1}, "C": {}, "D": {}}),
    ],
    ids=["idle", "does not run", "silent", "busy"],
)
def test_a_stat_tells_no_event_from_no_program_and_no_answer(
    tmp_path, up, runs, requests, expected
):
    panel = _panel("Kernel / Host: Disk time, p99")
    of = 'job="ebpf_exporter",instance="a"'
    series = {f"up{{{of}}}": up}
    if runs:
        series[f'ebpf_exporter_enabled_configs{{{of},name="{runs}"}}'] = "1x8"
    if requests:
        name = "instance_device_operation:ebpf_bio_latency_seconds:p99_rate5m"
        series[f'{name}{{{of},device="sda",operation="read"}}'] = requests
    asked = {target["refId"]: reading.filled(target["expr"]) for target in panel["targets"]}
    _judge(tmp_path, series, {asked[ref]: samples for ref, samples in expected.items()}, "5m")


@pytest.mark.parametrize(
    ("at", "shares"),
    [
        ("8m", {"0.002": 0.5, "0.004": 1.0}),
        # A silent moment has no share of anything, and the same rows.
        ("14m", {"0.002": 0, "0.004": 0}),
    ],
)
def test_a_heatmap_has_the_rows_in_use_and_shares_of_a_moment(tmp_path, at, shares):
    """All rows from 1 us to 2 minutes left a quarter of the plot to the data."""
    panel = _panel("Kernel / Host: Device time")
    labels = 'job="ebpf_exporter",instance="a",device="sda",operation="read"'
    grows = {"1e-06": 0, "0.001": 0, "0.002": 5, "0.004": 10, "0.008": 10, "134.2": 10, "+Inf": 10}
    series = {
        f'ebpf_exporter_bio_latency_seconds_bucket{{{labels},le="{edge}"}}': (
            f"0+{per_minute}x8 {8 * per_minute}x8"
        )
        for edge, per_minute in grows.items()
    }
    expected = {f'{{le="{edge}"}}': share for edge, share in shares.items()}
    _judge(tmp_path, series, {reading.filled(panel["targets"][0]["expr"]): expected}, at)


@pytest.mark.parametrize(("found", "lost"), [(0, {}), (1, {"{}": 0.1})])
def test_nothing_is_lost_on_the_way_to_nobody(tmp_path, found, lost):
    panel = _panel("Monitoring / Prometheus: Alerts lost on the way to Alertmanager")
    of = '{job="prometheus",instance="a"}'
    series = {
        f"prometheus_notifications_dropped_total{of}": "0+6x8",
        f"prometheus_notifications_alertmanagers_discovered{of}": f"{found}x8",
    }
    _judge(tmp_path, series, {reading.filled(panel["targets"][0]["expr"]): lost}, "5m")


@pytest.mark.parametrize(
    ("dropped", "expected"),
    [
        (None, {'{instance="a"}': 0}),
        ("0+60x8", {'{instance="a",family="ipv4"}': 1}),
        ("0+60x3 _x5", {}),
    ],
    ids=["never", "all the time", "for a while"],
)
def test_a_host_that_counted_has_no_line_of_nothing(tmp_path, dropped, expected):
    panel = _panel("Kernel / Host: Connections dropped at a full queue")
    of = 'job="ebpf_exporter",instance="a"'
    series = {f'ebpf_exporter_enabled_configs{{{of},name="tcp-listen-overflows"}}': "1x8"}
    if dropped:
        series[f'ebpf_exporter_tcp_listen_overflows_total{{{of},family="ipv4"}}'] = dropped
    _judge(tmp_path, series, {reading.filled(panel["targets"][0]["expr"]): expected}, "8m")
