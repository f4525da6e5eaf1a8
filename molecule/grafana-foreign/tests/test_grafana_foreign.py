# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""After all comparisons: the stranger's Grafana runs, and no secret was shown."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
SECRETS = yaml.safe_load((Path(__file__).parents[1] / "vars/secrets.yml").read_text())


def test_service_of_the_stranger_runs_and_starts_at_boot(host):
    service = host.service("grafana-server")
    assert service.is_running
    assert service.is_enabled


def test_state_that_was_compared_is_a_whole_one(host):
    seen = (SCRATCH / f"{host.backend.get_hostname()}.before").read_text()
    for part in ("/etc/grafana/grafana.ini ", "monitoring.list", "enabled", "Theirs"):
        assert part in seen
    (user,) = (line for line in seen.splitlines() if line.startswith("user "))
    assert " admin " in user


def test_no_secret_was_ever_shown():
    log = (SCRATCH / "ansible.log").read_text()
    assert "Hand a Grafana over" in log
    # Changed, and shown as that.
    assert "[smtp] password = (hidden)" in log
    assert "[smtp] host = (hidden)" in log
    for secret in (*SECRETS.values(), "theirs-alone"):
        assert secret not in log
