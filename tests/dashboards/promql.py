# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a PromQL expression."""

from __future__ import annotations

from collections.abc import Iterator

import promql_parser as pp

# What takes a fall for the restart of a counter.
RATES = {"rate", "irate", "increase"}
# How names of counters end; some of others do not say that they are.
COUNTERS = (
    "_total", "_sum", "_count", "_bucket",
    "ebpf_program_run_time_seconds", "node_netstat_Tcp_OutSegs",
    "node_netstat_TcpExt_ListenOverflows",
)  # fmt: skip
CHILDREN = ("expr", "param", "lhs", "rhs", "vector_selector")


def walk(node, above: tuple = ()) -> Iterator[tuple]:
    """Yield each part of a parsed expression with the parts around it, outermost first."""
    yield node, above
    children = [getattr(node, name, None) for name in CHILDREN]
    children += getattr(node, "args", None) or []
    for child in children:
        if child is not None:
            yield from walk(child, (*above, node))


def selectors(expr: str) -> Iterator[tuple[str, dict[str, str], tuple]]:
    """Yield name, matchers and surroundings of each selector."""
    for node, above in walk(pp.parse(expr)):
        if isinstance(node, pp.VectorSelector):
            matchers = {matcher.name: matcher.value for matcher in node.matchers.matchers}
            yield node.name or matchers["__name__"], matchers, above


def calls(above: tuple) -> set[str]:
    """Return the functions around a selector."""
    return {node.func.name for node in above if isinstance(node, pp.Call)}


def gauges_with_rates(expr: str) -> set[str]:
    """Return what an expression takes for a counter and is none by its name."""
    return {
        name
        for name, _, above in selectors(expr)
        if calls(above) & RATES and not name.endswith(COUNTERS)
    }


def _names_its_labels(node) -> bool | None:
    """Say whether all labels of an answer are named in its query; None of a number."""
    if isinstance(node, pp.AggregateExpr):
        return not node.modifier or "by" in str(node.modifier).split()
    if isinstance(node, pp.VectorSelector | pp.MatrixSelector | pp.SubqueryExpr):
        return False
    if isinstance(node, pp.BinaryExpr):
        left, right = _names_its_labels(node.lhs), _names_its_labels(node.rhs)
        return right if left is None else left
    below = [getattr(node, "expr", None), *(getattr(node, "args", None) or [])]
    said = [_names_its_labels(one) for one in below if one is not None]
    return next((one for one in said if one is not None), None)


def mismatched(expr: str) -> list[str]:
    """Return operations that match by all labels what names its labels with what does not.

    They match where both come from one Prometheus. What a store's own rules record can have more
    labels, which no sum has.
    """
    return [
        node.prettify()
        for node, _ in walk(pp.parse(expr))
        if isinstance(node, pp.BinaryExpr)
        and not (node.modifier and node.modifier.matching)
        and {_names_its_labels(node.lhs), _names_its_labels(node.rhs)} == {True, False}
    ]
