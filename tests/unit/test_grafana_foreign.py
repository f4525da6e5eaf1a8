# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of somebody else's Grafana is read, and what of settings is shown."""

from __future__ import annotations

import base64
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.filter.grafana import (
    apt_signed_by,
    claims,
    provisioned_datasources,
    settings_diff,
    untouched_samples,
)
from ansible_collections.linmonitor.stack.plugins.module_utils import _grafana
from ansible_collections.linmonitor.stack.plugins.modules import grafana_info

URL = "https://apt.grafana.com"
INLINE = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQINBF\n -----END PGP PUBLIC KEY BLOCK-----"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"deb [signed-by=/k/a.gpg] {URL} stable main", "/k/a.gpg"),
        (f"# by hand\ndeb [arch=amd64 signed-by=/k/a.gpg] {URL}/ stable main\n", "/k/a.gpg"),
        (f"deb [arch=amd64] {URL} stable main", ""),
        (f"deb {URL} stable main", ""),
        ("deb [signed-by=/k/a.gpg] https://other.example stable main", ""),
        (f"Types: deb\nURIs: {URL}\nSuites: stable\nSigned-By: /k/a.asc\n", "/k/a.asc"),
        (f"URIs: https://a.example\nSigned-By: /no\n\nURIs: {URL}/\nsigned-by: /k/b\n", "/k/b"),
        (f"URIs: {URL}\n# no Signed-By: /k/a\nSuites: stable\n", ""),
        (f"URIs: {URL}\nSigned-By:\n {INLINE}\nSuites: stable\n", INLINE.replace("\n .", "\n")),
    ],
)
def test_key_of_an_entry_of_apt(text, named):
    found = apt_signed_by(["deb http://deb.example bookworm main\n", text], URL)
    assert found == named.replace("\n ", "\n")


def files(*texts: str) -> dict[str, str]:
    named = {f"/p/{number}.yaml": text for number, text in enumerate(texts)}
    unseen = {"/p/linmonitor.yml": "datasources: [{name: linmonitor, isDefault: true}]"}
    unseen["/etc/grafana.ini"] = "datasources: [{name: B, isDefault: true}]"
    return {
        path: base64.b64encode(text.encode()).decode() for path, text in (unseen | named).items()
    }


@pytest.mark.parametrize(
    ("text", "default", "ours"),
    [
        ("datasources: [{name: A, isDefault: true}]", True, False),
        ("datasources:\n  - name: A\n    isDefault: yes\n", True, False),
        ("datasources: [{name: A, isDefault: $DEFAULT}]", True, False),
        ("datasources: [{name: A, isDefault: false}]", False, False),
        ("datasources: [{name: A}]", False, False),
        ("# isDefault: true\ndatasources: []", False, False),
        ("datasources: [{name: A, isDefault: true, orgId: 2}]", False, False),
        ("datasources: [{name: linmonitor}]", False, True),
        ("datasources: [{name: A, uid: linmonitor}]", False, True),
        ("datasources: [", False, False),
        ("- a", False, False),
        ("", False, False),
    ],
)
def test_datasources_of_others(text, default, ours):
    found = provisioned_datasources(files("", text), "/p")
    assert any(source["default"] for source in found) == default
    assert [source["where"] for source in found if source["claims"]] == (
        [f"{found[0]['where'].split(' in ')[0]} in /p/1.yaml"] if ours else []
    )


@pytest.mark.parametrize(
    ("name", "uid", "read_only", "org", "ours"),
    [
        ("linmonitor", "linmonitor", True, 1, True),
        ("linmonitor", "linmonitor", False, 1, False),
        ("A", "linmonitor", True, 1, False),
        ("linmonitor", "a", False, 1, False),
        ("linmonitor", "linmonitor", False, 2, True),
        ("A", "a", False, 1, True),
    ],
)
def test_datasources_of_the_database_that_are_not_ours(name, uid, read_only, org, ours):
    source = {"name": name, "uid": uid, "read_only": read_only, "org_id": org, "is_default": False}
    assert bool(claims([source])) is not ours


