# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in behaves as assumptions.yml says, and assumptions.yml says all of it."""

from __future__ import annotations

import base64
import json
import sqlite3
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.grafana import repository
from tests.grafana.standin import prometheus, server

ASSUMPTIONS = yaml.safe_load((repository.SOURCES / "assumptions.yml").read_text())


class Host:
    """The files of one host; `start` gives what would answer on its port."""

    def __init__(self, root: Path, monkeypatch) -> None:
        self.root = root
        self.dashboards = root / "dashboards"
        self.dashboards.mkdir()
        for kind in ("dashboards", "datasources"):
            (root / "provisioning" / kind).mkdir(parents=True)
        (root / "VERSION").write_text("13.2.3\n")
        (root / "password").write_text("first\n")
        (root / "grafana.ini").write_text(
            f"[security]\nadmin_password = $__file{{{root}/password}}\n"
        )
        provider = {"name": "ours", "options": {"path": str(self.dashboards)}}
        self.provision("dashboards", providers=[provider])
        monkeypatch.setattr(server, "HOME", root)
        monkeypatch.setattr(server, "PROVISIONING", root / "provisioning")
        monkeypatch.setattr(server, "DATABASE", root / "grafana.db")

    def provision(self, kind: str, name: str = "ours", **content: object) -> None:
        (self.root / "provisioning" / kind / f"{name}.yml").write_text(yaml.safe_dump(content))

    def dashboard(self, name: str, **model: object) -> None:
        content = {"uid": name, "title": name} | model
        (self.dashboards / f"{name}.json").write_text(json.dumps(content))

    def start(self) -> server.Grafana:
        return server.Grafana(server.Settings(str(self.root / "grafana.ini")))


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


def source(name: str = "linmonitor", **more: object) -> dict:
    return {"name": name, "uid": "linmonitor", "url": "http://127.0.0.1:9"} | more


def login(grafana: server.Grafana, password: str) -> bool:
    try:
        grafana.login("Basic " + base64.b64encode(f"admin:{password}".encode()).decode())
    except server.Failure as failure:
        assert failure.status == 401
        return False
    return True


def test_every_assumption_has_its_test_and_source():
    assert all(entry["known_from"] for entry in ASSUMPTIONS)
    tests = {name for name in globals() if name.startswith("test_")}
    assert tests - {entry["test"] for entry in ASSUMPTIONS} == {
        "test_every_assumption_has_its_test_and_source"
    }
    assert {entry["test"] for entry in ASSUMPTIONS} <= tests


def test_health_needs_no_login(host):
    answers = []

    class Request(server.handler(host.start())):
        path, command, headers = "/api/health", "GET", {}

        def __init__(self):
            self.wfile = self

        def write(self, content):
            answers.append(json.loads(content))

        send_response = send_header = end_headers = lambda *_: None

    Request().do_GET()
    assert answers == [{"database": "ok", "version": "13.2.3"}]


def test_password_of_the_ini_counts_once(host):
    assert login(host.start(), "first")
    (host.root / "password").write_text("second")
    assert not login(host.start(), "second")


def test_secrets_come_from_files(host):
    (host.root / "password").write_text("  with blanks around \n")
    assert login(host.start(), "with blanks around")


def test_password_changes_through_the_api(host):
    grafana = host.start()
    grafana.answer("PUT", "/api/admin/users/1/password", {"password": "second"})
    assert login(grafana, "second")
    assert not login(grafana, "first")


def test_wrong_logins_lock_the_right_one_out(host):
    grafana = host.start()
    assert not any(login(grafana, "wrong") for _ in range(5))
    assert not login(grafana, "first")


def test_dollars_of_provisioning(host):
    host.provision("datasources", datasources=[source(url="http://a$$b$HOME")])
    (found,) = host.start().store.datasources()
    assert found["url"] == "http://a$b"


def test_renamed_datasource_stops_the_start(host):
    host.provision("datasources", datasources=[source("old")])
    host.start()
    host.provision("datasources", datasources=[source("new")])
    with pytest.raises(sqlite3.IntegrityError):
        host.start()


