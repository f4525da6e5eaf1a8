# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cached release of Prometheus that is damaged, and a release server that is not one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.lab.hosts import CHECKOUT

NAME = "prometheus-2.37.8.linux-amd64.tar.gz"
ARCHIVE = b"an archive of a release" * 100
LOGIN = b"<!DOCTYPE html><html><title>Log in to the network</title></html>"


def sums(archive: bytes, name: str = NAME) -> bytes:
    return f"{hashlib.sha256(archive).hexdigest()}  {name}\n".encode()


def of_release(archive: bytes) -> bytes:
    """Return what a release's page has: the archives of all platforms, one on a line."""
    others = [
        sums(name.encode(), NAME.replace("linux-amd64", name)) for name in ("aix", "linux-arm64")
    ]
    return b"".join([others[0], sums(archive), others[1]])


OTHER = sums(b"x", "prometheus-3.5.0.linux-amd64.tar.gz")
# By the first part of the path, what a server answers for checksums and archive.
SERVERS = {
    "good": (of_release(ARCHIVE), ARCHIVE),
    "login": (LOGIN, LOGIN),
    "moved to a login page": (None, None),
    "another version": (OTHER, ARCHIVE),
    "login for the archive": (of_release(ARCHIVE), LOGIN),
}


class Release(BaseHTTPRequestHandler):
    """Release servers of every kind."""

    def do_GET(self) -> None:
        server, _version, name = self.path.strip("/").replace("%20", " ").split("/")
        answer = SERVERS[server][name == NAME]
        if answer is None:
            self.send_response(302)
            self.send_header("Location", f"/login/v2.37.8/{name}")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


def be_a_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def be_a_login_page(path: Path) -> None:
    path.write_bytes(LOGIN)


# A run for each costs seconds: one of each kind, and the kinds that were once for good.
DAMAGED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an archive with one byte changed": (NAME, flip),
    "a folder in the place of the archive": (NAME, be_a_folder),
    "a login page as checksums": ("sha256sums.txt", be_a_login_page),
    "a folder in the place of the checksums": ("sha256sums.txt", be_a_folder),
}
BAD_SERVERS = {
    "moved to a login page": "Log in to the network",
    "another version": "so it is of another version or no checksums at all",
    "login for the archive": "did not match",
}


def fill(cache: Path) -> Path:
    """Make a cache that has the release."""
    entry = cache / "prometheus/2.37.8-release"
    entry.mkdir(parents=True)
    (entry / NAME).write_bytes(ARCHIVE)
    (entry / "sha256sums.txt").write_bytes(sums(ARCHIVE))
    (entry / "release-sha256sums.txt").write_bytes(LOGIN)
    return entry


@contextlib.contextmanager
def servers() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Release) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def task(folder: Path, case: str, url: str) -> dict:
    """Have the archive for a case, and keep what was said where there is none."""
    said = {"content": "{{ ansible_failed_result.msg }}", "dest": f"{folder}/{case}.said"}
    role = {"name": "linmonitor.stack.prometheus", "tasks_from": "archive"}
    return {
        "vars": {"linmonitor_cache": f"{folder}/{case}", "prometheus_release_url": url},
        "block": [{"ansible.builtin.include_role": role}],
        "rescue": [{"ansible.builtin.copy": said}],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return the folder with each case's cache and words, after one run for all."""
    folder = tmp_path_factory.mktemp("caches")
    tasks = []
    with servers() as address:
        for case, (name, damage) in DAMAGED.items():
            damage(fill(folder / case) / name)
            tasks.append(task(folder, case, f"{address}/good"))
        for case in BAD_SERVERS:
            tasks.append(task(folder, case, f"{address}/{case.replace(' ', '%20')}"))
        fill(folder / "whole, and nobody answers")
        tasks.append(task(folder, "whole, and nobody answers", "http://127.0.0.1:9"))
        flip(fill(folder / "damaged, and nobody answers") / NAME)
        tasks.append(task(folder, "damaged, and nobody answers", "file:///absent"))
        play = {
            "hosts": "localhost", "gather_facts": False, "tasks": tasks,
            "vars": {"ansible_python_interpreter": sys.executable},
        }  # fmt: skip
        (folder / "play.yml").write_text(yaml.safe_dump([play]))
        done = subprocess.run(
            [shutil.which("ansible-playbook") or "", "-i", "localhost,", "-c", "local",
             str(folder / "play.yml")],
            cwd=CHECKOUT, env=os.environ | {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return folder


def said(folder: Path, case: str) -> str:
    path = folder / f"{case}.said"
    return path.read_text() if path.exists() else ""


@pytest.mark.reliability(
    "the controller's cache of Prometheus: {id}", "the next run has the right archive by itself"
)
@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_cache_is_mended_by_the_next_run(folder, case):
    assert said(folder, case) == ""
    entry = folder / case / "prometheus/2.37.8-release"
    assert (entry / NAME).read_bytes() == ARCHIVE
    assert (entry / "sha256sums.txt").read_bytes() == sums(ARCHIVE)


@pytest.mark.reliability(
    "a release server that answers with: {id}", "refused with what it answered, and the ways out"
)
@pytest.mark.parametrize(("case", "words"), BAD_SERVERS.items(), ids=list(BAD_SERVERS))
def test_a_server_that_is_none_is_named(folder, case, words):
    assert words in said(folder, case)
    for way in ("prometheus_archive", "prometheus_release_url", "https_proxy"):
        assert way in said(folder, case)
    assert not (folder / case / "prometheus/2.37.8-release/sha256sums.txt").exists()


@pytest.mark.reliability("a whole cache, and no server that answers", "used, and nobody is asked")
def test_a_whole_cache_asks_nobody(folder):
    assert said(folder, "whole, and nobody answers") == ""


@pytest.mark.reliability(
    "a damaged cache, and no server that answers", "refused with the variables that help"
)
def test_a_damaged_cache_without_a_server_is_refused(folder):
    for way in ("prometheus_archive", "prometheus_release_url", "localhost"):
        assert way in said(folder, "damaged, and nobody answers")