def test_samples_that_somebody_changed_are_kept():
    texts = {
        "/etc/a": "[servers]\n",
        "/share/a": "[servers]\n",
        "/etc/b": "[servers]\nmine\n",
        "/share/b": "[servers]\n",
        "/etc/older": "# sample\n\n  # of an older version\n",
        "/share/older": "# sample\n",
        "/etc/mine": "mine\n",
    }
    contents = {path: base64.b64encode(text.encode()).decode() for path, text in texts.items()}
    assert untouched_samples(contents, "/etc", "/share") == ["/etc/a", "/etc/older"]


SECRETS = {
    "smtp": {"password": "hunter-1", "user": "hunter-2"},
    "auth.generic_oauth": {"client_secret": "hunter-3", "client_id": "hunter-4"},
    "database": {"url": "postgres://a:hunter-5@db/grafana", "password": '"""hunter;6#"""'},
    "remote_cache": {"connstr": "addr=a:6379,password=hunter-7"},
    "rendering": {"renderer_token": "hunter-8"},
    "auth.proxy": {"headers": "hunter-9"},
    "plugin.a": {"whatever": "hunter-10"},
    "metrics": {"basic_auth_password": "12345678"},
    "server": {"domain": "https://a:hunter-11@example.com", "http_port": "3001"},
    "log": {"level": "debug"},
    "security": {"admin_password": "$__file{/etc/grafana/p}"},
}


def ini(settings: dict) -> str:
    return "".join(
        f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        for section, keys in settings.items()
    )


def test_only_harmless_values_are_shown():
    for before, after in (("", ini(SECRETS)), (ini(SECRETS), ""), (ini(SECRETS), "[log]\n")):
        shown = "\n".join(settings_diff(before, after))
        assert "hunter" not in shown
        assert "12345678" not in shown
        assert "[smtp] password = (hidden)" in shown
    shown = settings_diff("[server]\nhttp_port = 3000\n", ini(SECRETS))
    assert "- [server] http_port = 3000" in shown
    assert "+ [server] http_port = 3001" in shown
    assert "+ [log] level = debug" in shown
    assert "+ [security] admin_password = $__file{/etc/grafana/p}" in shown


def test_a_changed_secret_shows_as_a_change_and_the_same_settings_as_none():
    old, new = "[smtp]\npassword = hunter1\n", "; other\n[smtp]\npassword = hunter2\n"
    assert settings_diff(old, new) == [
        "- [smtp] password = (hidden)",
        "+ [smtp] password = (hidden)",
    ]
    assert settings_diff(old, old) == []


def unit(folder: Path, ini_text: str, defaults: str = "") -> dict:
    (folder / "grafana.ini").write_text(ini_text)
    (folder / "default").write_text(f"CONF_FILE={folder}/grafana.ini\nDATA_DIR=/data\n{defaults}")
    return {
        "EnvironmentFiles": f"{folder}/default (ignore_errors=no)",
        "Environment": "GF_LOG_LEVEL=debug",
        "WorkingDirectory": "/usr/share/grafana",
        "ExecStart": "{ path=/usr/sbin/grafana ; argv[]=/usr/sbin/grafana server "
        "--config=${CONF_FILE} cfg:default.paths.data=${DATA_DIR} "
        "cfg:default.paths.provisioning=/etc/grafana/provisioning ; ignore_errors=no ; pid=0 }",
    }


