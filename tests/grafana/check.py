# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a running Grafana, 9.3 or newer, through its API.

    GRAFANA_URL=https://host:3000 GRAFANA_PASSWORD=… python -m tests.grafana.check [--pictures DIR]

GRAFANA_USER defaults to admin; SSL_CERT_FILE names the authority of a certificate that this machine
does not know. All dashboards of files/dashboards must be loaded, and each panel's queries must
return data through /api/ds/query, except in panels that --may-be-empty names. Where the environment
names no Grafana, nothing was checked, and it ends with 2. With --pictures, chromium draws each
dashboard into DIR.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DASHBOARDS = Path(__file__).parents[2] / "files/dashboards"
# Grafana's server knows the variables of time; those of the page are ours to fill.
OF_THE_SERVER = ("__",)


@dataclass(frozen=True)
class Server:
    """A Grafana and who asks it."""

    url: str
    login: str

    def request(self, path: str, body: bytes | None = None, method: str | None = None):
        """Open a path of it."""
        request = urllib.request.Request(self.url + path, body, method=method)
        request.add_header("Authorization", f"Basic {self.login}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
        return urllib.request.urlopen(request, timeout=30)

    def ask(self, path: str, body: dict | None = None) -> Any:
        """Return a JSON answer; an answer that is not 200 raises."""
        with self.request(path, None if body is None else json.dumps(body).encode()) as answer:
            return json.load(answer)


def panels(model: dict) -> Iterator[dict]:
    """Give all panels, those of collapsed rows too."""
    for panel in model["panels"]:
        yield panel
        yield from panel.get("panels", [])


def chosen(model: dict) -> dict[str, str]:
    """Return what each variable stands for when everything is selected."""
    values = {}
    for variable in model["templating"]["list"]:
        current = variable.get("current", {}).get("value", "")
        current = current[0] if isinstance(current, list) and current else current
        values[variable["name"]] = variable.get("allValue") or str(current)
    return values


def filled(expression: str, values: dict[str, str]) -> str:
    """Put values in for $name, ${name} and ${name:format}; leave the server's own."""

    def value(found: re.Match) -> str:
        name = found[1] or found[2]
        return found[0] if name.startswith(OF_THE_SERVER) else values.get(name, found[0])

    return re.sub(r"\$(?:(\w+)|\{(\w+)(?::\w+)?\})", value, expression)


def faults_of_panel(
    server: Server, panel: dict, values: dict[str, str], source: str, needs_data: bool
) -> list[str]:
    """Run a panel's queries together, as the page does; data in one of them is enough."""
    queries = [
        {
            "refId": target["refId"],
            "datasource": {"type": "prometheus", "uid": source},
            "expr": filled(target["expr"], values),
            "instant": bool(target.get("instant")),
            "range": not target.get("instant"),
            "intervalMs": 15000,
            "maxDataPoints": 500,
        }
        for target in panel.get("targets", [])
    ]
    if not queries:
        return []
    try:
        body = {"from": "now-15m", "to": "now", "queries": queries}
        results = server.ask("/api/ds/query", body)["results"]
    except urllib.error.HTTPError as error:
        return [f"panel {panel['title']!r}: {error.code} {error.read().decode()[:200]}"]
    broken = [f"panel {panel['title']!r}: {r['error']}" for r in results.values() if "error" in r]
    frames = [frame for result in results.values() for frame in result.get("frames", [])]
    if (
        needs_data
        and not broken
        and not any(values for f in frames for values in f["data"]["values"])
    ):
        return [f"panel {panel['title']!r} has no data"]
    return broken


def faults_of_dashboards(server: Server, wanted: list[dict], may_be_empty: str) -> list[str]:
    """Check that each dashboard is loaded and that its panels have data."""
    sources = server.ask("/api/datasources")
    prometheus = [s["uid"] for s in sources if s["type"] == "prometheus" and s.get("isDefault")]
    if not prometheus:
        return ["no Prometheus is the default datasource"]
    loaded = {seen["uid"]: seen["title"] for seen in server.ask("/api/search?type=dash-db")}
    faults = []
    for model in wanted:
        if loaded.get(model["uid"]) != model["title"]:
            faults.append(f"dashboard {model['title']!r} ({model['uid']}) is not loaded")
            continue
        values = chosen(model)
        for panel in panels(model):
            needs_data = not re.search(may_be_empty, f"{model['title']}: {panel['title']}")
            found = faults_of_panel(server, panel, values, prometheus[0], needs_data)
            faults += [f"{model['title']}: {fault}" for fault in found]
    return faults


def draw(server: Server, wanted: list[dict], folder: Path) -> list[str]:
    """Draw each dashboard with chromium, through a proxy on loopback that logs in.

    So the password stands in no command line. Pages that are errors are returned as faults.
    """
    pages: dict[str, int] = {}

    class Proxy(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(size) if size else None
            try:
                answer = server.request(self.path, body, self.command)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                content = answer.read()
                pages[self.path] = answer.status
                self.send_response(answer.status)
                kind = answer.headers.get("Content-Type", "application/octet-stream")
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _serve

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    folder.mkdir(parents=True, exist_ok=True)
    faults = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        for model in wanted:
            picture, page = folder / f"{model['uid']}.png", f"/d/{model['uid']}?kiosk"
            options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1600,2400"]
            options += ["--virtual-time-budget=30000", f"--screenshot={picture}"]
            address = f"http://127.0.0.1:{proxy.server_port}{page}"
            subprocess.run(
                ["chromium", *options, address], check=True, capture_output=True, timeout=120
            )
            if pages.get(page) == HTTPStatus.OK:
                print(f"drawn: {picture}")
            else:
                faults.append(f"{model['title']}: its page answered {pages.get(page)}")
        proxy.shutdown()
    return faults


def main() -> int:
    """Check the Grafana that the environment names."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.grafana.check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dashboards", type=Path, default=DASHBOARDS)
    parser.add_argument("--pictures", type=Path, help="draw each dashboard into this folder")
    parser.add_argument(
        "--may-be-empty",
        default="$^",
        metavar="REGEX",
        help="panels ('Dashboard: panel') whose cause does not exist on these hosts",
    )
    options = parser.parse_args()
    if not os.environ.get("GRAFANA_URL"):
        print("grafana: nothing was checked, GRAFANA_URL names no Grafana", file=sys.stderr)
        return 2
    if options.pictures and not shutil.which("chromium"):
        print("grafana: pictures need chromium; install Debian's package", file=sys.stderr)
        return 2
    user = os.environ.get("GRAFANA_USER", "admin")
    secret = f"{user}:{os.environ.get('GRAFANA_PASSWORD', '')}"
    server = Server(
        os.environ["GRAFANA_URL"].rstrip("/"), base64.b64encode(secret.encode()).decode()
    )
    wanted = [json.loads(path.read_text()) for path in sorted(options.dashboards.glob("*.json"))]
    try:
        health = server.ask("/api/health")
        faults = faults_of_dashboards(server, wanted, options.may_be_empty)
        if options.pictures:
            faults += draw(server, wanted, options.pictures)
    except OSError as error:
        print(f"grafana: {server.url} does not answer as it should: {error}", file=sys.stderr)
        return 1
    for fault in faults:
        print(f"FAILED  {fault}")
    count = sum(bool(panel.get("targets")) for model in wanted for panel in panels(model))
    print(
        f"Grafana {health.get('version', '(hidden)')}: {len(wanted)} dashboards, {count} panels, "
        f"{len(faults)} faults"
    )
    return 1 if faults or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
