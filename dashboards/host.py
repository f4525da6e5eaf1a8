# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Host: everything the BPF programs say about one host or a few, from raw series."""

from __future__ import annotations

from . import metrics as m
from . import node as n
from .panels import (
    ANSWERS,
    BAD_SINCE,
    EXACT,
    FINE,
    RIGHT_AXIS,
    alerts,
    dashboard,
    firing,
    heat,
    lines,
    number,
    overview,
    rate,
    restarts,
    rows,
    tail,
    variable,
)

S = m.HOSTS
FIRING, SINCE = firing(m.EXPORTERS)
FAILED = f"instance_scope:ebpf_tcp_connect_failures:ratio_rate5m{{{m.PEERS}}}"
RATIO = f"instance:ebpf_tcp_retransmit_ratio:rate5m{{{S}}}"
DISK_P99 = f"instance_device_operation:ebpf_bio_latency_seconds:p99_rate5m{{{m.DISKS}}}"
CONNECT_P99 = f"instance_scope:ebpf_tcp_connect_time_seconds:p99_rate5m{{{m.PEERS}}}"
SYSTEM = "Processors, memory, disks and network, where node_exporter is scraped"
NO_NODE = "No node_exporter seen on these hosts"

NOW = [
    number(
        "Exporter",
        "short",
        "Whether all chosen hosts answered the last scrape.\n\nNormal: up.\n\nIf not: runbook "
        "EbpfExporterDown.",
        f"min(up{{{m.EXPORTERS}}})",
        names={"0": ("down", "red"), "1": ("up", "green")},
        empty="no such host",
        known=m.ANYWHERE,
    ),
    number(
        "Firing alerts",
        EXACT,
        "Alerts that fire on the chosen hosts.\n\nNormal: 0.\n\nIf not: read the table below.",
        f"count({FIRING}) or vector(0)",
        bad=1,
    ),
    number(
        "Disk time, p99",
        "s",
        m.BIO.help,
        f"max({DISK_P99})",
        empty="no requests",
        program=m.BIO.config,
        alert="DiskLatencyP99High",
    ),
    number(
        "Slowest connects, p99",
        "s",
        m.CONNECT.help,
        f"max({CONNECT_P99})",
        empty="no connects",
        program=m.CONNECT.config,
        alert="TcpHandshakeSlow",
    ),
    number(
        "Met a nearly full queue",
        "percentunit",
        m.QUEUE.help,
        f"max(instance:ebpf_tcp_accept_queue_over75:ratio_rate5m{{{S}}})",
        empty="no connections",
        program=m.QUEUE.config,
        alert="TcpAcceptQueueNearLimit",
    ),
    number(
        "Retransmitted segments",
        m.RETRANSMITS.unit,
        m.RETRANSMITS.help,
        f"max(sum by (instance) (instance_netns:ebpf_tcp_retransmits:rate5m{{{S}}}))",
        empty="none yet",
        program=m.RETRANSMITS.config,
        alert="TcpRetransmitRateHigh",
    ),
    rows(
        "Firing alerts here",
        "dateTimeFromNow",
        "What fires on the chosen hosts, and since when its condition holds.\n\nNormal: empty.\n\n"
        "If not: the alert's runbook.",
        SINCE,
        BAD_SINCE,
        empty="No firing alert seen",
        span=24,
        height=5,
    ),
    overview(
        "The chosen hosts",
        "What each host does now: kernel latencies, and beside them what node_exporter says, where "
        "it is scraped.\n\nNormal: as usual for these hosts.\n\nIf not: slow disks that are not "
        "busy, and slow connects on an idle host, are somebody else's fault.",
        [
            (ANSWERS, "short", f"min by (instance) (up{{{m.EXPORTERS}}})"),
            ("disk p99", "s", f"max by (instance) ({DISK_P99})"),
            ("connect p99", "s", f"max by (instance) ({CONNECT_P99})"),
            (
                "resent/s",
                "short",
                f"sum by (instance) (instance_netns:ebpf_tcp_retransmits:rate5m{{{S}}})",
            ),
            ("CPU", "percentunit", n.CPU),
            ("memory", "percentunit", n.MEMORY),
            ("load/CPU", "short", n.LOAD),
            ("disk busy", "percentunit", f"max by (instance) ({n.BUSY})"),
            ("disk bytes", "binBps", f"sum by (instance) ({n.READ} + {n.WRITTEN})"),
            ("network", "binBps", f"{n.RECEIVED} + {n.SENT}"),
        ],
        silent_first=True,
        height=5,
    ),
]

