# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels and dashboards in the form that Grafana 9.3 to 13 draw right."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as cb
from grafana_foundation_sdk.builders import dashboard as db
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as cm
from grafana_foundation_sdk.models import dashboard as dm
from grafana_foundation_sdk.models import heatmap as hm
from grafana_foundation_sdk.models import prometheus as pm

from .metrics import ANSWERING, LEAST, NOTHING, NOWHERE, Counter, Histogram, nothing, nowhere, runs
from .rules import RUNBOOKS

DATASOURCE = cm.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Name and uid of the datasource that the grafana role provisions; it need not be the default.
OWN = "linmonitor"
TAG = "linmonitor"
HOST_UID = "linmonitor-host"
# Newer servers migrate an older schema upwards; an older server does not know a newer one.
SCHEMA = 37
# Seconds between the points of an annotation's query; a start is one of them.
STEP = "60s"
# The watchdog always fires.
OTHERS = 'alertname!="Watchdog"'
# What an alert may name beside the host.
ON = ("device", "operation", "scope", "config")
BAD_SINCE = "bad since"
ANSWERS = "answers"
# Columns of tables from left to right; what has no width here, the host above all, takes the rest.
COLUMNS = ("instance", "alertname", "config", "program", "name", "version", "device", "operation",
           "scope", "on", "severity", "Value")  # fmt: skip
WIDTHS = {"alertname": 245, "device": 90, "operation": 80, "scope": 80, "severity": 80}
VALUE_WIDTH, OVERVIEW_WIDTH = 110, 100
AGE_WIDTH = 135  # "a few seconds ago"
SEVERITIES = {
    name: {"color": colour, "index": place}
    for place, (name, colour) in enumerate(
        {"critical": "red", "warning": "orange", "info": "blue"}.items()
    )
}
NEUTRAL = "text"
# Hosts, alerts and programs are counted to the last: of 1,003 hosts Grafana's usual unit makes 1 K.
EXACT = "locale"
# Where nothing happens an axis ends here, and not at 100 of its unit; one event a minute, or one
# run of a program, is seen on it.
QUIET = {"s": 1e-7, "percentunit": 0.01, "bytes": 1024, "binBps": 1024}
QUIET_COUNT = 0.1
# Grafana 9.3 cuts some pixels off long words at an axis, and so off the first digit, unless it is
# told how wide they are.
COUNTED = "count:"
TICK, LETTER, DIGITS = 9, 6.5, len("0.125 ")
RIGHT_WIDTH = 60
# Of heatmaps and lines by their width: eighteen buckets beside each other need nine rows of a page.
HEIGHTS = {8: 8, 12: 9}
# Of heatmaps whose buckets are half steps, and of what is beside them: up to twenty-six of these.
FINE = 12
ABSENT = "does not run on"
NO_EVENT = "nothing counted"
RIGHT_AXIS = "share of segments sent"
ALERT_LINE = "alert above"


@dataclass(frozen=True)
class Annotation:
    """Moments that all panels mark."""

    name: str
    expr: str
    colour: str
    text: str


def restarts(name: str, selector: str, also: str = "") -> Annotation:
    """Mark where a process began anew, which a deployment also does."""
    expr = f"changes(process_start_time_seconds{{{selector}}}[2m]) > 0{also}"
    return Annotation(name, expr, "blue", "{{instance}}")


def alerts(selector: str) -> Annotation:
    """Mark where an alert began to fire: a mark for as long as it fires would hide the graphs."""
    fires = f'ALERTS{{alertstate="firing",{OTHERS},{selector}}}'
    expr = f"count by (alertname) ({fires} unless ({fires} offset {STEP}))"
    return Annotation("Alerts begin to fire", expr, "red", "{{alertname}}")


