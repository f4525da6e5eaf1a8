# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks whom is what the inventory says, however it writes addresses."""

from __future__ import annotations

import socket

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.linmonitor.stack.plugins.filter.targets import (
    alertmanagers,
    allowed_sources,
    builder,
    first_target,
    listen_stream,
    listener,
    prometheus_servers,
    prometheus_share_faults,
    prometheus_shares,
    prometheus_url,
    scrape_address_fault,
    scrape_faults,
    scrape_sources,
    scrape_targets,
)

LISTENER = "ebpf_exporter_listen_address"
SCRAPED = "ebpf_exporter_scrape_address"
TO_SET = f"Set {SCRAPED} of db"
MON = {"ansible_host": "192.0.2.1"}
DB = {"ansible_host": "192.0.2.2"}


def target(host: dict, scraper: str = "mon", name: str = "db") -> str:
    """Where Prometheus of `scraper` asks a host with these variables."""
    [entry] = scrape_targets([name], {"mon": MON, "web": {}, name: host}, scraper)
    return entry["targets"][0]


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ({LISTENER: ":9435"}, "192.0.2.2:9435"),
        ({LISTENER: "0.0.0.0:9500"}, "192.0.2.2:9500"),
        ({LISTENER: "[::]:9436"}, "192.0.2.2:9436"),
        ({LISTENER: "192.0.2.77:9437"}, "192.0.2.77:9437"),
        ({LISTENER: "[2001:db8::7]:9435"}, "[2001:db8::7]:9435"),
        ({LISTENER: "[2001:DB8:0::7]:9435"}, "[2001:db8::7]:9435"),
        ({LISTENER: "db.example.com:9435"}, "db.example.com:9435"),
        ({LISTENER: ":9435", "ansible_host": "2001:db8::2"}, "[2001:db8::2]:9435"),
        ({LISTENER: ":9435", "ansible_host": "db.example.com"}, "db.example.com:9435"),
        ({LISTENER: ":9435", "ansible_host": None}, "db:9435"),
        ({SCRAPED: "tunnel.example.com:19435"}, "tunnel.example.com:19435"),
        ({LISTENER: ":9500", SCRAPED: "tunnel.example.com"}, "tunnel.example.com:9500"),
        ({LISTENER: ":9500", SCRAPED: "2001:db8::9"}, "[2001:db8::9]:9500"),
        ({LISTENER: ":9500", SCRAPED: "[2001:db8::9]:80"}, "[2001:db8::9]:80"),
        ({LISTENER: "192.0.2.2:9435", "ansible_connection": "podman"}, "192.0.2.2:9435"),
        ({LISTENER: ":9435", "ansible_connection": "ansible.netcommon.libssh"}, "192.0.2.2:9435"),
    ],
)  # fmt: skip
def test_listener_decides_where_prometheus_asks(host, asked):
    assert target(DB | host) == asked


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ({}, "127.0.0.1:9435"),
        ({LISTENER: "192.0.2.1:9435"}, "192.0.2.1:9435"),
        ({LISTENER: ":9435"}, "127.0.0.1:9435"),
        ({LISTENER: "[::]:9436"}, "127.0.0.1:9436"),
        ({LISTENER: "[::1]:9436"}, "[::1]:9436"),
        ({LISTENER: ":9435", "ansible_connection": "local"}, "127.0.0.1:9435"),
        ({LISTENER: "mon.example.com:9435"}, "mon.example.com:9435"),
        ({LISTENER: ":9435", SCRAPED: "192.0.2.1"}, "192.0.2.1:9435"),
    ],
)
def test_a_host_that_watches_itself_asks_where_it_listens(host, asked):
    assert target(MON | host, name="mon") == asked


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ({}, "listens on 127.0.0.1:9435"),
        ({LISTENER: "localhost:9435"}, "listens on localhost:9435"),
        ({LISTENER: "[::1]:9435"}, "listens on [::1]:9435"),
        ({LISTENER: ":9435", "ansible_host": "localhost"}, TO_SET),
        ({LISTENER: ":9435", "ansible_host": "127.0.0.1"}, TO_SET),
        ({LISTENER: ":9435", "ansible_host": "fe80::1%eth0"}, TO_SET),
        ({LISTENER: ":9435", "ansible_connection": "local"}, TO_SET),
        ({LISTENER: ":9435", "ansible_connection": "containers.podman.podman"},
         TO_SET),
        ({LISTENER: ":9435", "ansible_connection": "community.docker.docker"},
         TO_SET),
        ({LISTENER: "::1:9435"}, "ebpf_exporter_listen_address of db cannot be used"),
        ({SCRAPED: ":9435"}, "ebpf_exporter_scrape_address of db cannot be used"),
    ],
)  # fmt: skip
def test_what_cannot_be_reached_is_refused_with_the_variable_to_set(host, named):
    with pytest.raises(AnsibleFilterError) as refused:
        target(DB | host)
    assert named in str(refused.value)
    [fault] = scrape_faults(["db"], {"mon": MON, "db": DB | host}, ["mon"])
    assert named in fault


