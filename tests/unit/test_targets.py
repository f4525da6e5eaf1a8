# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets come from the whole inventory, with what each host is known to run."""

from __future__ import annotations

import json

from ansible_collections.linmonitor.stack.plugins.filter.targets import scrape_targets

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