def firing(selector: str) -> tuple[str, str]:
    """Return the query for what fires, and the one for since when it is bad, in milliseconds.

    An alert fires when it has been bad for its hold time. The labels that tell where are one
    column, never empty: into an empty cell Grafana writes what an empty table says.
    """
    fires = f'ALERTS{{alertstate="firing",{OTHERS},{selector}}}'
    began = f"ALERTS_FOR_STATE{{{OTHERS},{selector}}} and ignoring (alertstate) {fires}"
    where = ", ".join(f'"{label}"' for label in ON)
    everywhere = f'label_replace({began}, "instance", "all", "instance", "")'
    joined = f'label_join({everywhere}, "on", " ", {where})'
    return fires, f"1000 * max by (instance, alertname, severity, on) ({joined})"


def _property(name: str, value: object) -> dm.DynamicConfigValue:
    return dm.DynamicConfigValue(id_val=name, value=value)


def limit(alert: str) -> str:
    """Return the threshold of an alert as this server was told it."""
    return f'max(linmonitor:alert_threshold{{alert="{alert}"}})'


def threshold(alert: str, where: str) -> str:
    """Return the line of an alert's threshold, absent where `where` has no series."""
    return f"{limit(alert)} and on () count({where})"


def _query(expr: str, legend: str = "", kind: pm.PromQueryFormat = pm.PromQueryFormat.TIME_SERIES):
    return prometheus.Dataquery().expr(expr).legend_format(legend).format(kind)


def _finish(
    panel, queries: list, *, title: str, help_text: str, empty: str, span: int, height: int = 0
):
    """Give a panel what all have; without a height of its own it is as high as its width needs."""
    panel.title(title).description(help_text).datasource(DATASOURCE)
    panel.span(span).height(height or HEIGHTS[span])
    if empty:
        panel.no_value(empty)
    for number, query in enumerate(queries):
        panel.with_target(query.ref_id(chr(ord("A") + number)).datasource(DATASOURCE))
    return panel


