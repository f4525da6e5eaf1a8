# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host: everything the BPF programs say about one host or a few, from raw series."""

from __future__ import annotations

from . import metrics as m
from .panels import (
    BAD_SINCE,
    RIGHT_AXIS,
    alerts,
    dashboard,
    firing,
    heat,
    lines,
    number,
    quantiles,
    rate,
    restarts,
    rows,
    variable,
)

S = m.HOSTS
FIRING, SINCE = firing(m.EXPORTERS)
FAILED = f"instance_scope:ebpf_tcp_connect_failures:ratio_rate5m{{{m.PEERS}}}"
RATIO = f"instance:ebpf_tcp_retransmit_ratio:rate5m{{{S}}}"

NOW = [
    number(
        "Exporter",
        "short",
        "Whether all chosen hosts answered the last scrape.\n\nNormal: up.\n\nIf not: runbook "
        "EbpfExporterDown.",
        f"min(up{{{m.EXPORTERS}}})",
        names={"0": ("down", "red"), "1": ("up", "green")},
        empty="no such host",
    ),
    number(
        "Firing alerts",
        "short",
        "Alerts that fire on the chosen hosts.\n\nNormal: 0.\n\nIf not: read the table below.",
        f"count({FIRING}) or vector(0)",
        bad=1,
    ),
    number(
        "Disk time, p99",
        "s",
        m.BIO.help,
        f"max(instance_device_operation:ebpf_bio_latency_seconds:p99_rate5m{{{m.DISKS}}})",
        empty="no requests",
        alert="DiskLatencyP99High",
    ),
    number(
        "Connect time, p99",
        "s",
        m.CONNECT.help,
        f"max(instance_scope:ebpf_tcp_connect_time_seconds:p99_rate5m{{{m.PEERS}}})",
        empty="no connects",
        alert="TcpHandshakeSlow",
    ),
    number(
        "Met a nearly full queue",
        "percentunit",
        m.QUEUE.help,
        f"max(instance:ebpf_tcp_accept_queue_over75:ratio_rate5m{{{S}}})",
        empty="no connections",
        alert="TcpAcceptQueueNearLimit",
    ),
    number(
        "Retransmitted segments",
        m.RETRANSMITS.unit,
        m.RETRANSMITS.help,
        f"max(sum by (instance) (instance_netns:ebpf_tcp_retransmits:rate5m{{{S}}}))",
        empty="none yet",
        alert="TcpRetransmitRateHigh",
    ),
    rows(
        "Firing alerts here",
        "dateTimeFromNow",
        "What fires on the chosen hosts, and since when its condition holds.\n\nNormal: empty.\n\n"
        "If not: the alert's runbook.",
        SINCE,
        BAD_SINCE,
        empty="Nothing fires",
        span=24,
        height=5,
    ),
]

BLOCK = [
    heat("Device time", m.BIO),
    quantiles("Device time, quantiles", m.BIO),
    rate("Requests", m.BIO, "iops"),
    heat("Queue and device time", m.BIO_TOTAL),
    quantiles("Queue and device time, quantiles", m.BIO_TOTAL),
    lines(
        "Mean time: device, and with the queue",
        "s",
        m.BIO_TOTAL.help,
        [
            (m.BIO.mean(), f"device {m.BIO.legend}"),
            (m.BIO_TOTAL.mean(), f"with queue {m.BIO_TOTAL.legend}"),
        ],
        empty=m.BIO.empty,
    ),
    lines(
        "Requests in flight",
        "short",
        "Mean number of requests that the disk works on (Little's law: rate x mean time).\n\n"
        "Normal: below the queue depth of the disk.\n\nIf not: more in flight without more "
        "requests per second is saturation.",
        [(m.BIO.total(), m.BIO.legend)],
        empty=m.BIO.empty,
    ),
    lines(
        "Requests slower than 131 ms",
        "percentunit",
        "Share of requests above the bucket edge of 131 ms, which is exact where a quantile is "
        "interpolated.\n\nNormal: 0.\n\nIf not: as for the device time.",
        [(m.BIO.above("0.131072"), m.BIO.legend)],
        empty=m.BIO.empty,
    ),
    rate("Failed requests", m.BIO_ERRORS),
]

