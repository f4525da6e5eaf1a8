# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every metric is proved, shown, explained and priced, or excused by name; pages are derived."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bpf_build import SOURCES, libbpf_include

from dashboards import rules
from tests import gate
from tests.dashboards.promql import selectors
from tests.docs import programs as pages
from tests.gate import new_program

# Those that watch no program's own numbers.
OTHER_ALERTS = ("Ebpf", "Prometheus", "Alertmanager", "Watchdog")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(SOURCES, tmp_path / "bpf")


def test_nothing_is_missing() -> None:
    assert gate.missing() == []


def test_program_of_c_yaml_and_program_yml_alone_does_not_pass(copied: Path) -> None:
    (new_program.write(copied, "vfs-writes") / "README.md").unlink()
    assert gate.missing(copied) == [
        "vfs-writes: vfs_writes_total: no case of the matrix compares it with a truth "
        "(tests/kernel/cases_*.py)",
        "vfs-writes: vfs_writes_total: no panel shows it (dashboards/)",
        "vfs-writes: vfs_writes_total: program.yml does not say its meaning, normal, action",
        "vfs-writes: vfs_writes_total: no page names it (vfs-writes/README.md)",
        "vfs-writes: vfs_writes_dropped_total: no case of the matrix compares it with a truth "
        "(tests/kernel/cases_*.py)",
        "vfs-writes: no page says how to check it by hand (vfs-writes/README.md)",
        "vfs-writes: no measured cost of tp_btf (make bench-bpf, program.yml)",
        "vfs-writes: no measured cost of raw_tp (make bench-bpf, program.yml)",
    ]


def test_program_without_a_drop_counter_does_not_pass(copied: Path) -> None:
    path = new_program.write(copied, "vfs-writes") / "vfs-writes.yaml"
    declared = yaml.safe_load(path.read_text())
    declared["metrics"]["counters"].pop()
    path.write_text(yaml.safe_dump(declared))
    assert "counts no vfs_writes_dropped_total" in gate.missing(copied)


@pytest.mark.parametrize("kind", ["proved", "shown"])
def test_metric_whose_last_case_or_panel_goes_is_missed(monkeypatch, kind: str) -> None:
    left = {name for name in getattr(gate, kind)() if "tcp_rtt_seconds" not in name}
    monkeypatch.setattr(gate, kind, lambda: left)
    (text,) = gate.missing()
    assert text.startswith("tcp-rtt: tcp_rtt_seconds: no ")


def test_case_that_no_run_calls_proves_nothing(monkeypatch) -> None:
    from tests.kernel import guest, tcp  # noqa: PLC0415 (the gate sets the path)

    for part in guest.PARTS:
        others = (case for case in part.VM if tcp.CONNECT_DROPPED not in case.proves)
        monkeypatch.setattr(part, "VM", tuple(others))
    (text,) = gate.missing()
    assert text.startswith("tcp-connect-time: tcp_connect_time_dropped_total: no case")


def test_excuse_that_excuses_nothing_is_named(monkeypatch) -> None:
    excused = gate.excuses() | {"panel": {"tcp_rtt_seconds": "Nobody looks."}}
    monkeypatch.setattr(gate, "excuses", lambda: excused)
    assert gate.missing() == ["tests/gate/exclusions.yml: panel tcp_rtt_seconds excuses nothing"]


def test_excuse_needs_a_reason(monkeypatch) -> None:
    excused = gate.excuses() | {"cost": dict.fromkeys(gate.excuses()["cost"], "")}
    monkeypatch.setattr(gate, "excuses", lambda: excused)
    assert any("no measured cost of fentry" in text for text in gate.missing())


@pytest.mark.parametrize("name", ["Vfs", "vfs_writes", "-vfs", "vfs-", "../vfs", ""])
def test_new_program_has_a_sound_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="lower-case words"):
        new_program.write(tmp_path, name)


def test_new_program_overwrites_nothing(copied: Path) -> None:
    with pytest.raises(ValueError, match="tcp-rtt is there already"):
        new_program.write(copied, "tcp-rtt")


def test_new_program_compiles_as_a_folder_of_ones_own(tmp_path: Path) -> None:
    new_program.write(tmp_path, "vfs-writes")
    (tmp_path / "include").mkdir()
    (tmp_path / "include/own.h").write_text("#define OWN\n")
    source = tmp_path / "vfs-writes/vfs-writes.bpf.c"
    source.write_text('#include "own.h"\n' + source.read_text())
    make = ["make", "-s", "-C", SOURCES / "build", f"SRC={tmp_path}", f"OUT={tmp_path / 'out'}"]
    make += [f"LIBBPF_INCLUDE={libbpf_include()}", f"PYTHON={sys.executable}"]
    subprocess.run(make, check=True)
    made = sorted(path.name for path in (tmp_path / "out/programs/vfs-writes").iterdir())
    assert made == ["raw_tp.bpf.o", "tp_btf.bpf.o", "vfs-writes.yaml"]


@pytest.fixture(scope="module")
def derived() -> dict[Path, str]:
    return pages.pages()


def test_pages_are_what_the_programs_say(derived) -> None:
    stale = [str(path) for path, text in derived.items() if path.read_text() != text]
    assert not stale, "run `make docs`"


def test_sizing_has_the_most_that_all_programs_can_make() -> None:
    total = sum(entry["max_series"] for entry in pages.joined().values())
    assert f"| {total:,} |" in (gate.CHECKOUT / "docs/sizing.md").read_text()


def test_prometheus_takes_twice_as_many_series_of_a_target() -> None:
    total = sum(entry["max_series"] for entry in pages.joined().values())
    written = (gate.CHECKOUT / "roles/prometheus/vars/main.yml").read_text()
    assert int(re.search(r"sample_limit: (\d+)", written)[1]) >= 2 * total


def test_alerts_are_those_whose_rules_read_the_metric() -> None:
    recorded, watched = {}, {}
    for rule in rules.parsed(rules.RECORDING.read_text()):
        recorded[rule["record"]] = rule["expr"]
    for rule in rules.parsed(rules.render(names=[])):
        if "alert" in rule:
            watched.setdefault(rule["alert"], set()).update(series_of(rule["expr"], recorded))
    said = set()
    for entry in pages.load([SOURCES])["configs"].values():
        for name, metric in entry["metrics"].items():
            for alert in metric.get("alerts", []):
                said.add(alert)
                assert any(f"ebpf_exporter_{name}" in series for series in watched[alert]), alert
    assert said == {name for name in watched if not name.startswith(OTHER_ALERTS)}


def series_of(expr: str, recorded: dict[str, str]) -> set[str]:
    """Return the series that a query reads, through what rules record."""
    names = {name for name, _, _ in selectors(expr)}
    deeper = [series_of(recorded[name], recorded) for name in names & recorded.keys()]
    return names.union(*deeper)
