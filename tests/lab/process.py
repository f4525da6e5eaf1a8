# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that run on loopback for the time of a trial."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.request import urlopen

LOOPBACK = "127.0.0.1"
START_SECONDS, STOP_SECONDS = 120, 60
LAST_LINES, LAST_LETTERS = 8, 300


class ProcessError(RuntimeError):
    """A program did not start; the message has its last lines."""


def free_port() -> int:
    """Return a port of loopback that nobody has, another one each time.

    It is asked for long before it is used, so it is not one that the kernel gives to others.
    """
    return next(_ports)


def free_address() -> str:
    """Return loopback's address with such a port."""
    return f"{LOOPBACK}:{free_port()}"


def _free_ports() -> Iterator[int]:
    # In no order: other runs look for some at the same time.
    for port in random.sample(range(17000, 32000), 15000):
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        yield port


_ports = _free_ports()


class Process:
    """A program, which may be started again after it was stopped."""

    def __init__(self, command: Sequence[object], log: Path, ready: str) -> None:
        """Prepare it; `ready` is a URL that answers once it works."""
        self.command = [str(word) for word in command]
        self.log, self.ready = log, ready
        self.process: subprocess.Popen | None = None

    @property
    def running(self) -> bool:
        """Say whether it runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start it and wait until it is ready; ProcessError where it is not."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.log.parent, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                lines = self.log.read_text(errors="replace").splitlines()[-LAST_LINES:]
                last = "\n".join(line[:LAST_LETTERS] for line in lines)
                raise ProcessError(f"{Path(self.command[0]).name} did not start:\n{last}")
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urlopen(self.ready, timeout=5):
                return True
        except OSError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.process:
            self.process.send_signal(number)

    def stop(self) -> None:
        """End it, as systemd would, if it runs."""
        if self.process and self.running:
            self.process.terminate()
            try:
                self.process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
