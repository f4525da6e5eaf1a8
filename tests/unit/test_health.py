# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The health check of a release, where the service or the host's environment is in its way."""

from __future__ import annotations

import http.server
import importlib.util
import os
import sys
import threading
from pathlib import Path

import pytest

HEALTH = Path(__file__).parents[2] / "files/release/health.py"


@pytest.fixture(scope="module")
def health():
    spec = importlib.util.spec_from_file_location("health", HEALTH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["health"] = module
    spec.loader.exec_module(module)
    return module


def test_what_is_no_file_is_not_waited_for(health, tmp_path):
    (tmp_path / "file").write_text("said")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    found = {name: health.content(tmp_path / name) for name in ("file", "pipe", "link", "none")}
    assert found == {"file": b"said", "pipe": b"", "link": b"", "none": b""}
    assert health.content(tmp_path) == b""


class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'ebpf_exporter_enabled_configs{name="biolatency"} 1\n')

    def log_message(self, *words):
        pass


def test_a_proxy_of_the_environment_is_not_asked(health, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://192.0.2.1:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    with http.server.HTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        samples = health.scrape(f"http://127.0.0.1:{server.server_port}/metrics")
        server.shutdown()
    assert [sample.labels for sample in samples] == [{"name": "biolatency"}]


def test_an_answer_of_another_process_is_a_fault(health, monkeypatch, tmp_path):
    processes = iter(["7", "8"])
    monkeypatch.setattr(health, "main_process", lambda unit: next(processes))
    monkeypatch.setattr(health, "chosen", lambda unit: ["biolatency"])
    sample = health.Sample("ebpf_exporter_enabled_configs", {"name": "biolatency"}, 1)
    monkeypatch.setattr(health, "scrape", lambda url: [sample])
    options = health.arguments(["--folder", str(tmp_path)])
    assert list(health.faults_at_work("http://none", options)) == [
        "ebpf_exporter.service was started again while it was asked"
    ]
