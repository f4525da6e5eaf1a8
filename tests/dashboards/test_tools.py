# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the real tools come from, and what is said where they are not."""

from __future__ import annotations

import tarfile

import pytest

from dashboards import tools


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "linmonitor"


def archive(cache, source, version):
    """Keep an archive in the release's shape whose promtool says it is `version`."""
    name = f"prometheus-{tools.VERSION}.linux-amd64"
    folder = cache / "prometheus" / f"{tools.VERSION}-{source}"
    binary = folder / name / "promtool"
    binary.parent.mkdir(parents=True)
    binary.write_text(f"#!/bin/sh\necho 'promtool, version {version} (branch: )'\n")
    binary.chmod(0o755)
    with tarfile.open(folder / f"{name}.tar.gz", "w:gz") as bundle:
        bundle.add(binary.parent, arcname=name)


def test_an_empty_cache_says_what_fills_it(cache):
    with pytest.raises(tools.ToolError, match="build it"):
        tools.tool("promtool")


def test_only_the_wanted_version_is_taken(cache):
    archive(cache, "module", "2.37.80")
    with pytest.raises(tools.ToolError):
        tools.tool("promtool")
    archive(cache, "release", tools.VERSION)
    assert tools.tool("promtool").name == f"promtool-{tools.VERSION}"
