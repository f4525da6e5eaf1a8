# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Prometheus as a process on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.dashboards.api import Prometheus
from tests.lab.process import LOOPBACK, Process


def server(programs: Path, folder: Path, address: str, *flags: str) -> Process:
    """Return a server whose configuration, data and log lie in `folder`."""
    command = [
        programs / "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
        *flags,
    ]
    return Process(command, folder / "log", f"http://{address}/-/ready")


@contextlib.contextmanager
def running(
    programs: Path, folder: Path, configuration: dict, port: int, *flags: str
) -> Iterator[Prometheus]:
    """Run a server with a configuration; it is ended at the end."""
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"{LOOPBACK}:{port}"
    process = server(programs, folder, address, *flags)
    try:
        process.start()
        yield Prometheus(f"http://{address}")
    finally:
        process.stop()
