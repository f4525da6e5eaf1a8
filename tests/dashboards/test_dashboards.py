# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The committed dashboards: fresh, fit for Grafana 9.3 to 13, and asking for real series."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import promql_parser as pp
import pytest
import yaml
from grafana_foundation_sdk.models import units

from dashboards import metrics, rules
from dashboards.__main__ import TARGET, documents
from tests.dashboards import bench, reading

from .promql import RATES, calls, gauges_with_rates, mismatched, selectors, walk

HERE = Path(__file__).parent
EXCLUSIONS = yaml.safe_load((HERE / "exclusions.yml").read_text())
FOREIGN = yaml.safe_load((HERE / "foreign_metrics.yml").read_text())
FOREIGN_NAMES = {name for names in FOREIGN.values() for name in names}
UNITS = {value for name, value in vars(units).items() if name[0].isupper()}
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
DASHBOARDS = {document["title"]: document for document in reading.documents()}
DECLARED = [metric for metric in vars(metrics).values() if isinstance(metric, metrics.Metric)]
RULES = [
    (rule, group["name"])
    for text in (rules.RECORDING.read_text(), rules.render(names=["biolatency"]))
    for group in yaml.safe_load(text)["groups"]
    for rule in group["rules"]
]
RECORDED = {rule["record"] for rule, _ in RULES if "record" in rule}

each_dashboard = pytest.mark.parametrize("document", DASHBOARDS.values(), ids=DASHBOARDS)
PANELS = [
    pytest.param(document, panel, id=f"{title}: {panel['title']}")
    for title, document in DASHBOARDS.items()
    for panel in reading.panels(document)
]
each_panel = pytest.mark.parametrize(("document", "panel"), PANELS)
QUERIES = [
    pytest.param(document, panel, target, id=f"{title}: {panel['title']} {target['refId']}")
    for title, document in DASHBOARDS.items()
    for panel, target in reading.queries(document)
]
each_rule = pytest.mark.parametrize(
    "rule", [rule for rule, _ in RULES], ids=lambda rule: next(iter(rule.values()))
)
each_query = pytest.mark.parametrize(("document", "panel", "target"), QUERIES)


def test_committed_files_are_what_the_generator_writes():
    committed = {path.name: path.read_text() for path in TARGET.iterdir()}
    assert committed == documents(), "run `make dashboards`"


def test_names_are_unique():
    """A duplicate uid or title freezes the whole provisioning folder."""
    assert len(DASHBOARDS) == len(reading.documents()) == 4
    assert len({document["uid"] for document in DASHBOARDS.values()}) == 4


@each_dashboard
def test_form_that_all_servers_read(document):
    assert document["schemaVersion"] == 37
    assert document["editable"] is False
    assert document["graphTooltip"] == 1, "shared crosshair"
    assert document["description"]
    assert "id" not in document
    assert {panel["type"] for panel in reading.panels(document)} <= {
        "timeseries",
        "stat",
        "table",
        "heatmap",
    }
    text = json.dumps(document)
    for newer in ("cellOptions", "__inputs", "__requires", "${DS_", '"elements"', '"layout"'):
        assert newer not in text
    for item in document["links"] + document["annotations"]["list"]:
        assert "placement" not in item


@each_dashboard
def test_variables(document):
    variables = {item["name"]: item for item in document["templating"]["list"]}
    source = variables.pop("datasource")
    assert (source["type"], source["query"], source["label"]) == (
        "datasource",
        "prometheus",
        "Data source",
    )
    assert source["current"]["value"] == "linmonitor"
    assert {"job", "instance"} <= set(variables)
    for item in variables.values():
        assert item["datasource"] == DATASOURCE
        assert item["label"]
        assert (item["multi"], item["includeAll"], item["allValue"]) == (True, True, ".+")
        assert item["refresh"] == 2, "a host that arrives must appear"
        found = re.fullmatch(r"label_values\((.+), \w+\)", item["query"])
        pp.parse(reading.filled(found[1]))


@each_dashboard
def test_annotations_and_links(document):
    marks = document["annotations"]["list"]
    assert any("ALERTS" in mark["expr"] for mark in marks)
    for mark in marks:
        assert mark["datasource"] == DATASOURCE
        pp.parse(reading.filled(mark["expr"]))
    assert [link["tags"] for link in document["links"]] == [document["tags"]]


