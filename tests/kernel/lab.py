# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every case needs: exporters before and after, and rows to compare."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from . import net
from .exporter import SKIPPED, Exporter, Metrics

# What a result says until its run is over.
UNFINISHED = "did not finish"


class NotHere(Exception):
    """This kernel lacks what a case needs; the message says what."""


@dataclass(frozen=True)
class Row:
    """One line of the accuracy table."""

    metric: str
    case: str
    variant: str
    truth: float
    measured: float
    allowed: float
    is_timing: bool
    skipped: float = 0

    @property
    def passed(self) -> bool:
        """Say whether the measured value is close enough."""
        # Runs that the kernel skipped, by its own count, can only be missing.
        low = self.truth - self.allowed - self.skipped
        return low <= self.measured <= self.truth + self.allowed

    def as_dict(self) -> dict:
        """Return the row for JSON."""
        return {**asdict(self), "passed": self.passed}


def proves(*metrics: str) -> Callable:
    """Mark a case with the metrics that it compares with a truth; the gate reads them."""

    def mark(case: Callable) -> Callable:
        case.proves = metrics  # type: ignore[attr-defined]
        return case

    return mark


def at_once(work: Callable, arguments: list[tuple]) -> None:
    """Run a workload in one process for each set of arguments."""
    workers = [multiprocessing.Process(target=work, args=those) for those in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


class Lab:
    """The exporters under test and the rows so far."""

    def __init__(self, artifact: Path, exporters: list[Exporter], live: bool) -> None:
        """Collect rows for these exporters of an artifact; live means a machine in use."""
        self.artifact, self.exporters, self.live = artifact, exporters, live
        self.rows: list[Row] = []
        self.deltas: list[tuple[Exporter, Metrics]] = []
        # Connections that others on this machine accepted while it was measured.
        self.others = 0

    @contextmanager
    def measured(self, settle: float = 0.3) -> Iterator[None]:
        """Run a workload between two scrapes; what a program publishes late is in them."""
        time.sleep(settle)
        before = [exporter.metrics() for exporter in self.exporters]
        accepted = net.accepted_by_others() if self.live else 0
        yield
        time.sleep(settle)
        self.others += net.accepted_by_others() - accepted if self.live else 0
        self.deltas = [
            (exporter, exporter.metrics() - old)
            for exporter, old in zip(self.exporters, before, strict=True)
        ]

    def check(
        self,
        config: str,
        metric: str,
        case: str,
        truth: float,
        read: Callable[[Metrics], float],
        *,
        allowed: float = 0,
        relative: float = 0,
        may_skip: bool = False,
    ) -> None:
        """Compare a truth with what each exporter that runs the config measured.

        With may_skip those events may be missing for which the kernel skipped a program.
        """
        for exporter, delta in self.deltas:
            if config in exporter.variants:
                self.rows.append(
                    Row(
                        metric=metric,
                        case=case,
                        variant=exporter.variants[config],
                        truth=truth,
                        measured=read(delta),
                        # Seven digits: sums pass through floating point.
                        allowed=max(allowed, truth * max(relative, 1e-7)),
                        is_timing=relative > 0,
                        skipped=delta.total(SKIPPED, config=config) if may_skip else 0,
                    )
                )