def test_every_fault_of_the_fleet_is_named_at_once():
    hosts = {"a": {}, "b": {LISTENER: "b:x"}, "c": {LISTENER: "c:9435"}}
    with pytest.raises(AnsibleFilterError, match=r"exporter of a .* of b cannot be used"):
        scrape_targets(hosts, hosts, "mon")


def test_nobody_asks_where_there_is_no_prometheus():
    assert scrape_faults(["db"], {"db": DB}, []) == []


def test_labels_name_the_host_and_what_the_inventory_wants_of_it(tmp_path):
    for name in ("ours", "other"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "program.yml").write_text("{sets: [own], variants: [{name: tp}]}")
        for file in (f"{name}.bpf.c", f"{name}.yaml"):
            (folder / file).touch()
    hosts = {
        "a": {"bpf_programs_enabled": ["biolatency"]},
        "b": {"bpf_programs_enabled": ["tcp-rtt", "own"], "bpf_programs_extra": str(tmp_path)},
        "c": {},
        "d": {"bpf_programs_extra": str(tmp_path / "absent")},
    }
    found = scrape_targets(hosts, {h: v | {LISTENER: ":9435"} for h, v in hosts.items()}, "mon")
    labels = {entry["labels"]["instance"]: entry["labels"]["ebpf_configs"] for entry in found}
    assert labels["a"] == ",biolatency,"
    assert labels["b"] == ",tcp-rtt,other,ours,"
    assert labels["d"] == labels["c"]
    assert ",biolatency," in labels["c"] and "default" not in labels["c"]


OPEN = {LISTENER: ":9435"}


@pytest.mark.parametrize(
    ("scrapers", "here", "sources"),
    [
        ({"mon": MON}, DB | OPEN, ["192.0.2.1"]),
        ({"mon": MON, "mon2": {}}, DB | OPEN, ["192.0.2.1", "mon2"]),
        ({}, DB | OPEN, []),
        ({"mon": MON}, DB, []),
        ({"here": {}}, DB | OPEN, ["192.0.2.2"]),
        ({"here": {}, "mon": MON}, {"ansible_host": "here.example.com"} | OPEN, ["192.0.2.1"]),
        ({"here": {}}, {"ansible_connection": "local"} | OPEN, []),
        ({"mon": {"ansible_connection": "local"}}, DB, []),
    ],
)
def test_prometheus_hosts_may_ask_a_listener_beyond_loopback(scrapers, here, sources):
    assert scrape_sources(scrapers, scrapers | {"here": here}, "here") == sources


def test_prometheus_without_an_address_is_named():
    hosts = {"mon": {"ansible_connection": "local"}, "db": DB | OPEN}
    [fault] = scrape_faults(["db"], hosts, ["mon"])
    assert "connection to mon" in fault
    assert "Set linmonitor_scrape_sources" in fault
    assert scrape_sources(["mon"], hosts, "db") == []
    for given in ("linmonitor_scrape_sources", "ebpf_exporter_allowed_sources"):
        hosts["db"] = DB | OPEN | {given: ["192.0.2.9"]}
        assert scrape_faults(["db"], hosts, ["mon"]) == []


@pytest.mark.parametrize(
    ("listens", "hosts", "here", "url"),
    [
        ({}, [], "web", "http://127.0.0.1:9090"),
        ({}, ["mon", "web"], "web", "http://127.0.0.1:9090"),
        ({"mon": "0.0.0.0:9091"}, ["mon"], "mon", "http://127.0.0.1:9091"),
        ({"mon": "0.0.0.0:9091"}, ["mon"], "web", "http://192.0.2.1:9091"),
        ({"six": "[::]:9090"}, ["six", "mon"], "web", "http://[2001:db8::1]:9090"),
        ({"six": "[2001:db8::1]:9090"}, ["six"], "six", "http://[2001:db8::1]:9090"),
        ({"web": ":9090"}, ["web"], "mon", "http://web:9090"),
        ({"mon": "192.0.2.7:9090"}, ["mon"], "web", "http://192.0.2.7:9090"),
    ],
)
def test_grafana_finds_prometheus(listens, hosts, here, url):
    hostvars = {"mon": MON, "web": {}, "six": {"ansible_host": "2001:db8::1"}}
    for host, address in listens.items():
        hostvars[host] = hostvars[host] | {"prometheus_listen_address": address}
    assert prometheus_url(hosts, hostvars, here) == url


