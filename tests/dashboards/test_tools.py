# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the real tools come from, and what is said where they cannot come from anywhere."""

from __future__ import annotations

import json

import pytest

from dashboards import tools


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "linmonitor"


def _fake(path, version):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'promtool, version {version} (branch: )'\n")
    path.chmod(0o755)
    return path


def test_without_go_the_message_says_what_to_do(monkeypatch, empty_cache):
    monkeypatch.setattr(tools.shutil, "which", lambda name: None)
    with pytest.raises(tools.ToolError, match="install Go, or put both into"):
        tools.tool("promtool")


def test_controller_cache_serves_only_the_wanted_version(monkeypatch, empty_cache):
    monkeypatch.setattr(tools.shutil, "which", lambda name: None)
    _fake(empty_cache / "prometheus/old/promtool", "2.37.80")
    with pytest.raises(tools.ToolError):
        tools.tool("promtool")
    wanted = _fake(empty_cache / "prometheus/right/promtool", tools.VERSION)
    assert tools.tool("promtool") == wanted


def test_a_module_with_other_content_is_refused(monkeypatch, empty_cache):
    monkeypatch.setattr(tools.shutil, "which", lambda name: "/usr/bin/go")
    other = json.dumps({"Sum": "h1:other=", "Dir": "/nowhere"})
    monkeypatch.setattr(tools, "_run", lambda command, cwd=None: other)
    with pytest.raises(tools.ToolError, match="has checksum h1:other="):
        tools.tool("promtool")
