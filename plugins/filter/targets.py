# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks whom and where, said by the inventory: exporters, Prometheus and Grafana."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.errors import AnsibleFilterError
from ansible_collections.linmonitor.stack.files.bpf.build import catalogue
from ansible_collections.linmonitor.stack.plugins.filter import prometheus
from ansible_collections.linmonitor.stack.plugins.module_utils import _address
from ansible_collections.linmonitor.stack.plugins.module_utils._address import Address, AddressError
from ansible_collections.linmonitor.stack.plugins.plugin_utils import _yaml

DOCUMENTATION = r"""
name: targets
short_description: Say where servers listen, where others reach them and who may ask them
version_added: 1.0.0
description:
  - Used by the roles that run servers and by the playbooks.
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

COLLECTION = Path(__file__).parents[2]
# Roles that Prometheus scrapes, and what messages call what they run.
EXPORTER = "ebpf_exporter"
CALLED = {EXPORTER: "exporter", "node_exporter": "node_exporter", "alertmanager": "Alertmanager"}
# Of these the ones whose units let named sources in alone.
GUARDED = (EXPORTER, "node_exporter")
# What a target has of us, and the names of what it may have beside that.
OWN_LABELS = ("instance", "job", "ebpf_configs")
LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Connections that reach a host by its address; others (local, podman, docker) know none.
NETWORK_CONNECTIONS = ("ssh", "smart", "paramiko", "paramiko_ssh", "libssh")


def _setting(variables: Mapping, name: str, role: str) -> Any:
    """Return a variable of a host, or its default, which a host's variables do not hold."""
    if name in variables:
        return variables[name]
    return _yaml.read(COLLECTION / f"roles/{role}/defaults/main.yml")[name]


def _listener(host: str, variables: Mapping, role: str) -> Address:
    """Return where a role's server listens on a host."""
    name = f"{role}_listen_address"
    try:
        return _address.parse(_setting(variables, name, role))
    except AddressError as error:
        raise AddressError(f"{name} of {host} cannot be used: {error}.") from error


def _known_as(host: str, variables: Mapping) -> str:
    """Return the address by which other machines know a host, or nothing."""
    connection = str(variables.get("ansible_connection", "ssh")).rpartition(".")[2]
    address = variables.get("ansible_host") or variables.get("ansible_ssh_host") or host
    try:
        known = _address.host_of(address)
    except AddressError:
        return ""
    return "" if connection not in NETWORK_CONNECTIONS or _address.is_loopback(known) else known


def _target(host: str, variables: Mapping, scraper: str, role: str = EXPORTER) -> Address:
    """Return where the host `scraper` reaches what a role runs on a host."""
    listener = _listener(host, variables, role)
    given = _setting(variables, f"{role}_scrape_address", role)
    if given:
        return _scrape_address(host, given, listener.port, role)
    if host == scraper:
        return listener.own
    if listener.loopback:
        raise AddressError(
            f"The {CALLED[role]} of {host} listens on {listener}, where Prometheus of {scraper} "
            f"cannot reach it. Set {role}_listen_address of {host} to an address of a network you "
            f"trust, or {role}_scrape_address to where a tunnel or proxy ends."
        )
    known = _known_as(host, variables)
    if listener.wildcard and not known:
        raise AddressError(
            f"Ansible's connection to {host} says no address at which Prometheus of {scraper} "
            f"reaches it. Set {role}_scrape_address of {host}."
        )
    return listener.at(known)


def _scrape_address(host: str, given: object, port: int, role: str = EXPORTER) -> Address:
    """Read a role's scrape address, whose port is by default the listener's."""
    try:
        address = _address.parse(given, port)
        if address.wildcard:
            raise AddressError(f"{given} names no host")
    except AddressError as error:
        raise AddressError(f"{role}_scrape_address of {host} cannot be used: {error}.") from error
    return address


