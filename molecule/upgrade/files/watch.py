# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scrape several ports ten times a second each, as Prometheus would, until SIGTERM.

Prints for each port how many scrapes there were, what became of those that failed, and the
longest wait of the others: `refused`, where nobody listened; `cut`, by a process that ended while
it answered; `late`, after Prometheus' own limit. Then the ports in the order in which they
answered, and when each process that answered was started.
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import sys
import threading
import time
import urllib.error
import urllib.request

INTERVAL = 0.1
SCRAPE_TIMEOUT = 10
STARTED = re.compile(r"^process_start_time_seconds (\S+)$", re.M)


class Port:
    """What became of the scrapes of one port."""

    def __init__(self, number: int) -> None:
        """Begin with none."""
        self.number = number
        self.counts = {"scrapes": 0, "refused": 0, "cut": 0, "late": 0}
        self.wait = 0.0
        self.answers: list[tuple[float, str]] = []

    def scrape(self) -> None:
        """Scrape once and note what became of it."""
        self.counts["scrapes"] += 1
        began = time.monotonic()
        try:
            url = f"http://127.0.0.1:{self.number}/metrics"
            with urllib.request.urlopen(url, timeout=SCRAPE_TIMEOUT) as answer:
                text = answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            late = isinstance(reason, TimeoutError)
            refused = isinstance(reason, ConnectionRefusedError)
            self.counts["late" if late else "refused" if refused else "cut"] += 1
            return
        if "\nebpf_exporter_enabled_configs{" in text:
            self.wait = max(self.wait, time.monotonic() - began)
            self.answers.append((began, STARTED.search(text)[1]))

    def report(self) -> dict:
        """Say what became of them."""
        return {**self.counts, "wait": round(self.wait, 2)}


def runs(values: list) -> list:
    """Return values without those that equal the one before."""
    return [new for before, new in zip([None, *values], values) if new != before]


def main() -> None:
    """Watch the ports of the command line."""
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    ports = [Port(int(word)) for word in sys.argv[1:]]
    threads = []
    while not stopped:
        # One for each scrape: one that waits keeps no other from being made.
        for port in ports:
            threads.append(threading.Thread(target=port.scrape))
            threads[-1].start()
        time.sleep(INTERVAL)
    for thread in threads:
        thread.join()
    answers = sorted((*answer, port.number) for port in ports for answer in port.answers)
    report = {
        "scrapes": {str(port.number): port.report() for port in ports},
        "ports": runs([number for _began, _process, number in answers]),
        "processes": runs([process for _began, process, _number in answers]),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
