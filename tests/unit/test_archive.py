# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive from elsewhere is data from strangers: what it may hold, and that nothing gets out."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _archive
from hypothesis import given, settings
from hypothesis import strategies as st

CHECKOUT = Path(__file__).parents[2]


def entry(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = ""):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    return info


def pack(path: Path, *entries: tarfile.TarInfo, **contents: bytes) -> str:
    """Write a tar.gz with entries as they are, then files by name."""
    with tarfile.open(path, "w:gz") as packed:
        for info in entries:
            packed.addfile(info, io.BytesIO(b"x" * info.size))
        for name, content in contents.items():
            info = entry(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return str(path)


def draft(tmp_path: Path) -> str:
    folder = tmp_path / "draft"
    folder.mkdir()
    return str(folder)


BAD = {
    "above": (entry("../outside"), "lies outside its own folder"),
    "hidden above": (entry("bin/../../outside"), "lies outside its own folder"),
    "absolute": (entry("/etc/outside"), "lies outside its own folder"),
    "symbolic link": (entry("bin/link", tarfile.SYMTYPE, link="/etc"), "is a symbolic link"),
    "link to itself": (entry("link", tarfile.SYMTYPE, link="link"), "is a symbolic link"),
    "hard link": (entry("hard", tarfile.LNKTYPE, link="/etc/shadow"), "is a hard link"),
    "character device": (entry("dev", tarfile.CHRTYPE), "is a device"),
    "block device": (entry("dev", tarfile.BLKTYPE), "is a device"),
    "named pipe": (entry("pipe", tarfile.FIFOTYPE), "is a named pipe"),
    "unknown kind": (entry("what", b"Q"), "is of an unknown kind"),
    "set-user-ID": (entry("su", mode=0o4755), "has a set-user-ID"),
    "set-group-ID": (entry("sg", mode=0o2755), "has a set-user-ID, set-group-ID"),
    "sticky folder": (entry("d", tarfile.DIRTYPE, 0o1755), "sticky bit"),
    "world-writable": (entry("w", mode=0o666), "may be written by everybody"),
    "world-writable folder": (entry("w", tarfile.DIRTYPE, 0o777), "may be written by everybody"),
    "line break": (entry("a\nb"), "characters in its name that cannot be shown"),
    "escape": (entry("a\x1b[2Jb"), "characters in its name that cannot be shown"),
    "bytes": (entry("a\udcff"), "characters in its name that cannot be shown"),
    "its own folder": (entry("./"), "is there twice"),
}


@pytest.mark.reliability(
    "an archive with an entry that has or is: {id}", "refused by its name, nothing was unpacked"
)
@pytest.mark.parametrize(("bad", "said"), BAD.values(), ids=list(BAD))
def test_what_no_archive_may_hold_is_refused_by_name(tmp_path, bad, said):
    archive = pack(tmp_path / "a.tar.gz", bad, good=b"x")
    folder = draft(tmp_path)
    with pytest.raises(_archive.ArchiveError) as refused:
        _archive.unpack(archive, folder)
    assert said in str(refused.value)
    assert ascii(bad.name.rstrip("/")).strip("'")[:5] in str(refused.value)
    assert not any(Path(folder).iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "draft"]


@pytest.mark.reliability("an archive with the same file twice", "refused by its name")
def test_the_same_file_twice_is_refused(tmp_path):
    archive = pack(tmp_path / "a.tar.gz", entry("./m"), m=b"other")
    with pytest.raises(_archive.ArchiveError, match="'m', which is there twice"):
        _archive.unpack(archive, draft(tmp_path))


@pytest.mark.reliability("an archive with a file that is a folder too", "refused by its name")
@pytest.mark.parametrize(("first", "then"), [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")])
def test_a_file_is_no_folder(tmp_path, first, then):
    archive = pack(tmp_path / "a.tar.gz", entry(first), entry(then))
    with pytest.raises(_archive.ArchiveError, match=r"twice|below a file"):
        _archive.unpack(archive, draft(tmp_path))


def sparse(path: Path) -> str:
    """Write a tar with a sparse file in GNU's old form: a terabyte without a byte."""
    info = entry("hole", tarfile.GNUTYPE_SPARSE)
    buffer = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    buffer[386:398] = buffer[398:410] = b"00000000000\0"
    buffer[483:495] = b"%011o\0" % (1 << 32)
    buffer[148:156] = b" " * 8
    buffer[148:156] = b"%06o\0 " % sum(buffer)
    path.write_bytes(bytes(buffer) + bytes(1024))
    return str(path)


def zeros(path: Path) -> str:
    """Write gigabytes of zeros behind a small archive, without ever holding them."""
    info = entry("zeros")
    info.size = 8 << 30
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(info.tobuf())
        for _ in range(80):
            stream.write(bytes(1 << 20))
    return str(path)


def long_header(path: Path) -> str:
    """Write a header for extended attributes of gigabytes, which a reader would hold in memory."""
    info = entry("pax", tarfile.XHDTYPE)
    info.size = 4 << 30
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(info.tobuf())
        stream.write(bytes(8 << 20))
    return str(path)


def backwards(path: Path) -> str:
    """Write an entry whose size leads back to itself."""
    info = entry("loop")
    buffer = bytearray(info.tobuf())
    buffer[124:136] = b"\xff" + struct.pack(">q", -512).rjust(11, b"\xff")
    buffer[148:156] = b" " * 8
    buffer[148:156] = b"%06o\0 " % sum(buffer)
    path.write_bytes(bytes(buffer) + bytes(1024))
    return str(path)


def crowd(path: Path) -> str:
    return pack(path, *(entry(str(number)) for number in range(20)))


LARGER = {
    "gigabytes of a sparse file": (sparse, "'hole', which is a sparse file"),
    "gigabytes of zeros behind a small one": (zeros, "'zeros', which makes it 8192 MB"),
    "a header of gigabytes": (long_header, "a header of 4294967296 bytes"),
    "an entry that ends before it begins": (backwards, "'loop', which has a size below zero"),
    "too many entries": (crowd, "which is one of too many"),
}


@pytest.mark.reliability("an archive with {id}", "refused by its name, without reading on")
@pytest.mark.parametrize(("make", "said"), LARGER.values(), ids=list(LARGER))
def test_what_is_larger_than_it_looks_is_refused(tmp_path, monkeypatch, make, said):
    monkeypatch.setattr(_archive, "MOST_MEMBERS", 10)
    with pytest.raises(_archive.ArchiveError) as refused:
        _archive.unpack(make(tmp_path / "a.tar"), draft(tmp_path))
    assert said in str(refused.value)


def test_many_files_of_zeros_are_counted_together(tmp_path, monkeypatch):
    monkeypatch.setattr(_archive, "SMALL", 1000)
    archive = pack(tmp_path / "a.tar.gz", **{f"f{number}": bytes(9000) for number in range(9)})
    with pytest.raises(_archive.ArchiveError, match="may come out of its"):
        _archive.unpack(archive, draft(tmp_path))


@pytest.mark.parametrize("opener", [open, gzip.open, bz2.open, lzma.open])
def test_files_and_folders_come_out_alike_whatever_the_archive_says(tmp_path, opener):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as packed:
        for info in (
            entry("./", tarfile.DIRTYPE, 0o700),
            entry("./bin", tarfile.DIRTYPE, 0o500),
            entry("./bin/run", mode=0o511),
            entry("./read", mode=0o400),
        ):
            info.uid = info.gid = 12345
            packed.addfile(info)
    with opener(tmp_path / "a", "wb") as stream:
        stream.write(plain.getvalue())
    before = os.umask(0o077)
    try:
        folder = Path(draft(tmp_path))
        sums = _archive.unpack(str(tmp_path / "a"), str(folder))
    finally:
        os.umask(before)
    assert set(sums) == {"bin/run", "read"}
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert modes == {"bin": 0o755, "run": 0o755, "read": 0o644}
    assert {path.stat().st_uid for path in folder.rglob("*")} == {os.geteuid()}


def zipped(path: Path, name: str, mode: int) -> str:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(info, "text")
    return str(path)


@pytest.mark.reliability("a zip with names, links, modes and devices of that kind", "the same")
@pytest.mark.parametrize(
    ("name", "mode", "said"),
    [
        ("../a", 0o100644, "outside"),
        ("a", 0o120777, "symbolic link"),
        ("a", 0o104755, "set-user-ID"),
        ("a", 0o100666, "everybody"),
        ("a", 0o010644, "named pipe"),
    ],
)
def test_a_zip_is_judged_alike(tmp_path, name, mode, said):
    archive = zipped(tmp_path / "a.zip", name, mode)
    with pytest.raises(_archive.ArchiveError, match=said):
        _archive.unpack(archive, draft(tmp_path))


def test_a_zip_without_modes_is_unpacked(tmp_path):
    _archive.unpack(zipped(tmp_path / "a.zip", "d/a", 0), draft(tmp_path))
    assert (tmp_path / "draft/d/a").read_text() == "text"


@pytest.mark.reliability(
    "an archive with bytes changed at random, or cut",
    "unpacked inside its folder or refused",
    times=300,
)
@settings(deadline=None, max_examples=300)
@given(damage=st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), max_size=8),
       cut=st.integers(0, 4096))  # fmt: skip
def test_damage_ends_in_a_word_and_never_outside(tmp_path_factory, damage, cut):
    tmp_path = tmp_path_factory.mktemp("damage")
    good = io.BytesIO()
    with tarfile.open(fileobj=good, mode="w") as packed:
        packed.addfile(entry("bin/run", mode=0o755))
        packed.addfile(entry("read"))
    data = bytearray(good.getvalue()[:cut])
    for place, byte in damage:
        if place < len(data):
            data[place] = byte
    (tmp_path / "a").write_bytes(data)
    with contextlib.suppress(_archive.ArchiveError):
        _archive.unpack(str(tmp_path / "a"), draft(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "draft"]
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def be_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def be_a_link(path: Path) -> None:
    path.rename(f"{path}.x")
    path.symlink_to(f"{path}.x")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: os.truncate(path, 1),
    "empty": lambda path: os.truncate(path, 0),
    "gone": Path.unlink,
    "a folder": be_a_folder,
    "a link": be_a_link,
    "not executable": lambda path: path.chmod(0o644),
}


@pytest.mark.reliability("a file of a folder that was unpacked: {id}", "seen as damaged")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
@pytest.mark.parametrize("what", ["bin/run", _archive.CONTENT])
def test_damage_of_a_folder_that_was_unpacked_is_seen(tmp_path, what, damage):
    archive = pack(tmp_path / "a.tar.gz", entry("bin/run", mode=0o755), **{"read": b"text"})
    folder = draft(tmp_path)
    _archive.remember(folder, _archive.unpack(archive, folder), "abc")
    assert _archive.whole(folder)
    assert _archive.whole(folder, "abc")
    assert not _archive.whole(folder, "def")
    if what == _archive.CONTENT and damage in (DAMAGE["not executable"], DAMAGE["a link"]):
        return
    (tmp_path / "draft/bin/run").write_text("program")
    _archive.remember(folder, {"bin/run": _archive.file_sha256(f"{folder}/bin/run")})
    damage(tmp_path / "draft" / what)
    assert not _archive.whole(folder)


def test_nobody_else_unpacks():
    """Archives from elsewhere all go through the one function; Grafana's is the play's own copy."""
    words = ("extractall", "unpack_archive", "zipfile", "builtin.unarchive", "--extract")
    found = {
        str(path.relative_to(CHECKOUT))
        for room in ("plugins", "roles", "playbooks")
        for suffix in ("py", "yml")
        for path in (CHECKOUT / room).rglob(f"*.{suffix}")
        if any(word in path.read_text() for word in words)
    }
    assert found == {"plugins/module_utils/_archive.py", "roles/grafana/vars/main.yml"}
