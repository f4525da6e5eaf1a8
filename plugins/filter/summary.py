# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person wants to know at the end of a run, for one host or for thousands."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.linmonitor.stack.plugins.filter.folders import host_file
from ansible_collections.linmonitor.stack.plugins.filter.targets import path_prefix, prometheus_web
from ansible_collections.linmonitor.stack.plugins.module_utils import _address
from ansible_collections.linmonitor.stack.plugins.module_utils._address import Address

DOCUMENTATION = r"""
name: summary
short_description: Say what to open after a run, as whom, and what was left out
version_added: 1.0.0
description:
  - Used by C(playbooks/summary.yml).
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

# What the roles listen on by default; a unit test compares.
LISTENERS = {
    "alertmanager_listen_address": "127.0.0.1:9093",
    "grafana_listen_address": "127.0.0.1:3000",
    "prometheus_listen_address": "127.0.0.1:9090",
    "ebpf_exporter_listen_address": "127.0.0.1:9435",
}
NAMED = 3  # hosts that a line names before it counts
ON_HOST = "/etc/grafana/linmonitor/admin_password"


def _names(hosts: Iterable[str]) -> str:
    """Return hosts as words, some by name and the others by number."""
    hosts = list(hosts)
    more = [f"{len(hosts) - NAMED} more"] if len(hosts) > NAMED else []
    return ", ".join(hosts[:NAMED] + more)


def _listener(variables: Mapping, name: str) -> Address:
    """Return where a service of a host listens."""
    return _address.parse(variables.get(name) or LISTENERS[name])


def _is_here(host: str, variables: Mapping) -> bool:
    """Say whether the controller is that host."""
    connection = variables.get("ansible_connection", "")
    return connection in ("local", "ansible.builtin.local") or (
        not connection and host in ("localhost", "127.0.0.1", "::1")
    )


def _ssh(host: str, variables: Mapping, forwards: list[str]) -> str:
    """Return the command that brings ports of a host's loopback to this machine."""
    words = ["ssh", "-N", *(word for forward in forwards for word in ("-L", forward))]
    port = variables.get("ansible_port") or variables.get("ansible_ssh_port")
    key = variables.get("ansible_ssh_private_key_file")
    words += ["-p", str(port)] if port else []
    words += ["-i", str(key)] if key else []
    words += shlex.split(str(variables.get("ansible_ssh_common_args") or ""))
    user = variables.get("ansible_user") or variables.get("ansible_ssh_user")
    address = variables.get("ansible_host") or host
    return shlex.join([*words, f"{user}@{address}" if user else str(address)])


def _login(host: str, variables: Mapping, secrets: str) -> str:
    """Say who logs in to Grafana and where the password lies, never the password."""
    if (variables.get("__linmonitor_grafana_guest") or {}).get("record"):
        return "as its own people; this Grafana was there before"
    ini = variables.get("grafana_ini") or {}
    user = (ini.get("security") or {}).get("admin_user", "admin")
    if variables.get("grafana_admin_password"):
        return f"as {user}, with the grafana_admin_password of your inventory"
    folder = Path(str(variables.get("grafana_secrets_dir") or secrets))
    stored = folder / host_file(host) / "admin_password"
    place = f"{stored} on this controller" if stored.is_file() else f"{ON_HOST} on {host}"
    return f"as {user}, whose password is in {place}"


class _Places:
    """What to open, and the tunnels to what listens on loopback only."""

    def __init__(self, hostvars: Mapping) -> None:
        self.hostvars = hostvars
        self.lines: list[str] = []
        self.tunnels: dict[str, list[str]] = {}

    def add(
        self, title: str, host: str, listener: Address, scheme: str, rest: str, *, path: str = ""
    ) -> None:
        """Say where a service of a host is reached from here."""
        variables = self.hostvars[host]
        reached = listener.at(str(variables.get("ansible_host") or host))
        if _is_here(host, variables):
            reached = listener.own
        elif listener.loopback:
            self.tunnels.setdefault(host, []).append(f"{listener.port}:{listener}")
            reached = Address(_address.LOOPBACK, listener.port)
            rest = f"through the tunnel below {rest}"
        self.lines.append(f"{title:<11} {scheme}://{reached}{path} {rest}".rstrip())


def _prometheus(places: _Places, host: str) -> None:
    """Name a Prometheus: where people open it, if the inventory says so, else its listener."""
    variables = places.hostvars[host]
    users = (variables.get("prometheus_web_config") or {}).get("basic_auth_users")
    agent = variables.get("prometheus_mode") == "agent"
    notes = {"as a user of prometheus_web_config": users, "(an agent, which only forwards)": agent}
    words = " ".join(note for note, true in notes.items() if true)
    if external := variables.get("prometheus_external_url"):
        places.lines.append(f"{'Prometheus':<11} {external} {words}".rstrip())
        return
    scheme, path = prometheus_web(variables)
    listener = _listener(variables, "prometheus_listen_address")
    places.add("Prometheus", host, listener, scheme, words, path=path)


