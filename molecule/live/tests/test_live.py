# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real programs, real Prometheus: panels show what was done, alerts fire for what was broken.

BPF programs see the whole machine, so what others do on it comes on top of our own workload. What
the kernel's own counters say of all of it is the upper bound.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from dashboards import metrics, rules
from tests.dashboards import reading, workload
from tests.dashboards.api import Prometheus, Window
from tests.dashboards.live import Answer, answers, unhealthy
from tests.kernel.net import of_each_namespace

# Of workload, of which the last minute is looked at. Dropped events are counted between full
# minutes: the second one comes up to two minutes after the first scrape, and its rule 30 s later.
SECONDS = 170
RELOAD = "systemctl reload linmonitor-prometheus"
CONFIG = "/etc/linmonitor/prometheus/prometheus.yml"
DROP_IN = "/run/systemd/system/ebpf_exporter.service.d/fault.conf"

# Empty although their programs run, and why.
EMPTY = {
    "Kernel / Fleet: Most disk errors A": "the disk works",
    "Kernel / Fleet: Hosts with the largest numbers C": "the disk works",
    "Kernel / Programs: Not attached A": "all are attached",
    "Monitoring / Prometheus: Alerts lost on the way to Alertmanager A": "no Alertmanager",
    "Monitoring / Prometheus: Alerts lost on the way to Alertmanager B": "no Alertmanager",
    "Monitoring / Prometheus: Messages sent by Alertmanager A": "no Alertmanager",
    "Monitoring / Prometheus: Messages that failed A": "no Alertmanager",
} | dict.fromkeys(reading.of_node(), "no node_exporter")
# Whoever else uses this kernel may cause it, and need not.
OTHERS_DO = {
    "Kernel / Fleet: Most window clamps A",
    "Kernel / Fleet: Hosts with the largest numbers J",
}


@dataclass(frozen=True)
class Measured:
    """What was done per second, by us and on the whole machine, and what each panel showed."""

    truth: dict[str, float]
    machine: Counter[str]
    panels: dict[str, Answer]

    def mean(self, panel: str, **labels: str) -> float:
        """Return the mean of a panel's series that carry the labels, added up."""
        chosen = [
            series
            for series in self.panels[panel].series
            if labels.items() <= series.labels.items()
        ]
        return sum(sum(series.values) / len(series.values) for series in chosen)


@pytest.fixture(scope="module")
def server(host) -> Prometheus:
    address = host.ansible.get_variables()["ansible_host"]
    return Prometheus(f"http://{address}:9090")


@pytest.fixture(scope="module")
def refused(host) -> dict[str, str]:
    """Return the configs that this kernel refuses, with its reasons."""
    choice = json.loads(host.file("/run/ebpf_exporter/choice.json").content_string)
    return {
        name: "; ".join(f"{variant}: {why}" for variant, why in verdict["refused"].items())
        for name, verdict in choice["configs"].items()
        if not verdict["variant"]
    }


@pytest.fixture(scope="module")
def measured(host, server) -> Measured:
    """Run the workload with the kernel's statistics of BPF programs on, and ask every panel."""
    program = Path(workload.__file__).read_text()
    before: dict[str, Counter[str]] = {}
    last_minute = threading.Timer(
        SECONDS - workload.MINUTE, lambda: before.update(of_each_namespace())
    )  # fmt: skip
    last_minute.start()
    host.check_output("sysctl -q kernel.bpf_stats_enabled=1")
    try:
        truth = json.loads(host.check_output("python3 -c %s %s", program, str(SECONDS)))
        machine: Counter[str] = Counter()
        for namespace, after in of_each_namespace().items():
            machine += after - before.get(namespace, Counter())
        machine = Counter({name: n / workload.MINUTE for name, n in machine.items()})
        found = answers(
            server, Window.last(1), {"instance": "box", "__rate_interval": f"{workload.RATE}s"}
        )
    finally:
        host.check_output("sysctl -q kernel.bpf_stats_enabled=0")
    return Measured(truth, machine, {answer.name: answer for answer in found})


def needed(expr: str) -> set[str]:
    """Return the configs without which a query has no data, those of recorded series too."""
    for rule in rules.parsed(rules.RECORDING.read_text()):
        expr = expr.replace(rule["record"], f"({rule['expr']})")
    declared = [one for one in vars(metrics).values() if isinstance(one, metrics.Metric)]
    configs = {one.config for one in declared if re.search(rf"\b{one.full}", expr)}
    return configs | set(re.findall(r'enabled_configs\{[^}]*name="([\w-]+)"', expr))


