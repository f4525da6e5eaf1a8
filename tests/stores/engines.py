# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stores: how each is run, and made to count replicas once and to evaluate rules."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import yaml

from tests.dashboards.api import Prometheus
from tests.dashboards.server import server
from tests.lab import prometheus
from tests.lab.process import LOOPBACK, Process, free_address, free_port
from tests.stores import compare
from tests.stores.engine import Engine, Store
from tests.stores.programs import Module, Package, programs
from tests.stores.senders import INTERVAL, Sender

RATES = r"\b(rate|irate|increase|delta)\("
NEWER = "from 3.x on, rate() and increase() reach back less far before a counter's first samples"


class PrometheusReceiver(Engine):
    """Another Prometheus that others write to."""

    name = "Prometheus"
    once = "two, told apart by their label"
    word = "prometheus"
    ruler = "its own"
    reasons: ClassVar[dict[str, str]] = {RATES: NEWER}

    def __init__(self, top: Path) -> None:
        """Prepare the newest one that is to be had."""
        super().__init__(top)
        newest = prometheus.to_be_had()[-1]
        self.programs = prometheus.programs(newest)
        self.configure([])
        flag = "--web.enable-remote-write-receiver"
        self.processes = [server(self.programs, self.folder, self.address, flag)]

    def configure(self, rules: list[Path]) -> None:
        """Write its configuration."""
        known = {
            "global": {"evaluation_interval": f"{INTERVAL}s"},
            "rule_files": [*map(str, rules)],
        }
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(known))

    def version(self) -> str:
        """Return the version of the binary's folder."""
        number = self.programs.name.removeprefix("prometheus-").partition(".linux")[0]
        return f"{number}, package of Debian's sid"

    def replicas(self, start: float, end: float, sent: list[compare.Samples]) -> list[str]:
        """Each replica is there whole."""
        found = [
            compare.stored(self.api(), start, end, self.off, replica=replica) for replica in "ab"
        ]
        pairs = zip(sent, found, strict=True)
        return [said for one, other in pairs for said in compare.differences(one, other)]

    def evaluate(self, rules: list[Path]) -> None:
        """Start again with rules."""
        self.configure(rules)
        self.stop()
        self.start()


class Thanos(Engine):
    """What both ways into Thanos share: query and rule."""

    source = Module(
        "github.com/thanos-io/thanos", "v0.36.1",
        "h1:NsUBsWkJcZ6Uo2VuEr06mZZ9YNMLGVA2sIGVu+LsrNU=", ("./cmd/thanos",),
    )  # fmt: skip
    off = ("replica", "receive", "tenant_id")
    once = "one, by --query.replica-label"
    ruler = "thanos rule"
    reasons: ClassVar[dict[str, str]] = {
        RATES: "query adds up the restarts of a counter before it takes a rate",
    }
    recorded: ClassVar[dict[str, str]] = {"ruler": "one"}

    def __init__(self, top: Path) -> None:
        """Prepare query; what it asks comes from those who know it."""
        super().__init__(top)
        self.query, self.rule, self.results = free_address(), free_address(), free_address()
        self.deduplicated = "false"

    def component(self, name: str, http: str, grpc: str, *words: str) -> Process:
        """Return one of its components."""
        return self.program(
            name,
            [
                programs(self.source) / "thanos", name, f"--http-address={http}",
                f"--grpc-address={grpc}", *words,
            ],
            f"http://{http}/-/ready",
        )  # fmt: skip

    def asks(self, *endpoints: str) -> Process:
        """Return query over some endpoints."""
        words = [f"--endpoint={one}" for one in (*endpoints, self.results)]
        return self.component(
            "query", self.query, free_address(), *words, "--query.replica-label=replica"
        )

    def api(self) -> Prometheus:
        """Return query, which counts replicas once where it is told to."""
        return Store(f"http://{self.query}", dedup=self.deduplicated)

    def rules_api(self) -> Prometheus:
        """Return rule."""
        return Store(f"http://{self.rule}")

    def deduplicate(self) -> None:
        """Ask query to."""
        self.deduplicated = "true"

    def evaluate(self, rules: list[Path]) -> None:
        """Start rule, which keeps its own results."""
        words = [f"--rule-file={file}" for file in rules]
        rule = self.component(
            "rule", self.rule, self.results, *words, f"--query={self.query}",
            f"--data-dir={self.folder}/rule", '--label=ruler="one"',
        )  # fmt: skip
        self.processes.append(rule)
        self.start()


