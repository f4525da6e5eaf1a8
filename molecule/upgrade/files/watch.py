# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scrape the first of several URLs that answers, ten times a second, until SIGTERM.

Prints the longest time between two answers, the ports in the order in which they answered, and
when each process that answered was started.
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import sys
import time
import urllib.parse
import urllib.request

INTERVAL = 0.1
STARTED = re.compile(r"^process_start_time_seconds (\S+)$", re.M)


def scrape(urls: list[str]) -> tuple[int, str] | None:
    """Return the port that answered as an exporter with programs, and when its process started."""
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                text = answer.read().decode()
        except (OSError, http.client.HTTPException):  # the latter: stopped while it answered
            continue
        if "\nebpf_exporter_enabled_configs{" in text:
            return urllib.parse.urlsplit(url).port, STARTED.search(text)[1]
    return None


def main() -> None:
    """Watch the URLs of the command line."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    gap, scrapes, ports, processes = 0.0, 0, [], []
    last = time.monotonic()
    while not stopped:
        found = scrape(sys.argv[1:])
        scrapes += 1
        gap = max(gap, time.monotonic() - last)
        if found:
            last = time.monotonic()
            for seen, new in zip((ports, processes), found):
                if seen[-1:] != [new]:
                    seen.append(new)
        time.sleep(INTERVAL)
    report = {"gap": round(gap, 2), "scrapes": scrapes, "ports": ports, "processes": processes}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
