# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How panels ask for what the BPF programs export; unit and text are those of each program.yml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from files.bpf.build import catalogue

PROGRAMS = catalogue.load([Path(__file__).parent.parent / "files/bpf"])["configs"]
# Metric: the program that exports it.
CONFIGS = {metric: config for config, entry in PROGRAMS.items() for metric in entry["metrics"]}
PREFIX = "ebpf_exporter_"
HOSTS = 'job=~"$job",instance=~"$instance"'
# For series that every target has: "all jobs" must not mean Prometheus and node_exporter too.
EXPORTERS = 'job="ebpf_exporter",' + HOSTS
DISKS = HOSTS + ',device=~"$device",operation=~"$operation"'
PEERS = HOSTS + ',scope=~"$scope"'
RATE = "[$__rate_interval]"
# What stands for a program that runs on none of the chosen hosts, and for no event where it runs.
NOWHERE, NOTHING = -1, -2
# Series that are there only where a chosen host answers.
ANSWERING = f"up{{{EXPORTERS}}} == 1"
# The same, wherever Prometheus itself answers.
ANYWHERE = "vector(1)"
# The share of events that is none.
LEAST = 1e-9
# A bucket of what is 0 would be a row without a height.
ZERO = "0|0.0"
BUCKETS = f'le!~"{ZERO}"'


def runs(program: str) -> str:
    """Return the series of the chosen hosts that run a program, each 1."""
    return f'{PREFIX}enabled_configs{{{HOSTS},name="{program}"}}'


def nowhere(program: str) -> str:
    """Return the query for hosts that answer where none of them runs a program."""
    return f"{NOWHERE} * max({ANSWERING}) unless on () {runs(program)}"


def nothing(expr: str, known: str) -> str:
    """Return the query for no series of `expr`, which is unknown where `known` has none either."""
    return f"{NOTHING} * max({known}) unless on () ({expr})"


def shares(now: str, whole: str) -> str:
    """Return cumulative shares by `le` of what is in use of a histogram.

    `now` and `whole` are its buckets at each moment and over the whole range of time. Buckets below
    the first that is used have counted nothing, those above the last have all. The lowest of these
    cannot be picked by its label, so what the last one holds is named anew by its edge.
    """
    total = f"on () group_left () max({whole})"
    used = f"round({whole} / {total}, {LEAST})"
    share = f"{now} / on () group_left () clamp_min(max({now}), {LEAST})"
    last = f'count_values("le", histogram_quantile(1, {used}))'
    return (
        f"({share} and on (le) ({used} > 0 < 1)) or "
        f"({last} * on () group_left () (max({now}) > bool 0))"
    )


@dataclass(frozen=True)
class Metric:
    """One metric of a BPF program, and which of its series a panel shows."""

    name: str
    selector: str = HOSTS
    by: tuple[str, ...] = ("instance",)
    # Of the alerts that watch it, the one whose threshold has the unit of its panels.
    alert: str = ""
    # What a counter counts: Grafana's own unit of counts per second reads "c/s".
    events: str = ""

    @property
    def config(self) -> str:
        """Return the program that exports it."""
        return CONFIGS[self.name]

    @property
    def said(self) -> dict:
        """Return what the program's program.yml says of it."""
        return PROGRAMS[self.config]["metrics"][self.name]

    @property
    def unit(self) -> str:
        """Return its unit as Grafana names it; a counter's is that of its rate."""
        return f"count:{self.events}/s" if self.events else self.said["unit"]

    @property
    def full(self) -> str:
        """Return the name as Prometheus knows it."""
        return PREFIX + self.name

    @property
    def help(self) -> str:
        """Return the panel description: what it means, what is normal, what to do."""
        said = self.said
        return f"{said['meaning']}\n\nNormal: {said['normal']}\n\nIf not: {said['action']}"

    @property
    def empty(self) -> str:
        """Return what an empty panel says: true also where nobody answers."""
        return "No event seen in this time"

    def absent(self) -> str:
        """Return the query for the hosts that answer and do not run its program, each 0."""
        up = f"max by (instance) ({ANSWERING})"
        return f"0 * {up} unless on (instance) {runs(self.config)}"

    @property
    def legend(self) -> str:
        """Return the legend of one series, the host last: most pages show one."""
        labels = sorted(self.by, key="instance".__eq__)
        return " ".join(f"{{{{{label}}}}}" for label in labels)

    @property
    def grouping(self) -> str:
        """Return the labels of one series as PromQL writes them."""
        return ", ".join(self.by)


