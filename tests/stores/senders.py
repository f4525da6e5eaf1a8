# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prometheus as the role configures it: files and command line are the role's own.

Of the variables only those differ from an inventory's that make minutes of days: the scrape
interval, and queues so small that seconds without a store fill them.
"""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import yaml

from tests.lab.process import Process, free_address
from tests.lab.prometheus import tool
from tests.unit.role_play import play, prometheus_answer

INTERVAL = 5
QUEUE = {"capacity": 1000, "max_samples_per_send": 500, "max_shards": 4, "max_backoff": "1s"}


class Sender:
    """A Prometheus with the role's configuration, in a folder of its own."""

    def __init__(self, name: str, top: Path, variables: dict[str, Any]) -> None:
        """Give it a name, an address, and the variables of its host."""
        self.folder = top / name
        (self.folder / "data").mkdir(parents=True)
        self.address = free_address()
        self.variables = {
            "prometheus_instance": name,
            "prometheus_listen_address": self.address,
            "prometheus_scrape_interval": f"{INTERVAL}s",
        } | variables
        command = [tool("prometheus")]
        self.process = Process(command, self.folder / "log", f"http://{self.address}/-/ready")

    @property
    def data(self) -> Path:
        """Where its time series lie."""
        return self.folder / "data"

    @property
    def rules(self) -> list[Path]:
        """The rule files that the role wrote for it."""
        return sorted((self.folder / "rules").glob("*.yml"))

    def question(self) -> dict[str, Any]:
        """Return a task in which Ansible writes down what the role would."""
        return prometheus_answer(self.folder, self.data, self.variables)

    def write(self) -> None:
        """Put files and command line where the role would."""
        answer = json.loads((self.folder / "answer").read_text())
        for path, text in answer["files"].items():
            (self.folder / path).parent.mkdir(exist_ok=True)
            (self.folder / path).write_text(text)
        self.process.command = [self.process.command[0], *answer["flags"]]

    def forward_nothing(self) -> None:
        """Go on without the stores."""
        path = self.folder / "prometheus.yml"
        known = yaml.safe_load(path.read_text())
        known.pop("remote_write", None)
        path.write_text(yaml.safe_dump(known))
        self.process.signal(signal.SIGHUP)


def configure(senders: list[Sender], top: Path) -> None:
    """Let the role write the configuration of each, in one play."""
    play(top, ("prometheus",), [one.question() for one in senders])
    for one in senders:
        one.write()


def small(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of prometheus_remote_write whose queue is small."""
    return entry | {"queue_config": entry.get("queue_config", {}) | QUEUE}