@each_dashboard
def test_panels_have_places_of_their_own(document):
    panels = reading.opened(document)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["id"] > 0 for panel in panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    for shown in (document["panels"], panels):
        for one, other in combinations([panel["gridPos"] for panel in shown], 2):
            apart = (
                one["x"] + one["w"] <= other["x"]
                or other["x"] + other["w"] <= one["x"]
                or one["y"] + one["h"] <= other["y"]
                or other["y"] + other["h"] <= one["y"]
            )
            assert apart


@each_dashboard
def test_closed_rows_open_where_they_are(document):
    """Grafana moves what is below by the height of what is inside, from the row on."""
    for row in document["panels"]:
        inside = row.get("panels") or []
        if row["type"] == "row":
            assert bool(inside) == row.get("collapsed", False)
        if inside:
            assert min(one["gridPos"]["y"] for one in inside) == row["gridPos"]["y"] + 1


@each_panel
def test_panel_explains_itself(document, panel):
    assert panel["title"]
    assert "Normal: " in panel["description"], "what it means, what is normal, what to do"
    assert panel["datasource"] == DATASOURCE
    defaults = panel["fieldConfig"]["defaults"]
    # Grafana writes the text at each minor tick of a logarithmic axis, and into cells of a table
    # of several queries.
    several = panel["type"] == "table" and len(panel["targets"]) > 1
    assert ("noValue" in defaults) != (several or "scaleDistribution" in defaults.get("custom", {}))
    assert panel["targets"]
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == sorted(set(letters))


@each_panel
def test_words_of_an_empty_panel_are_true_where_nobody_answers(document, panel):
    words = panel["fieldConfig"]["defaults"].get("noValue", "unknown")
    assert words in {"unknown", "No data"} or words.startswith("Needs ") or " seen" in words


@each_panel
def test_panel_has_a_unit(document, panel):
    wanted = [panel["fieldConfig"]["defaults"].get("unit")]
    if panel["type"] == "heatmap":
        wanted = [panel["options"]["yAxis"]["unit"]]
    elif panel["type"] == "table":
        wanted = []
    wanted += [
        prop["value"]
        for override in panel["fieldConfig"]["overrides"]
        for prop in override["properties"]
        if prop["id"] == "unit"
    ]
    assert wanted
    assert all(unit in UNITS or unit.startswith("count:") for unit in wanted)
    assert "cps" not in wanted, 'it reads "c/s"'


@each_panel
def test_panel_options_of_its_kind(document, panel):
    if panel["type"] == "heatmap":
        assert panel["options"]["calculate"] is False
        (target,) = panel["targets"]
        assert (target["format"], target["legendFormat"]) == ("heatmap", "{{le}}")
        color = panel["options"]["color"]
        assert (color["min"], color["max"]) == (0, 1), "shares: a burst darkens nothing"
        assert panel["options"]["cellValues"]["unit"] == "percentunit"
    if panel["type"] == "table":
        assert {(t["format"], t["instant"]) for t in panel["targets"]} == {("table", True)}
        organized = panel["transformations"][-1]["options"]
        assert organized["excludeByName"] == {"Time": True, "__name__": True}
        places = organized["indexByName"]
        assert min(places, key=places.get) == "instance"
        assert max(places, key=places.get).startswith("Value")
        several = len(panel["targets"]) > 1
        assert [one["id"] for one in panel["transformations"]] == ["merge"] * several + ["organize"]
        letters = [f"Value #{target['refId']}" for target in panel["targets"]]
        names = organized["renameByName"]
        if several:
            # In 9.3 a query that alone has series has no letter: that is the one that always has.
            assert "max by (instance) (up{" in panel["targets"][0]["expr"].replace("min", "max")
            assert names["Value"] == names["Value #A"]
            *first, second = panel["options"]["sortBy"]
            assert second == {"displayName": names["Value #B"], "desc": True}
            if names["Value"] == "answers":
                assert first == [{"displayName": "answers", "desc": False}], "silent hosts on top"
            else:
                assert not first, "as many have as many alerts, these say nothing of who suffers"
            assert [name for name in names if name != "Value"] == letters
        else:
            assert list(names) == ["Value"]
    if panel["type"] == "stat":
        assert panel["options"]["textMode"] in {"auto", "name"}, "a version is no number"
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"] is True
        assert all(target["legendFormat"] for target in panel["targets"])


