# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus asks: the real exporters of this machine, and a stand-in that has every series.

This machine's life moves the real ones: the trial's own connections and writes. The stand-in moves
by itself, so that no panel is empty for want of a fault.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.dashboards.standin import serve
from tests.kernel import exporter
from tests.lab.hosts import CHECKOUT, LabError
from tests.lab.process import LOOPBACK, Process, free_address
from tests.stores.programs import Package, programs

# Containers of other tests come and go.
LASTING = (
    "--collector.netdev.device-exclude=veth.*",
    "--collector.netclass.ignored-devices=veth.*",
)
NODE = Package("prometheus-node-exporter", "bookworm", ("prometheus-node-exporter",))


@dataclass
class Exporters:
    """Targets in file_sd form, what they are, and what could not be had."""

    ebpf: list[dict] = field(default_factory=list)
    node: list[dict] = field(default_factory=list)
    real: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)


def target(address: str, instance: str) -> dict:
    """Return a target as the inventory has it."""
    return {"targets": [address], "labels": {"instance": instance}}


def variants(artifact: Path) -> dict[str, str]:
    """Return of each program of an artifact the first variant that this kernel loads."""
    if os.geteuid() != 0:
        raise LabError("ebpf_exporter was left out: only root gives it its rights")
    chosen: dict[str, str] = {}
    for folder in sorted((artifact / "programs").iterdir()):
        for path in sorted(folder.glob("*.bpf.o"), reverse=True):
            one = {folder.name: path.name.removesuffix(".bpf.o")}
            if not exporter.refusal(artifact, one, exporter.SERVICE):
                chosen |= one
                break
    if not chosen:
        raise LabError("ebpf_exporter was left out: this kernel loads none of its programs")
    return chosen


def run(stack: ExitStack, command: list[str], address: str, log: Path) -> None:
    """Run an exporter until the stack ends."""
    process = Process([*command, f"--web.listen-address={address}"], log, f"http://{address}/")
    stack.callback(process.stop)
    process.start()


@contextmanager
def running(artifact: Path, folder: Path) -> Iterator[Exporters]:
    """Run all exporters."""
    found = Exporters()
    with ExitStack() as stack:
        standin = serve(CHECKOUT / "files/bpf", node=False)
        stack.callback(standin.server_close)
        stack.callback(standin.shutdown)
        threading.Thread(target=standin.serve_forever, daemon=True).start()
        found.ebpf.append(target(f"{LOOPBACK}:{standin.server_port}", "stand-in"))
        address = free_address()
        try:
            chosen = variants(artifact)
            laid = exporter.lay_out(artifact, chosen)
            stack.callback(shutil.rmtree, laid)
            words = ["env", "OTEL_TRACES_EXPORTER=none"]
            words += exporter.command(artifact, laid, chosen, exporter.SERVICE)
            run(stack, words, address, folder / "ebpf_exporter.log")
            found.ebpf.append(target(address, "here"))
            found.real.append(f"ebpf_exporter with {len(chosen)} programs")
        except LabError as error:
            found.absent.append(str(error))
        address = free_address()
        try:
            words = [str(programs(NODE) / NODE.names[0]), *LASTING]
            run(stack, words, address, folder / "node_exporter.log")
            found.node.append(target(address, "here"))
            found.real.append("node_exporter of Debian")
        except LabError as error:
            found.absent.append(f"node_exporter was left out: {error}")
        yield found
