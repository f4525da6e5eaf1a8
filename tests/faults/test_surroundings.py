# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong around a Prometheus is told by it, and costs nothing but what it hits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.lab.monitor import Monitor
from tests.lab.wait import settled

UNIT = "linmonitor-prometheus"
DATA = "/var/lib/linmonitor/prometheus"
FILLER = f"{DATA}/filler"
FILL = f"dd if=/dev/zero of={FILLER} bs=4k"
FLOOD = "127.0.0.1:8043"
# Prometheus notes its running queries in a file of that many places, taken in turn, and makes each
# in the file as it is first taken. One that cannot be made is the server's end: SIGBUS.
PLACES_FOR_QUERIES = 20
# More than the role lets a target of the exporters' job have.
PLAY_A_FLOOD = """\
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write("".join(f"a{{b=\\"{n}\\"}} 1\\n" for n in range(60001)).encode())
HTTPServer(("127.0.0.1", 8043), Handler).serve_forever()
"""
SETTINGS = {
    "prometheus_scrape_interval": "2s",
    # For as long what was scraped last counts as what is so now.
    "prometheus_flags": {"query.lookback-delta": "30s"},
    "prometheus_alerts": {
        name: {"hold": "0s"}
        for name in (
            "PrometheusNotIngesting",
            "PrometheusNotificationsFailing",
            "PrometheusTargetLimitHit",
        )
    },
}


@pytest.fixture(scope="module")
def host() -> Iterator[Monitor]:
    """Have a server with samples."""
    with closing(Monitor("faults-surroundings")) as monitor:
        monitor.deploy(**SETTINGS)
        settled("some samples", lambda: len(samples(monitor)) > 5)
        yield monitor


def samples(host: Monitor) -> list[list]:
    """Return times and values of the server's scrapes of itself."""
    query = "up%7Bjob%3D%22prometheus%22%7D%5B1h%5D"
    [found] = host.ask(f"query?query={query}")["result"] or [{}]
    return found.get("values", [])


def firing(host: Monitor, alert: str) -> bool:
    """Say whether an alert fires."""
    alerts = host.ask("alerts")["alerts"]
    return any(one["labels"]["alertname"] == alert and one["state"] == "firing" for one in alerts)


def goes_on(host: Monitor) -> None:
    """Wait until the server has scraped itself since now, and see that a run changes nothing."""
    now = time.time()
    settled("scraped again", lambda: any(moment > now for moment, _ in samples(host)))
    assert "changed=0" in host.deploy(**SETTINGS)


@pytest.mark.reliability(
    "Prometheus: a target with more samples than a host can have",
    "refused whole and told, the others are scraped",
)
def test_flood_of_a_target_is_refused_and_told(host: Monitor) -> None:
    host.run(f"systemd-run --quiet --unit=flood python3 -c '{PLAY_A_FLOOD}'")
    targets = [{"targets": [FLOOD], "labels": {"instance": "flood"}}]
    host.deploy(**SETTINGS, prometheus_targets=targets)

    def refusal() -> str:
        found = host.ask("targets?state=active")["activeTargets"]
        of_flood = (one["lastError"] for one in found if one["labels"]["instance"] == "flood")
        return next(of_flood, "")

    settled("refused", lambda: "sample limit exceeded" in refusal())
    settled("told", lambda: firing(host, "PrometheusTargetLimitHit"))
    host.run("systemctl stop flood")
    host.deploy(**SETTINGS)
    goes_on(host)


@pytest.mark.reliability("Prometheus: an Alertmanager that is away", "told; scraping goes on")
def test_alertmanager_that_is_away_is_told(host: Monitor) -> None:
    nobody = [{"static_configs": [{"targets": ["127.0.0.1:9"]}]}]
    host.deploy(**SETTINGS, prometheus_alertmanagers=nobody)
    settled("told", lambda: firing(host, "PrometheusNotificationsFailing"))
    host.deploy(**SETTINGS)
    goes_on(host)


@pytest.mark.reliability(
    "Prometheus: a log with wrong bytes in its middle", "starts, has what was before them"
)
def test_log_with_wrong_bytes_costs_what_follows_them_alone(host: Monitor) -> None:
    host.run(f"systemctl stop {UNIT}")
    segment = host.run(f"ls {DATA}/wal/0* | tail -1")
    size = int(host.run(f"stat --format %s {segment}"))
    before = int(size * 0.7)
    host.run(f"printf '%064d' 7 | dd of={segment} bs=1 seek={before} conv=notrunc status=none")
    host.deploy(**SETTINGS)
    settled("repaired", lambda: samples(host))
    journal = host.run(f"journalctl --unit={UNIT} --no-pager")
    assert "corruption" in journal.lower()
    assert len(samples(host)) > 5
    goes_on(host)


@pytest.fixture(scope="module")
def small_disk(host: Monitor) -> None:
    """Give the server's data a small disk."""
    host.run(f"systemctl stop {UNIT}")
    host.run(f"mv {DATA} {DATA}.whole; mkdir {DATA}; mount -t tmpfs -o size=64m tmpfs {DATA}")
    host.run(f"cp -a {DATA}.whole/. {DATA}/; chown --reference={DATA}.whole {DATA}")
    host.run(f"chmod --reference={DATA}.whole {DATA}; systemctl start {UNIT}")
    settled("it runs", lambda: samples(host))


@pytest.mark.reliability(
    "Prometheus: a full disk below its samples", "told; all that was stored stays, scraping goes on"
)
@pytest.mark.usefixtures("small_disk")
def test_full_disk_keeps_what_was_stored(host: Monitor) -> None:
    for _ in range(PLACES_FOR_QUERIES):
        known = samples(host)
    host.run(FILL)
    settled("told", lambda: firing(host, "PrometheusNotIngesting"))
    host.run(f"rm {FILLER}")
    goes_on(host)
    assert samples(host)[: len(known)] == known
    # What the log got since then lies behind the record that had no room: no start can read it.
    host.run(f"systemctl restart {UNIT}")
    settled("it runs", lambda: samples(host)[: len(known)] == known)


@pytest.mark.reliability(
    "Prometheus: a start on a full disk",
    "tried until there is room; all that was stored stays, scraping goes on",
)
@pytest.mark.usefixtures("small_disk")
def test_start_on_a_full_disk_is_tried_until_there_is_room(host: Monitor) -> None:
    known = samples(host)
    host.run(f"systemctl stop {UNIT}; rm {DATA}/queries.active; {FILL}")
    host.run(f"systemctl start {UNIT}")
    tries = f"systemctl show --property NRestarts --value {UNIT}"
    settled("tried again", lambda: int(host.run(tries)) > 1)
    host.run(f"rm {FILLER}")
    goes_on(host)
    assert samples(host)[: len(known)] == known
