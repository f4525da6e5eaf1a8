# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an archive may contain, and its unpacking: the one place that decides, wherever it runs.

A hash says that an archive is the one that somebody meant, not that it means well. So each is
taken for data from strangers: plain files and folders below its own folder, with names that can
be shown, modes that give nothing away and a size that fits that of the archive.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import json
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from typing import IO, Any, Container, Dict, Iterator, NamedTuple, Set, Tuple

from ansible_collections.linmonitor.stack.plugins.module_utils import _release, _writing

CHUNK = 1 << 20
MOST_MEMBERS = 200_000
# Sources and programs shrink to a third or a tenth; a small archive may be anything.
MOST_GROWTH, SMALL = 20, 64 << 20
FILE, FOLDER = "a file", "a folder"
LINKS = ("a symbolic link", "a hard link")
# Of a folder that was unpacked: what its files must hash to, and of what archive they are.
CONTENT = ".content.json"
ZIP = b"PK\x03\x04"
COMPRESSED = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open))
UNREADABLE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError,
    ValueError, OverflowError, NotImplementedError, RuntimeError,
)  # fmt: skip


class ArchiveError(Exception):
    """Why an archive is refused; the message names what it holds."""


class Member(NamedTuple):
    """An entry of an archive, as the archive tells it."""

    name: str
    kind: str
    mode: int
    size: int


class _Judge:
    """What is known of an archive's entries so far."""

    def __init__(self, archive: str) -> None:
        self.size = os.path.getsize(archive)
        self.room = SMALL + MOST_GROWTH * self.size
        self.files: Set[str] = set()
        self.folders = {""}
        self.bytes = self.number = 0

    def take(self, member: Member) -> str:
        """Return an entry's path below the archive's own folder, or refuse it by name."""
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        path = "/".join(parts)
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
        self.number += 1
        self.bytes += member.size
        for reason, holds in (
            ("has characters in its name that cannot be shown", not member.name.isprintable()),
            ("lies outside its own folder", member.name.startswith("/") or ".." in parts),
            ("is %s" % member.kind, member.kind not in (FILE, FOLDER)),
            ("has a set-user-ID, set-group-ID or sticky bit", member.mode & 0o7000),
            ("may be written by everybody", member.mode & 0o002),
            ("has a size below zero", member.size < 0),
            (
                "is there twice",
                path in self.files or (path in self.folders and member.kind == FILE),
            ),
            ("lies below a file", self.files.intersection(above)),
            ("is one of too many", self.number > MOST_MEMBERS),
            (self._too_large(), self.bytes > self.room),
        ):
            if holds:
                # As ASCII: a name may be anything.
                raise ArchiveError("it holds %s, which %s" % (ascii(member.name[:200]), reason))
        self.folders.update(above)
        (self.files if member.kind == FILE else self.folders).add(path)
        return path

    def _too_large(self) -> str:
        sizes = self.bytes >> 20, self.room >> 20, self.size
        return "makes it %d MB, and at most %d MB may come out of its %d bytes" % sizes


def members(archive: str, left_out: Container[str] = ()) -> Iterator[Tuple[str, Member, IO[bytes]]]:
    """Give path, entry and content of all that an archive holds; refuse it at the first fault.

    Entries of a kind in `left_out` are passed over.
    """
    judge = _Judge(archive)
    with _readable():
        for member, content in _entries(archive, judge.room):
            if member.kind not in left_out:
                yield judge.take(member), member, content


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except UNREADABLE as error:
        raise ArchiveError("it cannot be read to its end: %s" % error) from error


def unpack(archive: str, folder: str, left_out: Container[str] = ()) -> Dict[str, str]:
    """Unpack into an empty folder that nobody else writes to; return each file's SHA-256 by path.

    Modes do not vary with the archive or the umask. Whoever calls removes the folder after a fault.
    """
    sums = {}
    for path, member, content in members(archive, left_out):
        target = os.path.join(folder, path)
        if member.kind == FOLDER:
            _release.make_folders(target)
            continue
        _release.make_folders(os.path.dirname(target))
        sums[path] = _write(target, content)
        os.chmod(target, 0o755 if member.mode & 0o111 else 0o644)
    return sums