class ThanosReceive(Thanos):
    """Thanos that is written to."""

    name = "Thanos receive"
    word = "thanos-receive"

    def __init__(self, top: Path) -> None:
        """Prepare receive and query."""
        super().__init__(top)
        grpc = free_address()
        receive = self.component(
            "receive", free_address(), grpc, f"--remote-write.address={self.address}",
            f"--tsdb.path={self.folder}/data", '--label=receive="one"',
            # It makes a block of all it has when it stops, and refuses what is older afterwards:
            # without this the trial finds samples missing that were on their way then.
            "--tsdb.out-of-order.time-window=10m",
        )  # fmt: skip
        self.processes = [receive, self.asks(grpc)]


class ThanosSidecar(Thanos):
    """Thanos that reads from each Prometheus."""

    name = "Thanos sidecar"
    word = "thanos-sidecar"

    def __init__(self, top: Path) -> None:
        """Prepare query over two sidecars; they come with what they watch."""
        super().__init__(top)
        self.grpc = [free_address(), free_address()]
        self.processes = [self.asks(*self.grpc)]

    def watch(self, sender: Sender) -> None:
        """Add a sidecar."""
        sidecar = self.component(
            "sidecar", free_address(), self.grpc[len(self.processes) - 1],
            f"--prometheus.url=http://{sender.address}", f"--tsdb.path={sender.data}",
        )  # fmt: skip
        sidecar.log = sidecar.log.with_name(f"sidecar-{len(self.processes)}.log")
        self.processes.append(sidecar)


