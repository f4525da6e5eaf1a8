# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One trial: our Prometheus writes into stores, which go away, come back and are asked.

In this order, for all engines at once: a replica writes alone, the stores are away for a while,
samples and panels are compared; a second replica joins; an agent takes their place, and the rules
are the stores' business.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError

import yaml

from tests.dashboards.api import Prometheus, Window
from tests.dashboards.live import Answer, answers
from tests.lab.hosts import LabError
from tests.lab.process import ProcessError
from tests.stores import compare
from tests.stores.engine import Engine
from tests.stores.exporters import Exporters
from tests.stores.results import Row
from tests.stores.senders import INTERVAL, Sender, configure

# Seconds. Recording rules come every half minute, some every minute, and read each other.
FIRST, AWAY, AFTER, BOTH = 135, 40, 40, 50
RULES_EVERY = 60
CATCH_UP, BEGUN, EVALUATED, PAUSE = 240, 240, 240, 3
# A sample has the time at which its scrape began, and comes when it is over.
LATE = 2 * INTERVAL
PANEL_SECONDS = 90
RATE_INTERVAL = f"{6 * INTERVAL}s"
BEHIND = """
last_over_time(prometheus_remote_storage_highest_timestamp_in_seconds[1m])
  - ignoring(remote_name, url) group_right()
last_over_time(prometheus_remote_storage_queue_highest_sent_timestamp_seconds[1m])
"""


class Failed(RuntimeError):
    """Something did not hold; the message says what was seen."""


def words(error: Exception) -> str:
    """Return an error in words, those of the server where it has some."""
    return f"{error}: {error.read().decode()[:200]}" if isinstance(error, HTTPError) else str(error)


