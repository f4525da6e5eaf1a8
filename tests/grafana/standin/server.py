# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in that behaves towards an installer as Grafana does. It is NOT Grafana.

It reads the same settings and provisioning files, keeps users and datasources in a
database, refuses what the real server refuses and answers the few API paths that the
role and the checks ask for. Which behaviour it assumes, and where each is known from,
is listed in assumptions.yml beside this file.
"""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import re
import sqlite3
import ssl
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import yaml

HOME = Path("/usr/share/grafana")
PROVISIONING = Path("/etc/grafana/provisioning")
DATABASE = Path("/var/lib/grafana/grafana.db")
ATTEMPTS, ATTEMPT_SECONDS = 5, 300
WITHIN_PLUGIN = "An error occurred within the plugin"


def log(level: str, message: str) -> None:
    """Write a line for the journal."""
    print(f"level={level} msg={message}", file=sys.stderr, flush=True)


def expand(text: str) -> str:
    """Replace $__file{path} by the file's content without blanks around it."""
    return re.sub(r"\$__file\{([^}]+)\}", lambda found: Path(found[1]).read_text().strip(), text)


def expand_yaml(node: Any) -> Any:
    """Expand values as provisioning does, where $$ is a plain $ and $NAME a variable."""
    if isinstance(node, dict):
        return {key: expand_yaml(value) for key, value in node.items()}
    if isinstance(node, list):
        return [expand_yaml(value) for value in node]
    if isinstance(node, str):
        parts = (re.sub(r"\$(\{\w+\}|\w+)", "", expand(part)) for part in node.split("$$"))
        return "$".join(parts)
    return node


class Settings:
    """The ini file."""

    def __init__(self, path: str) -> None:
        """Read the file; a line that is no setting ends the start."""
        self._ini = configparser.RawConfigParser(
            inline_comment_prefixes=(";", "#"), comment_prefixes=(";", "#"), strict=False
        )
        with Path(path).open(encoding="utf-8") as file:
            self._ini.read_file(["[DEFAULT]\n", *file])

    def get(self, section: str, key: str, default: str = "") -> str:
        """Return one setting, expanded."""
        value = self._ini.get(section, key, fallback=default)
        return expand(value.removeprefix('"""').removesuffix('"""'))


class Store:
    """What Grafana keeps in its database."""

    def __init__(self, admin_password: str) -> None:
        """Open the database; the password counts only where there is no user yet."""
        self._lock = threading.Lock()
        self._db = sqlite3.connect(DATABASE, timeout=5, check_same_thread=False)
        self._db.executescript(
            "CREATE TABLE IF NOT EXISTS user (login TEXT PRIMARY KEY, password TEXT);"
            "CREATE TABLE IF NOT EXISTS data_source (id INTEGER PRIMARY KEY, org_id INTEGER,"
            " name TEXT, uid TEXT, is_default BOOLEAN, read_only BOOLEAN, model TEXT,"
            " UNIQUE (org_id, name), UNIQUE (org_id, uid));"
        )
        with self._db:
            first = ("admin", self._hash(admin_password))
            self._db.execute("INSERT OR IGNORE INTO user VALUES (?, ?)", first)

    @staticmethod
    def _hash(password: str) -> str:
        return hashlib.sha256(password.encode()).hexdigest()

    def is_password(self, password: str) -> bool:
        """Compare with admin's password."""
        with self._lock:
            (stored,) = self._db.execute("SELECT password FROM user").fetchone()
        return stored == self._hash(password)

    def set_password(self, password: str) -> None:
        """Change admin's password."""
        with self._lock, self._db:
            self._db.execute("UPDATE user SET password = ?", (self._hash(password),))

    def put_datasource(self, model: dict, read_only: bool = True) -> None:
        """Insert or update by name; another name for a known uid breaks the unique index.

        A new default takes that mark from the one before.
        """
        row = {"org_id": 1, "name": model["name"], "uid": model["uid"], "read_only": read_only}
        row |= {"is_default": bool(model.get("isDefault")), "model": json.dumps(model)}
        with self._lock, self._db:
            self._db.execute(
                "INSERT INTO data_source (org_id, name, uid, is_default, read_only, model) "
                "VALUES (:org_id, :name, :uid, :is_default, :read_only, :model) "
                "ON CONFLICT (org_id, name) DO UPDATE SET uid = :uid, is_default = :is_default, "
                "read_only = :read_only, model = :model",
                row,
            )
            if row["is_default"]:
                self._db.execute(
                    "UPDATE data_source SET is_default = 0 WHERE org_id = 1 AND name <> :name", row
                )

    def drop_datasource(self, name: str) -> None:
        """Delete by name; an absent one is no error."""
        with self._lock, self._db:
            self._db.execute("DELETE FROM data_source WHERE name = ?", (name,))

    def datasources(self) -> list[dict]:
        """Return all of them."""
        with self._lock:
            rows = self._db.execute(
                "SELECT model, is_default, read_only FROM data_source ORDER BY name"
            ).fetchall()
        return [
            json.loads(model) | {"isDefault": bool(default), "readOnly": bool(read_only)}
            for model, default, read_only in rows
        ]