def lines(
    title: str,
    unit: str,
    help_text: str,
    queries: list[tuple[str, str]],
    *,
    empty: str = "No data",
    alert: tuple[str, str] | None = None,
    absent: tuple[str, str] | None = None,
    log: bool = False,
    right: list[tuple[str, str]] | None = None,
    stacked: bool = False,
    span: int = 8,
    height: int = 0,
):
    """Return a time series panel.

    `alert` is an alert's name and the series it judges, `absent` a program and the query for the
    hosts where it does not run: the legend names them.
    """
    # Below lines of a logarithmic axis there is no area, only a grey of many.
    opacity = 30 if stacked else 0 if log else 5
    panel = timeseries.Panel().unit(unit).line_width(1).fill_opacity(opacity)
    panel.show_points(cm.VisibilityMode.NEVER)
    panel.legend(
        cb.VizLegendOptions()
        .display_mode(cm.LegendDisplayMode.LIST)
        .placement(cm.LegendPlacement.BOTTOM)
        .show_legend(True)
    )
    panel.tooltip(
        cb.VizTooltipOptions().mode(cm.TooltipDisplayMode.MULTI).sort(cm.SortOrder.DESCENDING)
    )
    targets = [_query(expr, legend) for expr, legend in queries]
    if log:
        panel.scale_distribution(
            cb.ScaleDistributionConfig().type(cm.ScaleDistribution.LOG).log(10)
        )
        empty = ""  # Grafana would write it at each tick of this axis
    else:
        panel.min(0)
        panel.axis_soft_max(QUIET.get(unit, QUIET_COUNT))
    if unit.startswith(COUNTED):
        letters = DIGITS + len(unit.removeprefix(COUNTED))
        panel.axis_width(math.ceil(TICK + LETTER * letters))
    if stacked:
        panel.stacking(cb.StackingConfig().mode(cm.StackingMode.NORMAL).group("A"))
    for expr, legend in right or []:
        targets.append(_query(expr, legend))
        panel.override_by_regexp(
            f"/{RIGHT_AXIS}/",
            [
                _property("unit", "percentunit"),
                _property("custom.axisPlacement", "right"),
                _property("custom.axisWidth", RIGHT_WIDTH),
                _property("custom.axisLabel", RIGHT_AXIS),
                _property("custom.lineStyle", {"fill": "dash", "dash": [4, 4]}),
            ],
        )
    if alert:
        line = f"{ALERT_LINE}: {RIGHT_AXIS}" if right else ALERT_LINE
        targets.append(_query(threshold(*alert), line))
        panel.override_by_name(
            line,
            [
                _property("color", {"mode": "fixed", "fixedColor": "red"}),
                _property("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
                _property("custom.fillOpacity", 0),
                _property("custom.stacking", {"mode": "none", "group": "B"}),
            ],
        )
    if absent:
        program, expr = absent
        targets.append(_query(expr, f"{program} {ABSENT} {{{{instance}}}}"))
        panel.override_by_regexp(
            f"/{ABSENT}/",
            [
                _property("color", {"mode": "fixed", "fixedColor": NEUTRAL}),
                _property("custom.lineWidth", 0),
                _property("custom.fillOpacity", 0),
            ],
        )
    return _finish(
        panel, targets, title=title, help_text=help_text, empty=empty, span=span, height=height
    )


def heat(
    title: str, metric: Histogram, *, expr: str | None = None, span: int = 12, height: int = 0
):
    """Return the heatmap of a histogram; Prometheus has the buckets already.

    Colours are shares of one moment, so that a burst leaves the rest as bright as it was.
    """
    panel = (
        heatmap.Panel()
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(hm.HeatmapColorMode.SCHEME)
            .scheme("Turbo")
            .scale(hm.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
            .min(0)
            .max(1)
        )
        .filter_values(heatmap.FilterValueRange().le(LEAST))
        .cell_values(heatmap.CellValues().unit("percentunit"))
        .y_axis(heatmap.YAxisConfig().unit(metric.unit).axis_placement(cm.AxisPlacement.LEFT))
        .tooltip(heatmap.HeatmapTooltip().mode(cm.TooltipDisplayMode.SINGLE).y_histogram(True))
    )
    query = _query(expr or metric.heat(), "{{le}}", pm.PromQueryFormat.HEATMAP)
    help_text = f"{metric.help}\n\nColour: the share of this moment's events."
    return _finish(
        panel,
        [query],
        title=title,
        help_text=help_text,
        empty=metric.empty,
        span=span,
        height=height,
    )


def tail(title: str, metric: Histogram, *, log: bool = True, span: int = 12, height: int = 0):
    """Return the p99 of a histogram, with the line of its alert; a heatmap shows the rest."""
    alert = (metric.alert, f"{metric.full}_count{{{metric.selector}}}") if metric.alert else None
    return lines(
        title,
        metric.unit,
        metric.help,
        [(metric.quantile(0.99), metric.legend)],
        empty=metric.empty,
        alert=alert,
        absent=(metric.config, metric.absent()),
        log=log,
        span=span,
        height=height,
    )


def rate(
    title: str, metric: Counter | Histogram, unit: str | None = None, note: str = "", **options
):
    """Return the events per second of a metric, a counter with the line of its alert.

    `note` says what the panel needs beside the metric.
    """
    alert = None
    if isinstance(metric, Counter) and metric.alert:
        enabled = f'ebpf_exporter_enabled_configs{{{metric.selector},name="{metric.config}"}}'
        alert = (metric.alert, enabled)
    return lines(
        title,
        unit or metric.unit,
        "\n\n".join(filter(None, [metric.help, note])),
        [(metric.rate(), metric.legend)],
        empty=metric.empty,
        absent=(metric.config, metric.absent()),
        **({"alert": alert} | options),
    )


def number(
    title: str,
    unit: str,
    help_text: str,
    expr: str,
    *,
    empty: str = "",
    known: str = ANSWERING,
    alert: str = "",
    bad: float | None = None,
    names: dict[str, tuple[str, str]] | None = None,
    legend: str = "",
    program: str = "",
):
    """Return a stat panel of what is so now.

    It is red from `bad` on, or above the threshold of `alert`: that is a query of its own, for
    thresholds are the operator's. `names` are text and colour in place of values, `legend` stands
    in place of all of them. `empty` says what it means that there is no number, and is said only
    where `known` has series: a host that is silent, or a Prometheus, says nothing. Where no chosen
    host runs `program` it says so: that is another answer than none.
    """
    names = dict(names or {})
    if program:
        names[str(NOWHERE)] = ("does not run here", NEUTRAL)
        known = runs(program)
    if empty:
        names[str(NOTHING)] = (empty, NEUTRAL)
    steps = [dm.Threshold(color=NEUTRAL, value=None)]
    if bad is not None:
        steps.append(dm.Threshold(color="red", value=bad))
    queries = [expr]
    panel = (
        stat.Panel()
        .unit(unit)
        .thresholds(db.ThresholdsConfig().mode(dm.ThresholdsMode.ABSOLUTE).steps(steps))
        .color_mode(cm.BigValueColorMode.VALUE)
        .graph_mode(cm.BigValueGraphMode.NONE)
        .reduce_options(cb.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    if names:
        results = {
            value: dm.ValueMappingResult(text=text, color=colour)
            for value, (text, colour) in names.items()
        }
        panel.mappings([dm.ValueMap(options=results)])
    if legend:
        panel.text_mode(cm.BigValueTextMode.NAME)
    if alert:
        above = f"({expr}) > on () {limit(alert)}"
        queries = [f"({expr}) unless on () ({above})", above]
        panel.override_by_query("B", [_property("color", {"mode": "fixed", "fixedColor": "red"})])
    targets = [_query(query, legend).instant() for query in queries]
    if program:
        targets.append(_query(nowhere(program), f"{program} {ABSENT} any of them").instant())
    if empty:
        targets.append(_query(nothing(expr, known), empty if legend else NO_EVENT).instant())
    return _finish(
        panel, targets, title=title, help_text=help_text, empty="unknown", span=4, height=3
    )


def _host_link() -> list[dict]:
    url = (
        f"/d/{HOST_UID}?${{datasource:queryparam}}&${{job:queryparam}}"
        "&var-instance=${__value.text}&${__url_time_range}"
    )
    return [{"title": "Look at this host", "url": url}]


def _organized(places: tuple[str, ...], names: dict[str, str]) -> dm.DataTransformerConfig:
    return dm.DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": {"Time": True, "__name__": True},
            "indexByName": {name: place for place, name in enumerate(places)},
            "renameByName": names,
        },
    )


def rows(
    title: str,
    unit: str,
    help_text: str,
    expr: str,
    value: str,
    *,
    empty: str = "none seen",
    span: int = 8,
    height: int = 8,
):
    """Return a table of the series of `expr`; a host's name links to its dashboard."""
    width = AGE_WIDTH if unit == "dateTimeFromNow" else VALUE_WIDTH
    runbook = {"title": "Runbook", "url": f"{RUNBOOKS}#${{__value.text}}", "targetBlank": True}
    panel = (
        table.Panel()
        .sort_by([cb.TableSortByFieldState().display_name(value).desc(True)])
        .with_transformation(_organized(COLUMNS, {"Value": value}))
        .min_width(60)
        .override_by_name(value, [_property("unit", unit), _property("custom.width", width)])
        .override_by_name("instance", [_property("links", _host_link())])
        .override_by_name(
            "alertname",
            [_property("custom.width", WIDTHS["alertname"]), _property("links", [runbook])],
        )
        .override_by_name(
            "severity",
            [
                _property("custom.width", WIDTHS["severity"]),
                _property("custom.displayMode", "color-text"),
                _property("mappings", [{"type": "value", "options": SEVERITIES}]),
            ],
        )
    )
    for name, width in WIDTHS.items():
        if name not in {"alertname", "severity"}:
            panel.override_by_name(name, [_property("custom.width", width)])
    query = _query(expr, kind=pm.PromQueryFormat.TABLE).instant()
    return _finish(
        panel, [query], title=title, help_text=help_text, empty=empty, span=span, height=height
    )


def overview(
    title: str,
    help_text: str,
    columns: list[tuple[str, str, str]],
    *,
    silent_first: bool = False,
    height: int = 8,
):
    """Return a table with a row for each host and a column for each (name, unit, query by host).

    A query without series makes no column; that of the first must have some whatever the hosts run.
    The second sorts them, for the first is the same for many; `silent_first` if the first is not 1.
    """
    letters = [chr(ord("A") + number) for number in range(len(columns))]
    fields = {f"Value #{letter}": name for letter, (name, _, _) in zip(letters, columns)}
    # Grafana 9.3 gives no letter to a query that alone has series, as of a silent host.
    fields["Value"] = columns[0][0]
    falling = {columns[0][0]: False} if silent_first else {}
    falling[columns[1][0]] = True
    panel = (
        table.Panel()
        .sort_by([cb.TableSortByFieldState().display_name(n).desc(d) for n, d in falling.items()])
        .with_transformation(dm.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(_organized(("instance", *fields), fields))
        .min_width(60)
        .override_by_name("instance", [_property("links", _host_link())])
    )
    for name, unit, _ in columns:
        said = [_property("unit", unit), _property("custom.width", OVERVIEW_WIDTH)]
        if name == ANSWERS:
            results = {"0": {"text": "no", "color": "red"}, "1": {"text": "yes", "color": NEUTRAL}}
            said += [
                _property("custom.displayMode", "color-text"),
                _property("mappings", [{"type": "value", "options": results}]),
            ]
        panel.override_by_name(name, said)
    targets = [_query(expr, kind=pm.PromQueryFormat.TABLE).instant() for _, _, expr in columns]
    # Grafana would write the words of an empty table into each cell that has no value.
    return _finish(
        panel, targets, title=title, help_text=help_text, empty="", span=24, height=height
    )


def variable(name: str, label: str, query: str) -> db.QueryVariable:
    """Return a variable that may be several values or all."""
    return (
        db.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .include_all(True)
        .multi(True)
        .all_value(".+")
        .current(dm.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .sort(dm.VariableSort.ALPHABETICAL_ASC)
        .refresh(dm.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def _close(document: dict, title: str) -> None:
    """Put the panels of a row into it, as Grafana has it, and move up what is below."""
    panels = document["panels"]
    first = next(place for place, panel in enumerate(panels) if panel.get("title") == title)
    row, rest = panels[first], panels[first + 1 :]
    count = next((n for n, panel in enumerate(rest) if panel["type"] == "row"), len(rest))
    inside, below = rest[:count], rest[count:]
    room = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in inside) - row["gridPos"]["y"] - 1
    row |= {"collapsed": True, "panels": inside}
    for panel in below:
        panel["gridPos"]["y"] -= room
    document["panels"] = [*panels[: first + 1], *below]


def dashboard(
    title: str,
    uid: str,
    help_text: str,
    *,
    layout: dict[str, list],
    variables: list[db.QueryVariable],
    annotations: list[Annotation],
    closed: str = "",
) -> str:
    """Return a dashboard as classic JSON; `layout` is rows of panels, one may be closed."""
    built = (
        db.Dashboard(title)
        .uid(uid)
        .description(help_text)
        .readonly()
        .tags([TAG])
        .tooltip(dm.DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-1h", "now")
        .link(
            db.DashboardLink("Kernel dashboards")
            .type(dm.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(
            db.DatasourceVariable("datasource")
            .label("Data source")
            .type("prometheus")
            .current(dm.VariableOption(selected=True, text=OWN, value=OWN))
        )
    )
    for item in variables:
        built.with_variable(item)
    for mark in annotations:
        built.annotation(
            db.AnnotationQuery()
            .name(mark.name)
            .datasource(DATASOURCE)
            .enable(True)
            .icon_color(mark.colour)
            .expr(mark.expr)
            .step(STEP)
            .title_format(mark.name)
            .text_format(mark.text)
        )
    for row_title, row_panels in layout.items():
        built.with_row(db.Row(row_title))
        for panel in row_panels:
            built.with_panel(panel)
    document = json.loads(JSONEncoder().encode(built.build()))
    document["schemaVersion"] = SCHEMA
    for item in document["links"] + document["annotations"]["list"]:
        item.pop("placement", None)
    for identity, panel in enumerate(document["panels"], start=1):
        panel["id"] = identity
    if closed:
        _close(document, closed)
    return json.dumps(document, indent=2, sort_keys=True) + "\n"
