# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the BPF programs export, said once: panels take query, unit, text and alert from here."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "ebpf_exporter_"
HOSTS = 'job=~"$job",instance=~"$instance"'
# For series that every target has: "all jobs" must not mean Prometheus and node_exporter too.
EXPORTERS = 'job="ebpf_exporter",' + HOSTS
DISKS = HOSTS + ',device=~"$device",operation=~"$operation"'
PEERS = HOSTS + ',scope=~"$scope"'
RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Metric:
    """One metric of a BPF program, and how a person should read it."""

    name: str
    config: str
    unit: str
    meaning: str
    normal: str
    action: str
    selector: str = HOSTS
    by: tuple[str, ...] = ("instance",)
    alert: str | None = None

    @property
    def full(self) -> str:
        """Return the name as Prometheus knows it."""
        return PREFIX + self.name

    @property
    def help(self) -> str:
        """Return the panel description: what it means, what is normal, what to do."""
        return f"{self.meaning}\n\nNormal: {self.normal}\n\nIf not: {self.action}"

    @property
    def empty(self) -> str:
        """Return what an empty panel says, for it is no fault."""
        return f"No event yet, or {self.config} does not run here"

    @property
    def legend(self) -> str:
        """Return the legend of one series."""
        return " ".join(f"{{{{{label}}}}}" for label in self.by)

    @property
    def grouping(self) -> str:
        """Return the labels of one series as PromQL writes them."""
        return ", ".join(self.by)


@dataclass(frozen=True)
class Histogram(Metric):
    """A histogram: shown as a heatmap, as quantiles and as a rate."""

    def heat(self) -> str:
        """Return the buckets over time."""
        return f"sum by (le) (increase({self.full}_bucket{{{self.selector}}}{RATE}))"

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
        """Return events per second."""
        zero = f'max by (instance) ({PREFIX}enabled_configs{{{HOSTS},name="{self.config}"}})'
        return (
            f"sum by ({self.grouping}) (rate({self.full}{{{self.selector}}}{RATE})) "
            f"or on (instance) (0 * {zero})"
        )