def provisioning(kind: str) -> list[dict]:
    """Read the files of one kind; one that is no YAML ends the start."""
    folder = PROVISIONING / kind
    files = sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")])
    return [yaml.safe_load(file.read_text()) or {} for file in files]


def provision_datasources(store: Store) -> None:
    """Bring the datasources of the files into the database."""
    files = [expand_yaml(file) for file in provisioning("datasources")]
    wanted = [model for file in files for model in file.get("datasources") or []]
    if sum(bool(model.get("isDefault")) for model in wanted) > 1:
        raise ValueError("Only one datasource per organization can be marked as default")
    for file in files:
        for model in file.get("deleteDatasources") or []:
            store.drop_datasource(model["name"])
        for model in file.get("datasources") or []:
            store.put_datasource(model)


class Dashboards:
    """The dashboards of the file providers, looked at again and again."""

    def __init__(self) -> None:
        """Read the providers; one without a path ends the start."""
        self._providers = [
            p for file in provisioning("dashboards") for p in file.get("providers") or []
        ]
        self._paths = [Path(provider["options"]["path"]) for provider in self._providers]
        self.loaded: dict[str, dict] = {}
        # Providers that have seen two dashboards of one uid or title write no more.
        self._frozen: set[str] = set()
        self.poll()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(
                min((p.get("updateIntervalSeconds", 10) for p in self._providers), default=10)
            )
            self.poll()

    def _read(self, path: Path) -> dict | None:
        try:
            model = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            log("error", f"failed to load dashboard file={path} error={error}")
            return None
        if not model.get("title"):
            log(
                "error",
                f"failed to save dashboard file={path} error=Dashboard title cannot be empty",
            )
            return None
        return model

    @staticmethod
    def _written(models: list[dict], folder: str) -> dict[str, dict]:
        """Return what the database has after all files: of two with one uid or title the first."""
        written: dict[str, dict] = {}
        for model in models:
            titles = {seen["dashboard"]["title"] for seen in written.values()}
            if model["title"] not in titles:
                written.setdefault(model["uid"], {"dashboard": model, "folder": folder})
        return written

    def poll(self) -> None:
        """Load what is new, drop what left; a missing folder keeps what is there.

        Duplicates are looked for when all is written, and freeze what comes after.
        """
        for provider, path in zip(self._providers, self._paths):
            if not path.is_dir():
                log("error", f"cannot read directory {path}")
                continue
            models = [model for model in map(self._read, sorted(path.glob("**/*.json"))) if model]
            name = provider["name"]
            if name not in self._frozen:
                self.loaded = self._written(models, provider.get("folder", ""))
            for field in ("uid", "title"):
                if len({model.get(field) for model in models}) < len(models):
                    log("warn", f"dashboards restricted: duplicate {field} in {name}")
                    self._frozen.add(name)
                    break
            else:
                self._frozen.discard(name)


class Failure(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str) -> None:
        """Keep both for the answer."""
        super().__init__(message)
        self.status = status


