# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad variables and dashboards are refused on the controller; settings are written as meant."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.filter.grafana import (
    bundled_package,
    changed_dashboards,
    dashboards,
    headers,
)
from role_play import CHECKOUT, play

ROLE = CHECKOUT / "roles/grafana"
GOOD = {"uid": "a", "title": "A"}
# What is set, and words of the one fault that must come of it.
CASES: dict[str, tuple[dict, str]] = {
    "nothing": ({}, ""),
    "version": ({"grafana_version": "latest please"}, "neither a version"),
    "security release": ({"grafana_version": "12.0.1+security~01"}, ""),
    "fingerprint": ({"grafana_apt_key_fingerprint": "B53A"}, "not 40 hexadecimal"),
    "absent key": ({"grafana_apt_key": "/absent"}, "no file /absent (grafana_apt_key)"),
    "absent package": ({"grafana_deb": "/absent"}, "no file /absent (grafana_deb)"),
    "package alone": ({"grafana_deb": str(ROLE / "meta/main.yml")}, "grafana_deb_sha256"),
    "port": ({"grafana_listen_address": "127.0.0.1"}, "not an address and a port"),
    "low port": ({"grafana_listen_address": "127.0.0.1:80"}, "from 1024 to 65535"),
    "open listener": ({"grafana_listen_address": "0.0.0.0:3000"}, "beyond loopback"),
    "TLS listener": (
        {"grafana_listen_address": "[::]:3000", "grafana_tls_cert": "/c", "grafana_tls_key": "/k"},
        "",
    ),
    "half of TLS": ({"grafana_tls_key": "/k"}, "go together"),
    "short password": ({"grafana_admin_password": "secret"}, "at least eight characters"),
    "two lines": ({"grafana_admin_password": "hunter22\nhunter22"}, "one line"),
    "blank at the end": ({"grafana_admin_password": "hunter22 "}, "without blanks at its ends"),
    "characters of ini": ({"grafana_admin_password": "vault;d#\"$x`%(a)s'"}, ""),
    "short secret key": ({"grafana_secret_key": "hunter22"}, "at least sixteen"),
    "user alone": ({"grafana_prometheus_user": "reader"}, "go together"),
    "absent authority": ({"grafana_prometheus_ca": "/absent"}, "grafana_prometheus_ca"),
    "address": ({"grafana_prometheus_url": "localhost:9090"}, "not an http address"),
    "interval": ({"grafana_scrape_interval": "often"}, "not a time such as 15s"),
    "no dashboards": ({"grafana_dashboards_dir": "/absent"}, "holds no dashboard: /absent"),
    "flat ini": ({"grafana_ini": {"http_port": 80}}, "one-line settings by section"),
    "two lines of ini": ({"grafana_ini": {"smtp": {"host": "a\nb"}}}, "one-line settings"),
    "password in ini": ({"grafana_ini": {"security": {"admin_password": "x"}}}, "cannot set"),
}
INI = {"smtp": {"password": "a;b#c", "enabled": True}, "users": {"allow_sign_up": True}}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> Path:
    """Let Ansible itself judge every case, in one run; return the folder of its answers."""
    scratch = tmp_path_factory.mktemp("grafana")
    (scratch / "dashboards").mkdir()
    (scratch / "dashboards/a.json").write_text(json.dumps(GOOD))
    common: dict[str, object] = {
        "role_path": str(ROLE),
        "grafana_dashboards_dir": str(scratch / "dashboards"),
    }
    common["__grafana_adopted"] = False
    answers = "{{ answers | default({}) | combine({case: __grafana_faults}) }}"
    tasks: list[dict] = [
        {"ansible.builtin.set_fact": {"answers": answers}, "vars": common | given | {"case": name}}
        for name, (given, _) in CASES.items()
    ]
    written = {"content": "{{ answers | to_json }}", "dest": f"{scratch}/answers.json"}
    tasks.append({"ansible.builtin.copy": written})
    template = {
        "src": str(CHECKOUT / "templates/grafana/grafana.ini.j2"),
        "dest": f"{scratch}/grafana.ini",
    }
    tasks.append({"ansible.builtin.template": template, "vars": common | {"grafana_ini": INI}})
    play(scratch, ("grafana",), tasks)
    return scratch


@pytest.mark.parametrize("name", CASES)
def test_variables(evaluated, name):
    expected = CASES[name][1]
    faults = json.loads((evaluated / "answers.json").read_text())[name]
    assert len(faults) == bool(expected), faults
    assert all(expected in fault for fault in faults)


def test_no_secret_is_part_of_a_sentence(evaluated):
    assert "hunter22" not in (evaluated / "answers.json").read_text()


