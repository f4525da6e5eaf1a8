# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The few calls of Prometheus' HTTP API that are needed here."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit
from urllib.request import Request, urlopen


@dataclass(frozen=True)
class Series:
    """One series: labels, and values by time; times are seconds since the epoch."""

    labels: dict[str, str]
    times: list[float]
    values: list[float]


@dataclass(frozen=True)
class Window:
    """A range of time, and how far apart its points are."""

    start: float
    end: float
    step: float

    @classmethod
    def last(cls, minutes: float, points: int = 120) -> Window:
        """Return the last `minutes`, in about `points` steps of whole seconds."""
        end = time.time()
        return cls(end - 60 * minutes, end, max(1, round(60 * minutes / points)))


class Prometheus:
    """A Prometheus server at a URL that may hold user and password."""

    def __init__(self, url: str) -> None:
        """Split user and password off `url`, for they belong into a header."""
        parts = urlsplit(url)
        self._base = urlunsplit(
            (parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", "")
        )
        self._headers = {}
        if parts.username:
            secret = base64.b64encode(f"{parts.username}:{parts.password or ''}".encode())
            self._headers["Authorization"] = f"Basic {secret.decode()}"

    def get(self, path: str, **parameters: object) -> Any:
        """Return the data of an API call; HTTP errors carry Prometheus' own words."""
        url = f"{self._base}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(Request(url, headers=self._headers), timeout=120) as answer:
            return json.load(answer)["data"]

    def instant(self, expr: str, at: float) -> list[Series]:
        """Return the value of each series of `expr` at one moment."""
        data = self.get("query", query=expr, time=at)
        return [
            Series(one["metric"], [float(one["value"][0])], [float(one["value"][1])])
            for one in data["result"]
        ]

    def range(self, expr: str, window: Window) -> list[Series]:
        """Return the values of each series of `expr` over time."""
        data = self.get(
            "query_range", query=expr, start=window.start, end=window.end, step=window.step
        )
        return [
            Series(
                one["metric"],
                [float(moment) for moment, _ in one["values"]],
                [float(value) for _, value in one["values"]],
            )
            for one in data["result"]
        ]

    def rules(self) -> list[dict]:
        """Return all rules with their health."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]