def _alertmanager(places: _Places, host: str) -> None:
    """Name an Alertmanager, and say where nobody hears of alerts."""
    variables = places.hostvars[host]
    config = variables.get("alertmanager_config") or {}
    words = "" if config.get("receivers") else "(alertmanager_config has no receivers yet)"
    if external := variables.get("alertmanager_external_url"):
        places.lines.append(f"{'Alerts':<11} {external} {words}".rstrip())
        return
    listener = _listener(variables, "alertmanager_listen_address")
    path = path_prefix(variables, "alertmanager")
    places.add("Alerts", host, listener, "http", words, path=path)


def _grafana(places: _Places, hosts: list[str], check: bool, secrets: str) -> list[str]:
    """Name the Grafanas that answer, and return why others do not."""
    silent: dict[str, list[str]] = {}
    for host in hosts:
        variables = places.hostvars[host]
        enabled = str(variables.get("grafana_enabled", "true")).lower()
        answer = variables.get("__linmonitor_grafana_answer") or {}
        if enabled == "false":
            silent.setdefault("grafana_enabled is false", []).append(host)
        elif not check and answer.get("status") != 200:
            why = "it does not answer: look at systemctl status grafana-server"
            if enabled == "auto":
                why = "its repository did not answer, and grafana_enabled is auto"
            silent.setdefault(why, []).append(host)
        else:
            server = (variables.get("grafana_ini") or {}).get("server") or {}
            login = _login(host, variables, secrets)
            if "root_url" in server:
                places.lines.append(f"{'Grafana':<11} {server['root_url']} {login}")
                continue
            # Somebody else's listens where it does, whatever the inventory says.
            found = variables.get("__linmonitor_grafana") or {}
            listener = _listener(variables, "grafana_listen_address")
            if found.get("present") and found.get("listen"):
                listener = _address.parse(found["listen"])
            tls = variables.get("grafana_tls_cert") or str(found.get("url")).startswith("https:")
            places.add("Grafana", host, listener, "https" if tls else "http", login)
    return [f"{'Grafana':<11} not on {_names(names)}: {why}" for why, names in silent.items()]


def _programs(hosts: list[str], hostvars: Mapping, check: bool) -> list[str]:
    """Say how many programs run where, and which do not run and why."""
    if check and hosts:
        return [f"{'Programs':<11} a deployed host tries them on its kernel; this was a check"]
    counts: dict[tuple[int, int], list[str]] = {}
    refused: dict[tuple[str, str], list[str]] = {}
    silent = []
    for host in hosts:
        configs = hostvars[host].get("ebpf_exporter_programs")
        if not configs:
            silent.append(host)
            continue
        running = [name for name, verdict in configs.items() if verdict["variant"]]
        counts.setdefault((len(running), len(configs)), []).append(host)
        for name, verdict in configs.items():
            if not verdict["variant"]:
                why = "; ".join(f"{variant} {said}" for variant, said in verdict["refused"].items())
                refused.setdefault((name, why), []).append(host)
    lines = [
        f"{'Programs':<11} {running} of {wanted} on {_names(names)}"
        for (running, wanted), names in sorted(counts.items(), reverse=True)
    ]
    lines += [
        f"{'Left out':<11} {name} on {_names(names)}: {why}"
        for (name, why), names in refused.items()
    ]
    if silent:
        lines.append(
            f"{'Programs':<11} unknown on {_names(silent)}: look at systemctl status ebpf_exporter"
        )
    return lines


def summary(
    hosts: list[str],
    hostvars: Mapping,
    groups: Mapping,
    healthy: list[str],
    *,
    check: bool,
    secrets: str,
) -> list[str]:
    """Return the lines that a person reads at the end of a run over `hosts`.

    Hosts that are not among the healthy ones failed before and are only named. `secrets` is the
    controller's folder with the passwords that were made up.
    """
    members = {
        name: [host for host in groups.get(f"linmonitor_{name}", []) if host in set(healthy)]
        for name in ("alertmanager", "grafana", "prometheus", "targets")
    }
    places = _Places(hostvars)
    without = _grafana(places, members["grafana"], check, secrets)
    for host in members["prometheus"]:
        _prometheus(places, host)
    for host in members["alertmanager"]:
        _alertmanager(places, host)
    if members["targets"]:
        first = members["targets"][0]
        listener = _listener(hostvars[first], "ebpf_exporter_listen_address")
        reached = listener.at(str(hostvars[first].get("ansible_host") or first))
        places.lines.append(
            f"{'Exporters':<11} http://{reached}/metrics on {first}"
            + (f", and {len(members['targets']) - 1} more" if len(members["targets"]) > 1 else "")
        )
    tunnels = [
        f"{'Tunnel':<11} {_ssh(host, hostvars[host], forwards)}"
        for host, forwards in places.tunnels.items()
    ]
    failed = [host for host in hosts if host not in set(healthy)]
    lines = [*places.lines, *tunnels, *without, *_programs(members["targets"], hostvars, check)]
    if failed:
        lines.append(f"{'Failed':<11} {_names(failed)}: their errors are above")
    return lines


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"summary": summary}