BIO = Histogram(
    "bio_latency_seconds",
    "biolatency",
    "s",
    "Time a disk took for a request, from issue to completion. Exact to a factor of two.",
    "NVMe below 1 ms, SATA SSD below 5 ms, a rotating disk 5 to 20 ms.",
    "Two bands in the heatmap are cache hits and misses, or a failing disk; look at requests in "
    "flight, `iostat -x 1` and the disk's own log.",
    selector=DISKS,
    by=("instance", "device", "operation"),
    alert="DiskLatencyP99High",
)
BIO_TOTAL = Histogram(
    "bio_total_latency_seconds",
    "biolatency",
    "s",
    "Time of a request as the application feels it: the wait in the kernel's queue and the disk's "
    "own time together.",
    "Close to the device time.",
    "Far above the device time, requests wait in the queue: the disk is saturated or the I/O "
    "scheduler holds them back.",
    selector=DISKS,
    by=("instance", "device", "operation"),
)
BIO_ERRORS = Counter(
    "bio_errors_total",
    "biolatency",
    "reqps",
    "Requests that a disk completed with an error.",
    "None.",
    "`dmesg -T | grep -i 'i/o error'`, SMART, cables; an unsupported discard is harmless.",
    selector=DISKS,
    by=("instance", "device", "operation"),
)
BACKLOG = Histogram(
    "tcp_syn_backlog",
    "tcp-syn-backlog",
    "short",
    "Connections already waiting to be accepted when a new handshake completed (the Recv-Q of "
    "`ss -lt`), on all listeners of the host.",
    "0 or 1: the application accepts faster than clients connect.",
    "The application accepts too slowly. Its limit differs per listener, so judge by the share of "
    "connections that met a nearly full queue.",
)
QUEUE = Histogram(
    "tcp_accept_queue_utilization_ratio",
    "tcp-syn-backlog",
    "percentunit",
    "Share of new connections that met an accept queue more than 75 % full.",
    "0. A listener with a tiny backlog, such as listen(5), is near its limit at once.",
    "`ss -ltn`: compare Recv-Q with Send-Q; raise net.core.somaxconn and the application's "
    "backlog, or add workers.",
    alert="TcpAcceptQueueNearLimit",
)
OVERFLOWS = Counter(
    "tcp_listen_overflows_total",
    "tcp-listen-overflows",
    "cps",
    "Connections that the kernel dropped because the accept queue was full. The client retries "
    "after 1 s, or sees a reset.",
    "None.",
    "As for a nearly full queue, and at once: users notice.",
    by=("instance", "family"),
    alert="TcpListenOverflows",
)
CONNECT = Histogram(
    "tcp_connect_time_seconds",
    "tcp-connect-time",
    "s",
    "Time of an outgoing TCP handshake that succeeded: one round trip and the peer's answer.",
    "The round-trip time of the path. Loopback is below 1 ms.",
    "A step at 1 s or 3 s is a lost SYN or SYN-ACK: full accept queue at the peer, firewall, loss.",
    selector=PEERS + ',result="ok"',
    by=("instance", "scope"),
    alert="TcpHandshakeSlow",
)
CONNECT_RESULTS = Histogram(
    "tcp_connect_time_seconds",
    "tcp-connect-time",
    "cps",
    "Outgoing connects by result: ok, refused (nobody listens), timeout (nobody answers), aborted "
    "(the application gave up), other.",
    "Nearly all ok.",
    "Refused: the service is down. Timeout: firewall or dead peer. Aborted: the application's own "
    "limit is shorter than the path needs.",
    selector=PEERS,
    by=("instance", "result"),
)
RTT = Histogram(
    "tcp_rtt_seconds",
    "tcp-rtt",
    "s",
    "Smoothed round-trip time of TCP connections, taken whenever an ACK brings news.",
    "A constant of the path: below 1 ms in a rack, 10 to 100 ms across countries.",
    "A rise on one scope is a longer or congested path; a rise on all is the host itself (CPU, "
    "traffic shaping).",
    selector=PEERS,
    by=("instance", "scope"),
)
RETRANSMITS = Counter(
    "tcp_retransmits_total",
    "tcp-retransmit",
    "cps",
    "TCP segments sent again, by reason: rto (timer), fast (duplicate ACKs), probe (tail loss), "
    "syn and synack (handshake). With node_exporter the right axis shows their share of all "
    "segments sent.",
    "Below 1 % of the segments sent; some on public paths is ordinary.",
    "`ss -ti` and `nstat -az 'TcpRetrans*'`, NIC errors (`ethtool -S`), peers by site, MTU.",
    selector=PEERS,
    by=("instance", "type"),
)
DELAY = Histogram(
    "tcp_retransmit_delay_seconds",
    "tcp-retransmit-delay",
    "s",
    "How long a lost segment had been waiting when it was sent again: what a user feels as a "
    "stall.",
    "About one round trip for fast retransmissions, 200 ms and more for timer ones.",
    "Seconds mean repeated loss with doubled timers: look for an outage on the path.",
    selector=PEERS,
    by=("instance", "type"),
)
CLAMPS = Counter(
    "tcp_window_clamps_total",
    "tcp-window-clamps",
    "cps",
    "Times the kernel really lowered a connection's receive window threshold, because its buffer "
    "was full and could not grow.",
    "0.",
    "Compare net.ipv4.tcp_rmem and tcp_mem with /proc/net/sockstat; find the slow reader with "
    "`ss -tim`.",
    by=("instance", "family"),
    alert="TcpWindowClamped",
)
OVERLIMIT = Counter(
    "tcp_rcvbuf_overlimit_total",
    "tcp-window-clamps",
    "cps",
    "Times a segment arrived at a receive buffer that was already full.",
    "0, or short bursts when a reader pauses.",
    "The application reads too slowly, or its SO_RCVBUF is too small.",
)
RMEM_FAILURES = Counter(
    "tcp_rcv_rmem_failures_total",
    "tcp-window-clamps",
    "cps",
    "Times no receive memory was found even after pruning: the segment is dropped and sent again.",
    "0.",
    "Memory pressure: net.ipv4.tcp_mem, the cgroup's memory limit, slow readers.",
)