def test_every_query_returns_data(measured, refused):
    for config, why in refused.items():
        print(f"this kernel refuses {config}: {why}")
    for answer in measured.panels.values():
        print(answer)
    assert [answer for answer in measured.panels.values() if answer.error] == []
    empty = {name for name, answer in measured.panels.items() if not answer.values}
    excused = {
        name
        for name, answer in measured.panels.items()
        if needed(answer.expr) and needed(answer.expr) <= refused.keys()
    }
    print(f"{len(measured.panels)} queries, {len(empty)} empty, {len(excused)} by the kernel")
    assert empty - OTHERS_DO == excused | EMPTY.keys()


def test_every_rule_is_healthy(server, measured):
    assert unhealthy(server) == []


@pytest.mark.parametrize(
    ("panel", "labels", "ours", "all_there_was"),
    [
        (
            "Connects by result A",
            {},
            lambda t: t["ok"] + t["refused"] + 8 * t["queues"],
            lambda m, _: m["TcpActiveOpens"],
        ),
        (
            "Connects by result A",
            {"result": "ok"},
            lambda t: t["ok"] + 6 * t["queues"],
            lambda m, t: m["TcpActiveOpens"] - t["refused"] - 2 * t["queues"],
        ),
        (
            "Connects by result A",
            {"result": "refused"},
            lambda t: t["refused"],
            lambda m, _: m["TcpAttemptFails"],
        ),
        (
            "Connects by result A",
            {"result": "aborted"},
            lambda t: 2 * t["queues"],
            lambda m, t: m["TcpActiveOpens"] - t["ok"] - t["refused"] - 6 * t["queues"],
        ),
        (
            "Accepted handshakes A",
            {},
            lambda t: t["ok"] + 6 * t["queues"],
            lambda m, _: m["TcpPassiveOpens"],
        ),
        (
            "Retransmitted segments by reason A",
            {"type": "syn"},
            lambda t: 2 * t["queues"],
            lambda m, _: m["TcpExtTCPSynRetrans"],
        ),
        (
            "Round-trip samples A",
            {"scope": "loopback"},
            lambda t: t["bytes"],
            lambda m, _: m["TcpInSegs"],
        ),
    ],
)
def test_rates_lie_between_our_own_and_the_machine_s(measured, panel, labels, ours, all_there_was):
    """Others on this machine connect too, at most as often as the kernel says."""
    least = ours(measured.truth)
    most = all_there_was(measured.machine, measured.truth)
    shown = measured.mean(f"Kernel / Host: {panel}", **labels)
    print(f"{panel} {labels}: done {least:.2f}/s, shown {shown:.2f}/s, machine {most:.2f}/s")
    # The minute is not the same to the second, and a rate reaches back beyond it.
    assert 0.8 * least < shown < 1.3 * most + 1


def test_disk_requests_lie_between_our_own_and_the_kernel_s(measured):
    shown: dict[str, float] = {}
    for series in measured.panels["Kernel / Host: Requests A"].series:
        if series.labels["operation"] in ("read", "write"):
            mean = sum(series.values) / len(series.values)
            shown[series.labels["device"]] = shown.get(series.labels["device"], 0) + mean
    busiest = max(shown, key=lambda device: shown[device])
    least, most = 2 * measured.truth["writes"], measured.truth[f"disk {busiest}"]
    print(f"{busiest}: done {least:.1f}/s, shown {shown[busiest]:.1f}/s, machine {most:.1f}/s")
    # The minute is not the same to the second.
    assert 0.8 * least < shown[busiest] < 1.1 * most


def test_share_of_nearly_full_queues(measured):
    """Two of the six connections of a small queue meet it above 75 %."""
    queues = 2 * measured.truth["queues"]
    alone = queues / (measured.truth["ok"] + 3 * queues)
    among_all = queues / measured.machine["TcpPassiveOpens"]
    shown = measured.mean("Kernel / Host: Connections that met a queue above 75 % A")
    print(f"nearly full queues: {among_all:.3f} of all, {alone:.3f} of ours, shown {shown:.3f}")
    assert among_all / 1.3 < shown < 1.3 * alone