# Grafana 9.3: 24 columns of a window of 1366 px beside the menu, 8 px between panels, 8 px of
# padding on each side of a table. Letters of its font are at most so wide on average.
WINDOW, MENU, GAP, PADDING, LETTER, CELL = 1366, 56 + 2 * 16, 8, 2 * 8, 7.2, 12
# Letters of 12 px at an axis, and what stands between them and the plot.
AXIS_LETTER, TICK = 6.5, 9
# The longest that a column without a width must show.
LONGEST = {
    "instance": 15,
    "alertname": max(len(rule["alert"]) for rule, _ in RULES if "alert" in rule),
    "on": len("nvme0n1 write public"),
    "config": max(map(len, rules.configs())),
    "name": max(map(len, rules.configs())),
    "program": len("tcp_retransmit_synack"),
    "version": len("2.5.1"),
}


def _columns(panel: dict) -> set[str]:
    """Return the labels that a table's queries keep, and the names of its values."""
    names = panel["transformations"][-1]["options"]["renameByName"]
    labels: set[str] = set()
    for target in panel["targets"]:
        labels |= set(re.split(", ?", re.findall(r"by \(([\w, ]+)\)", target["expr"])[0]))
    return labels | set(names.values())


@each_panel
def test_columns_of_a_table_fit_into_a_narrow_window(document, panel):
    """Grafana gives a column 150 px unless it is told: the number, at the right, was outside."""
    if panel["type"] != "table":
        return
    assert panel["fieldConfig"]["defaults"]["custom"]["minWidth"] < 150, "Grafana's own"
    room = (WINDOW - MENU + GAP) / 24 * panel["gridPos"]["w"] - GAP - PADDING
    widths = {
        override["matcher"]["options"]: prop["value"]
        for override in panel["fieldConfig"]["overrides"]
        for prop in override["properties"]
        if prop["id"] == "custom.width"
    }
    columns = _columns(panel)
    values = set(panel["transformations"][-1]["options"]["renameByName"].values())
    assert values <= widths.keys()
    assert all(len(name) * LETTER + CELL <= widths[name] for name in values), "its title is cut"
    free = columns - widths.keys()
    each = (room - sum(widths.get(name, 0) for name in columns)) / len(free)
    for name in free:
        assert LONGEST[name] * LETTER + CELL <= each, name


def test_first_screen_of_fleet_says_who_suffers_from_what_and_since_when():
    """1600 x 900 less menu, variables and borders are 21 rows of Grafana's grid."""
    document = DASHBOARDS["Kernel / Fleet"]
    seen = [p for p in document["panels"] if p["gridPos"]["y"] + p["gridPos"]["h"] <= 21]
    tables = [panel for panel in seen if panel["type"] == "table"]
    assert {"instance", "alertname", "on", "bad since"} <= _columns(tables[0])
    assert len(_columns(tables[1])) == 11, "one row for each host, one column for each trouble"
    assert sum(panel["type"] == "table" for panel in document["panels"]) == 2
    # As many rows for 1,000 hosts as for 60.
    assert all(t["expr"].startswith("topk(10, ") for t in tables[1]["targets"])


def test_host_shows_what_node_exporter_says_and_nothing_empty_without_it():
    document = DASHBOARDS["Kernel / Host"]
    of_node = [
        panel
        for panel in reading.panels(document)
        if any(name.startswith("node_") for t in panel["targets"] for name, _, _ in
               selectors(reading.filled(t["expr"])))
    ]  # fmt: skip
    closed = [one for row in document["panels"] for one in row.get("panels") or []]
    table, *graphs = of_node
    assert graphs == closed
    # Without node_exporter the table has no such columns, but always this one.
    assert table["targets"][0]["expr"].startswith("min by (instance) (up{")
    asked = {name for panel in graphs for t in panel["targets"] for name, _, _ in
             selectors(reading.filled(t["expr"]))}  # fmt: skip
    assert asked == set(FOREIGN["node on a host"])


def _excused(document, panel, name):
    return name in EXCLUSIONS or f"{document['title']}: {panel['title']}" in EXCLUSIONS


