# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of every store, and what of it can be particular.

What connects a Prometheus to each is in docs/stores.md, below a heading of the engine's name; the
trial takes it from there and puts the addresses of its own processes into it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

import yaml

from tests.dashboards.api import Prometheus
from tests.lab.hosts import CHECKOUT
from tests.lab.process import Process, free_address
from tests.stores import compare
from tests.stores.programs import Module, Package, version_of
from tests.stores.senders import Sender, small

PAGE = CHECKOUT / "docs/stores.md"


class Store(Prometheus):
    """A store's query API: Prometheus' own, with a tenant or with words of the engine's own."""

    def __init__(self, url: str, headers: dict[str, str] | None = None, **words: str) -> None:
        """Remember what goes with every call."""
        super().__init__(url)
        self._headers |= headers or {}
        self.words = words

    def get(self, path: str, **parameters: object) -> Any:
        """Return the data of an API call."""
        return super().get(path, **parameters, **self.words)


def inventory(name: str) -> dict[str, Any]:
    """Return the variables that docs/stores.md gives for an engine."""
    section = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    if not section:
        raise LookupError(f"{PAGE.name} has no section {name}")
    blocks = re.findall(r"^```yaml\n(.*?)^```", section[1], re.M | re.S)
    return {key: value for block in blocks for key, value in yaml.safe_load(block).items()}


def moved(url: str, address: str) -> str:
    """Return a URL that leads to a loopback address instead."""
    return urlunsplit(("http", address, *urlsplit(url)[2:]))


class Engine:
    """A store, and what is particular about it."""

    name: ClassVar[str]
    section: ClassVar[str] = ""  # of docs/stores.md, where it has not the engine's name
    word: ClassVar[str]  # what the command line calls it
    source: ClassVar[Module | Package]
    off: ClassVar[tuple[str, ...]] = ("replica",)  # labels that it has and the sender has not
    once: ClassVar[str]  # what becomes of two replicas
    # How exactly it keeps values, and in words.
    rounding: ClassVar[float] = 0.0
    exactly: ClassVar[str] = "each value the same"
    # Why panels of queries like these have other values.
    reasons: ClassVar[dict[str, str]] = {}
    ruler: ClassVar[str]
    # What its own results have beside the rules' labels.
    recorded: ClassVar[dict[str, str]] = {}

    def __init__(self, top: Path) -> None:
        """Choose addresses; nothing runs yet."""
        self.folder = top / self.word
        self.folder.mkdir()
        self.address = free_address()
        self.processes: list[Process] = []

    def program(self, name: str, words: Sequence[object], ready: str) -> Process:
        """Return a process of this engine, with a log of its name."""
        return Process(words, self.folder / f"{name}.log", ready)

    def version(self) -> str:
        """Return its version, and where that came from."""
        return f"{version_of(self.source)}, {self.source.origin}"

    def inventory(self) -> dict[str, Any]:
        """Return what the page says of it."""
        return inventory(self.section or self.name)

    def writes(self) -> list[dict[str, Any]]:
        """Return what the page says for prometheus_remote_write, for this process."""
        entries = self.inventory().get("prometheus_remote_write", [])
        return [small(one | {"url": moved(one["url"], self.address)}) for one in entries]

    def watch(self, sender: Sender) -> None:
        """Take a Prometheus as the one to read from, where the engine reads."""

    def api(self) -> Prometheus:
        """Return what answers queries."""
        return Store(f"http://{self.address}")

    def rules_api(self) -> Prometheus:
        """Return what knows the state of rules."""
        return self.api()

    def start(self) -> None:
        """Start what of it does not run."""
        for process in self.processes:
            if not process.running:
                process.start()

    def stop(self) -> None:
        """Stop all of it."""
        for process in reversed(self.processes):
            process.stop()

    def reason(self, query: str) -> str:
        """Return why a query has another answer here, or nothing."""
        return next((why for what, why in self.reasons.items() if re.search(what, query)), "")

    def deduplicate(self) -> None:
        """Count replicas once from now on, where it can."""

    def kept(self, sent: compare.Samples) -> compare.Samples:
        """Return what it keeps of samples."""
        return sent

    def replicas(self, start: float, end: float, sent: list[compare.Samples]) -> list[str]:
        """Say what is wrong with what it has of two replicas."""
        found = compare.stored(self.api(), start, end, self.off)
        return compare.doubled(found, sent)

    def evaluate(self, rules: list[Path]) -> None:
        """Evaluate rules from now on."""