TLS = {"prometheus_web_config": {"tls_server_config": {"cert_file": "/a"}}}
OPENED = {"prometheus_external_url": "https://m.example.com/prom/"}


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (TLS, "https://127.0.0.1:9090"),
        (OPENED, "http://127.0.0.1:9090/prom"),
        (TLS | OPENED, "https://127.0.0.1:9090/prom"),
        (OPENED | {"prometheus_flags": {"web.route-prefix": "/"}}, "http://127.0.0.1:9090"),
        ({"prometheus_flags": {"web.route-prefix": "/x"}}, "http://127.0.0.1:9090/x"),
        ({"prometheus_web_config": None, "prometheus_flags": None}, "http://127.0.0.1:9090"),
    ],
)
def test_prometheus_is_asked_by_its_scheme_and_below_its_path(settings, url):
    assert prometheus_url(["mon"], {"mon": MON | settings}, "mon") == url


def test_an_agent_is_not_asked():
    hosts = {"edge": {"prometheus_mode": "agent"}, "mon": MON}
    assert prometheus_servers(hosts, hosts) == ["mon"]


def shard(shards: int, number: int, **variables: str) -> dict:
    return {"prometheus_shards": shards, "prometheus_shard": number, **variables}


HOSTS = [f"host{i}" for i in range(20)]


def test_one_prometheus_is_asked_for_all_targets_where_one_has_them():
    hosts = {"first": shard(2, 0), "whole": {}, "replica": {}}
    assert prometheus_shares(hosts, hosts, HOSTS) == {"whole": HOSTS}
    assert prometheus_share_faults(hosts, hosts) == []


def test_one_prometheus_of_each_shard_is_asked_for_its_own_targets():
    hosts = {"a1": shard(2, 0), "b0": shard(2, 1, prometheus_mode="agent")}
    hosts |= {"a2": shard(2, 0), "b1": shard("2", "1")}  # an inventory in the form of ini
    found = prometheus_shares(hosts, hosts, HOSTS)
    assert {server: bool(share) for server, share in found.items()} == {"a1": True, "b1": True}
    assert sorted(found["a1"] + found["b1"]) == sorted(HOSTS)
    assert prometheus_share_faults(hosts, hosts) == []


def test_a_shard_that_nobody_can_be_asked_for_is_named():
    assert prometheus_share_faults([], {}) == ["no host of linmonitor_prometheus answers queries"]
    hosts = {"a": shard(3, 0), "b": shard(3, 1, prometheus_mode="agent"), "out": shard(3, 3)}
    first, second = prometheus_share_faults(hosts, hosts)
    assert "prometheus_shards: 3 and prometheus_shard: 1 answers" in first
    assert "prometheus_shards: 3 and prometheus_shard: 2 answers" in second


def test_a_target_has_the_labels_of_its_host():
    host = DB | {LISTENER: ":9435", "prometheus_target_labels": {"rack": 7, "team": "a"}}
    [entry] = scrape_targets(["db"], {"db": host, "mon": MON}, "mon")
    programs = entry["labels"].pop("ebpf_configs")
    assert entry["labels"] == {"instance": "db", "rack": "7", "team": "a"}
    assert programs.startswith(",")


@pytest.mark.parametrize(
    "name", ["instance", "job", "ebpf_configs", "__address__", "a-b", "1a", ""]
)
def test_labels_that_cannot_be_are_refused_before_anything_changes(name):
    host = DB | {LISTENER: ":9435", "prometheus_target_labels": {name: "x"}}
    (fault,) = scrape_faults(["db"], {"db": host, "mon": MON}, ["mon"])
    assert fault.startswith(f"prometheus_target_labels of db cannot have {name}:")


@pytest.mark.parametrize("address", ["127.0.0.1:9090", "localhost:9090", "[::1]:9090", None])
def test_prometheus_of_another_host_must_not_hide_on_its_loopback(address):
    own = {"prometheus_listen_address": address} if address else {}
    with pytest.raises(
        AnsibleFilterError, match=r"Prometheus of db .* grafana_prometheus_url of web"
    ):
        prometheus_url(["db"], {"db": DB | own, "web": {}}, "web")


