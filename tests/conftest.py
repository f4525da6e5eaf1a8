# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what tests of reliability did and found, for docs/reliability.md.

A test with the marker says what it does to the collection, and what must hold then:

    @pytest.mark.reliability("a bundle: {id}", "it is refused", times=100)

`{id}` stands for the test's parameters, or each by its name; `times` says how many inputs one
test makes itself.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests import reliability

MARKER = "reliability"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and record where tests are distributed from."""
    config.addinivalue_line(
        "markers", f"{MARKER}(tried, held, times=1): a row of docs/reliability.md"
    )
    config.addinivalue_line(
        "markers", "between: on a version of Prometheus that is neither the oldest nor the newest"
    )
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the test's report say what it is about, also to a process that distributes tests."""
    marker = item.get_closest_marker(MARKER)
    if marker:
        tried, held = marker.args
        given = getattr(item, "callspec", None)
        words = {**given.params, "id": given.id} if given else {}
        about = reliability.Row(tried.format(**words), held, marker.kwargs.get("times", 1))
        item.user_properties.append((MARKER, about._asdict()))


class Recorder:
    """What the tests of this session found."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's outcome."""
        about: Any = dict(report.user_properties).get(MARKER)
        if about and (report.when == "call" or report.failed):
            self.found[report.nodeid] = {**about, "passed": report.passed}

    def pytest_sessionfinish(self) -> None:
        """Add the outcomes to those of other sessions."""
        reliability.record(self.found)
