# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus: is the monitoring itself well, and do alerts reach people."""

from __future__ import annotations

from . import metrics as m
from .panels import EXACT, alerts, dashboard, lines, number, restarts, variable

S, RATE = m.HOSTS, m.RATE
# Prometheus names a group by file and name; a person knows the name.
GROUP = '"group", "$1", "rule_group", ".+;(.+)"'
LOAD = (
    f"max by (group) (label_replace(prometheus_rule_group_last_duration_seconds{{{S}}} / "
    f"prometheus_rule_group_interval_seconds{{{S}}}, {GROUP}))"
)
FAILURES = f"rate(prometheus_rule_evaluation_failures_total{{{S}}}{RATE})"
# Every Go program has process series.
ITSELF = f" and on (job, instance) prometheus_build_info{{{S}}}"
NO_ALERTMANAGER = "No Alertmanager seen"
# Without an Alertmanager each alert counts as lost, of which the number above tells already.
SENT = f" and on (job, instance) prometheus_notifications_alertmanagers_discovered{{{S}}} > 0"

SERVER = [
    number(
        "Configuration",
        "short",
        "Whether the last reload was accepted.\n\nNormal: loaded.\n\nIf not: the old configuration "
        "is active; runbook PrometheusConfigReloadFailed.",
        f"min(prometheus_config_last_reload_successful{{{S}}})",
        names={"0": ("refused", "red"), "1": ("loaded", "green")},
        empty="not scraped",
        known=m.ANYWHERE,
    ),
    number(
        "Targets down",
        EXACT,
        "Targets of all jobs that did not answer the last scrape.\n\nNormal: 0.",
        "sum(up == bool 0)",
        bad=1,
    ),
    number(
        "Series in memory",
        "short",
        "Active series.\n\nNormal: the number of hosts times some hundreds; about 1 GB of memory "
        "per 300,000.",
        f"sum(prometheus_tsdb_head_series{{{S}}})",
        empty="not scraped",
        known=m.ANYWHERE,
    ),
    number(
        "Blocks on disk",
        "bytes",
        "Size of all finished blocks; the newest 2 to 3 hours are not in it.\n\nNormal: flat once "
        "the retention time has passed.",
        f"sum(prometheus_tsdb_storage_blocks_bytes{{{S}}})",
        empty="not scraped",
        known=m.ANYWHERE,
    ),
    number(
        "Alertmanagers",
        EXACT,
        "Alertmanagers that Prometheus sends alerts to.\n\nNormal: as many as you run; with 0 "
        "alerts are shown but reach nobody.",
        f"max(prometheus_notifications_alertmanagers_discovered{{{S}}})",
        names={"0": ("none", "orange")},
        empty="not scraped",
        known=m.ANYWHERE,
    ),
    number(
        "Version",
        "short",
        "Version of Prometheus.\n\nNormal: one.",
        f"count by (version) (prometheus_build_info{{{S}}})",
        empty="not scraped",
        known=m.ANYWHERE,
        legend="{{version}}",
    ),
    lines(
        "Samples stored",
        "count:samples/s",
        "Samples stored per second.\n\nNormal: targets x samples per scrape / interval.\n\nIf not: "
        "0 is a full disk or no target; runbook PrometheusNotIngesting.",
        [(f"rate(prometheus_tsdb_head_samples_appended_total{{{S}}}{RATE})", "{{instance}}")],
    ),
    lines(
        "Series in memory over time",
        "short",
        "Active series.\n\nNormal: flat.\n\nIf not: a saw-tooth is churn; find the job in Kernel / "
        "Programs, New series.",
        [(f"prometheus_tsdb_head_series{{{S}}}", "{{instance}}")],
    ),
    lines(
        "Rule load",
        "percentunit",
        "Time a rule group takes, as a share of its interval.\n\nNormal: below 20 %.\n\nIf not: "
        "above 100 % evaluations are skipped; runbook PrometheusRuleGroupSlow.",
        [(LOAD, "{{group}}")],
        alert=("PrometheusRuleGroupSlow", f"prometheus_rule_group_interval_seconds{{{S}}}"),
    ),
    lines(
        "Rule failures",
        "count:failures/s",
        "Rules that could not be evaluated, per second.\n\nNormal: 0.\n\nIf not: runbook "
        "PrometheusRuleFailures.",
        [(f"sum by (group) (label_replace({FAILURES}, {GROUP}))", "{{group}}")],
    ),
    lines(
        "Query time, p99",
        "s",
        "Time of the slowest 1 % of queries, by phase.\n\nNormal: below 1 s.\n\nIf not: a "
        "dashboard over too many hosts or too long a range.",
        [
            (
                f'max by (slice) (prometheus_engine_query_duration_seconds{{{S},quantile="0.99"}})',
                "{{slice}}",
            )
        ],
    ),
    lines(
        "Scrapes and targets refused by a limit",
        "count:refused/s",
        "Scrapes above sample_limit and target lists above target_limit.\n\nNormal: 0.\n\nIf not: "
        "runbook PrometheusTargetLimitHit.",
        [
            (
                f"rate(prometheus_target_scrapes_exceeded_sample_limit_total{{{S}}}{RATE})",
                "samples {{instance}}",
            ),
            (
                f"rate(prometheus_target_scrape_pool_exceeded_target_limit_total{{{S}}}{RATE})",
                "targets {{instance}}",
            ),
        ],
    ),
    lines(
        "Blocks on disk over time",
        "bytes",
        "Size of all finished blocks.\n\nNormal: grows until the retention time, then flat.\n\nIf "
        "not: set a retention size below the disk's.",
        [(f"prometheus_tsdb_storage_blocks_bytes{{{S}}}", "{{instance}}")],
    ),
    lines(
        "Database failures",
        "short",
        "Failed compactions and block reloads in 3 hours.\n\nNormal: 0.\n\nIf not: runbook "
        "PrometheusTsdbFailures.",
        [
            (
                f"increase(prometheus_tsdb_compactions_failed_total{{{S}}}[3h])",
                "compactions {{instance}}",
            ),
            (
                f"increase(prometheus_tsdb_reloads_failures_total{{{S}}}[3h])",
                "reloads {{instance}}",
            ),
        ],
    ),
    lines(
        "Memory",
        "bytes",
        "Resident memory of Prometheus.\n\nNormal: flat, rising a little before each "
        "compaction.\n\nIf not: more series, or heavy queries.",
        [(f"process_resident_memory_bytes{{{S}}}{ITSELF}", "{{instance}}")],
    ),
]