@pytest.mark.parametrize(
    ("text", "address", "own"),
    [
        ("127.0.0.1:9435", "127.0.0.1:9435", "127.0.0.1:9435"),
        (":9435", ":9435", "127.0.0.1:9435"),
        ("[::]:1", "[::]:1", "127.0.0.1:1"),
        ("[::1]:65535", "[::1]:65535", "[::1]:65535"),
        ("2001:db8:0:0:0:0:0:1:9435", "[2001:db8::1]:9435", "[2001:db8::1]:9435"),
        ("under_score.example.:80", "under_score.example.:80", "under_score.example.:80"),
    ],
)  # fmt: skip
def test_listeners_are_read(text, address, own):
    found = listener(text)
    assert (found["address"], found["own"], found["fault"]) == (address, own, "")


@pytest.mark.parametrize(
    ("text", "known", "stream"),
    [
        ("127.0.0.1:9435", [], "127.0.0.1:9435"),
        (":9435", [], "9435"),
        ("0.0.0.0:9435", [], "9435"),
        ("[::]:9436", [], "9436"),
        ("[2001:db8::5]:9435", [], "[2001:db8::5]:9435"),
        ("[::ffff:10.0.0.5]:9435", [], "10.0.0.5:9435"),
        ("localhost:9435", [], "127.0.0.1:9435"),
        ("ip6-localhost:9435", [], "[::1]:9435"),
        ("db.example:1", ["2001:db8::5", "10.0.0.7", "10.0.0.5"], "10.0.0.5:1"),
        ("db.example:1", ["2001:db8::5"], "[2001:db8::5]:1"),
        ("db.example:1", [], ""),
        ("nonsense", [], ""),
    ],
)
def test_a_listener_is_one_socket_of_systemd(text, known, stream):
    assert listen_stream(text, known) == stream


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("10.0.0.5", "has no port"),
        (9435, "has no port"),
        ("", "has no port"),
        ("10.0.0.5:", "'' is no port"),
        ("10.0.0.5:0", "'0' is no port"),
        ("10.0.0.5:65536", "'65536' is no port"),
        ("10.0.0.5:http", "'http' is no port"),
        ("10.0.0.5:٣", "is no port"),
        ("10.0.0.5:9435\n", "is no port"),
        ("10.0.0.5 :9435", "neither an IP address nor a name"),
        ("http://a:9435", "neither an IP address nor a name"),
        ("*:9435", "neither an IP address nor a name"),
        ("300.1.1.1:9435", "is no IP address"),
        ("::1", "[::1]:PORT"),
        ("::1:9435", "[::1]:9435"),
        ("2001:db8::1:9435", "[2001:db8::1]:9435"),
        ("[2001:db8::1]", "has no port"),
        ("[10.0.0.5]:9435", "no IPv6 address in its brackets"),
        ("[fe80::1%eth0]:9435", "has a zone"),
    ],
)
def test_listeners_that_mean_nothing_are_refused_with_what_is_allowed(text, fault):
    found = listener(text)
    assert fault in found["fault"]
    assert "Allowed is" in found["fault"]


def test_a_scrape_address_with_two_meanings_is_refused():
    fault = scrape_address_fault("2001:db8::1:9435", "db")
    assert "ebpf_exporter_scrape_address of db" in fault
    assert "[2001:db8::1]:9435" in fault
    assert scrape_address_fault("", "db") == scrape_address_fault("2001:db8::1", "db") == ""