@functools.lru_cache(maxsize=None)
def _sets(extra: str) -> dict[str, list[str]]:
    """Return the named sets of programs; the role refuses an extra folder in disorder."""
    shipped = COLLECTION / "files/bpf"
    try:
        more = [Path(extra).expanduser()] if extra else []
        return catalogue.load([shipped, *more])["sets"]
    except ValueError:
        return catalogue.load([shipped])["sets"]


def _programs(variables: Mapping) -> list[str]:
    """Return the programs that a host's variables ask for; a set's name stands for its members."""
    sets = _sets(str(_setting(variables, "bpf_programs_extra", "bpf_programs")))
    enabled = _setting(variables, "bpf_programs_enabled", "bpf_programs")
    return list(dict.fromkeys(one for name in enabled for one in sets.get(name, [name])))


def _labels(host: str, variables: Mapping) -> dict[str, str]:
    """Return the labels that a host's exporter gets by prometheus_target_labels."""
    given = _setting(variables, "prometheus_target_labels", "prometheus") or {}
    for name in given:
        if name in OWN_LABELS or name.startswith("__") or not LABEL.fullmatch(name):
            raise AddressError(
                f"prometheus_target_labels of {host} cannot have {name}: a name is letters, digits "
                f"and _, does not begin with __ and is none of {', '.join(OWN_LABELS)}."
            )
    return {name: str(value) for name, value in given.items()}


def scrape_targets(
    hosts: Iterable[str], hostvars: Mapping, scraper: str, role: str = EXPORTER
) -> list[dict]:
    """Return `hosts` in file_sd form, as the host `scraper` reaches what `role` runs there.

    All hosts of the inventory are in, so a run limited to some changes nobody else's target. Of
    our exporter the label `ebpf_configs` names the programs that the inventory wants of a host.
    """
    targets, faults = [], []
    for host in hosts:
        try:
            target = _target(host, hostvars[host], scraper, role)
            labels = _labels(host, hostvars[host])
        except AddressError as error:
            faults.append(str(error))
            continue
        labels |= {"instance": host}
        if prefix := path_prefix(hostvars[host], role):
            labels |= {"__metrics_path__": f"{prefix}/metrics"}
        if role == EXPORTER:
            labels |= {"ebpf_configs": f",{','.join(_programs(hostvars[host]))},"}
        targets.append({"targets": [str(target)], "labels": labels})
    if faults:
        raise AnsibleFilterError(" ".join(faults))
    return targets


def scrape_faults(
    hosts: Iterable[str], hostvars: Mapping, scrapers: list[str], role: str = EXPORTER
) -> list[str]:
    """Say why some of `scrapers` could not ask what `role` runs on `hosts`, before these change."""
    faults = []
    for host in hosts:
        for scraper in scrapers:
            try:
                _target(host, hostvars[host], scraper, role)
                _labels(host, hostvars[host])
                if role in GUARDED:
                    _source(host, hostvars[host], scraper, hostvars[scraper], role)
            except AddressError as error:
                faults.append(str(error))
    return list(dict.fromkeys(faults))


def _source(host: str, variables: Mapping, scraper: str, others: Mapping, role: str) -> str:
    """Return the address from which `scraper` asks a host's exporter, if it needs to be let in."""
    if _listener(host, variables, role).loopback:
        return ""
    known = _known_as(scraper, others)
    # To itself a host needs no name: it is localhost, or the address it listens on.
    if host == scraper:
        return known if _address.is_ip(known) else ""
    given = {f"{role}_allowed_sources", "linmonitor_scrape_sources"} & set(variables)
    if not known and not given:
        raise AddressError(
            f"Ansible's connection to {scraper} says no address from which its Prometheus asks the "
            f"{CALLED[role]} of {host}. Set linmonitor_scrape_sources."
        )
    return known