def test_two_defaults_stop_the_start(host):
    host.provision("datasources", datasources=[source(isDefault=True)])
    host.provision("datasources", "others", datasources=[source("b", uid="b", isDefault=True)])
    with pytest.raises(ValueError, match="default"):
        host.start()


def test_datasource_outlives_its_file(host):
    host.provision("datasources", datasources=[source()])
    host.start()
    host.provision("datasources")
    assert len(host.start().store.datasources()) == 1
    host.provision("datasources", deleteDatasources=[{"name": "linmonitor"}, {"name": "absent"}])
    assert host.start().store.datasources() == []


def test_invalid_provider_stops_the_start(host):
    (host.root / "provisioning/dashboards/broken.yml").write_text("providers: [")
    with pytest.raises(yaml.YAMLError):
        host.start()


def test_dashboard_leaves_with_its_file(host):
    host.dashboard("a")
    host.dashboard("b")
    dashboards = host.start().dashboards
    assert dashboards.loaded.keys() == {"a", "b"}
    (host.dashboards / "b.json").unlink()
    dashboards.poll()
    assert dashboards.loaded.keys() == {"a"}


def test_search_gives_folders_too(host):
    provider = {"name": "ours", "folder": "Linux", "options": {"path": str(host.dashboards)}}
    host.provision("dashboards", providers=[provider])
    host.dashboard("a")
    grafana = host.start()
    kinds = [found["type"] for found in grafana.answer("GET", "/api/search", {})]
    assert kinds == ["dash-folder", "dash-db"]
    (found,) = grafana.answer("GET", "/api/search?type=dash-db&limit=5000", {})
    assert (found["uid"], found["folderTitle"]) == ("a", "Linux")


def test_listener_that_cannot_be_opened_ends_the_start(host, monkeypatch, capsys):
    settings = host.root / "grafana.ini"
    settings.write_text(settings.read_text() + "[server]\nhttp_addr = 192.0.2.1\n")
    monkeypatch.setattr("sys.argv", ["server.py", f"--config={settings}"])
    assert server.main() == 1
    assert "listen tcp 192.0.2.1:3000: bind: cannot assign requested" in capsys.readouterr().err


def test_missing_folder_keeps_its_dashboards(host):
    host.dashboard("a")
    dashboards = host.start().dashboards
    host.dashboards.rename(host.root / "elsewhere")
    dashboards.poll()
    assert dashboards.loaded.keys() == {"a"}


@pytest.mark.parametrize("twin", [{"uid": "a"}, {"title": "a"}])
def test_duplicates_freeze_the_provider(host, twin):
    host.dashboard("a")
    dashboards = host.start().dashboards
    twins = host.dashboards / "b.json"
    host.dashboard("b", **twin)
    host.dashboard("c")
    dashboards.poll()
    assert dashboards.loaded.keys() == {"a", "c"}
    host.dashboard("d")
    dashboards.poll()
    assert dashboards.loaded.keys() == {"a", "c"}
    twins.unlink()
    dashboards.poll()
    dashboards.poll()
    assert dashboards.loaded.keys() == {"a", "c", "d"}


def test_v2_dashboard_is_left_out(host):
    host.dashboard("a")
    (host.dashboards / "v2.json").write_text(json.dumps({"kind": "Dashboard", "spec": {}}))
    assert host.start().dashboards.loaded.keys() == {"a"}


QUERY = {"queries": [{"refId": "A", "datasource": {"uid": "linmonitor"}, "expr": "up"}]}