@pytest.fixture
def dns(monkeypatch):
    """Let three names be known: one of two addresses, the controller's own, and one of IPv6."""
    known = {
        "mon.example.com": ["192.0.2.1", "2001:db8::1", "192.0.2.1"],
        "controller": ["127.0.1.1"],
        "six": ["fe80::1%eth0"],
    }

    def look_up(name: str, _port: None, **_more: int) -> list:
        if name not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in known[name]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    ("source", "prefixes"),
    [
        ("localhost", ["localhost"]),
        ("any", ["any"]),
        ("link-local", ["link-local"]),
        ("multicast", ["multicast"]),
        ("10.0.0.5", ["10.0.0.5"]),
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("0.0.0.0/0", ["0.0.0.0/0"]),
        ("2001:DB8::/32", ["2001:db8::/32"]),
        ("::ffff:10.0.0.5", ["10.0.0.5"]),
        ("mon.example.com", ["192.0.2.1", "2001:db8::1"]),
        ("six", ["fe80::1"]),
    ],
)
@pytest.mark.usefixtures("dns")
def test_sources_are_what_systemd_takes(source, prefixes):
    found = allowed_sources([source], [])
    assert (found["prefixes"], found["faults"]) == (prefixes, [])


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("10.0.0.5/8", "10.0.0.0/8"),
        ("10.0.0.0/33", "10.0.0.0/33"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/255.0.0.0"),
        ("10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9"),
        ("10.0.0.1:9090", "10.0.0.1:9090"),
        ("0.0.0.0", "any"),
        ("", "''"),
        (" 10.0.0.1", "' 10.0.0.1'"),
        ("10.0.0.1\n", r"'10.0.0.1\n'"),
        ("a b", "'a b'"),
        ("absent.example.com", "absent.example.com cannot be resolved"),
        ("controller", "controller is 127.0.1.1 here"),
        (None, "None"),
    ],
)
@pytest.mark.usefixtures("dns")
def test_sources_that_systemd_would_ignore_are_refused(source, named):
    found = allowed_sources(["localhost", source], [])
    assert found["prefixes"] == ["localhost"]
    assert len(found["faults"]) == 1
    assert named in found["faults"][0]


def test_a_text_is_no_list_of_sources():
    assert allowed_sources("10.0.0.5", ["localhost"])["faults"] == ["'10.0.0.5' is not a list"]


def test_the_host_itself_is_nobody_else():
    sources = ["localhost", "127.0.0.1", "127.0.0.0/8", "::1", "192.0.2.2"]
    assert allowed_sources(sources, ["localhost", "192.0.2.2"])["others"] == []
    assert allowed_sources(["192.0.2.1"], ["localhost"])["others"] == ["192.0.2.1"]


@pytest.mark.parametrize("groups", [{}, {"linmonitor_build": []}])
def test_an_inventory_need_not_build(groups):
    assert builder(groups, {"db": {"toolchain_suite": "trixie"}}) == {}


def test_the_first_build_host_is_the_builder():
    hostvars = {"db": {"toolchain_suite": "trixie"}, "mon": {}}
    assert builder({"linmonitor_build": ["db", "mon"]}, hostvars) == {"toolchain_suite": "trixie"}


@pytest.mark.parametrize(
    ("groups", "answer"),
    [
        ({"all": ["mon", "db"], "linmonitor_targets": ["db", "mon"]}, {"serial": 2}),
        ({"all": ["mon", "db"], "linmonitor_targets": []}, {}),
        ({"all": ["db"]}, {"serial": 2}),
        ({"all": []}, {}),
        ({}, {}),
    ],
)
def test_the_first_target_answers_for_a_whole_play(groups, answer):
    assert first_target(groups, {"mon": {}, "db": {"serial": 2}}) == answer


def test_node_exporter_is_asked_where_it_listens_and_has_no_programs():
    (target,) = scrape_targets(
        ["web1"],
        {
            "web1": {
                "node_exporter_listen_address": "192.0.2.1:9101",
                "ebpf_exporter_listen_address": "192.0.2.1:9435",
                "prometheus_target_labels": {"rack": "r7"},
            }
        },
        "monitor",
        "node_exporter",
    )
    assert target == {"targets": ["192.0.2.1:9101"], "labels": {"rack": "r7", "instance": "web1"}}


@pytest.mark.parametrize("role", ["node_exporter", "alertmanager"])
def test_what_listens_on_another_host_s_loopback_is_named_with_its_variables(role):
    (fault,) = scrape_faults(["web1"], {"web1": {}, "monitor": {}}, ["monitor"], role)
    assert f"Set {role}_listen_address of web1" in fault
    assert f"{role}_scrape_address" in fault


def test_alertmanagers_are_reached_below_the_path_of_their_url():
    hostvars = {
        "a": {"alertmanager_external_url": "https://metrics.example.com/alerts/"},
        "b": {"alertmanager_listen_address": "192.0.2.2:9093"},
    }
    assert alertmanagers(["a", "b"], hostvars, "a") == [
        {"path_prefix": "/alerts", "static_configs": [{"targets": ["127.0.0.1:9093"]}]},
        {"static_configs": [{"targets": ["192.0.2.2:9093"]}]},
    ]
    with pytest.raises(AnsibleFilterError, match="Set alertmanager_listen_address of a"):
        alertmanagers(["a"], hostvars, "b")