DELIVERY = [
    lines(
        "Alerts lost on the way to Alertmanager",
        "count:alerts/s",
        "Alerts that Prometheus could not deliver to its Alertmanagers.\n\n"
        "Normal: 0.\n\nIf not: runbook "
        "PrometheusNotificationsFailing.",
        [
            (f"sum(rate(prometheus_notifications_dropped_total{{{S}}}{RATE}){SENT})", "dropped"),
            (f"sum(rate(prometheus_notifications_errors_total{{{S}}}{RATE}){SENT})", "errors"),
        ],
        empty="No configured Alertmanager seen",
    ),
    lines(
        "Messages sent by Alertmanager",
        "count:messages/s",
        "Messages to people, by way.\n\nNormal: a few; none while nothing fires, but for the "
        "Watchdog.",
        [
            (
                f"sum by (integration) (rate(alertmanager_notifications_total{RATE}))",
                "{{integration}}",
            )
        ],
        empty=NO_ALERTMANAGER,
    ),
    lines(
        "Messages that failed",
        "count:messages/s",
        "Messages that a receiver refused or that never arrived.\n\nNormal: 0.\n\nIf not: runbook "
        "AlertmanagerNotificationsFailing.",
        [
            (
                f"sum by (integration) (rate(alertmanager_notifications_failed_total{RATE}))",
                "{{integration}}",
            )
        ],
        empty=NO_ALERTMANAGER,
    ),
]


def build() -> str:
    """Return the dashboard's JSON."""
    return dashboard(
        "Monitoring / Prometheus",
        "linmonitor-prometheus",
        "Whether the monitoring itself is well, and whether alerts reach people.",
        layout={"Prometheus": SERVER, "Delivery of alerts": DELIVERY},
        variables=[
            variable("job", "Job", "label_values(prometheus_build_info, job)"),
            variable(
                "instance", "Server", 'label_values(prometheus_build_info{job=~"$job"}, instance)'
            ),
        ],
        annotations=[
            alerts('alertname=~"(Prometheus|Alertmanager).+"'),
            restarts("Prometheus restarted", S, ITSELF),
        ],
    )
