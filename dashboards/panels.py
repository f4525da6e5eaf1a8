# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Panels and dashboards in the form that Grafana 9.3 to 13 draw right."""

from __future__ import annotations

import json
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common as cb
from grafana_foundation_sdk.builders import dashboard as db
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as cm
from grafana_foundation_sdk.models import dashboard as dm
from grafana_foundation_sdk.models import heatmap as hm
from grafana_foundation_sdk.models import prometheus as pm

from .metrics import Counter, Histogram

DATASOURCE = cm.DataSourceRef(type_val="prometheus", uid="${datasource}")
# Name and uid of the datasource that the grafana role provisions; it need not be the default.
OWN = "linmonitor"
TAG = "linmonitor"
HOST_UID = "linmonitor-host"
# Newer servers migrate an older schema upwards; an older server does not know a newer one.
SCHEMA = 37
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


def firing(selector: str) -> tuple[str, str]:
    """Return the query for what fires, and the one for since when in milliseconds."""
    others = f'alertname!="Watchdog",{selector}'
    alerts = f'ALERTS{{alertstate="firing",{others}}}'
    labels = "alertname, severity, instance, device, operation, scope, config"
    since = f"ALERTS_FOR_STATE{{{others}}} and ignoring (alertstate) {alerts}"
    return alerts, f"1000 * max by ({labels}) ({since})"


def _property(name: str, value: object) -> dm.DynamicConfigValue:
    return dm.DynamicConfigValue(id_val=name, value=value)


def threshold(alert: str, where: str) -> str:
    """Return the line of an alert's threshold, absent where `where` has no series."""
    return f'max(linmonitor:alert_threshold{{alert="{alert}"}}) and on () count({where})'


def _query(expr: str, legend: str = "", kind: pm.PromQueryFormat = pm.PromQueryFormat.TIME_SERIES):
    return prometheus.Dataquery().expr(expr).legend_format(legend).format(kind)


def _finish(
    panel, queries: list, *, title: str, help_text: str, empty: str, span: int, height: int = 8
):
    panel.title(title).description(help_text).datasource(DATASOURCE)
    panel.span(span).height(height).no_value(empty)
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
    log: bool = False,
    right: list[tuple[str, str]] | None = None,
    stacked: bool = False,
    span: int = 8,
):
    """Return a time series panel; `alert` is an alert's name and the series it judges."""
    panel = timeseries.Panel().unit(unit).line_width(1).fill_opacity(30 if stacked else 5)
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
    else:
        panel.min(0)
    if stacked:
        panel.stacking(cb.StackingConfig().mode(cm.StackingMode.NORMAL).group("A"))
    for expr, legend in right or []:
        targets.append(_query(expr, legend))
        panel.override_by_regexp(
            f"/{RIGHT_AXIS}/",
            [
                _property("unit", "percentunit"),
                _property("custom.axisPlacement", "right"),
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
    return _finish(panel, targets, title=title, help_text=help_text, empty=empty, span=span)


def heat(title: str, metric: Histogram, *, expr: str | None = None, span: int = 8):
    """Return the heatmap of a histogram; Prometheus has the buckets already."""
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
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .y_axis(heatmap.YAxisConfig().unit(metric.unit).axis_placement(cm.AxisPlacement.LEFT))
        .tooltip(heatmap.HeatmapTooltip().mode(cm.TooltipDisplayMode.SINGLE).y_histogram(True))
    )
    query = _query(expr or metric.heat(), "{{le}}", pm.PromQueryFormat.HEATMAP)
    return _finish(
        panel, [query], title=title, help_text=metric.help, empty=metric.empty, span=span
    )


def quantiles(title: str, metric: Histogram, *, log: bool = True, span: int = 8):
    """Return the median, p90 and p99 of a histogram, with the line of its alert."""
    alert = (metric.alert, f"{metric.full}_count{{{metric.selector}}}") if metric.alert else None
    shares = [(metric.quantile(q), f"p{q * 100:.0f} {metric.legend}") for q in (0.5, 0.9, 0.99)]
    return lines(
        title,
        metric.unit,
        metric.help,
        shares,
        empty=metric.empty,
        alert=alert,
        log=log,
        span=span,
    )


def rate(title: str, metric: Counter | Histogram, unit: str | None = None, **options):
    """Return the events per second of a metric, a counter with the line of its alert."""
    alert = None
    if isinstance(metric, Counter) and metric.alert:
        enabled = f'ebpf_exporter_enabled_configs{{{metric.selector},name="{metric.config}"}}'
        alert = (metric.alert, enabled)
    return lines(
        title,
        unit or metric.unit,
        metric.help,
        [(metric.rate(), metric.legend)],
        empty=metric.empty,
        **({"alert": alert} | options),
    )


def number(
    title: str,
    unit: str,
    help_text: str,
    expr: str,
    *,
    empty: str = "none",
    bad: float | None = None,
    names: dict[str, str] | None = None,
    legend: str = "",
):
    """Return a stat panel: red from `bad` on, `names` in place of values, `legend` beside them."""
    steps = [dm.Threshold(color="green", value=None)]
    if bad is not None:
        steps.append(dm.Threshold(color="red", value=bad))
    panel = (
        stat.Panel()
        .unit(unit)
        .thresholds(db.ThresholdsConfig().mode(dm.ThresholdsMode.ABSOLUTE).steps(steps))
        .color_mode(cm.BigValueColorMode.VALUE)
        .graph_mode(cm.BigValueGraphMode.AREA)
        .reduce_options(cb.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )
    if names:
        results = {value: dm.ValueMappingResult(text=text) for value, text in names.items()}
        panel.mappings([dm.ValueMap(options=results)])
    if legend:
        panel.text_mode(cm.BigValueTextMode.VALUE_AND_NAME)
    return _finish(
        panel,
        [_query(expr, legend)],
        title=title,
        help_text=help_text,
        empty=empty,
        span=4,
        height=4,
    )


def rows(
    title: str,
    unit: str,
    help_text: str,
    expr: str,
    value: str,
    *,
    empty: str = "none",
    span: int = 8,
    height: int = 8,
):
    """Return a table of the series of `expr`; a host's name links to its dashboard."""
    link = (
        f"/d/{HOST_UID}?${{datasource:queryparam}}&${{job:queryparam}}"
        "&var-instance=${__value.text}&${__url_time_range}"
    )
    panel = (
        table.Panel()
        .sort_by([cb.TableSortByFieldState().display_name(value).desc(True)])
        .with_transformation(
            dm.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": {"Time": True, "__name__": True},
                    "indexByName": {},
                    "renameByName": {"Value": value},
                },
            )
        )
        .override_by_name(value, [_property("unit", unit)])
        .override_by_name(
            "instance",
            [_property("links", [{"title": "Look at this host", "url": link}])],
        )
    )
    query = _query(expr, kind=pm.PromQueryFormat.TABLE).instant()
    return _finish(
        panel, [query], title=title, help_text=help_text, empty=empty, span=span, height=height
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


def dashboard(
    title: str,
    uid: str,
    help_text: str,
    *,
    layout: dict[str, list],
    variables: list[db.QueryVariable],
    annotations: list[Annotation],
) -> str:
    """Return a dashboard as classic JSON; `layout` is rows of panels."""
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
            .step("60s")
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
    return json.dumps(document, indent=2, sort_keys=True) + "\n"