BELOW = "[server]\nserve_from_sub_path = true\nroot_url = "
LOCAL = "http://127.0.0.1"
# Settings, environment file, and what follows from both.
SETTINGS: dict[str, tuple[str, str, dict[str, str]]] = {
    "none": (
        "",
        "",
        {"listen": "0.0.0.0:3000", "url": f"{LOCAL}:3000", "data": "/data/grafana.db"},
    ),
    "IPv6": (
        "[server]\nhttp_addr = ::\nprotocol = https\n",
        "",
        {"listen": "[::]:3000", "url": "https://[::1]:3000"},
    ),
    "environment": (
        "[server]\nhttp_port = 80 ; by hand\n",
        "GF_SERVER_HTTP_PORT=81\n",
        {"url": f"{LOCAL}:81"},
    ),
    "comment": ("[server]\nhttp_port = 80 ; by hand\n", "", {"url": f"{LOCAL}:80"}),
    "names in an address": (BELOW + "%(protocol)s://a/graphs/\n", "", {"url": f"{LOCAL}:3000"}),
    "folder of a proxy": (BELOW + "https://a/graphs/\n", "", {"url": f"{LOCAL}:3000/graphs"}),
    "socket": ("[server]\nprotocol = socket\n", "", {"listen": "", "url": ""}),
    "folders": (
        "[paths]\ndata = /srv/g\nprovisioning = conf/own\n",
        "",
        {"data": "/srv/g/grafana.db", "provisioning": "/usr/share/grafana/conf/own"},
    ),
    "file": ("[database]\npath = other.db\n", "", {"data": "/data/other.db"}),
    "PostgreSQL": ("[database]\ntype = postgres\n", "", {"data": ""}),
    "MySQL": ("[database]\nurl = mysql://u:p@h/db\n", "", {"data": ""}),
    "PostgreSQL by environment": ("", "GF_DATABASE_TYPE=postgres\n", {"data": ""}),
    "no settings at all": ("[[[", "", {"provisioning": "/etc/grafana/provisioning"}),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_settings_are_looked_up_as_grafana_does(tmp_path, case):
    text, defaults, expected = SETTINGS[case]
    settings = _grafana.Settings(unit(tmp_path, text, defaults))
    listen, url = settings.listener()
    found = {"listen": listen, "url": url, "data": settings.database()}
    found["provisioning"] = settings.path("paths", "provisioning", "conf/provisioning")
    assert found | expected == found


def test_datasources_of_a_database(tmp_path):
    database = tmp_path / "grafana.db"
    assert grafana_info.datasources("") == ([], False)
    assert grafana_info.datasources(str(database)) == ([], True)
    with sqlite3.connect(database) as connection:
        columns = "name TEXT, uid TEXT, org_id INT, is_default INT, read_only INT, password TEXT"
        connection.execute(f"CREATE TABLE data_source ({columns})")
        connection.execute("INSERT INTO data_source VALUES ('A', 'a', 1, 1, 0, 'hunter')")
    source = {"name": "A", "uid": "a", "org_id": 1, "is_default": True, "read_only": False}
    assert grafana_info.datasources(str(database)) == ([source], True)
    database.write_text("no database at all, and longer than the header of one" * 9)
    assert grafana_info.datasources(str(database)) == ([], False)


ENTERPRISE = "grafana-enterprise 13.2.3 install installed\n"


@pytest.mark.parametrize(
    ("listed", "name", "held"),
    [
        ("grafana 12.4.0 install installed\n", "grafana", False),
        ("grafana 12.4.0 hold installed\n", "grafana", True),
        ("grafana  unknown not-installed\n" + ENTERPRISE, "grafana-enterprise", False),
        ("grafana 12.4.0 deinstall config-files\n", "", False),
        ("", "", False),
    ],
)
def test_packages(listed, name, held):
    found = grafana_info.package(listed)
    assert (found["name"], found["held"]) == (name, held)


@pytest.mark.parametrize(
    ("state", "restarts", "before", "expected"),
    [
        ("active", "0", 0, False),
        ("active", "9", 0, False),
        ("activating", "0", 0, False),
        ("activating", "4", 0, True),
        ("activating", "9", 6, False),
        ("activating", "10", 6, True),
        ("failed", "0", 0, True),
        ("inactive", "", 0, False),
    ],
)
def test_waiting_ends_when_systemd_has_given_up(state, restarts, before, expected):
    shown = {"ActiveState": state, "NRestarts": restarts}
    assert grafana_info.given_up(shown, before) is expected


class Answer(BaseHTTPRequestHandler):
    said: bytes

    def do_GET(self):
        self.wfile.write(self.said)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b'HTTP/1.0 200 OK\r\n\r\n{"database": "ok"}', {"database": "ok"}),
        (b"HTTP/1.0 200 OK\r\n\r\n[]", {}),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", {}),
        (b"HTTP/1.0 503 Busy\r\n\r\n{}", {}),
        (b"SSH-2.0\r\n", {}),
        (b"", {}),
    ],
)
def test_health_is_what_grafana_says(said, expected, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:9")
    Answer.said = said
    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert grafana_info.health(f"http://127.0.0.1:{server.server_port}") == expected
    server.shutdown()
    server.server_close()
    assert grafana_info.health(f"http://127.0.0.1:{server.server_port}") == {}
