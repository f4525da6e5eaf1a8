# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bare host for one role, runs that are cut off on it, and what it is and says afterwards.

Grafana is a STAND-IN.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.conftest import CURRENT, SETTINGS, handed_in
from tests.grafana import repository
from tests.lab import prometheus
from tests.lab.artifact import cached
from tests.lab.deployed import Deployed, failures
from tests.lab.hosts import run

# Without what differs between two hosts by nature: databases, how often a release was healthy.
LOOK = r"""
import hashlib, os, pwd, re, stat
roots = "/etc/systemd/system /etc/linmonitor /etc/grafana /etc/apt /opt/linmonitor /var/backups"
roots += " /var/lib/linmonitor /run/linmonitor /run/systemd/system /var/cache/apt/archives"
passing = re.compile("/var/lib/linmonitor/prometheus/|/healthy$|[.]list$|ebpf_exporter-trial")
paths = set(filter(os.path.lexists, roots.split()))
for folder, below, files in (found for root in roots.split() for found in os.walk(root)):
    paths.update(os.path.join(folder, name) for name in below + files)
for path in sorted(paths):
    found = os.lstat(path)
    content = ""
    if stat.S_ISLNK(found.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(found.st_mode):
        content = hashlib.sha256(open(path, "rb").read()).hexdigest()[:16]
    if not passing.search(path):
        print(path, oct(found.st_mode), pwd.getpwuid(found.st_uid).pw_name, content)
"""
ASK = """
import base64, json, sys, urllib.request as r
opener = r.build_opener(r.ProxyHandler({}))
login = base64.b64encode(sys.argv[1].encode()).decode()
for url in sys.argv[2:]:
    said = json.load(opener.open(r.Request(url, headers={"Authorization": "Basic " + login})))
    if url.endswith("/rules"):
        rules = [rule for group in said["data"]["groups"] for rule in group["rules"]]
        said = [[rule["name"], rule["query"]] for rule in rules]
    print(json.dumps(said, sort_keys=True))
"""
PASSWORD = "quite-a-secret"
INTERRUPTED, DISCONNECTED, KILLED = "interrupted", "disconnected", "its host killed"
INTERRUPT = "kill -INT -$PPID"
WAYS = {
    INTERRUPTED: INTERRUPT,
    DISCONNECTED: "podman exec {container} sh -c 'systemctl stop ssh; pkill -KILL --full ^sshd:'",
    # What the run does without a host is the case above, and here it would wait for long.
    KILLED: "podman kill {container} && " + INTERRUPT,
}
SERVE = "python3 -m http.server --bind 127.0.0.1 --directory /srv 8042"
PROPERTIES = "ActiveState,UnitFileState,NeedDaemonReload,StartLimitIntervalUSec,RestartUSec"


@dataclass
class Role:
    """How a role is deployed, changed and asked what it runs."""

    group: str
    unit: str
    variables: dict[str, Any]
    change: dict[str, Any]
    ask: str
    served: Path | None = None


def exporter(_: Path) -> Role:
    return Role(
        "linmonitor_targets",
        "ebpf_exporter",
        SETTINGS | handed_in(cached()),
        {"ebpf_exporter_allowed_sources": ["192.0.2.1"]},
        f"python3 -B {CURRENT}/health.py && readlink {CURRENT}",
    )


def server(_: Path) -> Role:
    paths = ("status/config", "status/flags", "rules", "targets?state=dropped")
    urls = " ".join(f"http://127.0.0.1:9090/api/v1/{path}" for path in paths)
    job = {"job_name": "mine", "authorization": {"credentials": PASSWORD}}
    return Role(
        "linmonitor_prometheus",
        "linmonitor-prometheus",
        prometheus.handed_in() | {"prometheus_scrape_configs": [job]},
        {
            "prometheus_alerts": {"DiskLatencyP99High": {"threshold": 0.321}},
            "prometheus_scrape_interval": "20s",
            "prometheus_retention_time": "20d",
        },
        f"python3 -c '{ASK}' : {urls}",
    )


def grafana(scratch: Path) -> Role:
    repository.build(scratch / "repositories")
    keys = json.loads((scratch / "repositories/keys.json").read_text())
    urls = " ".join(f"http://127.0.0.1:3000/api/{path}" for path in ("datasources", "search"))
    return Role(
        "linmonitor_grafana",
        "grafana-server",
        {
            "grafana_apt_url": "http://127.0.0.1:8042/stable",
            "grafana_apt_key_fingerprint": keys["stable"],
            "grafana_version": repository.PACKAGES["stable"][0][1],
            "grafana_prometheus_url": "http://127.0.0.1:9090",
            "grafana_secrets_dir": str(scratch / "secrets"),
            "grafana_admin_password": PASSWORD,
            "grafana_secret_key": "0123456789abcdef",
        },
        {
            "grafana_prometheus_url": "http://192.0.2.1:9090",
            "grafana_ini": {"users": {"default_theme": "light"}},
        },
        f"python3 -c '{ASK}' admin:{PASSWORD} {urls}",
        scratch / "repositories/all.tar",
    )


ROLES = {"ebpf_exporter": exporter, "prometheus": server, "Grafana's stand-in": grafana}


class Host(Deployed):
    """A bare host on which one role is deployed."""

    def __init__(self, lab: str, role: Role) -> None:
        """Boot it."""
        super().__init__(lab, {role.group: ["box"]}, role.variables)
        self.role = role
        self.container = self.lab.container("box")
        if role.served:
            run("podman", "cp", str(role.served), f"{self.container}:/served.tar")
            self.run("tar -xf /served.tar -C /srv")
        self.serve()

    def serve(self) -> None:
        """Serve what the role needs, if anything."""
        self.run(f"systemd-run --quiet --unit=served {SERVE}")

    def counted(self, changed: bool, **environment: str) -> tuple[int, str, list[str]]:
        """Deploy; return exit status, output, and number and name of the role's tasks that ran."""
        tasks = self.lab.folder / "tasks"
        tasks.write_text("")
        status, output = self.play(
            self.role.change if changed else {},
            ANSIBLE_CALLBACK_PLUGINS=str(Path(__file__).parent / "callbacks"),
            ANSIBLE_CALLBACKS_ENABLED="cut_off",
            CUT_OFF_TASKS=str(tasks),
            **environment,
        )
        return status, output, tasks.read_text().splitlines()

    def cut_off(self, changed: bool, number: str, way: str) -> None:
        """Deploy until a task begins, by its number, and cut the run off in a way."""
        command = WAYS[way].format(container=self.container)
        status, output, _ = self.counted(changed, CUT_OFF_AT=number, CUT_OFF_BY=command)
        if way == DISCONNECTED:
            # A run that has lost its host goes on to its end where nothing more is asked of it.
            assert self.run("systemctl is-active ssh") != "active", failures(output)
            self.run("systemctl start ssh")
        else:
            assert status != 0, failures(output)
        if way == KILLED:
            self.lab.start_again("box")
            self.serve()

    def state(self) -> str:
        """Return what there is of the role, and what it says that it runs."""
        said = self.run(self.role.ask)
        assert said, self.run(f"systemctl status {self.role.unit}")
        unit = self.run(f"systemctl show --property={PROPERTIES} {self.role.unit}")
        return "\n".join([self.run(f"python3 - <<'END'\n{LOOK}\nEND"), unit, said])
