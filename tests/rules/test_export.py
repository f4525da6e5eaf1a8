# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""playbooks/export.yml writes what another Prometheus takes, and only ever removes its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dashboards import rules
from tests.lab.prometheus import tool

LISTED = "linmonitor-files.txt"


def export(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the playbook for the example of a fleet, whose hosts nobody contacts."""
    return subprocess.run(
        [
            Path(sys.executable).with_name("ansible-playbook"),
            "-i", "inventories/fleet", "playbooks/export.yml",
            "-e", f"linmonitor_export_dir={folder}", *arguments,
        ],
        env=os.environ | {"ANSIBLE_CONFIG": str(rules.ROOT / "ansible.cfg")},
        cwd=rules.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("their") / "linmonitor"
    settings = {
        "prometheus_export_dir": str(folder),
        "prometheus_alerts": {"DiskLatencyP99High": {"threshold": 0.777}},
    }
    folder.mkdir()
    (folder / "rules").mkdir()
    # Of an earlier run, and of somebody else.
    (folder / LISTED).write_text("rules/earlier.yml\n")
    for name in ("earlier", "theirs"):
        (folder / f"rules/{name}.yml").write_text("groups: []\n")
    done = export(folder, "-e", json.dumps(settings))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_promtool_takes_it_all(exported):
    configuration = yaml.safe_load((exported / "linmonitor-scrape.yml").read_text())
    configuration["rule_files"] = [f"{exported}/rules/*.yml"]
    (exported.parent / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    command = [tool("promtool"), "check", "config", exported.parent / "prometheus.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules/linmonitor-alerts.yml" in done.stdout


def test_targets_are_those_of_the_inventory_and_alerts_have_their_settings(exported):
    targets = json.loads((exported / "targets/linmonitor.json").read_text())
    assert [target["labels"]["instance"] for target in targets] == [
        "db1.example.com",
        "web1.example.com",
    ]
    alerts = (exported / "rules/linmonitor-alerts.yml").read_text()
    assert "vector(0.777)" in alerts
    assert "Watchdog" not in alerts


def test_dashboards_are_those_that_ship(exported):
    for path in (rules.ROOT / "files/dashboards").glob("*.json"):
        assert (exported / "dashboards" / path.name).read_text() == path.read_text()


def test_what_is_not_ours_any_more_goes_and_what_never_was_stays(exported):
    listed = set((exported / LISTED).read_text().split())
    assert files(exported) == listed | {LISTED, "rules/theirs.yml"}


def test_a_file_that_is_not_ours_is_not_overwritten(tmp_path):
    (tmp_path / "linmonitor-scrape.yml").write_text("theirs\n")
    done = export(tmp_path)
    assert done.returncode != 0
    assert "is there and not ours" in " ".join(done.stdout.split())
    assert files(tmp_path) == {"linmonitor-scrape.yml"}
