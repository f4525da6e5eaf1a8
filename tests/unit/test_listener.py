# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter's role says what is wrong with addresses, and tells systemd the right ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from role_play import CHECKOUT, play

LISTENER = "ebpf_exporter_listen_address"
ALLOWED = "ebpf_exporter_allowed_sources"
SCRAPED = "ebpf_exporter_scrape_address"

REFUSED = {
    "port": ({LISTENER: "10.0.0.5:99999"}, [f"{LISTENER} of localhost", "from 1 to 65535"]),
    "brackets": ({LISTENER: "::1:9435"}, [f"{LISTENER} of localhost", "[::1]:9435"]),
    "name": ({LISTENER: "absent.invalid:9435"}, ["names absent.invalid", "knows as nothing"]),
    "scraped": ({SCRAPED: "[::]:9435"}, [f"{SCRAPED} of localhost", "names no host"]),
    "source": ({ALLOWED: ["10.0.0.5/8"]}, [f"{ALLOWED} of localhost", "10.0.0.0/8"]),
    "unknown": ({ALLOWED: ["absent.invalid"]}, [ALLOWED, "absent.invalid cannot be resolved"]),
    "text": ({ALLOWED: "10.0.0.5"}, [ALLOWED, "'10.0.0.5' is not a list"]),
}
ACCEPTED: dict[str, tuple[dict, list[str]]] = {
    "default": ({}, ["localhost"]),
    "own address": ({LISTENER: "[2001:db8::5]:9436"}, ["localhost", "2001:db8::5"]),
    "every address": ({LISTENER: ":9435", ALLOWED: ["10.0.0.0/8"]}, ["localhost", "10.0.0.0/8"]),
    "Prometheus' host": (
        {LISTENER: ":9435", "linmonitor_inventory_sources": ["10.0.0.9"]},
        ["localhost", "10.0.0.9"],
    ),
    "the inventory's sources": (
        {
            LISTENER: ":9435",
            "linmonitor_inventory_sources": ["10.0.0.9"],
            "linmonitor_scrape_sources": ["10.0.0.7"],
        },
        ["localhost", "10.0.0.7"],
    ),
}


def test_settings_that_came_as_text_mean_the_same(tmp_path):
    given = {
        "ebpf_exporter_strict": "false",
        "ebpf_exporter_capabilities": "CAP_BPF, CAP_PERFMON",
        "bpf_programs_wanted": [],
        "__ebpf_exporter_allowed": {"prefixes": []},
    }
    content = "{{ __ebpf_exporter_settings }}"
    task = {"copy": {"content": content, "dest": f"{tmp_path}/settings.json"}, "vars": given}
    play(tmp_path, ("ebpf_exporter",), [task])
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["strict"] is False
    assert settings["capabilities"] == ["CAP_BPF", "CAP_PERFMON"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Let Ansible itself go through the role's tasks for every case, in one run."""
    scratch = tmp_path_factory.mktemp("listener")
    tasks: list[dict] = []
    cases = REFUSED | ACCEPTED
    for number, (given, _) in enumerate(cases.values()):
        fact = f"answer_{number}"
        block = [
            {"include_tasks": str(CHECKOUT / "roles/ebpf_exporter/tasks/check/listener.yml")},
            {
                "fail": {"msg": "{{ __ebpf_exporter_address_faults | select | join(' ') }}"},
                "when": "__ebpf_exporter_address_faults | select | length > 0",
            },
            {"set_fact": {fact: "{{ __ebpf_exporter_allowed.prefixes }}"}},
        ]
        rescue = [{"set_fact": {fact: "{{ ansible_failed_result.msg }}"}}]
        tasks.append({"vars": given, "block": block, "rescue": rescue})
    content = {case: f"{{{{ answer_{number} }}}}" for number, case in enumerate(cases)}
    tasks.append({"copy": {"content": content, "dest": f"{scratch}/answers.json"}})
    play(scratch, ("ebpf_exporter",), tasks)
    return json.loads(Path(scratch / "answers.json").read_text())


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_variable_and_what_is_allowed(answers, case):
    for words in REFUSED[case][1]:
        assert words in answers[case]


@pytest.mark.parametrize("case", ACCEPTED)
def test_told_to_systemd(answers, case):
    assert answers[case] == ACCEPTED[case][1]


def test_a_listener_needs_somebody_who_may_ask_the_host_itself_by_name_included(tmp_path):
    listener = str(CHECKOUT / "roles/ebpf_exporter/tasks/check/listener.yml")
    # A host that an inventory has under two names is asked from its own address.
    cases = {"somebody": ["10.0.0.9"], "itself": ["10.0.0.5"], "nobody": []}
    tasks: list[dict] = [
        {
            "vars": {LISTENER: "10.0.0.5:9435", "linmonitor_inventory_sources": sources},
            "block": [
                {"include_tasks": listener},
                {"set_fact": {case: "{{ __ebpf_exporter_faults | select | join }}"}},
            ],
        }
        for case, sources in cases.items()
    ]
    content = {case: f"{{{{ {case} }}}}" for case in cases}
    tasks.append({"copy": {"content": content, "dest": f"{tmp_path}/answers.json"}})
    play(tmp_path, ("ebpf_exporter",), tasks)
    said = json.loads((tmp_path / "answers.json").read_text())
    assert "nobody is named who may ask it" in said.pop("nobody")
    assert said == {"somebody": "", "itself": ""}