def test_settings_are_written_as_meant(evaluated):
    ini = configparser.RawConfigParser()
    ini.read(evaluated / "grafana.ini")
    assert ini["server"]["http_addr"] == "127.0.0.1"
    assert ini["server"]["http_port"] == "3000"
    assert ini["users"]["allow_sign_up"] == "true"
    assert ini["smtp"]["enabled"] == "true"
    assert ini["smtp"]["password"] == '"""a;b#c"""'
    assert ini["auth.anonymous"]["enabled"] == "false"
    assert ini["analytics"]["reporting_enabled"] == "false"
    assert ini["security"]["admin_password"] == "$__file{/etc/grafana/linmonitor/admin_password}"


@pytest.mark.parametrize(
    ("files", "fault"),
    [
        ({"a": "{"}, "a.json is not valid JSON"),
        ({"a": "[]"}, "holds no JSON object"),
        ({"a": {"uid": "a"}}, "a.json has no title"),
        ({"a": {"title": "A"}}, "a.json has no uid"),
        ({"a": GOOD | {"elements": {}}}, "v2 schema"),
        ({"a": {"kind": "Dashboard", "spec": GOOD}}, "v2 schema"),
        ({"a": GOOD, "b": {"uid": "a", "title": "B"}}, "a.json and b.json have the same uid 'a'"),
        ({"a": GOOD, "b": {"uid": "b", "title": "A"}}, "have the same title 'A'"),
        ({"a": GOOD, "b": {"uid": "b", "title": "B"}}, ""),
    ],
)
def test_dashboards(tmp_path, files, fault):
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / f"{name}.json").write_text(text)
    faults = {seen["fault"] for seen in dashboards(str(tmp_path))} - {""}
    assert len(faults) == bool(fault)
    assert all(fault in found for found in faults)


def test_dashboards_that_the_host_has_are_not_written(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.json").write_text(json.dumps({"uid": name, "title": name}))
    found = dashboards(str(tmp_path))
    there = [{"path": f"/d/{seen['file']}", "checksum": seen["checksum"]} for seen in found]
    assert changed_dashboards(found, there, "/d", "g") == []
    # The right content under another name is not enough.
    there[0]["path"], there[1]["path"] = there[1]["path"], there[0]["path"]
    written = changed_dashboards(found, there, "/d", "g")
    assert [json.loads(file["content"])["uid"] for file in written] == ["a", "b"]
    assert {file["group"] for file in written} == {"g"}


def test_dashboards_of_the_collection_are_good():
    found = dashboards(str(CHECKOUT / "files/dashboards"))
    assert found
    assert not [seen["fault"] for seen in found if seen["fault"]]


NEWEST = "grafana/oss-stable-newest-x86_64/grafana_13.2.3_amd64.deb"
PINNED = "grafana/enterprise-beta-13.3.0~beta1-aarch64/grafana-enterprise_13.3.0~beta1_arm64.deb"
BUNDLED = {name: {"path": f"/cache/{name}", "sha256": "a" * 64} for name in (NEWEST, PINNED)}
OWN = {"grafana_deb": "/own.deb", "grafana_deb_sha256": "b" * 64, "grafana_version": "12.0.0"}


@pytest.mark.parametrize(
    ("variables", "path", "version"),
    [
        ({}, f"/cache/{NEWEST}", "13.2.3"),
        ({"grafana_version": "newest"}, f"/cache/{NEWEST}", "13.2.3"),
        (
            {
                "grafana_edition": "enterprise",
                "grafana_channel": "beta",
                "grafana_version": "13.3.0~beta1",
                "grafana_architecture": "aarch64",
            },
            f"/cache/{PINNED}",
            "13.3.0~beta1",
        ),
        # What the bundle lacks is asked of the repository, as without a bundle.
        ({"grafana_version": "12.4.0"}, "", "12.4.0"),
        ({"grafana_edition": "enterprise"}, "", ""),
        (OWN, "/own.deb", "12.0.0"),
    ],
)
def test_package_of_the_bundle_is_taken_unless_the_inventory_names_one(variables, path, version):
    found = bundled_package(variables, BUNDLED)
    assert (found["path"], found["version"]) == (path, version)
    assert found["sha256"] == {"": "", "/own.deb": "b" * 64}.get(path, "a" * 64)


def test_without_a_bundle_the_inventory_decides():
    assert bundled_package({}, {}) == {"path": "", "sha256": "", "version": ""}


def test_headers_are_numbered_and_their_values_secret():
    found = headers({"X-Scope-OrgID": "team-a", "X-Key": "a$b"})
    assert found["jsonData"] == {
        "httpHeaderName1": "X-Scope-OrgID",
        "httpHeaderName2": "X-Key",
    }
    assert found["secureJsonData"] == {"httpHeaderValue1": "team-a", "httpHeaderValue2": "a$$b"}
    assert headers({}) == {"jsonData": {}, "secureJsonData": {}}
