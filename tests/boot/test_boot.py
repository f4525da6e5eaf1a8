# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that reboots into another kernel runs what that kernel can, without a new deploy.

Unlike the hosts in containers these have cgroup v2, so they also show whom systemd lets in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boot.machine import boot, make_disk, remove_file, write_file
from tests.kernel import kernels
from tests.lab.artifact import cached
from tests.lab.hosts import CHECKOUT, Lab

PROGRAMS = {
    "biolatency", "tcp-connect-time", "tcp-listen-overflows", "tcp-receive-memory",
    "tcp-retransmit", "tcp-retransmit-delay", "tcp-rtt", "tcp-syn-backlog", "tcp-window-clamps",
}  # fmt: skip
# fentry cannot attach to a function with seven parameters before 6.6.
KPROBES = {"6.1": {"tcp-listen-overflows"}}
CAP_PERFMON, CAP_BPF = 1 << 38, 1 << 39
SETTINGS = {
    "ebpf_exporter_listen_address": "0.0.0.0:9435",
    "ebpf_exporter_allowed_sources": ["192.0.2.2"],
    # For kprobes; the service gives it back before it listens.
    "ebpf_exporter_capabilities": ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"],
}
DROP_IN = "/etc/systemd/system/ebpf_exporter.service.d/test.conf"


def deploy(lab: Lab) -> None:
    """Deploy the exporter alone, from the cached artifact."""
    subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"), "-i", lab.inventory,
            "-e", json.dumps(SETTINGS), "site.yml",
        ],
        cwd=CHECKOUT, env=os.environ | {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
        check=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Converge a test host on this machine's kernel and copy its disk."""
    cached()
    lab = Lab("boot")
    lab.up({"box": "bookworm"}, {"linmonitor_targets": ["box"]})
    try:
        deploy(lab)
        image = tmp_path_factory.mktemp("boot") / "box.img"
        make_disk(lab.container("box"), image)
    finally:
        lab.down()
    yield image
    image.unlink()


@pytest.fixture
def start(disk: Path) -> Callable[..., dict]:
    """Boot the disk; what one test put into it is gone at the next."""
    remove_file(disk, DROP_IN)

    def boot_it(series: str, arguments: str = "", settings: str = "") -> dict:
        if settings:
            write_file(disk, DROP_IN, f"[Service]\n{settings}\n")
        try:
            kernel = kernels.fetch(series)
        except kernels.NotInArchive as gone:
            pytest.skip(str(gone))
        report = boot(kernel, disk, arguments)
        print(json.dumps(report, indent=1))
        return report

    return boot_it


def assert_running(report: dict, programs: set[str]) -> None:
    """Insist on a service that runs these programs since its first start."""
    assert set(report["enabled"]) == programs
    assert report["unit"]["ActiveState"] == "active"
    assert report["unit"]["NRestarts"] == "0"
    assert report["capabilities"] == CAP_BPF | CAP_PERFMON
    assert report["answers"] == {"192.0.2.2": True, "192.0.2.3": False}


@pytest.mark.parametrize("series", ["6.12", "5.10", "6.1", kernels.NEWEST])
def test_after_a_boot_into_another_kernel_what_it_can_run_runs(
    start: Callable[..., dict], series: str
) -> None:
    report = start(series)
    assert_running(report, PROGRAMS)
    kprobes = {name for name, one in report["choice"].items() if one["variant"] == "kprobe"}
    assert kprobes == KPROBES.get(series, set())
    assert 0 < report["up_at"] < 240, "emulation is slow; a crash loop is slower"


def test_a_locked_down_kernel_runs_what_needs_no_reading_helper(
    start: Callable[..., dict],
) -> None:
    report = start("6.12", "lockdown=confidentiality")
    assert_running(report, {name for name, one in report["choice"].items() if one["variant"]})
    assert {one["variant"] for one in report["choice"].values()} == {"tp_btf", "fentry", None}


def test_where_nothing_can_run_the_service_is_skipped_with_its_reasons(
    start: Callable[..., dict],
) -> None:
    # As on a kernel without BTF.
    report = start("6.12", settings="TemporaryFileSystem=/sys/kernel/btf")
    assert report["unit"]["ActiveState"] == "inactive"
    assert report["unit"]["NRestarts"] == "0"
    for name in PROGRAMS:
        assert f"{name}: left out on kernel {report['kernel']} (" in report["journal"]


def test_a_lack_of_memory_is_forgotten_at_the_next_boot(start: Callable[..., dict]) -> None:
    short = start("6.12", settings="MemoryMax=48M\nMemorySwapMax=0")
    assert set(short["enabled"]) < PROGRAMS
    assert "left out on kernel" in short["journal"]
    assert short["unit"]["NRestarts"] == "0"


def test_and_there_everything_runs_again(start: Callable[..., dict]) -> None:
    assert_running(start("6.12"), PROGRAMS)
