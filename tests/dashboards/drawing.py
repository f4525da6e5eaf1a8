# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw one panel of a dashboard from the answers to its queries."""

from __future__ import annotations

import io
import math
import re
import textwrap
from typing import Any

import matplotlib.dates as mdates
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

from .api import Series, Window
from .units import text

# Pixels of one column and one row of Grafana's grid.
COLUMN, ROW = 64, 38
DPI = 100
BACK, FACE, INK, FAINT = "#111217", "#181b1f", "#d8d9da", "#6e7077"
COLOURS = {"green": "#73bf69", "red": "#f2495c", "orange": "#ff9830", "text": INK}
LINES = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#8ab8ff", "#fade2a", "#ff7383"]
LEGEND_ROOM = 6
ALERT_LINE = "alert above"

# What each target of a panel returned, in the panel's own order.
Answers = list[tuple[dict, list[Series]]]


def draw(panel: dict, answers: Answers, window: Window) -> Image.Image:
    """Return the picture of a panel."""
    place = panel["gridPos"]
    width, height = place["w"] * COLUMN, place["h"] * ROW
    figure = Figure(figsize=((width - 8) / DPI, (height - 8) / DPI), dpi=DPI, facecolor=FACE)
    figure.text(10 / width, 1 - 20 / height, panel["title"], color=INK, size=9, weight="bold")
    left, right, bottom = (
        62 / width,
        1 - (60 if _has_right_axis(panel) else 12) / width,
        28 / height,
    )
    if panel["type"] in {"stat", "table"}:
        left, right = 12 / width, 1 - 12 / width
    axes = figure.add_axes((left, bottom, right - left, 1 - bottom - 34 / height), facecolor=FACE)
    if not any(series for _, found in answers for series in found):
        axes.set_axis_off()
        words = panel["fieldConfig"]["defaults"].get("noValue", "No data")
        words = textwrap.fill(words, width // 9)
        figure.text(0.5, 0.5, words, color=FAINT, size=10, ha="center", va="center")
    else:
        KINDS[panel["type"]](axes, panel, answers, window)
    buffer = io.BytesIO()
    figure.savefig(buffer, facecolor=FACE)
    return Image.open(buffer).convert("RGB")


def _has_right_axis(panel: dict) -> bool:
    return "custom.axisPlacement" in str(panel["fieldConfig"]["overrides"])


def _style(axes, unit: str, window: Window) -> None:
    axes.tick_params(colors=FAINT, labelsize=7, length=0)
    for spine in axes.spines.values():
        spine.set_color("#2c3235")
    axes.grid(color="#2c3235", linewidth=0.6)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: text(value, unit)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(_moment(window.start), _moment(window.end))
    axes.xaxis.set_major_locator(mdates.AutoDateLocator(minticks=3, maxticks=6))
    axes.xaxis.set_major_formatter(
        mdates.DateFormatter("%H:%M" if window.end - window.start > 600 else "%H:%M:%S")
    )


def _moment(seconds: Any) -> Any:
    return seconds / 86400


def _grid(one: Series, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Return moments and values with a gap wherever a point is missing."""
    count = int((window.end - window.start) // window.step) + 1
    values = np.full(count, np.nan)
    for moment, value in zip(one.times, one.values, strict=True):
        values[round((moment - window.start) / window.step)] = value
    return _moment(window.start + window.step * np.arange(count)), values


def _legend(target: dict, labels: dict[str, str]) -> str:
    return re.sub(
        r"{{(\w+)}}", lambda found: labels.get(found[1], ""), target["legendFormat"]
    ).strip()


def _properties(panel: dict, name: str, ref: str = "") -> dict:
    """Return what the panel's overrides say about a series of a query."""
    found = {}
    for override in panel["fieldConfig"]["overrides"]:
        kind, wanted = override["matcher"]["id"], override["matcher"]["options"]
        if (
            (kind == "byName" and name == wanted)
            or (kind == "byRegexp" and re.search(wanted.strip("/"), name))
            or (kind == "byFrameRefID" and ref == wanted)
        ):
            found |= {item["id"]: item["value"] for item in override["properties"]}
    return found


def _lines(axes, panel: dict, answers: Answers, window: Window) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    stacked = "stacking" in custom
    _style(axes, defaults["unit"], window)
    if "scaleDistribution" in custom:
        axes.set_yscale("log")
        _style(axes, defaults["unit"], window)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    other = None
    floor = 0.0
    for number, (target, one) in enumerate(
        (target, one) for target, found in answers for one in found
    ):
        name = _legend(target, one.labels)
        special = _properties(panel, name)
        where = axes
        if special.get("custom.axisPlacement") == "right":
            if other is None:
                other = axes.twinx()
                _style(other, special["unit"], window)
                other.grid(visible=False)
            where = other
        fixed = special.get("color", {}).get("fixedColor")
        colour = COLOURS.get(fixed, LINES[number % len(LINES)])
        style = (0, (6, 4)) if "custom.lineStyle" in special else "solid"
        moments, values = _grid(one, window)
        if stacked and not special:
            top = floor + np.nan_to_num(values)
            where.fill_between(moments, floor, top, color=colour, alpha=0.35, linewidth=0)
            floor = values = top
        where.plot(moments, values, color=colour, linewidth=1.2, linestyle=style, label=name)
    if "min" in defaults:
        for one in filter(None, (axes, other)):
            one.set_ylim(bottom=0, top=max(one.get_ylim()[1], custom["axisSoftMax"]))
    _keys([line for one in filter(None, (axes, other)) for line in one.get_lines()], axes)


def _keys(lines: list, axes) -> None:
    """Put the legend inside the plot, for there the picture needs no room for it."""
    # The line of the alert first, that it is never among the ones left out.
    shown = sorted(lines, key=lambda line: ALERT_LINE not in line.get_label())[:LEGEND_ROOM]
    if len(lines) > LEGEND_ROOM:
        shown[-1].set_label(f"and {len(lines) - LEGEND_ROOM + 1} more")
    axes.legend(
        handles=shown, loc="upper left", fontsize=6, labelcolor=INK, facecolor=FACE, framealpha=0.6
    ).get_frame().set_linewidth(0)


def _heat(axes, panel: dict, answers: Answers, window: Window) -> None:
    ((_, found),) = answers
    buckets = sorted(found, key=lambda one: float(one.labels["le"]))
    edges = [float(one.labels["le"]) for one in buckets]
    counts = np.array([np.nan_to_num(_grid(one, window)[1]) for one in buckets])
    # Prometheus' buckets hold all smaller ones too.
    counts = np.diff(counts, axis=0, prepend=0)
    counts = np.where(counts > panel["options"]["filterValues"]["le"], counts, np.nan)
    moments = _moment(window.start + window.step * np.arange(counts.shape[1] + 1))
    unit = panel["options"]["yAxis"]["unit"]
    _style(axes, unit, window)
    axes.grid(visible=False)
    shades = np.ma.masked_invalid(counts) ** panel["options"]["color"]["exponent"]
    low, high = panel["options"]["color"]["min"], panel["options"]["color"]["max"]
    axes.pcolormesh(moments, np.arange(len(edges) + 1), shades, cmap="turbo", vmin=low, vmax=high)
    axes.yaxis.set_major_formatter(
        FuncFormatter(
            lambda at, _: (
                text(edges[int(at) - 1], unit) if 0 < at <= len(edges) and at % 1 == 0 else ""
            )
        )
    )


def _stat(axes, panel: dict, answers: Answers, window: Window) -> None:
    """Draw the first number that was answered, as an instant query gives it."""
    target, found = next((target, found) for target, found in answers if found)
    defaults = panel["fieldConfig"]["defaults"]
    value = found[0].values[-1]
    steps = [
        s for s in defaults["thresholds"]["steps"] if s["value"] is None or value >= s["value"]
    ]
    words, colour = text(value, defaults["unit"]), steps[-1]["color"]
    for mapping in defaults.get("mappings", []):
        result = mapping["options"].get(f"{value:g}", {"text": words, "color": colour})
        words, colour = result["text"], result["color"]
    fixed = _properties(panel, "", target["refId"]).get("color", {}).get("fixedColor")
    if panel["options"]["textMode"] == "name":
        words = _legend(target, found[0].labels)
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, words, color=COLOURS[fixed or colour], size=20, ha="center",
        transform=axes.transAxes,
    )  # fmt: skip


def _cells(panel: dict, answers: Answers) -> tuple[list[str], list[list[str]]]:
    """Return the columns of a table and its rows, the largest value of the first query first."""
    organized = panel["transformations"][-1]["options"]
    names, places = organized["renameByName"], organized["indexByName"]
    several = len(answers) > 1
    values: dict[str, str] = {}
    merged: dict[tuple, dict[str, Any]] = {}
    for target, found in answers:
        field = f"Value #{target['refId']}" if several else "Value"
        if found:
            values[field] = _properties(panel, names[field])["unit"]
        for one in found:
            row = {name: value for name, value in one.labels.items() if name != "__name__"}
            merged.setdefault(tuple(sorted(row.items())), dict(row))[field] = one.values[-1]
    labels = {name for row in merged.values() for name in row} - values.keys()
    order = sorted([*labels, *values], key=lambda name: places.get(name, len(places)))
    first = next(iter(values))
    ranked = sorted(merged.values(), key=lambda row: -row.get(first, -math.inf))

    def shown(row: dict[str, Any], name: str) -> str:
        if name not in row or name in labels:
            return row.get(name, "")
        mappings = _properties(panel, names[name]).get("mappings", [{"options": {}}])
        mapped = mappings[0]["options"].get(f"{row[name]:g}")
        return mapped["text"] if mapped else text(row[name], values[name])

    head = [names.get(name, name) for name in order]
    return head, [[shown(row, name) for name in order] for row in ranked]


def _table(axes, panel: dict, answers: Answers, window: Window) -> None:
    axes.set_axis_off()
    columns, cells = _cells(panel, answers)
    room = int(panel["gridPos"]["h"] * ROW / 21) - 2
    drawn = axes.table([columns, *cells[:room]], loc="upper left", cellLoc="left", edges="B")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(7.5)
    drawn.auto_set_column_width(range(len(columns)))
    for (row, _), cell in drawn.get_celld().items():
        cell.set_height(1 / (room + 1))
        cell.set_edgecolor("#2c3235")
        cell.get_text().set_color("#6e9fff" if row == 0 else INK)


KINDS = {"timeseries": _lines, "heatmap": _heat, "stat": _stat, "table": _table}
