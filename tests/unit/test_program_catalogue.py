# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of programs become one catalogue, and a folder that is wrong says where."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.linmonitor.stack.plugins.filter.programs import (
    program_faults,
    programs_catalogue,
    wanted_programs,
)

GOOD = """\
summary: Mine
sets: [default, few]
variants:
  - name: tp_btf
  - name: kprobe
    requires: [CONFIG_KPROBE_EVENTS]
metrics:
  mine_total: {unit: cps, meaning: Mine., verify: true}
  other_total: {unit: cps}
"""


def program(root: Path, name: str, text: str = GOOD) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    for suffix in (".bpf.c", ".yaml"):
        (folder / f"{name}{suffix}").touch()
    (folder / "program.yml").write_text(text)
    return folder


def test_two_roots_become_one_catalogue(tmp_path):
    program(tmp_path / "ours", "b")
    program(tmp_path / "ours", "a", "sets: [default]\nvariants: [{name: raw_tp}]\n")
    (tmp_path / "ours/include").mkdir()
    program(tmp_path / "extra", "c")
    found = programs_catalogue([str(tmp_path / "ours"), str(tmp_path / "extra")])
    assert found["sets"] == {"default": ["a", "b", "c"], "few": ["b", "c"]}
    assert list(found["configs"]) == ["a", "b", "c"]
    assert found["configs"]["b"] == {
        "summary": "Mine",
        "variants": [
            {"name": "tp_btf", "requires": []},
            {"name": "kprobe", "requires": ["CONFIG_KPROBE_EVENTS"]},
        ],
        "metrics": {
            "mine_total": {"unit": "cps", "meaning": "Mine.", "verify": True},
            "other_total": {"unit": "cps"},
        },
        "verify": ["mine_total"],
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "mine/program.yml must be a mapping"),
        ("[a]", "mine/program.yml must be a mapping"),
        ("a: [", "mine/program.yml: while parsing"),
        (GOOD + "cost: low\n", "says cost; valid are metrics, sets, summary, variants"),
        ("sets: [default]\n", "variants must list the program's objects"),
        ("variants: []\n", "variants must list the program's objects"),
        ("variants: [raw_tp]\n", "a variant must be a mapping, not 'raw_tp'"),
        ("variants: [{requires: []}]\n", "a variant has no name"),
        ("variants: [{name: a, needs: []}]\n", "a variant says needs; valid are cost, name, req"),
        ("variants: [{name: a, requires: X}]\n", "requires of a must be a list of words, not 'X'"),
        ("variants: [{name: a}, {name: a}]\n", "two variants have one name"),
        ("sets: all\nvariants: [{name: a}]\n", "sets must be a list of words, not 'all'"),
        ("metrics: []\nvariants: [{name: a}]\n", "metrics must be a mapping"),
        ("metrics: {m: {is: x}}\nvariants: [{name: a}]\n", "program.yml: m says is; valid are act"),
        ("sets: [mine]\nvariants: [{name: a}]\n", "a set has the name of a program: mine"),
    ],
)
def test_wrong_program_names_the_place(tmp_path, text, words):
    program(tmp_path, "mine", text)
    with pytest.raises(AnsibleFilterError, match=r"\(bpf_programs_extra names .+\)$") as caught:
        programs_catalogue([str(tmp_path)])
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["program.yml", "mine.bpf.c", "mine.yaml"])
def test_missing_file_is_named(tmp_path, name):
    (program(tmp_path, "mine") / name).unlink()
    with pytest.raises(AnsibleFilterError, match=f"mine/{name} is missing"):
        programs_catalogue([str(tmp_path)])


def test_folder_without_programs_is_refused(tmp_path):
    with pytest.raises(AnsibleFilterError, match="holds no program: each is a folder NAME"):
        programs_catalogue([str(tmp_path)])
    with pytest.raises(AnsibleFilterError, match="gone is no folder"):
        programs_catalogue([str(tmp_path / "gone")])


def test_program_has_one_home(tmp_path):
    program(tmp_path / "ours", "mine")
    program(tmp_path / "extra", "mine")
    with pytest.raises(AnsibleFilterError, match="two folders hold a program mine"):
        programs_catalogue([str(tmp_path / "ours"), str(tmp_path / "extra")])


CATALOGUE = {
    "sets": {"default": ["tcp-rtt", "biolatency"]},
    "configs": {"tcp-rtt": {}, "biolatency": {}},
}


@pytest.mark.parametrize(
    ("enabled", "wanted"),
    [
        (["default"], ["tcp-rtt", "biolatency"]),
        (["biolatency", "default"], ["biolatency", "tcp-rtt"]),
        (["biolatency"], ["biolatency"]),
    ],
)
def test_wanted_programs_come_as_they_were_asked_for_and_once(enabled, wanted):
    assert program_faults(enabled, CATALOGUE, "box") == []
    assert wanted_programs(enabled, CATALOGUE) == wanted


@pytest.mark.parametrize("enabled", [[], ["biolatenci"], ["default", "other"], ["tcp-rtt"] * 2])
def test_names_that_mean_no_program_or_one_twice_are_refused(enabled):
    (said,) = program_faults(enabled, CATALOGUE, "box")
    assert said.startswith(
        f"bpf_programs_enabled of box is {', '.join(enabled) or 'empty'}. It must name each"
    )
    assert said.endswith("sets are default, programs are biolatency, tcp-rtt.")