class Grafana:
    """What the API asks."""

    def __init__(self, settings: Settings) -> None:
        """Start as the real one does: database first, then provisioning."""
        self.version = (HOME / "VERSION").read_text().strip()
        self.store = Store(settings.get("security", "admin_password", "admin"))
        provision_datasources(self.store)
        self.dashboards = Dashboards()
        self._wrong: list[float] = []

    def login(self, header: str) -> None:
        """Check basic authentication; five wrong ones lock out the right one too."""
        _, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
        self._wrong = [at for at in self._wrong if time.monotonic() - at < ATTEMPT_SECONDS]
        if not header or len(self._wrong) >= ATTEMPTS or not self.store.is_password(password):
            if header:
                self._wrong.append(time.monotonic())
            raise Failure(401, "Invalid username or password")

    def query(self, body: dict) -> dict:
        """Proxy queries to their datasource; answer in data frames."""
        results = {}
        for asked in body["queries"]:
            uid = asked["datasource"]["uid"]
            found = [model for model in self.store.datasources() if model["uid"] == uid]
            if not found:
                raise Failure(404, "data source not found")
            results[asked["refId"]] = {"status": 200, "frames": self._frames(found[0], asked)}
        return {"results": results}

    def _frames(self, datasource: dict, asked: dict) -> list[dict]:
        url, form = f"{datasource['url']}/api/v1/query", {"query": asked["expr"]}
        words = urllib.parse.urlencode(form)
        if datasource.get("jsonData", {}).get("httpMethod", "POST") == "POST":
            request = urllib.request.Request(url, words.encode())
        else:
            request = urllib.request.Request(f"{url}?{words}")
        if datasource.get("basicAuth"):
            secret = datasource["secureJsonData"]["basicAuthPassword"]
            login = f"{datasource['basicAuthUser']}:{secret}".encode()
            request.add_header("Authorization", "Basic " + base64.b64encode(login).decode())
        trusted = None
        if datasource.get("jsonData", {}).get("tlsAuthWithCACert"):
            trusted = ssl.create_default_context(cadata=datasource["secureJsonData"]["tlsCACert"])
        try:
            with urllib.request.urlopen(request, timeout=10, context=trusted) as answer:
                samples = json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.BAD_REQUEST:
                raise Failure(400, json.load(error)["error"]) from error
            raise Failure(500, WITHIN_PLUGIN) from error
        except (OSError, ValueError) as error:
            raise Failure(500, WITHIN_PLUGIN) from error
        return [
            {
                "schema": {"fields": [{"name": "Time"}, {"name": "Value", "labels": s["metric"]}]},
                "data": {"values": [[s["value"][0] * 1000], [float(s["value"][1])]]},
            }
            for s in samples
        ]

    def _search(self, kind: str) -> list[dict]:
        """Return folders and dashboards, or those of a type."""
        folders = sorted({seen["folder"] for seen in self.dashboards.loaded.values()} - {""})
        found = [{"uid": name, "title": name, "type": "dash-folder"} for name in folders]
        found += [
            {"uid": uid, "title": seen["dashboard"]["title"], "type": "dash-db"}
            | {"folderTitle": seen["folder"]}
            for uid, seen in self.dashboards.loaded.items()
        ]
        return [one for one in found if kind in ("", one["type"])]

    def _datasources(self) -> list[dict]:
        return [
            {k: v for k, v in m.items() if k != "secureJsonData"} for m in self.store.datasources()
        ]

    LISTS: ClassVar = {
        "/api/datasources": _datasources,
        "/api/org": lambda _: {"id": 1, "name": "Main Org."},
    }

    def answer(self, method: str, address: str, body: dict) -> Any:
        """Answer one request of somebody who is logged in."""
        path, _, words = address.partition("?")
        if (method, path) == ("GET", "/api/search"):
            return self._search(dict(urllib.parse.parse_qsl(words)).get("type", ""))
        if method == "GET" and path.startswith("/api/dashboards/uid/"):
            seen = self.dashboards.loaded.get(path.rpartition("/")[2])
            if seen:
                return {"dashboard": seen["dashboard"], "meta": {"provisioned": True}}
        if method == "GET" and path in self.LISTS:
            return self.LISTS[path](self)
        if (method, path) == ("POST", "/api/ds/query"):
            return self.query(body)
        if (method, path) == ("POST", "/api/datasources"):
            self.store.put_datasource(body, read_only=False)
            return {"message": "Datasource added"}
        if (method, path) == ("PUT", "/api/admin/users/1/password"):
            self.store.set_password(body["password"])
            return {"message": "User password updated"}
        raise Failure(404, "Not found")


def handler(grafana: Grafana) -> type[BaseHTTPRequestHandler]:
    """Make the class that answers for one Grafana."""

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            try:
                body = json.loads(self.rfile.read(size)) if size else {}
                if self.path == "/api/health":
                    status, answer = 200, {"database": "ok", "version": grafana.version}
                else:
                    grafana.login(self.headers.get("Authorization", ""))
                    status, answer = 200, grafana.answer(self.command, self.path, body)
            except Failure as failure:
                status, answer = failure.status, {"message": str(failure)}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _serve

        def log_message(self, *_: object) -> None:
            """Stay silent; the journal is for failures."""

    return Handler


def main() -> int:
    """Start; every failure ends the process with a line in the journal."""
    arguments = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[1:] if a.startswith("--"))
    try:
        settings = Settings(arguments["config"])
        grafana = Grafana(settings)
        address = (
            settings.get("server", "http_addr"),
            int(settings.get("server", "http_port", "3000")),
        )
        try:
            server = ThreadingHTTPServer(address, handler(grafana))
        except OSError as error:  # in the words of Go's library
            why = f"listen tcp {address[0]}:{address[1]}: bind: {(error.strerror or '').lower()}"
            raise RuntimeError(f"failed to open listener: {why}") from error
        if settings.get("server", "protocol", "http") == "https":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(
                settings.get("server", "cert_file"), settings.get("server", "cert_key")
            )
            server.socket = context.wrap_socket(server.socket, server_side=True)
    except Exception as error:
        log("error", f"Stopped background service error={error!r}")
        return 1
    log("info", f"stand-in {grafana.version} listens on {address[0]}:{address[1]}")
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
