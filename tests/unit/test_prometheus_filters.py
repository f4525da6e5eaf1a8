# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator asks of Prometheus becomes configuration and command line.

tests/rules asks the real programs.
"""

from __future__ import annotations

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var
from ansible_collections.linmonitor.stack.plugins.filter.prometheus import (
    alert_faults,
    arguments,
    exported_rules,
    flag_faults,
    jobs,
    pattern_faults,
    rule_file_faults,
    systemd_word,
    to_yaml,
    url_faults,
    user_faults,
    without_empty,
)
from ansible_collections.linmonitor.stack.plugins.module_utils._hidden import view

STRANGE = ["a\nb", "a\u2028b", "'", '"', "# no comment", "- no item", "yes", "", " x ", "1e3", "é"]


@pytest.mark.parametrize("text", [*STRANGE, "x" * 500, "word " * 100])
def test_text_stays_what_it_is_and_on_its_line(text):
    written = to_yaml({"key": [text], "next": 1})
    assert yaml.safe_load(written) == {"key": [text], "next": 1}
    assert len(written.splitlines()) == 3


@pytest.mark.parametrize("text", [*STRANGE, "x" * 500, "action: keep\njob_name: secret"])
def test_no_text_is_seen_below_a_key_that_can_hold_a_secret(text):
    shown, _hidden = view(to_yaml({"password": text, "list": [text], "headers": {"X-Key": text}}))
    assert shown.splitlines() == [
        "password: (hidden)", "list:", "- (hidden)", "headers:", "  X-Key: (hidden)"
    ]  # fmt: skip


def test_order_and_types_stay():
    structure = {"b": {"z": True, "a": None}, "a": [1, 1.5, {"c": []}]}
    assert list(yaml.safe_load(to_yaml(structure)).items()) == list(structure.items())


def test_what_ansible_marks_is_text_like_any_other():
    assert to_yaml(wrap_var({"password": "a b", "list": ["c"]})) == "password: a b\nlist:\n- c\n"


def test_empty_is_left_out_but_not_within_lists():
    structure = {"a": "", "b": {"c": {}, "d": []}, "e": [{"f": ""}], "g": 0, "h": False, "i": None}
    assert without_empty(structure) == {"e": [{"f": ""}], "g": 0, "h": False}


def test_jobs_of_our_names_change_ours():
    ours = [{"job_name": "a", "x": 1, "y": 1}, {"job_name": "b"}]
    theirs = [{"job_name": "c"}, {"job_name": "a", "x": 2, "z": 3}, {"job_name": "c"}]
    assert jobs(ours, theirs) == [
        {"job_name": "a", "x": 2, "y": 1, "z": 3}, {"job_name": "b"},
        {"job_name": "c"}, {"job_name": "c"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"a.b": 5}, ["--a.b=5"]),
        ({"a": True, "b": False}, ["--a", "--no-b"]),
        ({"a": ["x", "y"], "b": []}, ["--a=x", "--a=y"]),
        ({"a": "", "b": None}, []),
        ({"a": 0}, ["--a=0"]),
        ({"a": "x y"}, ["--a=x y"]),
    ],
)
def test_flags_become_a_command_line(given, words):
    assert arguments(given) == words


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("--a=b", "--a=b"),
        ("--a=10%", "--a=10%%"),
        ("--a=$HOME", "--a=$$HOME"),
        ("--a=b c", '"--a=b c"'),
        (r"--a=\d", r'"--a=\\d"'),
        ("--a='\"", '"--a=\'\\""'),
    ],
)
def test_words_are_written_as_systemd_reads_them(word, written):
    assert systemd_word(word) == written


@pytest.mark.parametrize("word", ["a\nb", "a\tb", "a\0b"])
def test_words_that_a_unit_cannot_hold_are_refused(word):
    with pytest.raises(AnsibleFilterError, match="cannot be a word"):
        systemd_word(word)


def test_flags_that_a_variable_sets_are_refused():
    (named, dashed) = flag_faults({"storage.tsdb.path": "/a", "--query.timeout": "1m", "x": 1})
    assert named == "prometheus_flags has storage.tsdb.path, which prometheus_data_dir sets"
    assert "--query.timeout" in dashed


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("", "1 to 72 bytes"),
        ("é" * 37, "1 to 72 bytes"),
        ("$2y$10$" + "a" * 53, "has a hash"),
        (1234, "needs quotes"),
        (True, "needs quotes"),
    ],
)
def test_passwords_that_cannot_work_are_named_by_their_user(password, words):
    (fault,) = user_faults({"alice": password, "bob": "fine"})
    assert "alice" in fault
    assert words in fault
    assert not password or str(password) not in fault


def test_password_with_the_line_break_of_a_block_in_yaml_is_refused():
    (fault,) = user_faults({"alice": "geheim\n"})
    assert "alice must be one line" in fault and "geheim" not in fault


def test_names_that_cannot_log_in_are_refused():
    assert len(user_faults({"a:b": "x", "": "x"})) == 2


@pytest.mark.parametrize(
    "url", ["http://a:b@c", "https://:b@c/d", "HTTP://a:b@[::1]:9/", "s3://a:b@c"]
)
def test_passwords_in_addresses_are_refused_without_being_said(url):
    (fault,) = url_faults({"remote_write": [{"url": "http://fine"}, {"url": url}]})
    assert fault.startswith("the address remote_write[1].url holds a password")
    assert url not in fault


@pytest.mark.parametrize("url", ["http://a:9/b", "http://a@b", "a:b@c", "http://a/b:c@d", 5, None])
def test_other_addresses_are_not(url):
    assert url_faults({"a": url}) == []


RULES = """
groups:
- name: thresholds
  rules:
  - {record: limit, expr: vector(1), labels: {alert: DiskSlow}}
  - {record: limit, expr: vector(2), labels: {alert: Watchdog}}
