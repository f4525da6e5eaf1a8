# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of verify.yml names what did not move, and why."""

from __future__ import annotations

from ansible_collections.linmonitor.stack.plugins.filter import report

MEASURES = {"disk": ["bio_seconds"], "quiet": []}
PROGRAMS = {
    "disk": {"variant": "tp_btf", "refused": {}},
    "net": {"variant": None, "refused": {"fentry": "not permitted", "kprobe": "not attached: a"}},
}


def sample(ask: str, value: float, metric: str = "", instance: str = "h1") -> dict:
    labels = {"ask": ask, "instance": instance} | ({"metric": metric} if metric else {})
    return {"metric": labels, "value": [0, str(value)]}


SHARES = {"mon1": ["h1"], "mon2": []}


def rows(before: list[dict], after: list[dict], elsewhere: list[dict] | None = None) -> list[dict]:
    answers = ({"mon1": one, "mon2": elsewhere or []} for one in (before, after))
    return report.verify_rows(["h1"], [MEASURES], SHARES, *answers)


AGE = sample("age", 3.2)


def test_a_metric_that_moved_has_no_fault():
    after = [
        AGE,
        sample("events", 30, "bio_seconds_count"),
        sample("p50", 0.00048, "bio_seconds"),
        sample("p99", 0.0021, "bio_seconds"),
    ]
    assert rows([sample("events", 10, "bio_seconds_count")], after) == [
        {
            "metric": "bio_seconds",
            "host": "h1",
            "events": "20",
            "p50": "480 µs",
            "p99": "2.1 ms",
            "age": "3 s",
            "fault": "",
        }
    ]


def test_a_metric_that_stood_still_says_so():
    still = [AGE, sample("events", 10, "bio_seconds_count")]
    assert "no event was counted" in rows(still, still)[0]["fault"]


def test_a_missing_series_and_a_missing_target_differ():
    assert "no such series" in rows([], [AGE])[0]["fault"]
    assert rows([], [])[0]["fault"] == "Prometheus of mon1 has no such target: run site.yml"


def test_only_the_shard_that_a_target_belongs_to_may_scrape_it():
    counted = sample("events", 30, "bio_seconds_count")
    both = rows([], [AGE, counted], [AGE, counted])[0]
    assert "Prometheus of mon2 scrapes it too" in both["fault"]
    assert "belongs to the shard of mon1" in both["fault"]
    wrong = rows([], [], [AGE, counted])[0]
    assert (wrong["events"], wrong["age"]) == ("0", "-")
    assert "Prometheus of mon1 has no such target" in wrong["fault"]


def test_left_out_programs_come_with_every_reason():
    assert report.left_out(["h1"], [PROGRAMS]) == [
        "net is left out on h1: fentry not permitted; kprobe not attached: a"
    ]


def test_scraped_since_waits_for_every_host():
    earlier = [sample("scraped", 100)]
    assert not report.scraped_since([sample("scraped", 100)], earlier, ["h1"])
    assert report.scraped_since([sample("scraped", 101)], earlier, ["h1"])
    assert not report.scraped_since([sample("scraped", 101)], earlier, ["h1", "h2"])


def test_table_aligns_columns():
    table = report.text_table([{"a": "x", "b": 1}, {"a": "long", "b": 22}], ["a", "b"])
    assert table.split("\n") == ["a     b", "----  --", "x     1", "long  22"]
