# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets come from the whole inventory, with what each host is known to run."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.linmonitor.stack.plugins.filter.targets import (
    prometheus_url,
    scrape_targets,
)

HOSTVARS = {
    "mon": {"ansible_host": "192.0.2.1"},
    "db": {"ansible_host": "192.0.2.2"},
    "web": {},
    "far": {
        "ansible_host": "192.0.2.3",
        "ebpf_exporter_scrape_address": "tunnel.example.com:19435",
    },
}


def addresses(hosts, scraper, choices):
    return [entry["targets"] for entry in scrape_targets(hosts, HOSTVARS, scraper, str(choices))]


def test_addresses_as_the_scraper_reaches_them(tmp_path):
    assert addresses(["mon", "db", "web", "far"], "mon", tmp_path) == [
        ["127.0.0.1:9435"],
        ["192.0.2.2:9435"],
        ["web:9435"],
        ["tunnel.example.com:19435"],
    ]


def test_labels_name_the_host_and_what_it_runs(tmp_path):
    choice = {
        "configs": {"a": {"variant": "tp_btf"}, "b": {"variant": None}, "c": {"variant": "x"}}
    }
    (tmp_path / "db.json").write_text(json.dumps(choice))
    labels = [e["labels"] for e in scrape_targets(["db", "web"], HOSTVARS, "mon", str(tmp_path))]
    assert labels == [{"instance": "db", "ebpf_configs": ",a,c,"}, {"instance": "web"}]


@pytest.mark.parametrize(
    ("listener", "hosts", "here", "url"),
    [
        ({}, [], "web", "http://127.0.0.1:9090"),
        ({}, ["mon", "web"], "web", "http://127.0.0.1:9090"),
        ({"mon": "0.0.0.0:9091"}, ["mon"], "mon", "http://127.0.0.1:9091"),
        ({"mon": "0.0.0.0:9091"}, ["mon"], "web", "http://192.0.2.1:9091"),
        ({"six": "[::]:9090"}, ["six", "mon"], "web", "http://[2001:db8::1]:9090"),
        ({"web": ":9090"}, ["web"], "mon", "http://web:9090"),
        ({"mon": "192.0.2.7:9090"}, ["mon"], "web", "http://192.0.2.7:9090"),
    ],
)
def test_grafana_finds_prometheus(listener, hosts, here, url):
    hostvars = HOSTVARS | {"six": {"ansible_host": "2001:db8::1"}}
    for host, address in listener.items():
        hostvars[host] = hostvars[host] | {"prometheus_listen_address": address}
    assert prometheus_url(hosts, hostvars, here) == url


@pytest.mark.parametrize("address", ["127.0.0.1:9090", "localhost:9090", "[::1]:9090", None])
def test_prometheus_of_another_host_must_not_hide_on_its_loopback(address):
    own = {"prometheus_listen_address": address} if address else {}
    with pytest.raises(
        AnsibleFilterError, match=r"Prometheus of db .* grafana_prometheus_url of web"
    ):
        prometheus_url(["db"], HOSTVARS | {"db": own}, "web")