- name: alerts
  rules:
  - {alert: DiskSlow, expr: 'up{job="ebpf_exporter"}', annotations: {a: '{{ $value }}'}}
- name: others
  rules:
  - {alert: Watchdog, expr: vector(1)}
- name: recorded
  rules:
  - {record: b, expr: c}
"""


@pytest.mark.parametrize(
    ("patterns", "groups", "thresholds"),
    [
        (["Disk*"], ["thresholds", "alerts", "recorded"], 1),
        (["*"], ["thresholds", "alerts", "others", "recorded"], 2),
        ([], ["recorded"], 0),
    ],
)
def test_chosen_alerts_come_along_with_their_thresholds(patterns, groups, thresholds):
    found = yaml.safe_load(exported_rules(RULES, "mine", patterns))["groups"]
    assert [group["name"] for group in found] == groups
    records = [rule for group in found for rule in group["rules"] if "labels" in rule]
    assert len(records) == thresholds
    if "Disk*" in patterns:
        rule = found[1]["rules"][0]
        assert rule["expr"] == 'up{job="mine"}'
        assert rule["annotations"] == {"a": "{{ $value }}"}


def test_a_pattern_that_chooses_nothing_is_refused():
    (fault,) = pattern_faults(RULES, ["Disk*", "Dsik*"])
    assert fault == "prometheus_export_alerts has Dsik*, which is no alert: DiskSlow, Watchdog"


def test_rule_files_of_one_name_are_refused():
    assert rule_file_faults(["a/mine.yml", "b/other.yaml"]) == []
    ours, twice = rule_file_faults(["a/alerts.yml", "a/mine.yml", "b/mine.yml"])
    assert ours == "prometheus_rule_files has a/alerts.yml, whose name is that of ours"
    assert twice == "prometheus_rule_files has b/mine.yml, whose name is that of a/mine.yml"


SETTINGS = {"DiskSlow": {"threshold": 0.1, "hold": "15m"}, "Down": {"hold": "5m"}}


@pytest.mark.parametrize(
    "change",
    [
        {"DiskSlow": {"threshold": 0.3}},
        {"DiskSlow": {"threshold": "1e-3", "hold": "1h30m"}},
        {"DiskSlow": {"threshold": -1}, "Down": {"hold": "0s"}},
        {},
    ],
)
def test_changes_of_alerts_that_mean_something_pass(change):
    assert alert_faults(change, SETTINGS) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"DiskSlo": {}}, "prometheus_alerts changes DiskSlo, which is no alert: DiskSlow, Down"),
        ({"DiskSlow": 3}, "prometheus_alerts.DiskSlow must be a dictionary, not 3"),
        (
            {"DiskSlow": {"treshold": 1}},
            "prometheus_alerts.DiskSlow sets treshold; it has threshold, hold",
        ),
        ({"Down": {"threshold": 1}}, "prometheus_alerts.Down sets threshold; it has hold"),
        ({"DiskSlow": {"threshold": "much"}}, "threshold must be a number, not 'much'"),
        ({"DiskSlow": {"threshold": True}}, "threshold must be a number, not True"),
        ({"DiskSlow": {"threshold": "1\n- a: b"}}, "threshold must be a number"),
        ({"DiskSlow": {"hold": "15 minutes"}}, "hold must be a duration as Prometheus writes it"),
        ({"DiskSlow": {"hold": ""}}, "hold must be not empty"),
        ({"DiskSlow": {"hold": 15}}, "hold must be a duration as Prometheus writes it"),
    ],
)
def test_changes_of_alerts_that_mean_nothing_are_refused(change, said):
    (fault,) = alert_faults(change, SETTINGS)
    assert said in fault
