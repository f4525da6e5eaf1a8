# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say whether this release is the one that runs, and whether it runs well.

Prints one line per fault and exits 1 when there is any. An idle host is healthy: the check
makes one direct write and one loopback connection of its own, because the exporter finds
decoding errors only once a map holds an entry.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import mmap
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Iterator, NamedTuple

BLOCK = 4096
ANSWER_SECONDS = 10
SAMPLE = re.compile(r"^(ebpf_exporter_\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Sample(NamedTuple):
    """One line of /metrics."""

    name: str
    labels: dict[str, str]
    value: float


def scrape(url: str) -> list[Sample]:
    """Return the exporter's own samples, waiting a little for a service that just started."""
    deadline = time.monotonic() + ANSWER_SECONDS
    # A host's proxy, from /etc/environment for example, does not know its loopback.
    directly = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with directly.open(url, timeout=ANSWER_SECONDS) as answer:
                text = answer.read().decode()
            break
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    found = (SAMPLE.match(line) for line in text.splitlines())
    return [Sample(m[1], dict(LABEL.findall(m[2] or "")), float(m[3])) for m in found if m]


def write_directly(folder: Path, blocks: int) -> None:
    """Write blocks past the page cache where the file system allows it, else through it."""
    with tempfile.NamedTemporaryFile(dir=folder) as scratch:
        page = mmap.mmap(-1, BLOCK)  # direct I/O wants an aligned buffer
        flags = os.O_WRONLY | getattr(os, "O_DIRECT", 0)
        try:
            descriptor = os.open(scratch.name, flags)
            os.pwrite(descriptor, page, 0)
        except OSError:
            descriptor = os.open(scratch.name, os.O_WRONLY)
        for number in range(blocks):
            os.pwrite(descriptor, page, number * BLOCK)
        os.fsync(descriptor)
        os.close(descriptor)


def connect_locally(times: int) -> None:
    """Open and close TCP connections over loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for _turn in range(times):
            with socket.create_connection(server.getsockname()) as client:
                accepted, _peer = server.accept()
                with accepted:
                    client.sendall(b"x")
                    accepted.recv(1)


def unit_property(unit: str, name: str) -> str:
    """Return one property of a systemd unit."""
    return subprocess.run(
        ["systemctl", "show", "--value", "--property", name, unit],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()


def faults_of_unit(release: Path, current: Path, unit: str) -> Iterator[str]:
    """Say what keeps `unit` from being this release, enabled and running."""
    if current.resolve() != release:
        yield f"{current} points to {current.resolve()}"
    for name in (unit, unit[:-8] + ".socket"):
        installed = Path("/etc/systemd/system") / name
        if content(installed) != content(release / name):
            yield f"{installed} is not the release's unit"
        if unit_property(name, "NeedDaemonReload") == "yes":
            yield f"systemd has an older {name} loaded"
    if unit_property(unit, "UnitFileState") != "enabled":
        yield f"{unit} is not enabled"
    state = unit_property(unit, "ActiveState")
    if state != "active":
        result = unit_property(unit, "Result")
        yield f"{unit} is {state} ({result})"
        return
    program = Path(f"/proc/{main_process(unit)}/exe").resolve()
    if program != release / "bin" / "ebpf_exporter":
        yield f"{unit} still runs {program}"


def main_process(unit: str) -> str:
    """Return the number of the process that takes what comes in by the listener; 0 is none."""
    return unit_property(unit, "MainPID")


def content(path: Path) -> bytes:
    """Return a file's content, nothing where there is no file."""
    # Some of it is the service's, which may have put a pipe there that nobody writes to.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return stream.read()
    return b""


def faults_of_metrics(samples: list[Sample], configs: list[str]) -> Iterator[str]:
    """Say what the exporter's own metrics show to be wrong."""
    values = {sample.name: [] for sample in samples}  # type: dict[str, list]
    for sample in samples:
        values[sample.name].append((sample.labels, sample.value))
    enabled = {labels["name"] for labels, _value in values.get("ebpf_exporter_enabled_configs", [])}
    if enabled != set(configs):
        yield f"configs {sorted(enabled)} run, but {sorted(configs)} were chosen"
    programs = {
        labels["id"]: f"{labels['config']}/{labels['program']}"
        for labels, _value in values.get("ebpf_exporter_ebpf_program_info", [])
    }
    for labels, value in values.get("ebpf_exporter_ebpf_program_attached", []):
        if value != 1:
            yield f"program {programs.get(labels['id'], labels['id'])} is not attached"
    for labels, value in values.get("ebpf_exporter_decoder_errors_total", []):
        if value:
            yield f"{value:.0f} decoding errors in {labels['config']}"


def chosen(unit: str) -> list[str]:
    """Return the configs that the chooser chose for a unit."""
    choice = json.loads(content(Path("/run") / unit[:-8] / "choice.json"))
    return [name for name, entry in choice["configs"].items() if entry["variant"]]


def faults_at_work(url: str, options: argparse.Namespace) -> Iterator[str]:
    """Make a little work, ask for the metrics, and say what is wrong with the answer."""
    process = main_process(options.unit)
    try:
        configs = chosen(options.unit)
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"{options.unit} says nothing of what it chose"
        return
    write_directly(options.folder, options.writes)
    connect_locally(options.connections)
    try:
        samples = scrape(url)
    except OSError as error:
        yield f"{url} does not answer: {error}"
        return
    # The listener outlives a process, and the next one may have answered.
    if main_process(options.unit) != process:
        yield f"{options.unit} was started again while it was asked"
    yield from faults_of_metrics(samples, configs)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unit", default="ebpf_exporter.service")
    parser.add_argument("--writes", type=int, default=1, help="blocks to write (default 1)")
    parser.add_argument("--connections", type=int, default=1, help="to open (default 1)")
    parser.add_argument("--folder", type=Path, default=Path("/var/tmp"), help="where to write")
    return parser.parse_args(words)


def main() -> int:
    """Check unit, then metrics, and print the faults."""
    options = arguments()
    release = Path(__file__).resolve().parent
    settings = json.loads((release / "settings.json").read_text())
    faults = list(faults_of_unit(release, Path(settings["current"]), options.unit))
    if not faults:
        faults = list(faults_at_work(settings["url"], options))
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
