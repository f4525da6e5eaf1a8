# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs: do the BPF programs run, are their numbers whole, and what do they cost."""

from __future__ import annotations

from . import metrics as m
from .panels import EXACT, alerts, dashboard, lines, number, restarts, rows, variable

S, RATE, E = m.HOSTS, m.RATE, m.PREFIX
# The id changes at each start: config and program come from the info series.
INFO = f"* on (job, instance, id) group_left (config, program) {E}ebpf_program_info{{{S}}}"
STATS = "Needs kernel.bpf_stats_enabled=1"
STATS_HELP = (
    "Shown only while `sysctl kernel.bpf_stats_enabled=1`, which itself costs some nanoseconds per "
    "event: switch it on to measure, then off."
)
RUN_TIME = f"rate({E}ebpf_program_run_time_seconds{{{S}}}{RATE})"
RUN_COUNT = f"rate({E}ebpf_program_run_count_total{{{S}}}{RATE})"
CORES = f"instance:ebpf_program_cpu_cores:rate5m{{{S}}}"
DROPPED = f"instance_config:ebpf_dropped_events:ratio_rate5m{{{S}}}"
DECODER = f"sum by (instance, config) (rate({E}decoder_errors_total{{{S}}}{RATE}))"

STATE = [
    number(
        "Programs attached",
        EXACT,
        "BPF programs attached on the chosen hosts.\n\nNormal: all that are loaded.",
        f"sum({E}ebpf_program_attached{{{S}}})",
    ),
    number(
        "Programs not attached",
        EXACT,
        "BPF programs that are loaded but see no events.\n\nNormal: 0.\n\nIf not: the table names "
        "them; runbook EbpfProgramNotAttached.",
        f"count({E}ebpf_program_attached{{{S}}} == 0) or vector(0)",
        bad=1,
    ),
    number(
        "Events dropped",
        "percentunit",
        "Largest share of events that a program could not record: a map was full, or the kernel "
        "skipped a program.\n\nNormal: below 2 %.\n\nIf not: numbers are too low; runbook "
        "EbpfEventsDropped.",
        f"max({DROPPED})",
        empty="no events",
        alert="EbpfEventsDropped",
    ),
    number(
        "Decoder errors",
        "count:errors/s",
        "Map keys that the exporter could not decode.\n\nNormal: 0.\n\nIf not: the whole metric is "
        "missing; runbook EbpfDecoderErrors.",
        f"sum({DECODER})",
        bad=1e-9,
    ),
    number(
        "Cost on the worst host",
        "percentunit",
        f"CPU time of the BPF programs, as a share of one core. {STATS_HELP}\n\n"
        "Normal: far below 5 %.",
        f"max({CORES})",
        empty="needs bpf_stats",
        alert="EbpfOverheadHigh",
    ),
    number(
        "Series per host",
        "short",
        "Largest number of samples in one scrape of a host.\n\nNormal: some hundreds; "
        "docs/sizing.md says how many that may become.",
        f"max(scrape_samples_post_metric_relabeling{{{m.EXPORTERS}}})",
    ),
    rows(
        "Attached programs",
        EXACT,
        "On how many hosts each program is attached.\n\nNormal: the number of hosts whose kernel "
        "can run it.",
        f"count by (config, program) (({E}ebpf_program_attached{{{S}}} == 1) {INFO})",
        "hosts",
        span=12,
    ),
    rows(
        "Not attached",
        EXACT,
        "Programs that are loaded but not attached, by host.\n\nNormal: empty.\n\nIf not: runbook "
        "EbpfProgramNotAttached.",
        f"count by (instance, config, program) (({E}ebpf_program_attached{{{S}}} == 0) + on (job, "
        f"instance, id) group_left (config, program) (0 * {E}ebpf_program_info{{{S}}}))",
        "programs",
        empty="No unattached program seen",
        span=12,
    ),
    rows(
        "Configs",
        EXACT,
        "On how many hosts each config runs.\n\nNormal: all hosts, except those whose kernel "
        "cannot run it (the role says why).",
        f"count by (name) ({E}enabled_configs{{{S}}})",
        "hosts",
        span=12,
    ),
    rows(
        "Versions",
        EXACT,
        "Versions of the exporter.\n\nNormal: one; two while a release rolls out.",
        f"count by (version) ({E}build_info{{{S}}})",
        "hosts",
        span=12,
    ),
]

