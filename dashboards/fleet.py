# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleet: which hosts are in trouble, where and since when; from recorded series only."""

from __future__ import annotations

from . import metrics as m
from .panels import (
    BAD_SINCE,
    EXACT,
    FINE,
    alerts,
    dashboard,
    firing,
    heat,
    lines,
    number,
    overview,
    rows,
    variable,
)

S = m.HOSTS
DISK_P99 = (
    f'instance_device_operation:ebpf_bio_latency_seconds:p99_rate5m{{{S},operation=~"read|write"}}'
)
# An alert about a whole job has no instance.
ANY = 'job=~"$job|",instance=~"$instance|"'
FIRING, SINCE = firing(ANY)
OF_HOSTS, _ = firing(m.EXPORTERS)
NO_ALERT = f"0 * max by (instance) (up{{{m.EXPORTERS}}})"
SHAPES = f'job_operation_le:ebpf_bio_latency_seconds_bucket:rate5m{{job=~"$job",{m.BUCKETS}}}'
WORST = "The ten worst of each kind"


def worst(expr: str) -> str:
    """Return the ten hosts with the largest values."""
    return f"topk(10, max by (instance) ({expr}))"


TROUBLE = [
    number(
        "Hosts answering",
        EXACT,
        "Hosts whose exporter answered the last scrape.\n\nNormal: all of them.",
        f"sum(up{{{m.EXPORTERS}}})",
    ),
    number(
        "Hosts down",
        EXACT,
        "Hosts whose exporter did not answer the last scrape.\n\nNormal: 0.\n\nIf not: the table "
        "of firing alerts names them; runbook EbpfExporterDown.",
        f"sum(up{{{m.EXPORTERS}}} == bool 0)",
        bad=1,
    ),
    number(
        "Firing alerts",
        EXACT,
        "Alerts that fire now on these hosts.\n\nNormal: 0.\n\nIf not: read the table beside.",
        f"count({FIRING}) or vector(0)",
        bad=1,
    ),
    number(
        "Slowest disk, p99",
        "s",
        m.BIO.help,
        f"max({DISK_P99})",
        empty="no requests",
        alert="DiskLatencyP99High",
    ),
    number(
        "Worst accept queue",
        "percentunit",
        m.QUEUE.help,
        f"max(instance:ebpf_tcp_accept_queue_over75:ratio_rate5m{{{S}}})",
        empty="no connections",
        alert="TcpAcceptQueueNearLimit",
    ),
    number(
        "Worst share retransmitted",
        "percentunit",
        "Share of the TCP segments sent that were retransmissions, worst host.\n\n"
        "Normal: below 1 %.\n\nIf not: runbook TcpRetransmitRatioHigh.",
        f"max(instance:ebpf_tcp_retransmit_ratio:rate5m{{{S}}})",
        empty="needs node_exporter",
        alert="TcpRetransmitRatioHigh",
    ),
    rows(
        "What fires, where and since when",
        "dateTimeFromNow",
        "Alerts that fire now, and since when their condition holds; newest first.\n\nNormal: "
        "empty.\n\nIf not: follow the host, then the alert's runbook.",
        SINCE,
        BAD_SINCE,
        empty="No firing alert seen",
        span=16,
    ),
    lines(
        "Firing alerts over time",
        "short",
        "How many alerts of each kind fired.\n\nNormal: nothing.\n\nIf not: many hosts at the same "
        "moment have one cause: network, storage, a release.",
        [(f"count by (alertname) ({FIRING})", "{{alertname}}")],
        empty="No alert seen",
        stacked=True,
    ),
    overview(
        "Hosts with the largest numbers",
        "The ten hosts with the largest value of each column, all hosts where they are few; an "
        "empty cell is a smaller one.\n\nNormal: as usual for these hosts.\n\nIf not: follow the "
        "host; the row below this one names disks and peers.",
        [
            ("alerts", EXACT, f"topk(10, count by (instance) ({OF_HOSTS}) or {NO_ALERT})"),
            ("disk p99", "s", worst(DISK_P99)),
            (
                "disk errors",
                "short",
                worst(f"instance_device_operation:ebpf_bio_errors:increase5m{{{S}}}"),
            ),
            (
                "connect p99",
                "s",
                worst(f"instance_scope:ebpf_tcp_connect_time_seconds:p99_rate5m{{{S}}}"),
            ),
            (
                "failed",
                "percentunit",
                worst(f"instance_scope:ebpf_tcp_connect_failures:ratio_rate5m{{{S}}}"),
            ),
            (
                "queue > 75 %",
                "percentunit",
                worst(f"instance:ebpf_tcp_accept_queue_over75:ratio_rate5m{{{S}}}"),
            ),
            ("dropped/s", "short", worst(f"instance:ebpf_tcp_listen_overflows:rate5m{{{S}}}")),
            (
                "resent/s",
                "short",
                f"topk(10, sum by (instance) (instance_netns:ebpf_tcp_retransmits:rate5m{{{S}}}))",
            ),
            ("RTT p99", "s", worst(f"instance_scope:ebpf_tcp_rtt_seconds:p99_rate5m{{{S}}}")),
            ("clamps/s", "short", worst(f"instance:ebpf_tcp_window_clamps:rate5m{{{S}}}")),
        ],
        height=9,
    ),
]

