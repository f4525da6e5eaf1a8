# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a live Prometheus every query of every panel, and the health of every rule.

python -m tests.dashboards.live --prometheus http://localhost:9090
"""

from __future__ import annotations

import argparse
import math
import re
import sys
from dataclasses import dataclass
from urllib.error import HTTPError

from tests.dashboards import reading
from tests.dashboards.api import Prometheus, Series, Window


@dataclass(frozen=True)
class Answer:
    """What one query of a panel returned: its finite values, or the server's refusal."""

    panel: str
    ref: str
    expr: str
    series: list[Series]
    error: str = ""

    @property
    def values(self) -> list[float]:
        return [value for one in self.series for value in one.values if math.isfinite(value)]

    @property
    def name(self) -> str:
        return f"{self.panel} {self.ref}"

    def __str__(self) -> str:
        """Return one line of the report."""
        values = self.values
        if self.error or not values:
            return f"{'ERROR ' + self.error if self.error else 'EMPTY':<40}{self.name}"
        reach = f"{min(values):.4g} .. {max(values):.4g}"
        return f"{len(self.series):>4} series {reach:<28}{self.name}"


def answers(server: Prometheus, window: Window, values: dict[str, str]) -> list[Answer]:
    """Return the answer to each query of each panel."""
    found = []
    for document in reading.documents():
        for panel in reading.panels(document):
            title = f"{document['title']}: {panel['title']}"
            for letter, query in reading.asked(panel):
                expr = reading.filled(query, values)
                try:
                    series, error = server.range(expr, window), ""
                except HTTPError as refusal:
                    series, error = [], refusal.read().decode()
                found.append(Answer(title, letter, expr, series, error))
    return found


def unhealthy(server: Prometheus) -> list[str]:
    """Return the rules that were evaluated and failed, with the reason."""
    return [
        f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}"
        for rule in server.rules()
        if rule["health"] != "ok"
    ]


def main() -> int:
    """Print the report; return 1 where a query is empty unexpectedly, or a rule is not healthy."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--minutes", type=float, default=5, help="range of time (default 5)")
    parser.add_argument("--instance", default=reading.ALL, help="hosts, as a regular expression")
    parser.add_argument(
        "--may-be-empty",
        default="$^",
        metavar="REGEX",
        help="panels ('Dashboard: panel REF') whose cause was not made to happen",
    )
    options = parser.parse_args()
    server = Prometheus(options.prometheus)
    values = {"instance": options.instance}
    found = answers(server, Window.last(options.minutes), values)
    for answer in found:
        print(answer)
    bad_rules = unhealthy(server)
    for line in bad_rules:
        print(f"RULE {line}")
    empty = [answer for answer in found if not answer.values]
    bad = [answer for answer in empty if not re.search(options.may_be_empty, answer.name)]
    print(
        f"{len(found)} queries, {len(empty)} without finite data, {len(bad)} of them unexpected; "
        f"{len(bad_rules)} of {len(server.rules())} rules not healthy"
    )
    return 1 if bad or bad_rules else 0


if __name__ == "__main__":
    sys.exit(main())
