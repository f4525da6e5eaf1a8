# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that was cut off before any of its tasks is made whole by the next one.

Whole is what a host is that no run was cut off on: the same files with the same modes, and servers
that say the same of themselves. Grafana is a STAND-IN.
"""

from __future__ import annotations

import functools
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.faults.roles import PASSWORD, ROLES, WAYS, Host, Role
from tests.faults.watch import watched
from tests.lab.deployed import failures

RUNS = {False: "first run", True: "change"}
NOISY = {"ANSIBLE_VERBOSITY": "3", "ANSIBLE_DIFF_ALWAYS": "true"}


@dataclass
class Clean:
    """What a host is whose runs nobody cut off, after a first run and after a change."""

    role: Role
    tasks: dict[bool, list[str]] = field(default_factory=dict)
    state: dict[bool, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return for a role what is clean, found out once."""

    @functools.cache
    def find_out(name: str) -> Clean:
        found = Clean(ROLES[name](tmp_path_factory.mktemp(name)))
        with closing(Host("faults-clean", found.role)) as host:
            for changed in RUNS:
                with watched(host.container, PASSWORD) as seen:
                    status, output, found.tasks[changed] = host.counted(changed, **NOISY)
                assert status == 0, failures(output)
                found.told += [*seen, *(word for word in output.split() if PASSWORD in word)]
                found.state[changed] = host.state()
            found.told += host.run(f"journalctl --no-pager | grep {PASSWORD}").splitlines()
        return found

    return find_out


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cut off as often as asked for."""
    if "part" in metafunc.fixturenames:
        metafunc.parametrize("part", range(metafunc.config.getoption("boundaries")))


@pytest.mark.reliability(
    "{name}: a first run, then a change, cut off before a task (Ctrl-C, network or host gone)",
    "the next run leaves what a clean one leaves, the one after: nothing",
    times=2,
)
@pytest.mark.parametrize("name", ROLES)
def test_run_that_is_cut_off_is_made_whole_by_the_next(
    pytestconfig: pytest.Config, clean: Any, name: str, part: int
) -> None:
    known, parts = clean(name), pytestconfig.getoption("boundaries")
    with closing(Host("faults-cut", known.role)) as host:
        for changed, run in RUNS.items():
            tasks = known.tasks[changed]
            task = tasks[(2 * part + 1) * len(tasks) // (2 * parts)]
            way = list(WAYS)[(part + changed + list(ROLES).index(name)) % len(WAYS)]
            where = f"{name}: {run}, {way} before {task}"
            print(where)
            host.cut_off(changed, task.partition(" ")[0], way)
            wanted = host.role.change if changed else {}
            host.deploy(**wanted)
            assert host.state() == known.state[changed], where
            assert host.run("systemctl --failed --plain --no-legend") == "", where
            assert "changed=0" in host.deploy(**wanted), where


@pytest.mark.reliability(
    "{name}: a user without rights watches its deployment, its output and the journal are searched",
    "no secret is shown, nothing can be written",
)
@pytest.mark.parametrize("name", ROLES)
def test_deployment_tells_no_secret_and_lets_nobody_write(clean: Any, name: str) -> None:
    assert clean(name).told == []
