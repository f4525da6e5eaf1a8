# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that turn what was asked of hosts and of Prometheus into a readable table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

DOCUMENTATION = r"""
name: report
short_description: Turn answers of hosts and of Prometheus into a readable table
version_added: 1.0.0
description:
  - Used by C(playbooks/verify.yml) and C(playbooks/preflight.yml).
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

# Prometheus' name for a histogram's number of events.
COUNT = "_count"


def text_table(rows: list[dict], columns: list[str]) -> str:
    """Return rows as text with a header line and aligned columns."""
    cells = [columns, *([str(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    cells.insert(1, ["-" * width for width in widths])
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths)) for line in cells)
    return "\n".join(line.rstrip() for line in lines)


def _answers(samples: list[dict], ask: str) -> dict[tuple[str, str], float]:
    """Read one question's answers as {(instance, metric): value}."""
    return {
        (labels["instance"], labels.get("metric", "").removesuffix(COUNT)): float(value)
        for labels, value in ((sample["metric"], sample["value"][1]) for sample in samples)
        if labels["ask"] == ask
    }


def scraped_since(samples: list[dict], earlier: list[dict], hosts: list[str]) -> bool:
    """Say whether every host was scraped again since an earlier answer."""
    before, now = _answers(earlier, "scraped"), _answers(samples, "scraped")
    return all(now.get((host, ""), 0.0) > before.get((host, ""), 0.0) for host in hosts)


def _seconds(value: float | None, metric: str) -> str:
    """Show a latency in the unit that people read it in, and other numbers as they are."""
    if value is None or math.isnan(value):
        return "-"
    if not metric.endswith("_seconds"):
        return f"{value:.3g}"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def _fault(server: str, scrapers: list[str], shown: bool, events: float) -> str:
    """Say what keeps a metric from being true, from the kernel's end backwards."""
    if server not in scrapers:
        return f"Prometheus of {server} has no such target: run site.yml"
    if others := [one for one in scrapers if one != server]:
        return (
            f"Prometheus of {', '.join(others)} scrapes it too, and it belongs to the shard of "
            f"{server}: run site.yml"
        )
    if not shown:
        return "there is no such series: look at the target in Prometheus and at its journal"
    if events <= 0:
        return "no event was counted although the workload makes some"
    return ""


def left_out(hosts: list[str], programs: Iterable[dict]) -> list[str]:
    """Say which programs do not run on which host, and why each variant was refused."""
    return [
        f"{config} is left out on {host}: "
        + "; ".join(f"{variant} {reason}" for variant, reason in verdict["refused"].items())
        for host, verdicts in zip(hosts, programs)
        for config, verdict in verdicts.items()
        if not verdict["variant"]
    ]


def verify_rows(
    hosts: list[str],
    measures: Iterable[dict],
    shares: Mapping[str, list[str]],
    before: Mapping[str, list[dict]],
    after: Mapping[str, list[dict]],
) -> list[dict]:
    """Join what each host should show with what Prometheus has.

    `measures` are each host's running programs with the metrics that must move. `shares` says
    which Prometheus has which hosts; `before` and `after` are the answers of each. Each row has
    metric, host, events, p50, p99, age and fault.
    """
    server_of = {host: server for server, share in shares.items() for host in share}
    ages = {server: _answers(samples, "age") for server, samples in after.items()}
    rows = []
    for host, programs in zip(hosts, measures):
        server = server_of[host]
        earlier, counts = (_answers(one[server], "events") for one in (before, after))
        p50, p99 = (_answers(after[server], ask) for ask in ("p50", "p99"))
        age = ages[server].get((host, ""))
        scrapers = [one for one, known in ages.items() if (host, "") in known]
        row = {"host": host, "age": "-" if age is None else f"{age:.0f} s"}
        for metric in (metric for metrics in programs.values() for metric in metrics):
            key = (host, metric)
            events = counts.get(key, 0.0) - earlier.get(key, 0.0)
            rows.append(
                row
                | {
                    "metric": metric,
                    "events": f"{events:.0f}",
                    "p50": _seconds(p50.get(key), metric),
                    "p99": _seconds(p99.get(key), metric),
                    "fault": _fault(server, scrapers, key in counts, events),
                }
            )
    return rows


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {
            "left_out": left_out,
            "scraped_since": scraped_since,
            "text_table": text_table,
            "verify_rows": verify_rows,
        }