@dataclass(frozen=True)
class Histogram(Metric):
    """A histogram: shown as a heatmap, as quantiles and as a rate."""

    def heat(self) -> str:
        """Return the shares of its buckets over time."""
        buckets = f"{self.full}_bucket{{{self.selector},{BUCKETS}}}"
        return shares(
            f"sum by (le) (rate({buckets}{RATE}))",
            f"sum by (le) (increase({buckets}[$__range] @ end()))",
        )

    def quantile(self, share: float) -> str:
        """Return the value that `share` of the events do not exceed."""
        return (
            f"histogram_quantile({share}, sum by ({self.grouping}, le) "
            f"(rate({self.full}_bucket{{{self.selector}}}{RATE})))"
        )

    def rate(self) -> str:
        """Return events per second."""
        return f"sum by ({self.grouping}) (rate({self.full}_count{{{self.selector}}}{RATE}))"

    def total(self) -> str:
        """Return the summed values per second."""
        return f"sum by ({self.grouping}) (rate({self.full}_sum{{{self.selector}}}{RATE}))"

    def mean(self) -> str:
        """Return the mean value; nothing where nothing happened."""
        return f"{self.total()} / ({self.rate()} > 0)"

    def above(self, edge: str) -> str:
        """Return the share of events above the bucket edge `edge`."""
        bucket = f'{self.full}_bucket{{{self.selector},le="{edge}"}}'
        return f"1 - (sum by ({self.grouping}) (rate({bucket}{RATE})) / ({self.rate()} > 0))"


@dataclass(frozen=True)
class Counter(Metric):
    """A counter: shown as a rate, 0 where its program runs and has counted nothing."""

    def rate(self) -> str:
        """Return events per second.

        The line of nothing is that of a host that counts nothing in all of the time that is shown:
        where it ended at the first event, the legend had a line more than there are series.
        """
        series = f"{self.full}{{{self.selector}}}"
        counted = f"count by (instance) (increase({series}[$__range] @ end()))"
        zero = f"0 * max by (instance) ({runs(self.config)})"
        return (
            f"sum by ({self.grouping}) (rate({series}{RATE})) "
            f"or on (instance) ({zero} unless on (instance) {counted})"
        )


DISK = ("instance", "device", "operation")
BIO = Histogram("bio_latency_seconds", DISKS, DISK, "DiskLatencyP99High")
BIO_TOTAL = Histogram("bio_total_latency_seconds", DISKS, DISK)
BIO_ERRORS = Counter("bio_errors_total", DISKS, DISK, events="errors")
BACKLOG = Histogram("tcp_syn_backlog")
QUEUE = Histogram("tcp_accept_queue_utilization_ratio", alert="TcpAcceptQueueNearLimit")
OVERFLOWS = Counter(
    "tcp_listen_overflows_total",
    by=("instance", "family"),
    alert="TcpListenOverflows",
    events="connections",
)
CONNECT = Histogram(
    "tcp_connect_time_seconds",
    PEERS + ',result="ok"',
    by=("instance", "scope"),
    alert="TcpHandshakeSlow",
)
CONNECT_RESULTS = Histogram("tcp_connect_time_seconds", PEERS, by=("instance", "result"))
RTT = Histogram("tcp_rtt_seconds", PEERS, by=("instance", "scope"))
CONNECTION_RTT = Histogram("tcp_connection_rtt_seconds", PEERS, by=("instance", "scope"))
RETRANSMITS = Counter(
    "tcp_retransmits_total", PEERS, by=("instance", "type", "netns"), events="segments"
)
DELAY = Histogram("tcp_retransmit_delay_seconds", PEERS, by=("instance", "type"))
CLAMPS = Counter(
    "tcp_window_clamps_total", by=("instance", "family"), alert="TcpWindowClamped", events="clamps"
)
OVERLIMIT = Counter("tcp_rcvbuf_overlimit_total", events="segments")
RMEM_FAILURES = Counter("tcp_rcv_rmem_failures_total", events="segments")
