# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stores: the comparison sees every loss, and the page says what ran and what connects each."""

from __future__ import annotations

import math
import subprocess

import pytest
import yaml
from role_play import CHECKOUT, play

from tests.dashboards.api import Series
from tests.dashboards.live import Answer
from tests.lab.prometheus import tool
from tests.stores import compare, results
from tests.stores.engine import PAGE, inventory, moved
from tests.stores.engines import ENGINES

A = (("__name__", "up"), ("instance", "a"))
B = (("__name__", "up"), ("instance", "b"))
SENT: compare.Samples = {A: {1000: 1.0, 6000: 2.0, 11000: math.nan}, B: {1500: 0.1 + 0.2}}


def altered(**changes: dict[int, float]) -> compare.Samples:
    """Return what was sent with other samples for some instance."""
    found = {labels: dict(values) for labels, values in SENT.items()}
    for instance, values in changes.items():
        found[("__name__", "up"), ("instance", instance)] = values
    return {labels: values for labels, values in found.items() if values}


def test_what_is_the_same_has_no_difference():
    assert compare.differences(SENT, altered()) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (altered(b={}), '1 series are missing: up{instance="b"}'),
        (altered(c={1000: 1.0}), '1 series were not sent: up{instance="c"}'),
        (altered(a={1000: 1.0, 11000: math.nan}), '1 samples are missing: up{instance="a"}'),
        (altered(b={1500: 0.1 + 0.2, 6500: 1.0}), '1 samples were not sent: up{instance="b"}'),
        (altered(b={1500: 0.3}), '1 values differ: up{instance="b"} 0.30000000000000004 is 0.3'),
        (altered(a={1000: 1.0, 6000: 2.0, 11000: 0.0}), "nan is 0.0"),
        (altered(a={1000: 1.0, 6000: math.nan, 11000: math.nan}), "2.0 is nan"),
        (altered(b={1501: 0.1 + 0.2}), "1 samples are missing"),
    ],
)
def test_whatever_is_lost_added_or_changed_is_a_difference(found, said):
    assert said in "; ".join(compare.differences(SENT, found))


def test_rounding_is_allowed_only_where_it_is_said():
    found = altered(b={1500: 0.3})
    assert compare.differences(SENT, found, rounding=1e-12) == []
    assert compare.differences(SENT, altered(b={1500: 0.31}), rounding=1e-12)


def test_two_series_never_become_one_unseen():
    matrix = [
        {"metric": {"__name__": "up", "replica": one}, "values": [[1.5, "1"]]} for one in "ab"
    ]
    with pytest.raises(compare.TwiceError, match=r"up\{\} is there twice"):
        compare.samples(matrix, ["replica"])
    assert len(compare.samples(matrix)) == 2
    assert compare.samples(matrix[:1], ["replica"]) == {(("__name__", "up"),): {1500: 1.0}}


STEPS = range(0, 30000, 5000)
REPLICAS: list[compare.Samples] = [
    {A: {at + shift: float(at) for at in STEPS}} for shift in (0, 2000)
]


def test_one_replica_s_worth_may_come_from_both():
    first, second = (one[A] for one in REPLICAS)
    mixed = {at: value for at, value in first.items() if at < 15000}
    mixed |= {at: value for at, value in second.items() if at >= 15000}
    assert compare.doubled({A: mixed}, REPLICAS) == []
    assert compare.doubled({A: mixed}, REPLICAS, step=5000) == []
    assert compare.doubled(REPLICAS[0], REPLICAS) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({A: REPLICAS[0][A] | REPLICAS[1][A]}, "more samples than a replica"),
        ({A: dict.fromkeys(STEPS, 1.0)}, "samples of no replica"),
        ({A: {at: float(at) for at in STEPS if at not in (10000, 15000)}}, "have a hole"),
        ({}, "1 series are missing"),
        (REPLICAS[0] | {B: {0: 0.0}}, "1 series were not sent"),
    ],
)
def test_more_or_less_than_one_replica_is_seen(found, said):
    assert said in "; ".join(compare.doubled(found, REPLICAS))


def answer(*series: Series, error: str = "") -> Answer:
    return Answer("Kernel / Host: Panel", "A", "up", list(series), error)


def one(value: float, **labels: str) -> Series:
    return Series(labels, [1.0, 2.0], [1.0, value])


LOCAL = answer(one(3.0, instance="a"))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (answer(one(3.0 * (1 + 1e-12), instance="a", replica="a")), ""),
        (answer(one(3.3, instance="a")), "1 of 2 values differ, by 0.1 of the largest at most"),
        (answer(one(math.nan, instance="a")), "1 points fewer and 0 more of 2"),
        (answer(), "0 series instead of 1"),
        (answer(one(3.0, instance="b")), "1 series instead of 1"),
        (answer(Series({"instance": "a"}, [1.0], [1.0])), "1 points fewer and 0 more of 2"),
        (answer(*(one(3.0, instance="a", replica=x) for x in "ab")), "have the same labels"),
        (answer(error="no such function"), "refused: no such function"),
    ],
)
def test_a_panel_that_shows_something_else_is_seen(other, said):
    found = compare.apart(LOCAL, other, ["replica"])
    assert said in found
    assert bool(said) == bool(found)