COST = [
    lines(
        "Time per event",
        "s",
        f"Mean time of one run of each program. {STATS_HELP}\n\nNormal: 50 to 500 ns.\n\nIf not: a "
        "slow or emulated machine, or a contended map.",
        [
            (
                f"avg by (config, program) (({RUN_TIME} / ({RUN_COUNT} > 0)) {INFO})",
                "{{config}} {{program}}",
            )
        ],
        empty=STATS,
    ),
    lines(
        "Events",
        "count:events/s",
        f"Runs of each program per second. {STATS_HELP}\n\nNormal: your load; tcp-rtt is the "
        "busiest.",
        [(f"sum by (config, program) ({RUN_COUNT} {INFO})", "{{config}} {{program}}")],
        empty=STATS,
    ),
    lines(
        "Cost of the programs",
        "percentunit",
        f"CPU time of the BPF programs, as a share of one core. {STATS_HELP}\n\nNormal: far below "
        "5 %.\n\nIf not: runbook EbpfOverheadHigh.",
        [(CORES, "{{instance}}")],
        empty=STATS,
        alert=("EbpfOverheadHigh", CORES),
    ),
    lines(
        "CPU of the exporter",
        "percentunit",
        "CPU time of the exporter itself, as a share of one core, nearly all of it while it is "
        "scraped.\n\nNormal: below 2 %.\n\nIf not: too many series, or scraped too often.",
        [(f"rate(process_cpu_seconds_total{{{m.EXPORTERS}}}{RATE})", "{{instance}}")],
    ),
    lines(
        "Memory of the exporter",
        "bytes",
        "Resident memory of the exporter; BPF maps are the kernel's and not in it.\n\nNormal: 30 "
        "to 60 MB, flat.\n\nIf not: a rising line is a leak; restart and report it.",
        [(f"process_resident_memory_bytes{{{m.EXPORTERS}}}", "{{instance}}")],
    ),
]

WHOLE = [
    lines(
        "Dropped events",
        "percentunit",
        "Share of events that a program could not record: a map was full, or the kernel skipped "
        "it.\n\nNormal: below 2 %.\n\nIf not: its numbers are too low; runbook EbpfEventsDropped.",
        [(DROPPED, "{{instance}} {{config}}")],
        empty="No dropped event seen",
        alert=("EbpfEventsDropped", DROPPED),
    ),
    lines(
        "Decoder errors over time",
        "count:errors/s",
        "Map keys that the exporter could not decode.\n\nNormal: 0.\n\nIf not: runbook "
        "EbpfDecoderErrors.",
        [(DECODER, "{{instance}} {{config}}")],
    ),
    lines(
        "Samples per scrape",
        "short",
        "Samples that each host delivers.\n\nNormal: some hundreds, growing only with new disks or "
        "label values.\n\nIf not: a label grows without bound.",
        [(f"scrape_samples_post_metric_relabeling{{{m.EXPORTERS}}}", "{{instance}}")],
    ),
    lines(
        "Scrape duration",
        "s",
        "Time from request to last byte.\n\nNormal: below 100 ms.\n\nIf not: many series, a "
        "starved host or a slow network.",
        [(f"scrape_duration_seconds{{{m.EXPORTERS}}}", "{{instance}}")],
    ),
    lines(
        "New series",
        "count:series",
        "Series that appear with each scrape, of all hosts.\n\nNormal: 0 but for new hosts and "
        "restarts.\n\nIf not: a label changes all the time and fills Prometheus.",
        [(f"sum by (job) (avg_over_time(scrape_series_added{{{m.EXPORTERS}}}{RATE}))", "{{job}}")],
    ),
]


def build() -> str:
    """Return the dashboard's JSON."""
    return dashboard(
        "Kernel / Programs",
        "linmonitor-programs",
        "Whether the BPF programs run, whether their numbers are whole, and what they cost.",
        layout={"State": STATE, "Cost": COST, "Are the numbers whole?": WHOLE},
        variables=[
            variable("job", "Job", f"label_values({E}enabled_configs, job)"),
            variable(
                "instance", "Host", 'label_values(up{job="ebpf_exporter",job=~"$job"}, instance)'
            ),
        ],
        annotations=[
            alerts(f'alertname=~"Ebpf.+",{S}'),
            restarts("Exporter (re)started, deployed", m.EXPORTERS),
        ],
    )
