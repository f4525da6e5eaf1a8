# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a store gives what was sent to it: samples, series and the answers of panels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from tests.dashboards.api import Prometheus, Series
from tests.dashboards.live import Answer

# A series by its labels; its values by their time in milliseconds since the epoch.
Labels = tuple[tuple[str, str], ...]
Samples = dict[Labels, dict[int, float]]
# What sums differ in by the order of their terms.
ROUNDING = 1e-9
SHOWN = 3


class TwiceError(ValueError):
    """Two series became one without the labels that were taken off."""


def labels_of(metric: Mapping[str, str], off: Iterable[str]) -> Labels:
    """Return the labels of a series, sorted, without those to be taken `off`."""
    return tuple(sorted((name, value) for name, value in metric.items() if name not in {*off}))


def name_of(labels: Labels) -> str:
    """Return a series as PromQL writes it."""
    inner = ", ".join(f'{name}="{value}"' for name, value in labels if name != "__name__")
    return f"{dict(labels).get('__name__', '')}{{{inner}}}"


def samples(matrix: Iterable[Mapping[str, Any]], off: Iterable[str] = ()) -> Samples:
    """Return the samples of an API's matrix; TwiceError where `off` makes two series one."""
    found: Samples = {}
    for one in matrix:
        labels = labels_of(one["metric"], off)
        if labels in found:
            raise TwiceError(f"{name_of(labels)} is there twice")
        found[labels] = {round(float(at) * 1000): float(value) for at, value in one["values"]}
    return found


def stored(
    server: Prometheus,
    start: float,
    end: float,
    off: Iterable[str] = (),
    name: str = ".+",
    **labels: str,
) -> Samples:
    """Return the samples of a server from `start` to `end`, seconds since the epoch.

    Of all series whose name fits a regular expression and that have the labels.
    """
    chosen = "".join(f', {label}="{value}"' for label, value in labels.items())
    selector = f'{{__name__=~"{name}"{chosen}}}[{math.ceil(end - start)}s]'
    found = samples(server.get("query", query=selector, time=end)["result"], off)
    edges = (math.ceil(start * 1000), math.floor(end * 1000))
    inside = {
        series: {at: value for at, value in values.items() if edges[0] < at <= edges[1]}
        for series, values in found.items()
    }
    return {series: values for series, values in inside.items() if values}


def numbers(found: Samples) -> Samples:
    """Return samples without the values that are no number, and without series of only such."""
    kept = {
        labels: {at: value for at, value in values.items() if not math.isnan(value)}
        for labels, values in found.items()
    }
    return {labels: values for labels, values in kept.items() if values}