ACCEPT = [
    heat("Accept queue met by new connections", m.BACKLOG),
    quantiles("Accept queue, quantiles", m.BACKLOG, log=False),
    rate("Accepted handshakes", m.BACKLOG, "count:handshakes/s"),
    heat("Accept queue filled to", m.QUEUE),
    lines(
        "Connections that met a queue above 75 %",
        "percentunit",
        m.QUEUE.help,
        [(m.QUEUE.above("0.75"), m.QUEUE.legend)],
        empty=m.QUEUE.empty,
        alert=(m.QUEUE.alert, f"{m.QUEUE.full}_count{{{S}}}"),
    ),
    rate("Connections dropped at a full queue", m.OVERFLOWS),
]

CONNECT = [
    heat("Connect time", m.CONNECT, span=6),
    quantiles("Connect time, quantiles", m.CONNECT, span=6),
    rate("Connects by result", m.CONNECT_RESULTS, "count:connects/s", span=6),
    lines(
        "Share of connects that failed",
        "percentunit",
        m.CONNECT_RESULTS.help,
        [(FAILED, "{{instance}} {{scope}}")],
        empty="No connect failed yet, or tcp-connect-time does not run here",
        alert=("TcpConnectFailuresHigh", FAILED),
        span=6,
    ),
]

ROUND_TRIPS = [
    heat("Round-trip time", m.RTT),
    quantiles("Round-trip time, quantiles", m.RTT),
    rate("Round-trip samples", m.RTT, "count:samples/s"),
    quantiles("Round-trip time per connection, quantiles", m.CONNECTION_RTT),
]

LOSS = [
    rate(
        "Retransmitted segments by reason",
        m.RETRANSMITS,
        right=[(RATIO, f"{{{{instance}}}} {RIGHT_AXIS}")],
        alert=("TcpRetransmitRatioHigh", RATIO),
        span=6,
    ),
    heat("Delay of retransmissions", m.DELAY, span=6),
    quantiles("Delay of retransmissions, quantiles", m.DELAY, span=6),
    rate("Delayed retransmissions", m.DELAY, "count:segments/s", span=6),
]

MEMORY = [
    rate("Receive windows clamped", m.CLAMPS),
    rate("Segments met a full receive buffer", m.OVERLIMIT),
    rate("Segments without receive memory", m.RMEM_FAILURES),
]


def build() -> str:
    """Return the dashboard's JSON."""
    bio = f"{m.BIO.full}_count{{{S}}}"
    return dashboard(
        "Kernel / Host",
        "linmonitor-host",
        "What the kernel of one host, or of a few, says about disks and TCP.",
        layout={
            "Now": NOW,
            "Block I/O": BLOCK,
            "TCP: incoming connections": ACCEPT,
            "TCP: outgoing connections": CONNECT,
            "TCP: round trips": ROUND_TRIPS,
            "TCP: retransmissions": LOSS,
            "TCP: receive memory": MEMORY,
        },
        variables=[
            variable("job", "Job", "label_values(ebpf_exporter_enabled_configs, job)"),
            variable(
                "instance", "Host", 'label_values(up{job="ebpf_exporter",job=~"$job"}, instance)'
            ),
            variable("device", "Disk", f"label_values({bio}, device)"),
            variable("operation", "Operation", f"label_values({bio}, operation)"),
            variable("scope", "Peers", f"label_values({m.RTT.full}_count{{{S}}}, scope)"),
        ],
        annotations=[
            alerts(m.EXPORTERS),
            restarts("Exporter (re)started, deployed", m.EXPORTERS),
        ],
    )
