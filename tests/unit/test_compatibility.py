# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of compatibility says what ran and why the rest did not, and claims no more."""

from __future__ import annotations

import re
from pathlib import Path
from unittest import mock

import pytest
import yaml
from ansible_collections.linmonitor.stack.plugins.module_utils._host import WANTED

from tests.compatibility import bare, controllers, jobs, results
from tests.lab import ubuntu

CHECKOUT = Path(__file__).parents[2]
ALL = dict.fromkeys(jobs.JOBS, results.PASSED)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(results, "CACHE", tmp_path)
    monkeypatch.setattr(results, "PAGE", tmp_path / "page.md")
    results.PAGE.touch()
    return tmp_path


def test_a_cell_passed_if_every_job_did(cache):
    results.write("2.16-bullseye", {"jobs": ALL})
    assert results.passed(results.read("2.16-bullseye"))
    for jobs_ in ({}, {**ALL, "uninstall": "left a file"}, dict([*ALL.items()][:-1])):
        assert not results.passed({"jobs": jobs_})


def test_the_page_says_what_became_of_a_cell_and_why(cache):
    ran = {"date": "2026-01-02", "commit": "abc"}
    results.write("2.16-bullseye", ran | {"jobs": ALL, "core": "2.16.9"})
    results.write("2.17-noble", ran | {"jobs": {"preflight": "a | fault\nof two lines"}})
    results.write("2.21-jammy", ran | {"not_run": "no Python 3.12 on this machine"})
    page = results.render()
    assert re.search(r"^\| Debian 11 \(bullseye\) \| passed \| not run \|", page, re.M)
    assert "| 2.16.9 |  | Debian 11 |  | 2026-01-02 | abc | passed |\n" in page
    assert "| failed: preflight: a \\| fault of two lines |\n" in page
    assert "| not run: no Python 3.12 on this machine |\n" in page
    assert page.count("2026-01-02") == 3
    verbs = dict.fromkeys(bare.VERBS, results.PASSED)
    results.write("bare-trixie", ran | {"jobs": verbs, "core": "2.19.9", "python": "3.13.5"})
    results.write("2.19-trixie", ran | {"jobs": ALL, "core": "2.19.9"})
    page = results.render()
    of_hosts, _, of_controllers = page.partition(results.HEADING)
    assert "| 2.19.9 |  | Debian 13 |  | 2026-01-02 | abc | passed |\n" in of_hosts
    assert "| 2.19.9 | 3.13.5 | Debian 13 |  | 2026-01-02 | abc | passed |\n" in of_controllers
    # What ran on another machine stays on the page.
    results.PAGE.write_text(page)
    for cell in results.CELLS:
        results.file(cell).unlink(missing_ok=True)
    assert results.render() == page
    results.write("2.16-bullseye", ran | {"jobs": {"preflight": "no"}, "core": "2.16.9"})
    assert "Debian 11 |  | 2026-01-02 | abc | passed |" not in results.render()


def test_the_diagonal_has_the_oldest_the_newest_and_an_ubuntu():
    cores, suites = [*controllers.CORES], [*results.TARGETS]
    assert results.DIAGONAL[0] == f"{cores[0]}-{suites[0]}"
    assert results.DIAGONAL[-1].startswith(f"{cores[-1]}-")
    assert any(one.split("-")[1] in ubuntu.SUITES for one in results.DIAGONAL)
    assert set(results.DIAGONAL) < set(results.INSIDE)
    assert len(results.INSIDE) == len(set(results.INSIDE)) == len(cores) * len(suites)


def claimed() -> dict[str, set[str]]:
    """Return on which suites each core passed, as the committed page says."""
    head, *rows = re.findall(r"^\| (?:host|.* \(\w+\)) \|.*\|$", results.PAGE.read_text(), re.M)
    cores = re.findall(r"core ([\d.]+)", head)
    found: dict[str, set[str]] = {core: set() for core in cores}
    for row in rows:
        suite = re.findall(r"\((\w+)\)", row)[0]
        cells = [cell.strip() for cell in row.split("|")[2:-1]]
        for core, said in zip(cores, cells, strict=True):
            if said == results.PASSED:
                found[core].add(suite)
    return found