def test_of_equal_values_topk_may_take_any_but_not_other_values():
    top = Answer("Kernel / Fleet: Panel", "A", "topk(1, up)", [one(3.0, instance="a")])
    assert compare.apart(top, answer(one(3.0, instance="b")), []) == ""
    assert "differ" in compare.apart(top, answer(one(2.0, instance="b")), [])


def test_panels_are_asked_when_no_sample_lies_at_the_edge_of_a_range():
    found = {A: {1100: 0.0, 6105: 0.0}, B: {1300: 0.0, 2900: 0.0}}
    assert compare.quiet(found) == pytest.approx(0.6)
    assert compare.quiet({A: {5050: 0.0}, B: {1250: 0.0}}) == pytest.approx(0.65)
    assert compare.quiet({A: {5050: 0.0}, B: {1251: 0.0}}) == 0.65, "half a millisecond"


def test_a_series_that_has_just_begun_is_named_until_its_second_sample():
    new, known, ended = ((("__name__", name),) for name in ("new", "known", "ended"))
    found = {new: {90_000: 1.0}, known: {60_000: 1.0, 90_000: 1.0}, ended: {10_000: 1.0}}
    assert compare.begun(found, 30) == ["new{} has a single sample"]
    assert compare.begun(found, 90) == []


def test_what_is_no_number_can_be_left_out():
    assert compare.numbers({A: {1: math.nan, 2: 1.0}, B: {1: math.nan}}) == {A: {2: 1.0}}


OTHER = "text\n" + results.START + results.END + "more text\n"
HELD = dict.fromkeys(results.COLUMNS, "yes")


def test_the_page_keeps_what_a_run_left_out_and_hides_no_failure():
    order = ["Prometheus", "Cortex"]
    good = results.Row("Cortex", "1", cells=HELD, differ={"it rounds": ["Panel A: by 1%"]})
    bad = results.Row("Prometheus", "3", cells=HELD, failed={"stored": "1 series | missing"})
    first = results.page(OTHER, [good], "2026-01-02", order)
    both = results.page(first, [bad], "2026-01-03", order)
    for text in (first, both):
        assert text.startswith("text\n")
        assert text.endswith("more text\n")
        assert "| Cortex | 1 | 2026-01-02 | yes |" in text
        assert "- Cortex: it rounds. 1 queries: Panel A: by 1%.\n" in text
    assert r"| Prometheus | 3 | 2026-01-03 | **failed**: 1 series \| missing | yes |" in both
    assert both.index("| Prometheus |") < both.index("| Cortex |")
    assert results.page(both, [bad], "2026-01-03", order) == both


def test_a_row_passed_if_every_part_was_tried_and_held():
    assert results.Row("x", cells=HELD).passed
    assert not results.Row("x", cells=HELD, failed={"start": "no"}).passed
    assert not results.Row("x", cells=dict([*HELD.items()][1:])).passed
    absent = results.Row("x", not_run="no compiler")
    assert not absent.passed
    assert "| x | none | today | not run: no compiler | not run |" in absent.lines("today")[0]


def test_the_committed_page_has_every_engine_and_no_failure():
    text = PAGE.read_text()
    assert "**failed**" not in text
    lines = text[text.index(results.START) : text.index(results.END)].splitlines()
    ran = [results.of(line) for line in lines if line.startswith("| ")]
    assert [name for name in ran if name] == [kind.name for kind in ENGINES]


def test_a_url_of_the_page_is_moved_to_loopback_whole():
    assert moved("https://a.example.com:1/x/y?z=1", "127.0.0.1:9") == "http://127.0.0.1:9/x/y?z=1"


def options(role: str) -> set[str]:
    """Return the variables of a role."""
    path = CHECKOUT / f"roles/{role}/meta/argument_specs.yml"
    return set(yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"])


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """Return by section of the page the configuration that the role makes of its variables."""
    top = tmp_path_factory.mktemp("stores")
    sections = {kind.section or kind.name for kind in ENGINES}
    tasks = []
    for name in sections:
        given = inventory(name) | {"prometheus_external_labels": {"replica": "a"}}
        content = "{{ __prometheus_secret_files['prometheus.yml'] }}"
        answer = {"content": content, "dest": f"{top}/{name}.yml"}
        tasks.append({"ansible.builtin.copy": answer, "vars": given})
    play(top, ("prometheus",), tasks)
    (top / "rules").mkdir()
    for rules in ("alerts", "recording"):
        (top / f"rules/{rules}.yml").write_text("groups: []\n")
    return {name: top / f"{name}.yml" for name in sections}


@pytest.mark.parametrize("kind", ENGINES, ids=lambda kind: kind.word)
def test_the_lines_of_the_page_are_variables_that_promtool_takes_when_rendered(rendered, kind):
    name = kind.section or kind.name
    known = set().union(*(options(role) for role in ("prometheus", "grafana")))
    given = inventory(name)
    assert "grafana_prometheus_url" in given
    assert given.keys() & options("prometheus")
    assert given.keys() <= known
    done = subprocess.run(
        [tool("promtool"), "check", "config", rendered[name]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    written = yaml.safe_load(rendered[name].read_text()).get("remote_write", [])
    assert written == given.get("prometheus_remote_write", [])
