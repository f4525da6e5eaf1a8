# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus as a process on loopback."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.dashboards.api import Prometheus


def free_port() -> int:
    """Return a port of loopback that nobody had a moment ago."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def running(
    programs: Path, folder: Path, configuration: dict, port: int, *flags: str
) -> Iterator[Prometheus]:
    """Run a server whose files and log lie in `folder`; it is ended at the end."""
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [
        str(programs / "prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        *flags,
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            yield Prometheus(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