def _write(target: str, content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    with _writing.naming(target), open(target, "xb") as stream, _readable():
        for chunk in iter(lambda: content.read(CHUNK), b""):
            stream.write(chunk)
            digest.update(chunk)
    return digest.hexdigest()


def look(archive: str, name: str) -> Tuple[str, Set[str]]:
    """Return a text out of an archive, nothing if it has none, and the paths of all its files."""
    found, paths = "", set()
    for path, member, content in members(archive):
        if member.kind == FILE:
            paths.add(path)
        if path == name and content:
            with _readable():
                found = content.read(CHUNK).decode("utf-8")
    return found, paths


# --- a folder that was unpacked


def remember(folder: str, sums: Dict[str, str], archive: str = "") -> None:
    """Write down hash and mode of a folder's files, and the hash of the archive they are of."""
    files = {path: [digest, _mode(folder, path)] for path, digest in sums.items()}
    with open(os.path.join(folder, CONTENT), "w", encoding="utf-8") as stream:
        json.dump({"archive": archive, "files": files}, stream, sort_keys=True)
    os.chmod(os.path.join(folder, CONTENT), 0o644)


def whole(folder: str, archive: str = "") -> bool:
    """Say whether all that was unpacked is there as it was, of that archive if one is named."""
    try:
        with open(os.path.join(folder, CONTENT), encoding="utf-8") as stream:
            content = json.load(stream)
        return archive in ("", content["archive"]) and all(
            [file_sha256(os.path.join(folder, path)), _mode(folder, path)] == entry
            for path, entry in content["files"].items()
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _mode(folder: str, path: str) -> int:
    return os.lstat(os.path.join(folder, path)).st_mode


def file_sha256(path: str) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK), b""):
            digest.update(chunk)
    return digest.hexdigest()


# --- entries of tar and zip, alike


class _Bounded:
    """A stream that ends a reading which leads nowhere: headers and gaps can be gigabytes too."""

    def __init__(self, stream: Any, room: int) -> None:
        # Headers and padding need some themselves.
        self.stream, self.end, self.tell = stream, 2 * room, stream.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= CHUNK:
            raise ArchiveError("it holds a header of %d bytes" % size)
        self._refuse_beyond(self.tell() + size)
        return self.stream.read(size)

    def seek(self, place: int) -> int:
        self._refuse_beyond(place)
        return self.stream.seek(place)

    def _refuse_beyond(self, place: int) -> None:
        if place > self.end:
            raise ArchiveError("it is too large: it goes on beyond %d MB" % (self.end >> 20))


def _entries(archive: str, room: int) -> Iterator[Tuple[Member, IO[bytes]]]:
    with contextlib.ExitStack() as stack:
        stream: Any = stack.enter_context(open(archive, "rb"))
        start = stream.read(8)
        stream.seek(0)
        if start.startswith(ZIP):
            yield from _zip_entries(stack.enter_context(zipfile.ZipFile(stream)))
            return
        for magic, unpacked in COMPRESSED:
            if start.startswith(magic):
                stream = stack.enter_context(unpacked(stream))
        bounded: Any = _Bounded(stream, room)
        packed = stack.enter_context(tarfile.open(fileobj=bounded, mode="r:"))
        for info in packed:
            kind = _kind_of(info)
            content: Any = packed.extractfile(info) if kind == FILE else None
            yield Member(info.name, kind, info.mode, info.size), content


def _kind_of(info: tarfile.TarInfo) -> str:
    kinds = {
        "a sparse file": info.issparse(),
        FOLDER: info.isdir(),
        LINKS[0]: info.issym(),
        LINKS[1]: info.islnk(),
        "a named pipe": info.isfifo(),
        "a device": info.ischr() or info.isblk(),
        FILE: info.isreg(),
    }
    return next((kind for kind, is_it in kinds.items() if is_it), "of an unknown kind")


def _zip_entries(packed: zipfile.ZipFile) -> Iterator[Tuple[Member, IO[bytes]]]:
    for info in packed.infolist():
        mode = info.external_attr >> 16
        kind = FOLDER if info.is_dir() else FILE
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = LINKS[0] if stat.S_ISLNK(mode) else "a device or a named pipe"
        with packed.open(info) as content:
            yield Member(info.filename, kind, stat.S_IMODE(mode), info.file_size), content
