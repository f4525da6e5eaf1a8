# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a running Grafana, 9.3 or newer, through its API.

    GRAFANA_URL=https://host:3000 GRAFANA_PASSWORD=… python -m tests.grafana.check [--pictures DIR]

GRAFANA_USER defaults to admin; SSL_CERT_FILE names the authority of a certificate that this machine
does not know. All dashboards of files/dashboards must be loaded, and each panel's queries must be
answered through /api/ds/query: with numbers, but where the panel itself says what it means that
there are none. Where the environment names no Grafana, nothing was checked, and it ends with 2.
With --pictures, chromium draws each dashboard whole into DIR, and in a narrow window its tables are
measured and read: no column outside, no NaN, no words of an empty table in one that is not.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import math
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
# What a panel says that has no meaning of its own for no data.
DATASOURCE = "linmonitor"
MUST_HAVE_DATA = ("No data", "unknown")
WIDE, NARROW = 1600, 1366
# Pixels of a row of the grid, and of what stands above it.
ROW, HEAD = 38, 200
CHROMIUM_SECONDS = 120


class BrowserError(RuntimeError):
    """The browser did not do what it was asked for."""


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


def needs_data(panel: dict) -> bool:
    """Say whether no data is a fault: the panel says nothing else of it.

    A logarithmic axis has no words, for Grafana would write them at each of its ticks.
    """
    defaults = panel.get("fieldConfig", {}).get("defaults", {})
    logarithmic = "scaleDistribution" in defaults.get("custom", {})
    return defaults.get("noValue", MUST_HAVE_DATA[0]) in MUST_HAVE_DATA and not logarithmic


def numbers(frame: dict) -> list[float]:
    """Return the values of a frame that are numbers; the first column is the time."""
    found = [one for column in frame["data"]["values"][1:] for one in column]
    return [one for one in found if isinstance(one, int | float) and math.isfinite(one)]


def has_nan(frame: dict) -> bool:
    """Say whether a frame holds what is no number, which JSON has beside the values."""
    return any("NaN" in (column or {}) for column in frame["data"].get("entities") or [])


def faults_of_panel(server: Server, panel: dict, values: dict[str, str], source: str) -> list[str]:
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
    name = f"panel {panel['title']!r}"
    try:
        body = {"from": "now-15m", "to": "now", "queries": queries}
        results = server.ask("/api/ds/query", body)["results"]
    except urllib.error.HTTPError as error:
        return [f"{name}: {error.code} {error.read().decode()[:200]}"]
    broken = [f"{name}: {r['error']}" for r in results.values() if "error" in r]
    frames = [frame for result in results.values() for frame in result.get("frames", [])]
    if broken:
        return broken
    if panel.get("type") in ("stat", "table") and any(map(has_nan, frames)):
        return [f"{name} shows NaN"]
    if needs_data(panel) and not any(map(numbers, frames)):
        return [f"{name} has no data"]
    return []


def faults_of_dashboards(server: Server, wanted: list[dict]) -> list[str]:
    """Check that each dashboard is loaded and that its panels have data."""
    sources = server.ask("/api/datasources")
    # The role's own, wherever somebody else's is the default.
    prometheus = sorted(
        (source["uid"] for source in sources if source["type"] == "prometheus"),
        key=lambda uid: uid != DATASOURCE,
    )
    if not prometheus:
        return ["no datasource is a Prometheus"]
    loaded = {seen["uid"]: seen["title"] for seen in server.ask("/api/search?type=dash-db")}
    faults = []
    for model in wanted:
        if loaded.get(model["uid"]) != model["title"]:
            faults.append(f"dashboard {model['title']!r} ({model['uid']}) is not loaded")
            continue
        values = chosen(model)
        for panel in panels(model):
            found = faults_of_panel(server, panel, values, prometheus[0])
            faults += [f"{model['title']}: {fault}" for fault in found]
    return faults


# What the page says of its tables, again and again, at its end: chromium prints the page.
MEASURE = """<script>setInterval(() => {
  const right = (e) => e.getBoundingClientRect().right;
  const all = (table, roles) => [...table.querySelectorAll(roles)];
  const tables = [...document.querySelectorAll('[role=table],[role=grid]')].map((table) => ({
    right: Math.min(right(table), right(table.closest('section') || table), innerWidth),
    columns: all(table, '[role=columnheader]').map((e) => [e.textContent, right(e)]),
    cells: all(table, '[role=cell],[role=gridcell]').map((e) => e.textContent),
  }));
  let said = document.getElementById('seen-of-tables');
  if (!said) {
    said = document.createElement('script');
    said.id = 'seen-of-tables';
    said.type = 'application/json';
    document.body.append(said);
  }
  said.textContent = JSON.stringify(tables).replaceAll('<', ' ');
}, 1000);</script>"""


def faults_of_tables(page: str, model: dict) -> list[str]:
    """Judge the tables of a page as the browser printed it."""
    found = re.search(r'<script id="seen-of-tables"[^>]*>(.*?)</script>', page, re.DOTALL)
    if not found:
        return ["the browser did not run the page"]
    words = {
        panel["fieldConfig"]["defaults"].get("noValue")
        for panel in panels(model)
        if panel["type"] == "table"
    }
    faults = []
    for table in json.loads(found[1]):
        names = [name for name, _ in table["columns"]]
        outside = [name for name, right in table["columns"] if right > table["right"] + 1]
        if outside:
            faults.append(f"columns {outside} of the table {names} are outside at {NARROW} px")
        for cell in {"NaN", *words} & set(table["cells"]):
            faults.append(f"cells of the table {names} say {cell!r}")
    return faults


def height(model: dict) -> int:
    """Return how high a window must be to show a dashboard whole: nothing below is drawn."""
    places = [panel["gridPos"] for panel in model["panels"]]
    return HEAD + ROW * max(place["y"] + place["h"] for place in places)


def _chromium(address: str, width: int, tall: int, *wanted: str) -> str:
    options = ["--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=30000"]
    command = ["chromium", *options, f"--window-size={width},{tall}", *wanted, address]
    done = subprocess.run(command, check=False, capture_output=True, timeout=CHROMIUM_SECONDS)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise BrowserError(f"chromium ended with {done.returncode}: {said[-1]}")
    return done.stdout.decode(errors="replace")


def draw(server: Server, wanted: list[dict], folder: Path) -> list[str]:
    """Draw each dashboard with chromium, through a proxy on loopback that logs in.

    So the password stands in no command line. Pages that are errors are returned as faults, and
    what is wrong with their tables.
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
            if kind.startswith("text/html"):
                content += MEASURE.encode()
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            with contextlib.suppress(ConnectionError):  # the browser has all that it draws
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
            address = f"http://127.0.0.1:{proxy.server_port}{page}"
            try:
                _chromium(address, WIDE, height(model), f"--screenshot={picture}")
                seen = _chromium(address, NARROW, height(model), "--dump-dom")
            except (BrowserError, subprocess.TimeoutExpired) as error:
                faults.append(f"{model['title']}: not drawn, {error}")
                continue
            if pages.get(page) != HTTPStatus.OK:
                faults.append(f"{model['title']}: its page answered {pages.get(page)}")
                continue
            print(f"drawn: {picture}")
            faults += [f"{model['title']}: {fault}" for fault in faults_of_tables(seen, model)]
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
        faults = faults_of_dashboards(server, wanted)
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