def scrape_sources(
    scrapers: Iterable[str], hostvars: Mapping, here: str, role: str = EXPORTER
) -> list[str]:
    """Return the addresses from which `scrapers` ask what `role` runs on the host `here`.

    What cannot be known is left out: it may not matter here, and scrape_faults says so.
    """
    sources = []
    for scraper in scrapers:
        with contextlib.suppress(AddressError):
            sources.append(_source(here, hostvars[here], scraper, hostvars[scraper], role))
    return [source for source in sources if source]


def alertmanagers(hosts: Iterable[str], hostvars: Mapping, scraper: str) -> list[dict]:
    """Return the Alertmanagers of `hosts` as Prometheus of `scraper` sends alerts there."""
    found, faults = [], []
    for host in hosts:
        try:
            target = _target(host, hostvars[host], scraper, "alertmanager")
        except AddressError as error:
            faults.append(str(error))
            continue
        prefix = path_prefix(hostvars[host], "alertmanager")
        found.append(
            ({"path_prefix": prefix} if prefix else {})
            | {"static_configs": [{"targets": [str(target)]}]}
        )
    if faults:
        raise AnsibleFilterError(" ".join(faults))
    return found


def path_prefix(variables: Mapping, role: str) -> str:
    """Return the path below which a role's server answers: that of its URL, or of its flag."""
    if role not in ("alertmanager", "prometheus"):
        return ""
    flags = _setting(variables, f"{role}_flags", role) or {}
    external = str(_setting(variables, f"{role}_external_url", role))
    path = str(flags.get("web.route-prefix", urlsplit(external).path)).strip("/")
    return f"/{path}" if path else ""


def prometheus_servers(hosts: Iterable[str], hostvars: Mapping) -> list[str]:
    """Return those of `hosts` whose Prometheus answers queries, which an agent does not."""
    return [
        host
        for host in hosts
        if _setting(hostvars[host], "prometheus_mode", "prometheus") != "agent"
    ]


def _shards(hosts: Iterable[str], hostvars: Mapping) -> dict[int, str]:
    """Return which of `hosts` to ask for each shard: the first, empty where none answers queries.

    A server that has all targets is the only shard, and is taken before others.
    """
    found: dict[int, dict[int, str]] = {}
    for host in prometheus_servers(hosts, hostvars):
        shards, shard = (
            int(_setting(hostvars[host], name, "prometheus"))
            for name in ("prometheus_shards", "prometheus_shard")
        )
        asked = found.setdefault(shards, dict.fromkeys(range(shards), ""))
        if asked.get(shard) == "":
            asked[shard] = host
    return found[min(found)] if found else {}


def prometheus_shares(
    hosts: Iterable[str], hostvars: Mapping, targets: Iterable[str]
) -> dict[str, list[str]]:
    """Return the Prometheus servers of `hosts` that together scrape all targets, each with its."""
    asked, wanted = _shards(hosts, hostvars), list(targets)
    return {
        host: [target for target in wanted if prometheus.shard_of(target, len(asked)) == shard]
        for shard, host in asked.items()
    }


def prometheus_share_faults(hosts: Iterable[str], hostvars: Mapping) -> list[str]:
    """Say which part of the targets no Prometheus of `hosts` can be asked for."""
    asked = _shards(hosts, hostvars)
    if not asked:
        return ["no host of linmonitor_prometheus answers queries"]
    return [
        f"no host of linmonitor_prometheus with prometheus_shards: {len(asked)} and "
        f"prometheus_shard: {shard} answers queries"
        for shard, host in asked.items()
        if not host
    ]


def prometheus_web(variables: Mapping) -> tuple[str, str]:
    """Return scheme and path under which a host's Prometheus answers."""
    web = _setting(variables, "prometheus_web_config", "prometheus") or {}
    scheme = "https" if web.get("tls_server_config") else "http"
    return scheme, path_prefix(variables, "prometheus")


