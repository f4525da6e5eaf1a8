# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Prometheus' archive comes from, and what is said where there is none."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import go, prometheus
from tests.lab.hosts import CHECKOUT, LabError

CONTENT = b"an archive"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
GOOD = {"prometheus_archive": "{folder}/handed-in.tar.gz", "prometheus_archive_sha256": DIGEST}
CASES = {
    "handed in": GOOD,
    "again": GOOD,
    "gone, and in the cache": GOOD | {"prometheus_archive": "{folder}/absent"},
    "gone": GOOD | {"prometheus_archive": "{folder}/absent", "linmonitor_cache": "{folder}/empty"},
    "another": GOOD | {"prometheus_archive_sha256": "0" * 64},
    "no release": {"prometheus_release_url": "file:///absent"},
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, Any]:
    """Return what the role found or said, per case, from one run on this machine."""
    folder = tmp_path_factory.mktemp("archive")
    (folder / "handed-in.tar.gz").write_bytes(CONTENT)
    tasks = [
        {
            "vars": {"linmonitor_cache": f"{folder}/cache"}
            | {name: value.format(folder=folder) for name, value in variables.items()},
            "block": [
                {
                    "ansible.builtin.include_role": {
                        "name": "linmonitor.stack.prometheus",
                        "tasks_from": "archive",
                    }
                }
            ],
            "rescue": [
                {
                    "ansible.builtin.copy": {
                        "content": "{{ ansible_failed_result.msg }}",
                        "dest": f"{folder}/{case}.said",
                    }
                }
            ],
        }
        for case, variables in CASES.items()
    ]
    interpreter = {"ansible_python_interpreter": sys.executable}
    play = {"hosts": "localhost", "gather_facts": False, "vars": interpreter, "tasks": tasks}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", "localhost,", "-c", "local", str(folder / "play.yml")],
        cwd=CHECKOUT, env=os.environ | {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = {path.stem: path.read_text() for path in folder.glob("*.said")}
    return {"said": said, "cached": sorted((folder / "cache").rglob("*.tar.gz"))}


def test_an_archive_that_was_handed_in_is_kept_by_its_content(answers):
    (kept,) = answers["cached"]
    assert kept.parent.name == f"2.37.8-{DIGEST[:16]}"
    assert kept.read_bytes() == CONTENT


def test_what_the_cache_has_need_not_lie_at_its_path(answers):
    assert set(answers["said"]) == {"gone", "another", "no release"}
    assert "of no file" in answers["said"]["gone"]


def test_another_archive_is_refused_with_both_hashes(answers):
    assert DIGEST in answers["said"]["another"]
    assert "0" * 64 in answers["said"]["another"]


def test_where_no_release_answers_the_ways_out_are_named(answers):
    for way in ("prometheus_archive", "prometheus_release_url", "`make prometheus-archive`"):
        assert way in answers["said"]["no release"]
    assert "\nprometheus-archive:" in (CHECKOUT / "Makefile").read_text()


def test_a_proxy_with_other_bytes_is_refused(monkeypatch, tmp_path):
    answer = json.dumps({"Sum": "h1:other", "Dir": "/absent"})
    monkeypatch.setattr(go, "go", lambda *_arguments: answer)
    with pytest.raises(LabError, match="h1:other, pinned is h1:OHPM"):
        prometheus.compiled("2.37.8", tmp_path)


def test_without_a_compiler_it_says_how_to_have_one(monkeypatch):
    monkeypatch.setattr(go.shutil, "which", lambda _name: None)
    monkeypatch.setattr(go.os, "geteuid", lambda: 1000)
    with pytest.raises(LabError, match=r"sudo .*packages/install golang-go"):
        go.require()
    assert Path(CHECKOUT / "tests/lab/packages/install").is_file()