def test_nothing_claims_more_than_what_passed():
    ran = claimed()
    oldest = next(core for core in ran if ran[core])
    passed = [suite for suite in results.TARGETS if suite in set().union(*ran.values())]
    runtime = yaml.safe_load((CHECKOUT / "meta/runtime.yml").read_text())
    assert runtime["requires_ansible"] == f">={oldest}.0"
    assert f"ansible-core {oldest} or newer" in (CHECKOUT / "README.md").read_text()
    for meta in CHECKOUT.glob("roles/*/meta/main.yml"):
        info = yaml.safe_load(meta.read_text())["galaxy_info"]
        assert info["min_ansible_version"] == oldest
        suites = {suite for one in info["platforms"] for suite in one["versions"]}
        assert suites <= {*passed}
    systems = [results.TARGETS[suite] for suite in passed]
    for name in ("Debian", "Ubuntu"):
        first = next(system for system in systems if system.startswith(name))
        assert first.replace(" ", " from ") in WANTED


@pytest.mark.parametrize(
    ("cell", "tried"),
    [("2.16-noble", jobs.JOBS), ("2.16-bionic", jobs.REFUSALS), ("bare-noble", bare.VERBS)],
)
def test_each_kind_of_cell_has_its_own_jobs(cell, tried):
    assert cell in results.CELLS and results.jobs_of(cell) is tried


def test_a_clean_that_leaves_a_server_running_is_told():
    running = mock.Mock(ask=mock.Mock(return_value="inactive\nactive\n"))
    with pytest.raises(jobs.JobError, match="exporter and Prometheus are"):
        bare.clean(running)


def test_a_python_that_cannot_make_environments_is_passed_over(monkeypatch, tmp_path):
    for name, code in (("broken", 1), ("whole", 0)):
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    found = {"3.10": ["broken", "nosuch"], "3.12": ["whole"]}
    monkeypatch.setattr(
        controllers, "programs", lambda one: [str(tmp_path / n) for n in found.get(one, [])]
    )
    assert controllers.python("2.16") == str(tmp_path / "whole")
    with pytest.raises(controllers.NoController, match=r"no Python 3\.12, 3\.13, 3\.14"):
        monkeypatch.setattr(controllers, "programs", lambda _one: [])
        controllers.python("2.21")


def test_a_failure_is_said_in_the_words_of_the_module():
    said = 'fatal: [box]: FAILED! => {"changed": false, "msg": "box has no room"}'
    assert jobs.failure(said) == "box has no room"
    said = r'fatal: [box]: FAILED! => {"msg": "templating \"{{ a }}\": no file", "rc": 1}'
    assert jobs.failure(said) == r"templating \"{{ a }}\": no file"
    assert jobs.changed("box : ok=3 changed=2\nother : ok=1 changed=1") == 3


@pytest.mark.parametrize(
    ("status", "said", "files", "fault"),
    [
        (2, f"This needs {WANTED}, with systemd", ["/a 1", "/a 1"], None),
        (2, f"this host lacks {WANTED} (it", ["/a 1", "/a 1"], None),
        (0, f"This needs {WANTED}", ["/a 1", "/a 1"], "preflight ended with 0"),
        (2, "MODULE FAILURE", ["/a 1", "/a 1"], "preflight ended with 2: MODULE FAILURE"),
        (2, f"This needs {WANTED}", ["/a 1", "/a 1\n/b 2"], "changed /b 2"),
    ],
)
def test_a_host_is_refused_if_it_is_told_so_and_stays_as_it_was(status, said, files, fault):
    cell = mock.Mock(run=mock.Mock(return_value=(status, said)), ask=mock.Mock(side_effect=files))
    if fault is None:
        jobs.refused(cell)
    else:
        with pytest.raises(jobs.JobError, match=fault):
            jobs.refused(cell)
