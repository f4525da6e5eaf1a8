# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the real exporter with the service's rights and read its metrics.

It listens on a Unix socket: scraping over TCP would be counted by the very
programs under test.
"""

from __future__ import annotations

import functools
import http.client
import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from . import maps

# The capabilities of the service; what passes through perf events needs one more on Debian.
SERVICE = ["CAP_BPF", "CAP_PERFMON"]
PERF_HOOKS = {"kprobe", "kretprobe", "tracepoint", "tp"}
START_TIMEOUT = 120  # seconds; emulation is slow
SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
LABEL = re.compile(r'(\w+)="([^"]*)"')
PREFIX = "ebpf_exporter_"
# Our own additions to a scrape: runs that the kernel skipped, entries in the start maps.
SKIPPED, LEFT = "skipped_runs_total", "start_entries"
START_MAPS = ("calls", "opening", "sending", "spilled_starts", "starts")


class Metrics:
    """What one scrape returned, or the difference of two."""

    def __init__(self, samples: dict[tuple, float]) -> None:
        """Keep samples by name and sorted labels."""
        self.samples = samples

    def __sub__(self, before: Metrics) -> Metrics:
        """Return what was added since an earlier scrape."""
        old = before.samples
        return Metrics({key: value - old.get(key, 0) for key, value in self.samples.items()})

    def total(self, name: str, **labels: str) -> float:
        """Return the sum over all series of a name that carry the labels."""
        return sum(
            value
            for (found, pairs), value in self.samples.items()
            if found == PREFIX + name and labels.items() <= dict(pairs).items()
        )

    def named(self, name: str) -> list[tuple]:
        """Return the label sets of a name."""
        return [pairs for found, pairs in self.samples if found == PREFIX + name]

    def count(self, name: str, **labels: str) -> float:
        """Return a histogram's number of samples."""
        return self.total(f"{name}_count", **labels)

    def sum(self, name: str, **labels: str) -> float:
        """Return the sum of a histogram's samples."""
        return self.total(f"{name}_sum", **labels)

    def mean(self, name: str, **labels: str) -> float:
        """Return the mean of a histogram's samples, 0 without any."""
        return self.sum(name, **labels) / (self.count(name, **labels) or 1)

    def bucket(self, name: str, le: str, **labels: str) -> float:
        """Return how many samples are not above a bound."""
        return self.total(f"{name}_bucket", le=le, **labels)


def parse(text: str) -> Metrics:
    """Read the Prometheus text format."""
    samples = {}
    for line in text.splitlines():
        match = SAMPLE.match(line)
        if match:
            labels = tuple(sorted(LABEL.findall(match["labels"] or "")))
            samples[match["name"], labels] = float(match["value"])
    return Metrics(samples)


def open_entries(start_map: maps.Map) -> int:
    """Return how many starts wait for their end."""
    if start_map.name != "starts":
        return len(start_map.keys())
    # An array: the time behind a slot's owner has its highest bit once it was read (starts.bpf.h).
    slots = struct.iter_unpack(f"QQ{start_map.value_size - 16}x", start_map.values())
    return sum(0 < ns < 1 << 63 for _, ns in slots)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        """Remember the socket's path."""
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self.path))


def open_folder() -> Path:
    """Make a temporary folder that everybody can read, as the service's user must."""
    folder = Path(tempfile.mkdtemp(prefix="linmonitor-"))
    folder.chmod(0o755)
    return folder


@functools.cache
def binary(artifact: Path) -> str:
    """Copy the exporter's binary to where everybody can run it, once: emulated disks are slow."""
    return str(shutil.copy(artifact / "bin" / "ebpf_exporter", open_folder()))


def lay_out(artifact: Path, variants: dict[str, str]) -> Path:
    """Copy one variant of each of some configs to a folder of their own."""
    folder = open_folder()
    for config, variant in variants.items():
        source = artifact / "programs" / config
        shutil.copy(source / f"{config}.yaml", folder)
        shutil.copy(source / f"{variant}.bpf.o", folder / f"{config}.bpf.o")
    return folder


def command(
    artifact: Path, folder: Path, variants: dict[str, str], capabilities: list[str]
) -> list[str]:
    """Return the exporter's command line: unprivileged, with these capabilities only."""
    wanted = ",".join(f"+{name.lower().removeprefix('cap_')}" for name in capabilities)
    sets = [f"--{kind}=-all,{wanted}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
    return [
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", *sets),
        *(binary(artifact), f"--config.dir={folder}", "--config.strict"),
        f"--config.names={','.join(variants)}",
    ]


def refusal(artifact: Path, variants: dict[str, str], capabilities: list[str]) -> str:
    """Return what the exporter says against loading these variants, or an empty string."""
    folder = lay_out(artifact, variants)
    done = subprocess.run(
        [*command(artifact, folder, variants, capabilities), "--config.check"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
    )  # fmt: skip
    shutil.rmtree(folder)
    lines = done.stdout.strip().splitlines() or [f"ended with {done.returncode}"]
    return lines[-1] if done.returncode else ""


class Exporter:
    """The exporter with one variant of each of some configs."""

    def __init__(
        self, artifact: Path, variants: dict[str, str], capabilities: list[str], label: str
    ) -> None:
        """Start it as the unit would."""
        self.variants, self.label = variants, label
        self.folder = lay_out(artifact, variants)
        self.socket = self.folder / "socket"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.socket))
        listener.listen()
        # The systemd protocol: the socket is file 3 and the process is named.
        shell = ["sh", "-c", 'LISTEN_PID=$$ exec "$@" 3<&0 </dev/null', "exporter"]
        self.log = self.folder / "log"
        self.process = subprocess.Popen(
            [
                *shell,
                *command(artifact, self.folder, variants, capabilities),
                "--web.listen-address=fd://0",
            ],
            stdin=listener.fileno(),
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
            env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none", "LISTEN_FDS": "1"},
        )
        listener.close()

    def wait(self) -> None:
        """Return when all programs are attached; fail with the log's end."""
        deadline = time.monotonic() + START_TIMEOUT
        while "Listening on" not in self.log.read_text(encoding="utf-8"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                log = self.log.read_text(encoding="utf-8")
                raise RuntimeError(f"{self.label}: the exporter did not start\n{log[-3000:]}")
            time.sleep(0.1)

    def page(self) -> str:
        """Scrape once; return the text."""
        connection = UnixConnection(self.socket)
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"{self.label}: scrape answered {response.status}: {text[:500]}")
        return text

    def metrics(self) -> Metrics:
        """Scrape once; return what it says and what the kernel knows besides."""
        metrics = parse(self.page())
        # What the kernel knows beyond what the exporter tells.
        for name, pairs in list(metrics.samples):
            if name == PREFIX + "ebpf_program_info":
                misses = maps.recursion_misses(int(dict(pairs)["id"]))
                metrics.samples[PREFIX + SKIPPED, pairs] = misses
        for found in maps.of(self.process.pid):
            if found.name in START_MAPS:
                metrics.samples[PREFIX + LEFT, (("map", found.name),)] = open_entries(found)
            found.close()
        return metrics

    def stop(self) -> int:
        """Stop it and return its exit status."""
        self.process.terminate()
        status = self.process.wait(timeout=60)
        shutil.rmtree(self.folder)
        return status
