# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables of an inventory that nothing reads are named; those of other people are left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.linmonitor.stack.plugins.filter.variables import (
    group_faults,
    known_names,
    unknown_variables,
)

CHECKOUT = Path(__file__).parents[2]


def found(*names: str, foreign: tuple[str, ...] = ()) -> dict[str, list[str]]:
    return unknown_variables(["web1"], {"web1": dict.fromkeys(names)}, foreign)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ebpf_exporter_listen_adress", "ebpf_exporter_listen_address"),
        ("ebpf_exporter_allowed_source", "ebpf_exporter_allowed_sources"),
        ("bpf_programs_enable", "bpf_programs_enabled"),
        ("linmonitor_seiral", "linmonitor_serial"),
        ("toolchain_enviroment", "toolchain_environment"),
        ("libbpf_verison", "libbpf_version"),
        # A near miss is ours even where others share the prefix.
        ("prometheus_scrape_intervall", "prometheus_scrape_interval"),
        ("grafana_admin_pasword", "grafana_admin_password"),
        ("alertmanager_listen_adress", "alertmanager_listen_address"),
        ("alertmanager_confg", "alertmanager_config"),
        ("node_exporter_listen_adress", "node_exporter_listen_address"),
        ("node_exporter_allowed_source", "node_exporter_allowed_sources"),
    ],
)
def test_a_misspelled_name_is_wrong_and_the_meant_one_is_named(name, meant):
    assert found(name) == {"wrong": [f"{name} of web1 (did you mean {meant}?)"], "others": []}


@pytest.mark.parametrize("name", ["ebpf_exporter_colour", "linmonitor_colour", "toolchain_x"])
def test_a_name_that_only_we_can_mean_is_wrong_without_a_similar_one(name):
    (line,) = found(name)["wrong"]
    assert line.startswith(f"{name} of web1")


@pytest.mark.parametrize(
    "name",
    [
        # Those of well-known roles for Prometheus and Grafana.
        "prometheus_alert_rules",
        "prometheus_alertmanager_config",
        "prometheus_config_dir",
        "prometheus_global",
        "prometheus_storage_retention",
        "prometheus_web_listen_address",
        "grafana_api_keys",
        "grafana_api_url",
        "grafana_dashboards",
        "grafana_datasources",
        "grafana_plugins",
        "grafana_security",
    ],
)
def test_names_of_other_roles_stop_nobody(name):
    answer = found(name)
    assert answer["wrong"] == []
    assert len(answer["others"]) == 1


@pytest.mark.parametrize(
    "name", ["ebpf_exporters", "my_prometheus_port", "ansible_host", "__grafana_x", "grafana", "x"]
)
def test_names_without_our_prefixes_are_not_looked_at(name):
    assert found(name) == {"wrong": [], "others": []}


def test_known_names_are_not_named():
    assert "prometheus_version" in known_names()
    assert "linmonitor_foreign_variables" in known_names()
    assert found(*known_names()) == {"wrong": [], "others": []}


@pytest.mark.parametrize("pattern", ["ebpf_exporter_colour", "ebpf_exporter_c*"])
def test_names_that_are_declared_foreign_are_left_alone(pattern):
    assert found("ebpf_exporter_colour", foreign=(pattern,)) == {"wrong": [], "others": []}


def test_hosts_are_named_as_far_as_one_can_read_them():
    hosts = [f"web{number}" for number in range(9)]
    answer = unknown_variables(hosts, {host: {"libbpf_x": 1} for host in hosts})
    assert answer["wrong"] == ["libbpf_x of web0, web1, web2 and 6 more"]


class Templated(dict):
    """Variables whose values must not be evaluated."""

    def __getitem__(self, name):
        raise AssertionError(f"{name} was read")


def test_no_value_is_read():
    answer = unknown_variables(["web1"], {"web1": Templated(libbpf_x="{{ boom }}")})
    assert answer["wrong"] == ["libbpf_x of web1"]


def given(node: object) -> Iterator[str]:
    """Give the names that tasks leave with a host, for all plays that follow."""
    if isinstance(node, list):
        for item in node:
            yield from given(item)
    elif isinstance(node, dict):
        yield from node.get("ansible.builtin.set_fact", {}).keys() - {"cacheable"}
        if isinstance(node.get("register"), str):
            yield node["register"]
        for value in node.values():
            yield from given(value)


def test_a_play_is_not_refused_for_what_an_earlier_one_left_with_the_host():
    places = ("playbooks/**/*.yml", "roles/*/tasks/**/*.yml", "roles/*/handlers/*.yml")
    files = [path for place in places for path in sorted(CHECKOUT.glob(place))]
    names = {name for path in files for name in given(yaml.safe_load(path.read_text()))}
    assert len(names) > 50
    assert found(*names) == {"wrong": [], "others": []}


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"all": [], "ungrouped": []}, "The inventory hosts.ini has none of the groups"),
        ({"web": ["web1"]}, "The inventory hosts.ini has none of the groups"),
        ({"linmonitor_target": ["web1"]}, "did you mean linmonitor_targets?"),
        (
            {"linmonitor_prometheus": ["mon"], "linmonitor_graphana": ["mon"]},
            "did you mean linmonitor_grafana?",
        ),
    ],
)
def test_a_run_that_would_leave_out_what_is_meant_is_refused(groups, words):
    (line,) = group_faults(groups, ["hosts.ini"])
    assert words in line


@pytest.mark.parametrize(
    "groups",
    [
        {"linmonitor_targets": ["web1"]},
        {"linmonitor_targets": [], "web": ["web1"]},
        {"linmonitor_grafana": ["web1"], "linmonitor_targets": [], "web": ["web2"]},
        # Parts of a group of ours.
        {"linmonitor_targets": ["web1", "web2"], "linmonitor_targets_a": ["web1"]},
        {"linmonitor_targets": ["web1"], "linmonitor_berlin": ["web2"]},
    ],
)
def test_groups_of_other_people_are_left_alone(groups):
    assert group_faults(groups) == []
