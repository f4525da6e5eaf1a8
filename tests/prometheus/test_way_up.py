# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the default version to the newest, on one host and by the role: every sample stays.

The programs are real: compiled from Go modules, or out of Debian's packages.
"""

from __future__ import annotations

import shutil
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.lab import prometheus
from tests.lab.deployed import failures
from tests.lab.monitor import Monitor

DATA = "/var/lib/linmonitor/prometheus"
UNIT = "/etc/systemd/system/linmonitor-prometheus.service"
# It scrapes itself as an exporter too, so that no alert has a reason to fire.
SETTINGS = {
    "prometheus_scrape_interval": "2s",
    "prometheus_targets": [{"targets": ["127.0.0.1:9090"], "labels": {"instance": "box"}}],
}
HOURS = 30
# A block of an earlier day, in the form of the version that makes it.
OLD = """\
cd /tmp && {{ echo '# TYPE old gauge'
i=0; while [ $i -lt 500 ]; do echo "old{{le=\\"1\\"}} $i $(({at} + 15 * i))"; i=$((i + 1)); done
echo '# EOF'; }} >old.txt
/opt/linmonitor/prometheus/*/promtool tsdb create-blocks-from openmetrics old.txt {data} >/dev/null
chown -R linmonitor-prometheus: {data} && ls -d {data}/01* | wc -l
"""
ELF_MACHINE, AARCH64 = 18, 183


class Way:
    """The host, and every sample that it had at a time."""

    def __init__(self) -> None:
        """Boot it with the default version, and wait for samples."""
        self.host = Monitor("way-up")
        status, output = self.go(prometheus.VERSION)
        assert status == 0, failures(output)
        began = int(time.time())
        blocks = self.host.run(OLD.format(at=began - 24 * 3600, data=DATA))
        assert int(blocks) > 0
        # It takes them up at a start.
        self.host.run("systemctl restart linmonitor-prometheus")
        ready = (
            "python3 -c 'import urllib.request as r; r.urlopen(\"http://127.0.0.1:9090/-/ready\")'"
        )
        self.host.run(f"for _ in $(seq 120); do {ready} 2>/dev/null && break; sleep 1; done")
        self.settle()
        self.until = int(time.time())
        self.samples = self.all_samples()

    def settle(self) -> None:
        """Wait until it has evaluated its rules after a start."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            health = {rule["health"] for rule in self.rules()}
            if "unknown" not in health and self.firing() == {"Watchdog"}:
                break
            time.sleep(1)

    def rules(self) -> list[dict]:
        """Return the rules as the server has them."""
        return [rule for group in self.host.ask("rules")["groups"] for rule in group["rules"]]

    def go(self, version: str, **variables: object) -> tuple[int, str]:
        """Deploy a version."""
        return self.host.play(SETTINGS | prometheus.handed_in(version) | variables)

    def all_samples(self) -> dict[str, list]:
        """Return every sample until then, by series."""
        query = quote(f'{{__name__=~".+"}}[{HOURS}h]')
        found = self.host.ask(f"query?query={query}&time={self.until}")["result"]
        return {str(sorted(one["metric"].items())): one["values"] for one in found}

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {
            alert["labels"]["alertname"]
            for alert in self.host.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }


@pytest.fixture(scope="module")
def way() -> Iterator[Way]:
    """Have the host with samples of the default version."""
    way = Way()
    yield way
    way.host.close()


def version_of(way: Way) -> str:
    return way.host.ask("status/buildinfo")["version"].partition("+")[0]


def test_there_is_something_to_lose(way: Way) -> None:
    assert version_of(way) == prometheus.VERSION
    assert len(way.samples) > 300
    old = next(values for series, values in way.samples.items() if "'old'" in series)
    assert len(old) == 500
    assert min(len(values) for series, values in way.samples.items() if "'up'" in series) > 1


@pytest.mark.parametrize("archive", ["another machine's", "another version's"])
def test_a_program_that_is_not_the_one_asked_for_is_refused(
    way: Way, tmp_path: Path, archive: str
) -> None:
    process = way.host.process()
    packed = tmp_path / "prometheus-2.99.0.linux-amd64"
    packed.mkdir()
    for name in prometheus.PROGRAMS:
        shutil.copy(prometheus.tool(name), packed / name)
    if archive == "another machine's":
        with (packed / "prometheus").open("r+b") as program:
            program.seek(ELF_MACHINE)
            program.write(AARCH64.to_bytes(2, "little"))
    tarball = tmp_path / "other.tar.gz"
    with tarfile.open(tarball, "w:gz", compresslevel=1) as made:
        made.add(packed, arcname=packed.name)
    status, output = way.go(
        prometheus.VERSION,
        prometheus_version="2.99.0",
        prometheus_archive=str(tarball),
        prometheus_archive_sha256=prometheus.sha256(tarball),
        linmonitor_cache=str(tmp_path / "cache"),
    )
    assert status != 0
    said = {
        "another machine's": "cannot be executed (ENOEXEC)",
        "another version's": "version 2.37.8",
    }
    assert said[archive] in output, failures(output)
    assert "has no Prometheus 2.99.0 that runs on box" in output
    assert "linux-amd64 by prometheus_archive" in output
    assert way.host.process() == process
    assert way.host.run("ls /opt/linmonitor/prometheus") == way.host.run(
        "ls /opt/linmonitor/prometheus | grep -v 2.99.0"
    )


@pytest.mark.parametrize("version", prometheus.to_be_had()[1:])
def test_each_step_keeps_every_sample_and_every_rule_works(way: Way, version: str) -> None:
    status, output = way.go(version)
    assert status == 0, failures(output)
    assert "action: restarted" in output
    assert version_of(way) == prometheus.handed_in(version)["prometheus_version"]
    assert way.all_samples() == way.samples
    way.settle()
    assert way.firing() == {"Watchdog"}
    assert {(rule["health"], rule.get("lastError", "")) for rule in way.rules()} == {("ok", "")}
    assert "changed=0" in way.go(version)[1]


def test_the_way_back_from_3_is_refused_before_anything_stops(way: Way) -> None:
    before = way.host.process(), way.host.run(f"sha256sum {UNIT}")
    status, output = way.go(prometheus.VERSION)
    assert status != 0
    assert f"and can be read from 2.55 on; prometheus_version is {prometheus.VERSION}" in output
    assert f"{DATA} were written by Prometheus 3." in output, failures(output)
    assert (way.host.process(), way.host.run(f"sha256sum {UNIT}")) == before
    assert way.all_samples() == way.samples


def test_the_way_back_to_2_55_keeps_every_sample(way: Way) -> None:
    if "2.55.1" not in prometheus.to_be_had():
        pytest.skip("not compiled here: python -m tests.lab.prometheus 2.55.1")
    status, output = way.go("2.55.1")
    assert status == 0, failures(output)
    assert (version_of(way), way.all_samples()) == ("2.55.1", way.samples)