@each_query
def test_query(document, panel, target):
    assert target["datasource"] == DATASOURCE
    for name, matchers, above in selectors(target["expr"]):
        if name in FOREIGN["node on a host"]:
            assert "instance" in matchers, "its job is the operator's"
        elif not _excused(document, panel, name):
            assert {"job", "instance"} <= set(matchers), name
        # The one counter whose name does not say so.
        if name.endswith("_total") or name.endswith("ebpf_program_run_time_seconds"):
            assert calls(above) & RATES, name
        if "le" in matchers:
            assert not re.fullmatch(r"\d+", matchers["le"]), 'it would be "1.0" in Prometheus 3'


@each_query
def test_only_counters_have_rates(document, panel, target):
    """The rate of a gauge is 0 where it stays high, and its falls count as restarts."""
    assert gauges_with_rates(target["expr"]) == set()


@each_rule
def test_only_counters_have_rates_in_rules(rule):
    assert gauges_with_rates(rule["expr"]) == set()


@each_query
def test_sums_and_series_are_matched_by_named_labels(document, panel, target):
    assert mismatched(target["expr"]) == []


@each_rule
def test_sums_and_series_are_matched_by_named_labels_in_rules(rule):
    assert mismatched(rule["expr"]) == []


@each_query
def test_rates_follow_the_scrape_interval(document, panel, target):
    original = next(t["expr"] for t in panel["targets"] if t["refId"] == target["refId"])
    for window in re.findall(r"\[(.+?)\]", original):
        assert (
            window == "$__rate_interval"
            or (window == "$__range" and "[$__range] @ end()" in original)
            or panel["title"] == "Database failures"
        )


@each_query
def test_thresholds_are_those_of_alerts_and_need_data_beside_them(document, panel, target):
    if "linmonitor:alert_threshold" in target["expr"]:
        (alert,) = re.findall(r'alert="(\w+)"', target["expr"])
        assert "threshold" in rules.settings()[alert]
        assert "and on () count(" in target["expr"] or panel["type"] == "stat"


@each_panel
def test_stat_is_neutral_until_something_says_better(document, panel):
    """A stat without a limit is green whatever it shows, and says "none" where nothing answers."""
    if panel["type"] == "stat":
        defaults = panel["fieldConfig"]["defaults"]
        first, *steps = defaults["thresholds"]["steps"]
        assert (first["color"], first["value"]) == ("text", None)
        assert all(step["color"] == "red" for step in steps)
        coloured = [
            result["color"]
            for mapping in defaults.get("mappings", [])
            for result in mapping["options"].values()
        ]
        assert all(coloured)
        for target in panel["targets"]:
            assert target["instant"], "a range shows what was last there, however long ago"
        assert defaults["noValue"] == "unknown", "so it is where nothing answers"
        said = [t for t in panel["targets"] if t["expr"].startswith(reading.NOTHING)]
        mapped = [key for one in defaults.get("mappings", []) for key in one["options"]]
        assert bool(said) == (str(metrics.NOTHING) in mapped)
        for target in said:
            known = re.match(r"-2 \* max\((.+?)\) unless on \(\) \(", target["expr"])
            assert known
            assert known[1].startswith(("up{", "ebpf_exporter_enabled_configs{", "vector(1"))


# What one event makes of the shortest range of a rate, a minute, and what one run of a program
# takes, in seconds.
ONE_EVENT, ONE_RUN = 1 / 60, 1e-7


@each_panel
def test_one_event_is_seen_on_the_axis(document, panel):
    """Where nothing happens an axis does not end at 100, and a little is no flat line."""
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults.get("custom", {})
    if panel["type"] == "timeseries" and "scaleDistribution" not in custom:
        unit = defaults["unit"]
        least = {"s": ONE_RUN, "bytes": 1024, "binBps": 1024}.get(unit, ONE_EVENT)
        assert 0 < custom["axisSoftMax"] <= 10 * least


@each_panel
def test_lines_of_a_logarithmic_axis_have_no_area(document, panel):
    """The areas below a dozen of them lay over each other, grey, and hid the lowest."""
    custom = panel["fieldConfig"]["defaults"].get("custom", {})
    if "scaleDistribution" in custom:
        assert custom["fillOpacity"] == 0


