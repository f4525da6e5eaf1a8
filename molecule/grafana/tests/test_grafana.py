# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask the stand-in what is there after an installation, an upgrade and a switch of edition."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
import yaml

SCRATCH = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
OWN = "/etc/grafana/linmonitor"
SECRETS = yaml.safe_load((Path(__file__).parents[1] / "vars/secrets.yml").read_text())
GIVEN = SECRETS["admin_password"]
ASK = """
import sys, urllib.request as u
request = u.Request("http://127.0.0.1:3000" + sys.argv[1], headers={"Authorization": sys.argv[2]})
try:
    print(u.urlopen(request).read().decode())
except u.HTTPError as error:
    print(error.code)
"""


def ask(host, path: str, password: str = GIVEN) -> object:
    login = base64.b64encode(f"admin:{password}".encode()).decode()
    return json.loads(host.check_output("python3 -c %s %s %s", ASK, path, f"Basic {login}"))


def made_up(name: str) -> str:
    return (SCRATCH / "secrets/box" / name).read_text().strip()


def test_edition_and_channel_are_the_wanted_ones(host):
    assert host.package("grafana-enterprise").version == "13.3.0~beta1"
    assert not host.package("grafana").is_installed
    assert ask(host, "/api/health")["version"] == "13.3.0-beta1"


def test_service_runs_and_starts_at_boot(host):
    service = host.service("grafana-server")
    assert service.is_running
    assert service.is_enabled


def test_service_listens_on_loopback_only(host):
    assert host.check_output("ss -Hltn sport = :3000").split()[3] == "127.0.0.1:3000"


def test_given_password_works_and_the_made_up_one_no_more(host):
    assert ask(host, "/api/org")["id"] == 1
    assert ask(host, "/api/org", made_up("admin_password")) == 401


def test_dashboards_are_those_of_the_folder(host):
    assert [found["uid"] for found in ask(host, "/api/search?type=dash-db")] == ["test-fleet"]
    assert host.file(f"{OWN}/dashboards").listdir() == ["fleet.json"]


def test_datasource_is_pinned_and_default(host):
    (source,) = ask(host, "/api/datasources")
    assert (source["uid"], source["name"], source["isDefault"]) == (
        "linmonitor",
        "linmonitor",
        True,
    )
    assert source["url"] == "http://127.0.0.1:8041"


@pytest.mark.parametrize("came_from", ["grafana-12.4.0", "grafana-13.2.3"])
def test_database_was_backed_up_before_each_change(host, came_from):
    (backup,) = host.check_output(f"ls /var/backups/linmonitor-grafana/{came_from}-*.db").split()
    assert host.file(backup).mode == 0o600
    count = (
        "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone())"
    )
    query = "SELECT login FROM user"
    assert host.check_output("python3 -c %s %s %s", count, backup, query) == "admin"


@pytest.mark.parametrize("secret", ["admin_password", "secret_key"])
def test_secrets_are_kept_from_others(host, secret):
    file = host.file(f"{OWN}/{secret}")
    assert (file.user, file.group, file.mode) == ("root", "grafana", 0o640)
    kept = SCRATCH / "secrets/box" / secret
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700


def test_secret_key_survives_upgrade_and_switch(host):
    assert host.file(f"{OWN}/secret_key").content_string.strip() == made_up("secret_key")


def test_given_password_is_not_written_on_the_controller():
    assert made_up("admin_password") != GIVEN


def test_settings_are_kept_from_others(host):
    file = host.file("/etc/grafana/grafana.ini")
    assert (file.user, file.group, file.mode) == ("root", "grafana", 0o640)
    assert SECRETS["smtp_password"] in file.content_string


def test_no_secret_was_ever_shown():
    log = (SCRATCH / "ansible.log").read_text()
    assert "Switch edition and channel" in log
    for secret in (*SECRETS.values(), made_up("admin_password"), made_up("secret_key")):
        assert secret not in log
        assert base64.b64encode(secret.encode()).decode().rstrip("=")[:-1] not in log


def test_repository_is_bound_to_its_key(host):
    fingerprint = json.loads((SCRATCH / "repositories/keys.json").read_text())["stable"]
    sources = host.file("/etc/apt/sources.list.d/linmonitor-grafana.sources").content_string
    assert "Suites: beta\n" in sources
    assert f"Signed-By: /etc/apt/keyrings/linmonitor-grafana.asc {fingerprint}\n" in sources


def test_pin_is_gone_where_no_version_is_asked_for(host):
    assert not host.file("/etc/apt/preferences.d/linmonitor-grafana").exists


def test_nothing_is_left_of_attempts(host):
    assert host.check_output("find /etc/grafana -name '*~'") == ""
    assert host.check_output("find /var/lib/linmonitor -name '*.tar*'") == ""
    assert len(host.file("/var/backups/linmonitor-grafana").listdir()) == 2
    assert host.check_output("find /var/cache/apt/archives -name 'linmonitor-*'") == ""
