# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives and bundles are unpacked whole or not at all, and damage is mended by the next run."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _archive
from ansible_collections.linmonitor.stack.plugins.modules import unpacked_archive, unpacked_bundle

FILES = {"top-1.0/bin/run": b"program", "top-1.0/read": b"text"}


def pack(path: Path, files: dict[str, bytes], link: str = "") -> str:
    with tarfile.open(path, "w") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            packed.addfile(info)
    return str(path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def unpack(run, tmp_path):
    """Run the module as its action does, once to ask and once with the archive."""

    def call(archive: str, **more) -> dict:
        arguments = {
            "src": archive, "dest": str(tmp_path / "opt/dest"), "top_folder": True,
            "sha256": _archive.file_sha256(archive), **more,
        }  # fmt: skip
        asked = run(unpacked_archive, **arguments)
        return (
            run(unpacked_archive, **arguments, sent=archive) if asked["archive_wanted"] else asked
        )

    return call


def test_an_archive_is_unpacked_once(tmp_path, unpack):
    archive = pack(tmp_path / "a.tar", FILES)
    assert unpack(archive)["changed"]
    assert (tmp_path / "opt/dest/bin/run").read_bytes() == b"program"
    assert not unpack(archive)["changed"]
    assert names(tmp_path / "opt") == ["dest"]


@pytest.mark.reliability(
    "a program of Prometheus on its host: gone, or one byte changed", "unpacked afresh"
)
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"progrbm")])
def test_damage_is_mended(tmp_path, unpack, damage):
    archive = pack(tmp_path / "a.tar", FILES)
    unpack(archive)
    damage(tmp_path / "opt/dest/bin/run")
    assert unpack(archive)["changed"]
    assert (tmp_path / "opt/dest/bin/run").read_bytes() == b"program"


@pytest.mark.reliability("an unpacking that was cut off before", "gone with the next one")
def test_another_archive_takes_the_place_and_what_a_cut_left_goes(tmp_path, unpack):
    unpack(pack(tmp_path / "a.tar", FILES))
    (tmp_path / "opt/.new/old").mkdir(parents=True)
    assert unpack(pack(tmp_path / "b.tar", {"top/other": b"x"}))["changed"]
    assert names(tmp_path / "opt") == ["dest"]
    assert names(tmp_path / "opt/dest") == [".content.json", "other"]


@pytest.mark.parametrize(
    ("what", "more", "said"),
    [
        ((FILES, "top-1.0/link"), {}, "'top-1.0/link', which is a symbolic link"),
        ((FILES,), {"sha256": "0" * 64}, "expected is 0000"),
        ((FILES | {"beside": b""},), {}, "does not hold one folder with all the rest"),
        (({"beside": b""},), {}, "does not hold one folder with all the rest"),
    ],
)
def test_what_is_refused_leaves_the_folder_as_it_was(tmp_path, unpack, what, more, said):
    unpack(pack(tmp_path / "a.tar", FILES))
    before = snapshot(tmp_path / "opt")
    answer = unpack(pack(tmp_path / "b.tar", *what), **more)
    assert said in answer["msg"]
    assert f"{tmp_path}/opt/dest is as it was" in answer["msg"]
    assert snapshot(tmp_path / "opt") == before


def test_folders_that_another_instance_makes_at_the_same_time_are_taken(
    tmp_path, unpack, monkeypatch
):
    really = os.mkdir

    def overtaken(path, *mode):
        if Path(path).name == "opt" and not Path(path).exists():
            really(path, *mode)
        really(path, *mode)

    monkeypatch.setattr(os, "mkdir", overtaken)
    unpack(pack(tmp_path / "one.tar", FILES))
    assert (tmp_path / "opt/dest/read").read_bytes() == b"text"


def test_check_mode_says_what_would_be_done_without_the_archive(run, tmp_path):
    answer = run(
        unpacked_archive, src="absent", dest=str(tmp_path / "dest"), _ansible_check_mode=True
    )
    assert answer["changed"]
    assert list(tmp_path.iterdir()) == []


# --- bundles

ENTRIES = {"artifacts/k/a.tar.gz": b"artifact", "prometheus/p/p.tar.gz": b"archive"}


def lock(files: dict[str, bytes]) -> bytes:
    lines = (f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in files.items())
    return "".join(lines).encode()


def bundle(path: Path, files=ENTRIES, locked: bytes | None = None, link: str = "") -> str:
    text = lock(files) if locked is None else locked
    return pack(path, {"linmonitor.lock.txt": text, **files}, link)


@pytest.mark.reliability(
    "an entry of a bundle in the cache: {id}", "the same bundle brings it again"
)
@pytest.mark.parametrize("damaged", [None, "gone", "flipped", "a folder"])
def test_a_bundle_fills_the_cache_and_mends_it(run, tmp_path, damaged):
    source, cache = bundle(tmp_path / "site.tar"), tmp_path / "cache"
    first = run(unpacked_bundle, src=source, cache=str(cache))
    assert first["changed"]
    place = cache / "artifacts/k/a.tar.gz"
    if damaged:
        place.unlink()
    if damaged == "flipped":
        place.write_bytes(b"artifacu")
    if damaged == "a folder":
        (place / "x").mkdir(parents=True)
    again = run(unpacked_bundle, src=source, cache=str(cache))
    assert again["changed"] == bool(damaged)
    assert again["files"] == first["files"]
    assert again["files"]["artifacts/k/a.tar.gz"]["path"] == str(place)
    assert {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()} == {
        *ENTRIES
    }
    assert place.read_bytes() == b"artifact"


BAD = {
    "lock lies": ({"locked": lock(ENTRIES | {"prometheus/p/p.tar.gz": b"x"})}, "has the SHA-256"),
    "not locked": (
        {"locked": lock({"artifacts/k/a.tar.gz": b"artifact"})},
        "prometheus/p/p.tar.gz is not named by its linmonitor.lock.txt",
    ),
    "not in it": ({"locked": lock(ENTRIES | {"b": b""})}, "b is not in it"),
    "outside, locked": ({"locked": lock(ENTRIES | {"../../b": b""})}, "../../b is not in it"),
    "outside": ({"files": {"../b": b""}}, "'../b', which lies outside its own folder"),
    "no lock": ({"locked": b""}, "has no linmonitor.lock.txt, or an empty one"),
    "login page": ({"locked": b"<html>log in</html>"}, "a line '<html>log in</html>'"),
    "link": ({"link": "artifacts/link"}, "which is a symbolic link"),
}


@pytest.mark.reliability("a bundle: {id}", "refused by what is wrong, the cache is as it was")
@pytest.mark.parametrize(("what", "said"), BAD.values(), ids=list(BAD))
def test_a_bundle_with_anything_else_is_refused(run, tmp_path, what, said):
    cache = tmp_path / "cache"
    answer = run(unpacked_bundle, src=bundle(tmp_path / "site.tar", **what), cache=str(cache))
    assert "site.tar is refused, and nothing of it was used" in answer["msg"]
    assert said in answer["msg"]
    assert "playbooks/bundle.yml" in answer["msg"]
    assert not cache.exists() or not any(cache.iterdir())


@pytest.mark.reliability("a bundle: cut short", "refused, the cache is as it was")
def test_a_bundle_that_is_cut_short_is_refused(run, tmp_path):
    source = bundle(tmp_path / "site.tar", ENTRIES | {"z": bytes(9000)})
    os.truncate(source, 6000)
    answer = run(unpacked_bundle, src=source, cache=str(tmp_path / "cache"))
    assert "is refused, and nothing of it was used" in answer["msg"]