@each_panel
def test_numbers_at_an_axis_are_whole(document, panel):
    """Grafana 9.3 cut the first digit where a word follows the number: 800 read 300."""
    defaults = panel["fieldConfig"]["defaults"]
    if panel["type"] == "timeseries" and defaults["unit"].startswith("count:"):
        longest = len("0.125 ") + len(defaults["unit"].removeprefix("count:"))
        assert defaults["custom"]["axisWidth"] >= AXIS_LETTER * longest + TICK


@each_panel
def test_title_is_whole_in_a_narrow_window(document, panel):
    room = (WINDOW - MENU + GAP) / 24 * panel["gridPos"]["w"] - GAP - PADDING
    assert len(panel["title"]) * LETTER <= room


def test_nothing_is_a_line_only_of_hosts_that_counted_nothing():
    """Until its first event a host had a line more, whose name stayed in the legend."""
    zeros = [
        target["expr"]
        for _, target in reading.queries(DASHBOARDS["Kernel / Host"])
        if "or on (instance) (0 * " in target["expr"]
    ]
    assert zeros
    for expr in zeros:
        counter, rest = re.search(r"\(rate\((.+?)\[.+?\]\)\) (or .+)", expr).groups()
        assert f"unless on (instance) count by (instance) (increase({counter}[" in rest


@each_panel
def test_no_event_and_no_program_are_two_answers(document, panel):
    words = panel["fieldConfig"]["defaults"].get("noValue", "")
    assert ", or " not in words
    if document["title"] == "Kernel / Host" and panel["type"] == "timeseries":
        ours = [t for t in panel["targets"] if metrics.PREFIX in t["expr"]]
        absent = [t for t in ours if reading.ABSENT in t["legendFormat"]]
        assert bool(ours) == bool(absent)
    if document["title"] == "Kernel / Host" and panel["type"] == "stat":
        ours = [t for t in panel["targets"] if ":ebpf_" in t["expr"]]
        absent = [t for t in panel["targets"] if reading.ABSENT in t["legendFormat"]]
        assert bool(ours) == bool(absent)
        said = [
            key
            for m in panel["fieldConfig"]["defaults"].get("mappings", [])
            for key in m["options"]
        ]
        assert bool(ours) == (str(metrics.NOWHERE) in said)


# The panels on their left are of the same program.
def test_marks_are_starts_not_states():
    """A mark for as long as an alert fires paints every graph red when somebody looks."""
    for document in DASHBOARDS.values():
        for mark in document["annotations"]["list"]:
            if "ALERTS" in mark["expr"]:
                assert "unless" in mark["expr"]
                assert f"offset {mark['step']}" in mark["expr"]


def test_fleet_reads_recorded_series_only():
    """Raw series of thousands of hosts would take minutes."""
    cheap = {"up", "ALERTS", "ALERTS_FOR_STATE", "linmonitor:alert_threshold"}
    for _, target in reading.queries(DASHBOARDS["Kernel / Fleet"]):
        for name, _, above in selectors(target["expr"]):
            assert name in RECORDED | cheap
            assert not calls(above) & {"rate", "increase"}


def test_the_bench_makes_what_fleet_asks_for():
    asked = {
        name
        for _, target in reading.queries(DASHBOARDS["Kernel / Fleet"])
        for name, _, _ in selectors(target["expr"])
    }
    assert asked == set(bench.PER_HOST) | set(bench.PER_JOB)


def _asked() -> dict[str, list[tuple[dict, str]]]:
    """Return matchers and place of each selector of dashboards and rules, by series name."""
    places = [(rule["expr"], group) for rule, group in RULES]
    for title, document in DASHBOARDS.items():
        places += [(target["expr"], title) for _, target in reading.queries(document)]
        places += [(reading.filled(a["expr"]), title) for a in document["annotations"]["list"]]
        places += [
            (reading.filled(re.fullmatch(r"label_values\((.+), \w+\)", item["query"])[1]), title)
            for item in document["templating"]["list"]
            if item["type"] == "query"
        ]
    found: dict[str, list[tuple[dict, str]]] = {}
    for expr, place in places:
        for name, matchers, _ in selectors(expr):
            found.setdefault(name, []).append((matchers, place))
    return found


ASKED = _asked()