def prometheus_url(hosts: list[str], hostvars: Mapping, here: str) -> str:
    """Return where the host `here` reaches a Prometheus of `hosts`: its own, else the first."""
    host = here if here in hosts or not hosts else hosts[0]
    variables = hostvars[host]
    try:
        listener = _listener(host, variables, "prometheus")
    except AddressError as error:
        raise AnsibleFilterError(str(error)) from error
    scheme, path = prometheus_web(variables)
    if host == here:
        return f"{scheme}://{listener.own}{path}"
    known = _known_as(host, variables)
    if listener.loopback or (listener.wildcard and not known):
        raise AnsibleFilterError(
            f"Prometheus of {host} listens on {listener}, where Grafana of {here} cannot reach it. "
            f"Set prometheus_listen_address of {host} to an address of a network you trust, or "
            f"name a proxy before it in grafana_prometheus_url of {here}."
        )
    return f"{scheme}://{listener.at(known)}{path}"


def listener(text: object) -> dict[str, Any]:
    """Take a listener's address apart; `fault` says what is wrong with it, and is else empty."""
    try:
        address, fault = _address.parse(text), ""
    except AddressError as error:
        address, fault = Address("", 0), str(error)
    return {
        "address": str(address),
        "host": address.host,
        "port": address.port,
        "own_host": address.own.host,
        "own": str(address.own),
        "loopback": address.loopback,
        "wildcard": address.wildcard,
        "name": address.host if address.name else "",
        "fault": fault,
    }


def listen_stream(text: object, known: list[str]) -> str:
    """Return a listener as systemd's ListenStream= takes it, which knows no names.

    `known` are the addresses by which the host itself knows a name. One socket is all that the
    exporter takes, so a name is its first address, as it is for Go: of IPv4 where there is one.
    """
    try:
        return _address.parse(text).stream(known)
    except AddressError:  # the listener's fault says what is wrong
        return ""


def scrape_address_fault(given: object, host: str, role: str = EXPORTER) -> str:
    """Say what is wrong with a role's scrape address, or nothing."""
    try:
        if given:
            _scrape_address(host, given, 1, role)
    except AddressError as error:
        return str(error)
    return ""


def allowed_sources(sources: object, own: list[str]) -> dict[str, list[str]]:
    """Return what systemd takes for `sources` beside the host's `own` addresses.

    `others` are those that are not the host itself, `faults` say what systemd would ignore.
    """
    if not isinstance(sources, list):
        return {"prefixes": own, "others": [], "faults": [f"{sources!r} is not a list"]}
    found, faults = [], []
    for source in sources:
        try:
            found += _address.prefixes(source)
        except AddressError as error:
            faults.append(str(error))
    itself = [one for one in found if one in own or _address.is_loopback(one.partition("/")[0])]
    others = [one for one in found if one not in itself]
    return {"prefixes": list(dict.fromkeys(own + found)), "others": others, "faults": faults}


def builder(groups: Mapping, hostvars: Mapping) -> Mapping:
    """Return the variables of the host that builds; targets must know what they will be given."""
    hosts = groups.get("linmonitor_build")
    return hostvars[hosts[0]] if hosts else {}


def first_target(groups: Mapping, hostvars: Mapping) -> Mapping:
    """Return the variables of the first target, or of the first host; none where there is none."""
    hosts = groups.get("linmonitor_targets") or groups.get("all") or [""]
    return hostvars.get(hosts[0], {})


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {
            "alertmanagers": alertmanagers,
            "allowed_sources": allowed_sources,
            "builder": builder,
            "first_target": first_target,
            "listener": listener,
            "listen_stream": listen_stream,
            "path_prefix": path_prefix,
            "prometheus_servers": prometheus_servers,
            "prometheus_share_faults": prometheus_share_faults,
            "prometheus_shares": prometheus_shares,
            "prometheus_url": prometheus_url,
            "scrape_address_fault": scrape_address_fault,
            "scrape_faults": scrape_faults,
            "scrape_sources": scrape_sources,
            "scrape_targets": scrape_targets,
        }
