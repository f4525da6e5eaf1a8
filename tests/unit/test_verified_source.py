# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources are believed for their bytes, never for the place they came from."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import tarfile
import zipfile

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _sources
from ansible_collections.linmonitor.stack.plugins.modules import verified_source

FILES = {"src/a.c": "int a;\n", "src/b/b.c": "int b;\n", "include/a.h": "#pragma once\n"}


def fill(folder, files=FILES):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.fixture
def tree(tmp_path):
    return fill(tmp_path / "tree")


@pytest.fixture
def pinned(tree):
    return _sources.tree_sha256(str(tree), ["src", "include"])


def archive(tree, path):
    with tarfile.open(path, "w:gz") as bundle:
        bundle.add(tree, arcname="source-1.0")
    return str(path)


def fetch(run, tmp_path, pinned, *places, **more):
    return run(
        verified_source,
        name="source 1.0",
        dest=str(tmp_path / "dest"),
        tree_sha256=pinned,
        tree_paths=["src", "include"],
        variable="source_archive",
        places=list(places),
        **more,
    )


def test_tree_hash_is_what_the_shell_says(tree, pinned):
    command = "find src include -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    said = subprocess.run(
        command, shell=True, cwd=tree, capture_output=True, text=True, check=True
    ).stdout
    assert said.split()[0] == pinned


def test_h1_is_the_hash_that_go_sum_defines(tmp_path):
    # Base64 of the SHA-256 over one line "<sha256>  <module>@<version>/<path>" per file.
    fill(tmp_path / "m", {"go.mod": "module m\n"})
    line = f"{hashlib.sha256(b'module m' + bytes([10])).hexdigest()}  m@v1/go.mod\n"
    wanted = base64.b64encode(hashlib.sha256(line.encode()).digest()).decode()
    assert _sources.go_module_h1(str(tmp_path / "m"), "m", "v1") == f"h1:{wanted}"


def test_first_place_with_the_right_bytes_wins(run, tmp_path, tree, pinned):
    good = archive(tree, tmp_path / "good.tar.gz")
    missing = {"kind": "archive", "location": str(tmp_path / "absent.tar.gz")}
    result = fetch(run, tmp_path, pinned, missing, {"kind": "archive", "location": good})
    assert result["changed"]
    assert result["place"] == f"archive {good}"
    assert result["attempts"] == [f"archive {missing['location']}: there is no such file"]
    assert (tmp_path / "dest/src/b/b.c").read_text() == FILES["src/b/b.c"]


def test_second_run_fetches_nothing(run, tmp_path, tree, pinned):
    place = {"kind": "archive", "location": archive(tree, tmp_path / "good.tar.gz")}
    fetch(run, tmp_path, pinned, place)
    (tmp_path / "good.tar.gz").unlink()
    assert fetch(run, tmp_path, pinned, place)["changed"] is False


def test_other_bytes_are_refused_and_nothing_stays(run, tmp_path, tree, pinned):
    (tree / "src/a.c").write_text("int a = 1;\n")
    bad = archive(tree, tmp_path / "bad.tar.gz")
    result = fetch(run, tmp_path, pinned, {"kind": "archive", "location": bad})
    assert result["failed"]
    assert "its tree hash is" in result["msg"]
    assert "source_archive" in result["msg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar.gz", "tree"]


def test_archive_with_another_checksum_is_refused_unopened(run, tmp_path, tree, pinned):
    place = {"kind": "archive", "location": archive(tree, tmp_path / "a.tgz"), "identity": "0" * 64}
    result = fetch(run, tmp_path, pinned, place)
    assert f"but {'0' * 64} was expected" in result["msg"]


def test_place_without_any_pin_is_refused(run, tmp_path, tree):
    place = {"kind": "archive", "location": archive(tree, tmp_path / "a.tgz")}
    result = fetch(run, tmp_path, None, place)
    assert "nothing is pinned" in result["msg"]


@pytest.mark.parametrize("name", ["../outside.c", "/outside.c"])
def test_archive_cannot_write_outside(run, tmp_path, pinned, name):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr(name, "int evil;\n")
    result = fetch(run, tmp_path, pinned, {"kind": "archive", "location": str(path)})
    assert "lies outside its own folder" in result["msg"]


def test_links_in_an_archive_are_left_out(run, tmp_path, tree):
    (tree / "src/link.c").symlink_to("/etc/passwd")
    pinned = _sources.tree_sha256(str(tree), ["src", "include"])
    place = {"kind": "archive", "location": archive(tree, tmp_path / "a.tgz")}
    assert fetch(run, tmp_path, pinned, place)["changed"]
    assert not os.path.lexists(tmp_path / "dest/src/link.c")
    assert (tmp_path / "dest/src/a.c").exists()


def git(*command, cwd):
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com"]
    return subprocess.run(
        ["git", *identity, *command], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tree):
    git("init", "--quiet", cwd=tree)
    git("add", ".", cwd=tree)
    git("commit", "--quiet", "--message=one", cwd=tree)
    git("tag", "v1.0", cwd=tree)
    return tree


def test_git_tag_with_the_pinned_commit(run, tmp_path, repository, pinned):
    commit = git("rev-parse", "HEAD", cwd=repository)
    place = {
        "kind": "git", "location": f"file://{repository}", "ref": "v1.0", "identity": commit,
    }  # fmt: skip
    result = fetch(run, tmp_path, pinned, place)
    assert result["changed"]
    assert not (tmp_path / "dest/.git").exists()


def test_moved_git_tag_is_refused(run, tmp_path, repository, pinned):
    place = {
        "kind": "git", "location": f"file://{repository}", "ref": "v1.0", "identity": "f" * 40,
    }  # fmt: skip
    assert "was expected" in fetch(run, tmp_path, pinned, place)["msg"]


def test_every_place_is_named_when_none_answers(run, tmp_path, pinned):
    git_place = {"kind": "git", "location": "file:///nowhere", "ref": "v1.0", "identity": "f" * 40}
    archive_place = {"kind": "archive", "location": "http://127.0.0.1:9/a.tgz"}
    result = fetch(run, tmp_path, pinned, git_place, archive_place)
    assert len(result["attempts"]) == 2
    for place in (git_place, archive_place):
        assert place["location"] in result["msg"]