def test_query_proves_itself_to_prometheus(host):
    key, certificate = str(host.root / "key"), host.root / "certificate"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -days 2"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", str(certificate)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    guarded = prometheus.server(0, "reader:secret", str(certificate), key)
    threading.Thread(target=guarded.serve_forever, daemon=True).start()
    model = source(
        url=f"https://127.0.0.1:{guarded.server_port}",
        basicAuth=True,
        basicAuthUser="reader",
        jsonData={"tlsAuthWithCACert": True},
        secureJsonData={"basicAuthPassword": "secret", "tlsCACert": certificate.read_text()},
    )
    host.provision("datasources", datasources=[model])
    (frame,) = host.start().answer("POST", "/api/ds/query", QUERY)["results"]["A"]["frames"]
    assert frame["data"]["values"][1] == [1.0]
    for spoilt in ({"jsonData": {}}, {"basicAuth": False}):
        host.provision("datasources", datasources=[model | spoilt])
        with pytest.raises(server.Failure):
            host.start().answer("POST", "/api/ds/query", QUERY)
    guarded.shutdown()
    guarded.server_close()


def test_query_without_prometheus_is_500(host):
    host.provision("datasources", datasources=[source()])
    with pytest.raises(server.Failure) as failure:
        host.start().answer("POST", "/api/ds/query", QUERY)
    assert failure.value.status == 500
    assert "refused" not in str(failure.value)


def test_bad_query_is_400(host):
    class Prometheus(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(400)
            self.end_headers()
            self.wfile.write(b'{"status": "error", "error": "parse error"}')

    with ThreadingHTTPServer(("127.0.0.1", 0), Prometheus) as there:
        threading.Thread(target=there.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{there.server_port}"
        host.provision("datasources", datasources=[source(url=url)])
        with pytest.raises(server.Failure, match="parse error") as failure:
            host.start().answer("POST", "/api/ds/query", QUERY)
        there.shutdown()
    assert failure.value.status == 400


def test_new_default_takes_the_mark_from_the_old_one(host):
    host.provision("datasources", "theirs", datasources=[source("theirs", uid="t")])
    grafana = host.start()
    clicked = {"name": "clicked", "uid": "c", "isDefault": True}
    grafana.answer("POST", "/api/datasources", clicked)
    marks = {s["name"]: (s["isDefault"], s["readOnly"]) for s in grafana.store.datasources()}
    assert marks == {"theirs": (False, True), "clicked": (True, False)}
    host.provision("datasources", datasources=[source(isDefault=True)])
    defaults = [s["name"] for s in host.start().store.datasources() if s["isDefault"]]
    assert defaults == ["linmonitor"]


def test_package_scripts_do_what_is_assumed():
    postinst = (repository.SOURCES / "postinst").read_text()
    for step in (
        "adduser --system",
        "ldap.toml",
        "sample.yaml",
        "chown -Rh root:grafana /etc/grafana/*",
        "find /etc/grafana -type f -exec chmod 0640",
        "find /etc/grafana -type d -exec chmod 0755",
        '[ -n "$2" ] && [ "$RESTART_ON_UPGRADE" = true ]',
    ):
        assert step in postinst
    assert "systemctl start" not in postinst


def test_conffiles_are_those_of_the_real_package(tmp_path):
    package = str(repository.build_package(tmp_path, "grafana", "1.0"))
    repository.run("dpkg-deb", "--control", package, str(tmp_path / "control"))
    assert sorted(file.name for file in (tmp_path / "control").iterdir()) == [
        "conffiles",
        "control",
        "postinst",
    ]
    assert (tmp_path / "control/conffiles").read_text().split() == [
        "/etc/default/grafana-server",
        "/etc/init.d/grafana-server",
        "/usr/lib/systemd/system/grafana-server.service",
    ]


def test_editions_conflict_and_share_paths(tmp_path):
    listed = {}
    for name, other in (("grafana", "grafana-enterprise"), ("grafana-enterprise", "grafana")):
        package = str(repository.build_package(tmp_path, name, "1.0"))
        fields = repository.run("dpkg-deb", "--field", package).decode()
        assert f"Conflicts: {other}\n" in fields
        assert "Description: STAND-IN" in fields
        contents = repository.run("dpkg-deb", "--contents", package).decode().splitlines()
        listed[name] = {line.split()[5] for line in contents}
    assert listed["grafana"] == listed["grafana-enterprise"]