NODE = [
    lines(
        "CPU in use",
        "percentunit",
        "Share of all processors that is not idle.\n\nNormal: your load.\n\nIf not: latencies of a "
        "host whose processors are all in use are those of waiting for one.",
        [(n.CPU, "{{instance}}")],
        empty=NO_NODE,
    ),
    lines(
        "Memory in use",
        "percentunit",
        "Share of memory that is not available to programs.\n\nNormal: below 90 %.\n\nIf not: "
        "reclaim and swapping are disk requests too.",
        [(n.MEMORY, "{{instance}}")],
        empty=NO_NODE,
    ),
    lines(
        "Load per processor",
        "short",
        "Tasks that run, wait to run or wait for a disk, per processor.\n\nNormal: below 1.\n\nIf "
        "not: with idle processors, tasks wait for disks.",
        [(n.LOAD, "{{instance}}")],
        empty=NO_NODE,
    ),
    lines(
        "Disk bytes",
        "binBps",
        "Bytes read and written per second.\n\nNormal: your load.\n\nIf not: latency without more "
        "bytes is a slower disk, or more and smaller requests.",
        [(n.READ, "{{device}} read {{instance}}"), (n.WRITTEN, "{{device}} written {{instance}}")],
        empty=NO_NODE,
    ),
    lines(
        "Disk utilisation",
        "percentunit",
        "Share of time in which a disk had requests.\n\nNormal: below 80 %; disks that work in "
        "parallel are not full at 100 %.\n\nIf not: compare the requests in flight.",
        [(n.BUSY, "{{device}} {{instance}}")],
        empty=NO_NODE,
    ),
    lines(
        "Network bytes",
        "binBps",
        "Bytes received and sent per second on all interfaces but loopback.\n\nNormal: your load."
        "\n\nIf not: retransmissions at the speed of the link are a full link.",
        [(n.RECEIVED, "in {{instance}}"), (n.SENT, "out {{instance}}")],
        empty=NO_NODE,
    ),
]

BLOCK = [
    heat("Device time", m.BIO, height=FINE),
    tail("Device time, p99", m.BIO, height=FINE),
    heat("Queue and device time", m.BIO_TOTAL, height=FINE),
    tail("Queue and device time, p99", m.BIO_TOTAL, height=FINE),
    rate("Requests", m.BIO, "iops"),
    lines(
        "Mean time: device, and with the queue",
        "s",
        m.BIO_TOTAL.help,
        [
            (m.BIO.mean(), f"device {m.BIO.legend}"),
            (m.BIO_TOTAL.mean(), f"with queue {m.BIO_TOTAL.legend}"),
        ],
        empty=m.BIO.empty,
        absent=(m.BIO.config, m.BIO.absent()),
    ),
    lines(
        "Requests in flight",
        "short",
        "Mean number of requests that the disk works on (Little's law: rate x mean time).\n\n"
        "Normal: below the queue depth of the disk.\n\nIf not: more in flight without more "
        "requests per second is saturation.",
        [(m.BIO.total(), m.BIO.legend)],
        empty=m.BIO.empty,
        absent=(m.BIO.config, m.BIO.absent()),
    ),
    lines(
        "Requests slower than 131 ms",
        "percentunit",
        "Share of requests above the bucket edge of 131 ms, which is exact where a quantile is "
        "interpolated.\n\nNormal: 0.\n\nIf not: as for the device time.",
        [(m.BIO.above("0.131072"), m.BIO.legend)],
        empty=m.BIO.empty,
        absent=(m.BIO.config, m.BIO.absent()),
    ),
    rate("Failed requests", m.BIO_ERRORS),
]

ACCEPT = [
    heat("Accept queue met by new connections", m.BACKLOG),
    tail("Accept queue, p99", m.BACKLOG, log=False),
    heat("Accept queue filled to", m.QUEUE),
    lines(
        "Connections that met a queue above 75 %",
        "percentunit",
        m.QUEUE.help,
        [(m.QUEUE.above("0.75"), m.QUEUE.legend)],
        empty=m.QUEUE.empty,
        alert=(m.QUEUE.alert, f"{m.QUEUE.full}_count{{{S}}}"),
        absent=(m.QUEUE.config, m.QUEUE.absent()),
        span=12,
    ),
    rate("Accepted handshakes", m.BACKLOG, "count:handshakes/s", span=12),
    rate("Connections dropped at a full queue", m.OVERFLOWS, span=12),
]

CONNECT = [
    heat("Connect time", m.CONNECT),
    tail("Connect time, p99", m.CONNECT),
    rate("Connects by result", m.CONNECT_RESULTS, "count:connects/s", span=12),
    lines(
        "Share of connects that failed",
        "percentunit",
        m.CONNECT_RESULTS.help,
        [(FAILED, "{{scope}} {{instance}}")],
        empty="No failed connect seen",
        alert=("TcpConnectFailuresHigh", FAILED),
        absent=(m.CONNECT.config, m.CONNECT.absent()),
        span=12,
    ),
]

ROUND_TRIPS = [
    heat("Round-trip time", m.RTT),
    tail("Round-trip time, p99", m.RTT),
    tail("Round-trip time per connection, p99", m.CONNECTION_RTT),
    rate("Round-trip samples", m.RTT, "count:samples/s", span=12),
]

LOSS = [
    heat("Delay of retransmissions", m.DELAY),
    tail("Delay of retransmissions, p99", m.DELAY),
    rate(
        "Retransmitted segments by reason",
        m.RETRANSMITS,
        right=[(RATIO, f"{{{{instance}}}} {RIGHT_AXIS}")],
        note=f"The {RIGHT_AXIS} needs node_exporter.",
        alert=("TcpRetransmitRatioHigh", RATIO),
        span=12,
    ),
    rate("Delayed retransmissions", m.DELAY, "count:segments/s", span=12),
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
            SYSTEM: NODE,
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
        closed=SYSTEM,
    )