@pytest.mark.parametrize(
    ("panel", "least", "most"),
    [
        ("Kernel / Fleet: Hosts answering A", 1, 1),
        ("Kernel / Fleet: Hosts down A", 0, 0),
        ("Kernel / Host: Device time, p99 A", 1e-6, 134),
        ("Kernel / Host: Connect time, p99 A", 1e-6, 5),
        ("Kernel / Host: Round-trip time, p99 A", 1e-6, 5),
        ("Kernel / Host: Requests in flight A", 0, 1000),
        ("Kernel / Programs: Programs not attached A", 0, 0),
        ("Kernel / Programs: Decoder errors A", 0, 0),
        ("Kernel / Programs: Time per event A", 1e-8, 1e-3),
        ("Kernel / Programs: Cost on the worst host A", 1e-7, 0.5),
        ("Kernel / Programs: Memory of the exporter A", 1e6, 1e9),
        ("Kernel / Programs: Series per host A", 100, 10_000),
        ("Monitoring / Prometheus: Configuration A", 1, 1),
        ("Monitoring / Prometheus: Samples stored A", 50, 10_000),
    ],
)
def test_values_are_of_the_right_magnitude(measured, panel, least, most):
    assert least <= min(measured.panels[panel].values)
    assert max(measured.panels[panel].values) <= most


def firing(server: Prometheus) -> set[tuple[str, str]]:
    """Return name and config of each alert that fires."""
    return {
        (alert["labels"]["alertname"], alert["labels"].get("config", ""))
        for alert in server.get("alerts")["alerts"]
        if alert["state"] == "firing"
    }


def wait_for(server: Prometheus, alert: tuple[str, str], fires: bool, seconds: float = 60) -> float:
    """Wait until an alert fires, or does no more; return how long that took."""
    began = time.monotonic()
    while (alert in firing(server)) != fires:
        assert time.monotonic() < began + seconds, f"{alert}: {firing(server)}"
        time.sleep(0.5)
    return time.monotonic() - began


def test_workload_made_alerts_fire(measured, refused, server):
    """A full queue is more urgent than a nearly full one, where the kernel can tell."""
    blind = "tcp-listen-overflows" in refused
    queue = "TcpAcceptQueueNearLimit" if blind else "TcpListenOverflows"
    assert {(queue, ""), ("TcpConnectFailuresHigh", "")} <= firing(server)


FAULTS = {
    ("EbpfExporterDown", ""): (
        "systemctl stop ebpf_exporter",
        "systemctl start ebpf_exporter",
    ),
    ("EbpfConfigMissing", "tcp-rtt"): (
        f"mkdir -p {Path(DROP_IN).parent} && printf '[Service]\\nEnvironmentFile=\\n"
        f"Environment=EBPF_EXPORTER_CONFIGS=biolatency\\n' > {DROP_IN} && "
        "systemctl daemon-reload && systemctl restart ebpf_exporter",
        f"rm {DROP_IN} && systemctl daemon-reload && systemctl restart ebpf_exporter",
    ),
    ("PrometheusConfigReloadFailed", ""): (
        f"sed -i.good 's/scrape_configs:/scrape_konfigs:/' {CONFIG} && {RELOAD}",
        f"mv {CONFIG}.good {CONFIG} && {RELOAD}",
    ),
}


# What this Prometheus would know of the hour before, had it run, as the blocks that it keeps.
HISTORY = """
set -e
pid=$(pidof prometheus)
tools=$(dirname $(readlink /proc/$pid/exe))
data=$(tr '\\0' '\\n' < /proc/$pid/cmdline | sed -n 's/--storage.tsdb.path=//p')
now=$(date +%s)
{ echo '# TYPE ebpf_exporter_enabled_configs gauge'
  for ago in $(seq 5400 -60 1800); do
    echo 'ebpf_exporter_enabled_configs{LABELS} 1' $((now - ago))
  done
  echo '# EOF'
} > /run/history
$tools/promtool tsdb create-blocks-from openmetrics /run/history $data
chown -R --reference=$data $data
"""


@pytest.fixture(scope="module")
def history(host, server) -> None:
    """Let Prometheus know that a config ran an hour ago: that makes its absence a loss."""
    [up] = server.instant('up{job="ebpf_exporter"}', time.time())
    ran = up.labels | {"name": "tcp-rtt"}
    labels = ",".join(f'{name}="{ran[name]}"' for name in ("job", "instance", "name"))
    assert host.run(HISTORY.replace("LABELS", labels)).rc == 0


@pytest.mark.parametrize("alert", FAULTS, ids=lambda alert: alert[0])
def test_fault_fires_its_alert_until_it_is_repaired(host, server, history, measured, alert):
    broken, repaired = FAULTS[alert]
    assert alert not in firing(server)
    assert host.run(broken).rc == 0
    # It looks for new blocks once a minute.
    took = wait_for(server, alert, fires=True, seconds=120)
    assert host.run(repaired).rc == 0
    back = wait_for(server, alert, fires=False)
    print(f"{alert[0]}: fired after {took:.1f} s, quiet {back:.1f} s after the repair")