class Nobody(BaseHTTPRequestHandler):
    """Takes alerts, and tells nobody."""

    def do_POST(self) -> None:
        """Take them."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class VictoriaMetrics(Engine):
    """Both versions of VictoriaMetrics."""

    once = "one, by -dedup.minScrapeInterval, once the label replica is dropped"
    rounding = 1e-12
    exactly = "values to 12 digits, no NaN"
    ruler = "vmalert"
    reasons: ClassVar[dict[str, str]] = {
        RATES: "rate() and increase() count from the sample before the range, a new series from 0, "
        "and do not extrapolate",
    }

    def __init__(self, top: Path) -> None:
        """Prepare the single process that it is."""
        super().__init__(top)
        self.words: list[object] = [
            programs(self.source) / "victoria-metrics", f"-storageDataPath={self.folder}/data",
            f"-httpListenAddr={self.address}", "-search.latencyOffset=1s", "-search.maxLookback=5m",
        ]  # fmt: skip
        self.processes = [self.server()]
        self.alert = free_address()
        # Without one that listens vmalert calls rules failed.
        self.people = ThreadingHTTPServer((LOOPBACK, 0), Nobody)
        threading.Thread(target=self.people.serve_forever, daemon=True).start()

    def server(self, *more: str) -> Process:
        """Return the process, with more flags."""
        ready = f"http://{self.address}/health"
        return self.program("victoria-metrics", [*self.words, *more], ready)

    def api(self) -> Prometheus:
        """Return its API, told to answer for the very times that are asked for."""
        return Store(f"http://{self.address}", nocache="1")

    def kept(self, sent: compare.Samples) -> compare.Samples:
        """Return the numbers; the ends of series, which others do not tell, are NaN here."""
        return compare.numbers(sent)

    def replicas(self, start: float, end: float, sent: list[compare.Samples]) -> list[str]:
        """One sample for each interval, of whichever replica."""
        found = self.kept(compare.stored(self.api(), start, end))
        kept = [self.kept(one) for one in sent]
        return compare.doubled(found, kept, self.rounding, 1000 * INTERVAL)

    def rules_api(self) -> Prometheus:
        """Return vmalert."""
        return Store(f"http://{self.alert}")

    def deduplicate(self) -> None:
        """Start again with the flag that does it."""
        self.stop()
        self.processes = [self.server(f"-dedup.minScrapeInterval={INTERVAL}s")]
        self.start()

    def evaluate(self, rules: list[Path]) -> None:
        """Start vmalert, which writes its results back."""
        url, people = f"http://{self.address}", f"http://{LOOPBACK}:{self.people.server_port}"
        words = [
            programs(self.source) / "vmalert", *(f"-rule={file}" for file in rules),
            f"-datasource.url={url}", f"-remoteWrite.url={url}", f"-notifier.url={people}",
            f"-httpListenAddr={self.alert}", f"-evaluationInterval={INTERVAL}s",
        ]  # fmt: skip
        self.processes.append(self.program("vmalert", words, f"http://{self.alert}/health"))
        self.start()


class VictoriaDebian(VictoriaMetrics):
    """The package of Debian."""

    name = "VictoriaMetrics of Debian"
    section = "VictoriaMetrics"
    word = "victoria-debian"
    source = Package("victoria-metrics", "bookworm", ("victoria-metrics", "vmalert"))
    reasons: ClassVar[dict[str, str]] = VictoriaMetrics.reasons | {
        # The upper edge of a heatmap of recorded series.
        r"count_values\(": "histogram_quantile(1, …) ends a bucket earlier where buckets fall, as "
        "rates make them where a counter begins",
    }


class VictoriaNewest(VictoriaMetrics):
    """The newest that the tests compile."""

    name = "VictoriaMetrics"
    word = "victoria-newest"
    source = Module(
        "github.com/VictoriaMetrics/VictoriaMetrics", "v1.151.0",
        "h1:Svzb/7gPYbzmQnvLjab8h1Jl9olB76mokDE7ykvF/ro=",
        ("./app/victoria-metrics", "./app/vmalert"),
    )  # fmt: skip


class Cortex(Engine):
    """Cortex in one process, with a tenant."""

    name = "Cortex"
    word = "cortex"
    source = Module(
        "github.com/cortexproject/cortex", "v1.21.1",
        "h1:UvP5UCub39HI57hhhugsAYlm2N9J3LlJtiuj0UKOq8U=", ("./cmd/cortex",),
        # As its own Makefile has it: it takes labels for slices, and ends at once otherwise.
        tags="netgo,slicelabels",
    )  # fmt: skip
    off = ("cluster",)
    once = "one, by the HA tracker; what the other says of itself is dropped too"
    ruler = "its own"
    reasons: ClassVar[dict[str, str]] = {RATES: NEWER}

    def __init__(self, top: Path) -> None:
        """Write its configuration."""
        super().__init__(top)
        (self.tenant,) = {
            one["headers"]["X-Scope-OrgID"] for one in self.inventory()["prometheus_remote_write"]
        }
        self.rules = self.folder / "rules" / self.tenant
        self.rules.mkdir(parents=True)
        (self.folder / "alerts").mkdir()  # it has an Alertmanager too, which gets nothing to do
        (self.folder / "cortex.yml").write_text(yaml.safe_dump(self.configuration()))
        words = [
            programs(self.source) / "cortex", "-target=all",
            f"-config.file={self.folder}/cortex.yml",
        ]  # fmt: skip
        self.processes = [self.program("cortex", words, f"http://{self.address}/ready")]

    def configuration(self) -> dict[str, Any]:
        """Return what makes it run alone, on files."""
        memory = {"kvstore": {"store": "inmemory"}}
        here = {"instance_addr": LOOPBACK}
        return {
            "auth_enabled": True,
            "server": {
                "http_listen_address": LOOPBACK,
                "http_listen_port": int(self.address.rpartition(":")[2]),
                "grpc_listen_address": LOOPBACK, "grpc_listen_port": free_port(),
            },
            "memberlist": {"bind_addr": [LOOPBACK], "bind_port": free_port()},
            "distributor": {
                "shard_by_all_labels": True,
                "ring": memory | here,
                "ha_tracker": {"enable_ha_tracker": True, "kvstore": {"store": "memberlist"}},
            },
            "limits": {"accept_ha_samples": True},
            "ingester": {
                "lifecycler": {
                    "address": LOOPBACK, "min_ready_duration": "0s", "final_sleep": "0s",
                    "ring": memory | {"replication_factor": 1},
                },
            },
            "blocks_storage": {
                "backend": "filesystem",
                "filesystem": {"dir": f"{self.folder}/blocks"},
                "tsdb": {"dir": f"{self.folder}/tsdb"},
                "bucket_store": {"sync_dir": f"{self.folder}/sync"},
            },
            "compactor": {
                "data_dir": f"{self.folder}/compactor", "sharding_ring": memory | here,
            },
            "store_gateway": {"sharding_ring": memory | here},
            "ruler": {
                "enable_api": True, "poll_interval": "5s", "rule_path": f"{self.folder}/ruler",
                "evaluation_interval": f"{INTERVAL}s", "ring": memory | here,
            },
            "ruler_storage": {
                "backend": "local", "local": {"directory": str(self.rules.parent)},
            },
            "alertmanager": {
                "external_url": f"http://{self.address}/alertmanager",
                "data_dir": f"{self.folder}/alertmanager", "cluster": {"listen_address": ""},
            },
            "alertmanager_storage": {
                "backend": "local", "local": {"path": f"{self.folder}/alerts"},
            },
        }  # fmt: skip

    def api(self) -> Prometheus:
        """Return the tenant's API."""
        return Store(f"http://{self.address}/prometheus", {"X-Scope-OrgID": self.tenant})

    def replicas(self, start: float, end: float, sent: list[compare.Samples]) -> list[str]:
        """The elected replica is there whole, the other not at all."""
        return compare.differences(sent[0], compare.stored(self.api(), start, end, self.off))

    def evaluate(self, rules: list[Path]) -> None:
        """Give the tenant the rules; the ruler looks every few seconds."""
        for file in rules:
            (self.rules / file.name).write_text(file.read_text())


ENGINES: tuple[type[Engine], ...] = (
    PrometheusReceiver, VictoriaDebian, VictoriaNewest, ThanosReceive, ThanosSidecar, Cortex,
)  # fmt: skip