def settle(ask: Callable[[], list[str]], seconds: float) -> None:
    """Ask until nothing is wrong; Failed with what was wrong last when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            wrong = ask()
        except (OSError, compare.TwiceError) as error:
            wrong = [words(error)]
        if not wrong:
            return
        if time.monotonic() > deadline:
            raise Failed("; ".join(wrong))
        time.sleep(PAUSE)


class Trial:
    """Senders, stores, and the rows that become of them."""

    def __init__(self, kinds: list[type[Engine]], targets: Exporters, top: Path) -> None:
        """Prepare everything; nothing runs yet. What cannot be had has a row that says so."""
        self.rows = {kind.name: Row(kind.name) for kind in kinds}
        self.engines: list[Engine] = []
        for kind in kinds:
            try:
                engine = kind(top)
                self.rows[kind.name].version = engine.version()
                self.engines.append(engine)
            except LabError as error:
                self.rows[kind.name].not_run = str(error)
        entries = [entry for engine in self.engines for entry in engine.writes()]
        common = {
            "prometheus_targets": targets.ebpf,
            "linmonitor_inventory_node_targets": targets.node,
            "prometheus_remote_write": entries,
        }
        flags = {"prometheus_flags": {}}
        for engine in self.engines:
            flags["prometheus_flags"] |= engine.inventory().get("prometheus_flags", {})
        a, b = ({"prometheus_external_labels": {"replica": one}} for one in "ab")
        self.a = Sender("a", top, common | flags | a)
        self.b = Sender("b", top, common | flags | b)
        self.agent = Sender("agent", top, common | a | {"prometheus_mode": "agent"})
        self.local = Prometheus(f"http://{self.a.address}")
        self.began = self.end = 0.0
        self.sent: compare.Samples = {}
        self.panels: list[Answer] = []
        configure([self.a, self.b, self.agent], top)

    def run(self) -> None:
        """Do all of it, and leave nothing running."""
        with ExitStack() as stack:
            for engine in self.engines:
                stack.callback(engine.stop)
            for sender in (self.a, self.b, self.agent):
                stack.callback(sender.process.stop)
            self.say("the first replica writes alone")
            self.began = time.time()
            self.a.process.start()
            self.each("start", self.begin)
            time.sleep(FIRST)
            self.leave()
            time.sleep(AFTER)
            settle(self.begun, BEGUN)
            self.say("samples and series are compared")
            self.sent = compare.stored(self.local, self.began, self.end)
            self.each("stored", self.stored)
            self.say("panels are compared")
            self.panels = self.answers(self.local)
            self.each("panels", self.drawn)
            self.join()
            self.hand_over()

    @staticmethod
    def say(text: str) -> None:
        """Print what is going on."""
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)

    def each(self, part: str, work: Callable[[Engine, Row], None]) -> None:
        """Do something with each engine; one that fails does not end the others."""
        for engine in self.engines:
            row = self.rows[engine.name]
            if "start" in row.failed:
                continue
            began = time.monotonic()
            try:
                work(engine, row)
                spent = time.monotonic() - began
                print(f"  {engine.name}: {part} done in {spent:.0f} s", flush=True)
            except (Failed, ProcessError, OSError, LookupError, ValueError) as error:
                row.failed[part] = words(error)
                print(f"  {engine.name}: {part} failed: {row.failed[part]}", flush=True)

    def begin(self, engine: Engine, _row: Row) -> None:
        """Start a store."""
        engine.watch(self.a)
        engine.start()

    def leave(self) -> None:
        """Let the stores be away for a while, and see that samples wait for them."""
        self.say(f"the stores are away for {AWAY} s")
        self.each("away", lambda engine, _: engine.stop())
        time.sleep(AWAY)
        behind = {
            one.labels["url"]: one.values[0] for one in self.local.instant(BEHIND, time.time())
        }

        def come_back(engine: Engine, row: Row) -> None:
            engine.start()
            seconds = [behind.get(entry["url"], 0) for entry in engine.writes()]
            if seconds and min(seconds) < AWAY / 2:
                raise Failed(f"the sender was only {min(seconds):.0f} s behind: it was not away")
            waited = f"{min(seconds):.0f} s of samples waited" if seconds else "nothing is sent"
            row.cells["away"] = f"{AWAY} s: {waited}"

        self.each("away", come_back)

    def begun(self) -> list[str]:
        """End what is compared now; say which results of rules have just begun.

        A counter of the real exporters is there from its first event on, whenever that is.
        """
        self.end = time.time() - LATE
        results = compare.stored(self.local, self.began, self.end, name=".+:.+")
        return compare.begun(results, self.end - 2 * RULES_EVERY)

    def stored(self, engine: Engine, row: Row) -> None:
        """Every sample of the first replica is there, those that waited too, and no other."""
        sent = engine.kept(self.sent)
        if not sent:
            raise Failed("nothing was sent")

        def ask() -> list[str]:
            found = compare.stored(engine.api(), self.began, self.end, engine.off)
            return compare.differences(sent, engine.kept(found), engine.rounding)

        settle(ask, CATCH_UP)
        row.cells["stored"] = (
            f"{compare.number(sent):,} samples of {len(sent):,} series, {engine.exactly}"
        )

    def answers(self, server: Prometheus) -> list[Answer]:
        """Return a server's answers to the queries of all panels."""
        end = int(self.end) - 1 + compare.quiet(self.sent)
        # Where counters begin, engines differ in what they make of the first sample.
        window = Window(end - PANEL_SECONDS, end, INTERVAL)
        return answers(server, window, {"__rate_interval": RATE_INTERVAL})

    def drawn(self, engine: Engine, row: Row) -> None:
        """Every panel shows what it shows locally, or there is a reason."""
        unexplained = []
        for mine, theirs in zip(self.panels, self.answers(engine.api()), strict=True):
            if said := compare.apart(mine, theirs, engine.off):
                print(f"  {engine.name}: {mine.name}: {said}", flush=True)
                if reason := engine.reason(mine.expr):
                    row.differ.setdefault(reason, []).append(mine.name)
                else:
                    unexplained.append(f"{mine.name}: {said}")
        data = sum(bool(one.values) for one in self.panels)
        if unexplained or not data:
            raise Failed("; ".join(unexplained) or "no panel has data")
        count = len(self.panels) - sum(map(len, row.differ.values()))
        row.cells["panels"] = f"{count} of {len(self.panels)} queries ({data} with data)"

    def join(self) -> None:
        """A second replica writes too."""
        self.say("the second replica writes too")
        self.b.process.start()

        def begin(engine: Engine, _row: Row) -> None:
            engine.watch(self.b)
            engine.start()
            engine.deduplicate()

        self.each("replicas", begin)
        # Both have asked every target by then.
        time.sleep(3 * INTERVAL)
        start = time.time()
        time.sleep(BOTH)
        end = time.time() - LATE
        replicas = [
            compare.stored(Prometheus(f"http://{one.address}"), start, end)
            for one in (self.a, self.b)
        ]

        def compared(engine: Engine, row: Row) -> None:
            if not all(replicas):
                raise Failed("a replica has asked nobody")
            settle(lambda: engine.replicas(start, end, replicas), CATCH_UP)
            row.cells["replicas"] = engine.once

        self.say("replicas are compared")
        self.each("replicas", compared)

    def hand_over(self) -> None:
        """An agent writes in the place of both, and the stores evaluate the rules."""
        self.say("an agent takes over, the stores evaluate the rules")
        self.b.process.stop()
        self.a.forward_nothing()
        self.agent.process.start()
        time.sleep(INTERVAL)
        start = time.time()
        self.each("rules", lambda engine, _: engine.evaluate(self.a.rules))
        expected = Counter(
            rule.get("alert") or rule["record"]
            for file in self.a.rules
            for group in yaml.safe_load(file.read_text())["groups"]
            for rule in group["rules"]
        )

        def judged(engine: Engine, row: Row) -> None:
            settle(lambda: self.rules_of(engine, start, expected), EVALUATED)
            active = len(active_of(self.local))
            row.cells["rules"] = f"{engine.ruler}: {expected.total()} rules, {active} alerts active"

        self.each("rules", judged)

    def rules_of(self, engine: Engine, start: float, expected: Counter[str]) -> list[str]:
        """Say what is wrong with the rules of an engine: absent, unhealthy, or of other results."""
        rules = engine.rules_api().rules()
        wrong = []
        if absent := expected - Counter(rule["name"] for rule in rules):
            wrong.append(f"not loaded: {', '.join(sorted(absent))}")
        wrong += [
            f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}"
            for rule in rules
            if rule["health"] != "ok"
        ]
        active, local = active_of(engine.rules_api()), active_of(self.local)
        if active != local:
            wrong.append(f"{sorted(active)} are active, locally {sorted(local)}")
        known = recorded(self.local, start)
        absent_results = known - recorded(engine.api(), start, **engine.recorded)
        if absent_results or not known:
            wrong.append(f"not recorded: {', '.join(sorted(absent_results)) or 'anything'}")
        return wrong


def active_of(server: Prometheus) -> set[str]:
    """Return the names of the alerts that fire, or will when their time has come."""
    return {rule["name"] for rule in server.rules() if rule.get("state") in ("pending", "firing")}


def recorded(server: Prometheus, start: float, **matchers: str) -> set[str]:
    """Return the names of the recorded series that have samples since then."""
    found = compare.stored(server, start, time.time(), (), name=".+:.+", **matchers)
    return {dict(labels)["__name__"] for labels in found}