def _shipped() -> dict[str, dict]:
    """Return kind, config, labels and bucket edges of each metric of our programs, by full name."""
    shipped = {}
    for path in (rules.ROOT / "files/bpf").glob("*/*.yaml"):
        kinds = yaml.safe_load(path.read_text())["metrics"]
        for kind, declared in kinds.items():
            for metric in declared:
                labels = {label["name"] for label in metric["labels"]}
                shipped[metrics.PREFIX + metric["name"]] = metric | {
                    "kind": kind,
                    "config": path.stem,
                    "labels": labels,
                }
    assert shipped, "files/bpf has no YAML"
    return shipped


@pytest.fixture(scope="module")
def shipped() -> dict[str, dict]:
    return _shipped()


def _base(name: str, shipped: dict) -> str:
    """Return the metric that a series of a histogram belongs to."""
    stem = re.sub(r"_(bucket|sum|count)$", "", name)
    return stem if shipped.get(stem, {}).get("kind") == "histograms" else name


def test_each_series_exists(shipped):
    known = set(shipped) | FOREIGN_NAMES | RECORDED
    patterns = {name for name in ASKED if not re.fullmatch(r"[\w:]+", name)}
    assert {name for name in ASKED if _base(name, shipped) not in known} == patterns
    for pattern in patterns:
        assert any(re.fullmatch(pattern, name) for name in shipped), pattern


def test_each_metric_of_the_catalogue_is_shown(shipped):
    names = {_base(name, shipped) for name in ASKED}
    hidden = {name for name in shipped if not any(re.fullmatch(asked, name) for asked in names)}
    assert not hidden


def test_foreign_series_are_asked_for():
    assert set(ASKED) >= FOREIGN_NAMES, "the list holds no leftovers"


def test_recorded_series_are_asked_for():
    assert set(ASKED) >= RECORDED


def test_labels_that_are_matched_exist(shipped):
    for name, places in ASKED.items():
        metric = shipped.get(_base(name, shipped))
        if metric:
            for matchers, place in places:
                unknown = set(matchers) - metric["labels"] - {"job", "instance", "le", "__name__"}
                assert not unknown, (name, place)


def test_bucket_edges_that_are_named_exist(shipped):
    for name, places in ASKED.items():
        for edge in {matchers["le"] for matchers, _ in places if "le" in matchers} - {metrics.ZERO}:
            metric = shipped[_base(name, shipped)]
            step = metric.get("bucket_multiplier", 1)
            keys = metric.get("bucket_keys") or [
                2**k for k in range(metric["bucket_min"], metric["bucket_max"] + 1)
            ]
            assert edge in {repr(key * step) for key in keys}, name


@pytest.mark.parametrize("metric", DECLARED, ids=lambda metric: metric.name)
def test_declared_metric_is_that_of_the_program(metric, shipped):
    program = shipped[metric.full]
    histogram = isinstance(metric, metrics.Histogram)
    assert program["kind"] == ("histograms" if histogram else "counters")
    assert program["config"] == metric.config
    assert set(metric.by) <= program["labels"] | {"instance"}
    assert metric.alert in {"", *metric.said.get("alerts", [])}


def test_node_exporter_stays_in_its_group():
    for name in FOREIGN["node"]:
        assert {place for _, place in ASKED[name]} == {"node-recording"}
    for name in FOREIGN["node on a host"]:
        assert {place for _, place in ASKED[name]} == {"Kernel / Host"}


def test_walk_sees_nested_selectors():
    """Guards the guard: what these tests never visit, they never judge."""
    for fitting in ("a:b / a:c", "sum(x) / max(a:b > 0)", "sum(x) > on () a:b", "2 * sum(x)"):
        assert mismatched(fitting) == []
    for wrong in ("1 - sum by (a) (x) / (a:b > 0)", "x unless histogram_quantile(1, sum(y))"):
        assert len(mismatched(wrong)) == 1
    assert gauges_with_rates("sum(rate(x_total[5m]) + increase(y[5m]) + z)") == {"y"}
    expr = "topk(3, sum by (a) (rate(x_total[5m])) / on (a) (y > 1)) or absent(z)"
    assert [name for name, _, _ in selectors(expr)] == ["x_total", "y", "z"]
    assert len(list(walk(pp.parse(expr)))) > 10
