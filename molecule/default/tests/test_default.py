# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the running host, not its files, whether the stack measures this kernel."""

from __future__ import annotations

import io
import json
import re
import time

import pytest
from elftools.elf.elffile import ELFFile

from tests.pins import DEFAULT, LIBBPF

CURRENT = "/opt/linmonitor/current"
EXPORTER = f"{CURRENT}/bin/ebpf_exporter"
WRITES = 300


@pytest.fixture(scope="module")
def manifest(host):
    return json.loads(host.file(f"{CURRENT}/manifest.json").content_string)


def get(host, url: str) -> str:
    """Fetch a URL from inside the host, whose services listen on its loopback."""
    program = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    return host.check_output("python3 -c %s %s", program, url)


def query(host, expression: str) -> list[dict]:
    quoted = expression.replace("{", "%7B").replace("}", "%7D").replace('"', "%22")
    answer = json.loads(get(host, f"http://127.0.0.1:9090/api/v1/query?query={quoted}"))
    return answer["data"]["result"]


def requests_counted(host) -> float:
    metrics = get(host, "http://127.0.0.1:9435/metrics")
    counts = re.findall(r"^ebpf_exporter_bio_latency_seconds_count\{.*\} (\S+)$", metrics, re.M)
    return sum(map(float, counts))


@pytest.fixture(scope="module")
def exporter(host) -> bytes:
    return host.file(EXPORTER).content


def test_exporter_is_static(exporter):
    elf = ELFFile(io.BytesIO(exporter))
    assert elf.get_section_by_name(".dynamic") is None
    assert {"PT_DYNAMIC", "PT_INTERP"}.isdisjoint(s.header.p_type for s in elf.iter_segments())


def test_exporter_version_is_reproducible(host):
    version = host.check_output(f"{EXPORTER} --version 2>&1")
    assert f"version {DEFAULT['exporter']}" in version
    assert re.search(r"build date: +19700101-00:00:00", version)
    assert re.search(r"build user: +linmonitor\.stack", version)


def test_exporter_holds_the_libbpfgo_of_the_table(exporter):
    # The text that `go version -m` prints; the host itself needs no Go.
    replaced = re.search(rb"\n=>\tgithub.com/aquasecurity/libbpfgo\t(\S+)\t(\S+)\n", exporter)
    named = b" ".join([b"github.com/aquasecurity/libbpfgo", *replaced.groups()])
    assert named.decode() == DEFAULT["sums"][0]


def test_manifest_names_libbpf_and_its_content(manifest):
    assert manifest["inputs"]["libbpf"] == DEFAULT["libbpf"] == "1.2.0"
    assert manifest["inputs"]["pins"]["libbpf"] == LIBBPF["tree"]


def test_files_of_the_release_are_those_of_the_manifest(host, manifest):
    lines = "".join(f"{digest}  {name}\n" for name, digest in manifest["files"].items())
    checked = host.run("cd %s && printf %%s %s | sha256sum --check --quiet", CURRENT, lines)
    assert checked.rc == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("unit", ["ebpf_exporter", "linmonitor-prometheus"])
def test_service_runs_and_starts_at_boot(host, unit):
    service = host.service(unit)
    assert service.is_running
    assert service.is_enabled


def test_exporter_runs_with_two_capabilities_only(host):
    pid = host.check_output("systemctl show --value --property=MainPID ebpf_exporter")
    status = host.file(f"/proc/{pid}/status").content_string
    bpf, perfmon = 39, 38
    for kind in ("CapPrm", "CapEff", "CapBnd"):
        assert int(re.search(rf"{kind}:\s+(\w+)", status)[1], 16) == 1 << bpf | 1 << perfmon
    assert re.search(r"^Uid:\s+(\d+)", status, re.M)[1] != "0"


@pytest.mark.parametrize("port", [9090, 9435])
def test_service_listens_on_loopback_only(host, port):
    listening = host.check_output(f"ss -Hltn sport = :{port}").split()
    assert listening[3] == f"127.0.0.1:{port}"


def test_every_wanted_program_is_attached(host):
    metrics = get(host, "http://127.0.0.1:9435/metrics")
    attached = re.findall(r"^ebpf_exporter_ebpf_program_attached\{.*\} (\d)$", metrics, re.M)
    assert attached
    assert set(attached) == {"1"}
    choice = json.loads(host.file("/run/ebpf_exporter/choice.json").content_string)
    assert choice["configs"]["biolatency"]["variant"] == "tp_btf"


def test_direct_writes_are_counted(host):
    before = requests_counted(host)
    host.check_output(
        f"dd if=/dev/zero of=/var/tmp/direct bs=4096 count={WRITES} oflag=direct status=none"
    )
    assert requests_counted(host) - before >= WRITES


def test_prometheus_is_the_version_asked_for(host):
    info = json.loads(get(host, "http://127.0.0.1:9090/api/v1/status/buildinfo"))
    assert info["data"]["version"] == "2.37.8"


def test_prometheus_has_the_series(host):
    deadline = time.monotonic() + 30
    series: list[dict] = []
    while not series and time.monotonic() < deadline:
        series = query(host, 'ebpf_exporter_bio_latency_seconds_count{instance="box"}')
        time.sleep(1)
    assert sum(float(sample["value"][1]) for sample in series) > 0


def test_no_rule_or_target_is_unhealthy(host):
    targets = json.loads(get(host, "http://127.0.0.1:9090/api/v1/targets"))["data"]["activeTargets"]
    assert {target["labels"]["job"] for target in targets} == {"ebpf_exporter", "prometheus"}
    assert {target["health"] for target in targets} == {"up"}