def quiet(found: Samples) -> float:
    """Return a part of a second, on which no sample lies: the middle of the longest such time.

    Whether a range has its oldest edge is what versions of PromQL differ in. It ends at a whole
    millisecond: half of one some engines round up and some down.
    """
    taken = sorted({at % 1000 for values in found.values() for at in values})
    gaps = [(after - before, before) for before, after in zip(taken, [*taken[1:], taken[0] + 1000])]
    length, before = max(gaps)
    return (before + length // 2) % 1000 / 1000


def begun(found: Samples, since: float) -> list[str]:
    """Say which series have a single sample, later than `since`, seconds since the epoch.

    For how long one is shown before the next comes is what engines differ in.
    """
    return [
        f"{name_of(labels)} has a single sample"
        for labels, values in found.items()
        if len(values) == 1 and min(values) > since * 1000
    ]


def number(found: Samples) -> int:
    """Return how many samples there are."""
    return sum(map(len, found.values()))


def same(one: float, other: float, relative: float = 0.0, absolute: float = 0.0) -> bool:
    """Say whether two values differ by no more than that; what is no number is the same, too."""
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other or math.isclose(one, other, rel_tol=relative, abs_tol=absolute)


def _few(names: Iterable[str]) -> str:
    every = sorted({*names})
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return f"{', '.join(every[:SHOWN])}{more}"


def _told(found: dict[str, list[str]]) -> list[str]:
    """Say of each kind of difference how often it is there, and some names."""
    return [f"{len(names)} {words}: {_few(names)}" for words, names in found.items() if names]


def differences(sent: Samples, found: Samples, rounding: float = 0.0) -> list[str]:
    """Say in what the samples of a store differ from those sent; nothing where they are the same.

    `rounding` is the relative difference that two values may have.
    """
    absent, added, other = [], [], []
    for labels in sent.keys() & found.keys():
        mine, theirs = sent[labels], found[labels]
        absent += [name_of(labels)] * len(mine.keys() - theirs.keys())
        added += [name_of(labels)] * len(theirs.keys() - mine.keys())
        other += [
            f"{name_of(labels)} {mine[at]!r} is {theirs[at]!r}"
            for at in mine.keys() & theirs.keys()
            if not same(mine[at], theirs[at], rounding)
        ]
    return _told(
        {
            "series are missing": [*map(name_of, sent.keys() - found.keys())],
            "series were not sent": [*map(name_of, found.keys() - sent.keys())],
            "samples are missing": absent,
            "samples were not sent": added,
            "values differ": other,
        }
    )


def doubled(
    found: Samples, replicas: list[Samples], rounding: float = 0.0, step: int = 0
) -> list[str]:
    """Say why an answer is not one replica's worth of what the replicas sent.

    Each series is there, each sample is one that some replica sent, and no hole is longer than two
    of a replica's. None has more samples than a replica has or, with a step in milliseconds, more
    than one for each.
    """
    every = set().union(*replicas)
    foreign, many, holes = [], [], []
    for labels in found.keys() & every:
        sent = [replica[labels] for replica in replicas if labels in replica]
        mine = found[labels]
        if any(
            not any(at in one and same(one[at], value, rounding) for one in sent)
            for at, value in mine.items()
        ):
            foreign.append(name_of(labels))
        # A replica may have begun or ended a step earlier.
        most = len({-(-at // step) for at in mine}) if step else max(map(len, sent)) + 1
        if len(mine) > most:
            many.append(name_of(labels))
        if max(map(len, sent)) > 2 and _hole(mine) > 2 * max(map(_hole, sent)):
            holes.append(name_of(labels))
    return _told(
        {
            "series are missing": [*map(name_of, every - found.keys())],
            "series were not sent": [*map(name_of, found.keys() - every)],
            "series have samples of no replica": foreign,
            "series have more samples than a replica": many,
            "series have a hole": holes,
        }
    )


def _hole(values: Mapping[int, float]) -> int:
    """Return the longest time between two samples, in milliseconds."""
    times = sorted(values)
    return max((after - before for before, after in zip(times, times[1:])), default=0)


def apart(local: Answer, other: Answer, off: Iterable[str]) -> str:
    """Say in what a store's answer to a panel's query differs from the local one, or nothing.

    What is no number is not drawn. Of equal values topk() takes any, so of its answer only the
    values count.
    """
    if other.error or local.error:
        return "" if other.error and local.error else f"refused: {other.error or local.error}"
    mine, theirs = _by_labels(local.series, ()), _by_labels(other.series, off)
    if len(theirs) < len(other.series):
        return "two of its series have the same labels"
    mine, theirs = numbers(mine), numbers(theirs)
    if "topk(" in local.expr:
        mine, theirs = _ranks(mine), _ranks(theirs)
    if mine.keys() != theirs.keys():
        few = _few(map(name_of, mine.keys() ^ theirs.keys()))
        return f"{len(theirs)} series instead of {len(mine)}: {few}"
    points = [(mine[labels], theirs[labels]) for labels in mine]
    if any(one.keys() != two.keys() for one, two in points):
        absent = sum(len(one.keys() - two.keys()) for one, two in points)
        added = sum(len(two.keys() - one.keys()) for one, two in points)
        return f"{absent} points fewer and {added} more of {sum(len(one) for one, _two in points)}"
    pairs = [(one[at], two[at]) for one, two in points for at in one]
    # A difference of two sums can be small beside both: what the panel shows is the measure.
    scale = max((abs(one) for one, _two in pairs if math.isfinite(one)), default=0.0)
    wrong = [(one, two) for one, two in pairs if not same(one, two, ROUNDING, ROUNDING * scale)]
    if not wrong:
        return ""
    finite = [abs(two - one) / scale for one, two in wrong if scale and math.isfinite(two - one)]
    most = f", by {max(finite):.2g} of the largest at most" if finite else ""
    return f"{len(wrong)} of {len(pairs)} values differ{most}"


def _ranks(found: Samples) -> Samples:
    """Return the largest values of each time as one series, the second as another, and so on."""
    moments: dict[int, list[float]] = {}
    for values in found.values():
        for at, value in values.items():
            moments.setdefault(at, []).append(value)
    ranks: Samples = {}
    for at, values_then in moments.items():
        for rank, value in enumerate(sorted(values_then, reverse=True)):
            ranks.setdefault((("rank", str(rank)),), {})[at] = value
    return ranks


def _by_labels(series: Iterable[Series], off: Iterable[str]) -> Samples:
    return {
        labels_of(one.labels, off): {
            round(at * 1000): value for at, value in zip(one.times, one.values, strict=True)
        }
        for one in series
    }