HOSTS = [
    rows(
        "Slowest disks, p99",
        "s",
        m.BIO.help,
        f"topk(10, max by (instance, device, operation) ({DISK_P99}))",
        "p99",
        empty="No request seen",
    ),
    rows(
        "Slowest connects, p99",
        "s",
        m.CONNECT.help,
        "topk(10, max by (instance, scope) "
        f"(instance_scope:ebpf_tcp_connect_time_seconds:p99_rate5m{{{S}}}))",
        "p99",
        empty="No connect seen",
    ),
    rows(
        "Most failed connects",
        "percentunit",
        m.CONNECT_RESULTS.help,
        "topk(10, max by (instance, scope) "
        f"(instance_scope:ebpf_tcp_connect_failures:ratio_rate5m{{{S}}}) > 0)",
        "failed",
        empty="No failed connect seen",
    ),
    rows(
        "Fullest accept queues",
        "percentunit",
        m.QUEUE.help,
        "topk(10, max by (instance) "
        f"(instance:ebpf_tcp_accept_queue_over75:ratio_rate5m{{{S}}}) > 0)",
        "met > 75 %",
        empty="No nearly full queue seen",
    ),
    rows(
        "Connections dropped at full queues",
        "short",
        m.OVERFLOWS.help + "\n\nOf hosts without the program node_exporter counts them.",
        "topk(10, max by (instance) (instance:ebpf_tcp_listen_overflows:rate5m"
        f"{{{S}}} or instance:node_tcp_listen_overflows:rate5m{{{S}}}) > 0)",
        "dropped/s",
        empty="No dropped connection seen",
    ),
    rows(
        "Most retransmissions",
        "short",
        m.RETRANSMITS.help,
        f"topk(10, sum by (instance) (instance_netns:ebpf_tcp_retransmits:rate5m{{{S}}}) > 0)",
        "segments/s",
        empty="No retransmission seen",
    ),
    rows(
        "Longest round trips, p99",
        "s",
        m.RTT.help,
        "topk(10, max by (instance, scope) "
        f"(instance_scope:ebpf_tcp_rtt_seconds:p99_rate5m{{{S}}}))",
        "p99",
        empty="No TCP traffic seen",
    ),
    rows(
        "Most disk errors",
        "short",
        m.BIO_ERRORS.help,
        "topk(10, max by (instance, device, operation) "
        f"(instance_device_operation:ebpf_bio_errors:increase5m{{{S}}}) > 0)",
        "in 5 minutes",
        empty="No disk error seen",
    ),
    rows(
        "Most window clamps",
        "short",
        m.CLAMPS.help,
        f"topk(10, max by (instance) (instance:ebpf_tcp_window_clamps:rate5m{{{S}}}) > 0)",
        "clamps/s",
        empty="No clamped window seen",
    ),
]

SHAPE = [
    heat(
        "Disk time, all hosts",
        m.BIO,
        expr=m.shares(
            f"sum by (le) ({SHAPES})",
            f"sum by (le) (sum_over_time({SHAPES}[$__range] @ end()))",
        ),
        height=FINE,
    ),
    lines(
        "Round-trip time, all hosts, p99",
        "s",
        m.RTT.help,
        [
            (
                "histogram_quantile(0.99, sum by (scope, le) "
                '(job_scope_le:ebpf_tcp_rtt_seconds_bucket:rate5m{job=~"$job"}))',
                "{{scope}}",
            )
        ],
        empty=m.RTT.empty,
        log=True,
        span=12,
        height=FINE,
    ),
    lines(
        "Hosts answering over time",
        "short",
        "Answering and silent hosts.\n\nNormal: a flat line and 0.\n\nIf not: a step down for many "
        "hosts at once is the network, a release or Prometheus itself.",
        [
            (f"sum(up{{{m.EXPORTERS}}})", "answering"),
            (f"sum(up{{{m.EXPORTERS}}} == bool 0)", "down"),
        ],
        span=12,
    ),
    lines(
        "Disk requests, all hosts",
        "iops",
        "Block requests per second of all hosts.\n\nNormal: your load.\n\nIf not: with it, latency "
        "means more work; without it, slower disks.",
        [
            (
                f"sum by (operation) (instance_device_operation:ebpf_bio_requests:rate5m{{{S}}})",
                "{{operation}}",
            )
        ],
        empty=m.BIO.empty,
        stacked=True,
        span=12,
    ),
]


def build() -> str:
    """Return the dashboard's JSON."""
    return dashboard(
        "Kernel / Fleet",
        "linmonitor-fleet",
        "Which hosts are in trouble, where and since when.",
        layout={
            "Does a kernel suffer?": TROUBLE,
            WORST: HOSTS,
            "The whole fleet": SHAPE,
        },
        variables=[
            variable("job", "Job", "label_values(ebpf_exporter_enabled_configs, job)"),
            variable(
                "instance", "Host", 'label_values(up{job="ebpf_exporter",job=~"$job"}, instance)'
            ),
        ],
        annotations=[alerts(ANY)],
        closed=WORST,
    )
