# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make archives of Prometheus in the shape of its releases, where those cannot be had.

The binaries are real, compiled from the pinned Go module or out of Debian's packages; what they
lack is the web UI's files, so the API works and the pages do not. `python -m tests.lab.prometheus`
prints what to hand in.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import yaml

from tests.lab import go
from tests.lab.cache import cache, made_once
from tests.lab.debian import Archive
from tests.lab.hosts import CHECKOUT, LabError, run

PINS = yaml.safe_load((CHECKOUT / "versions.yml").read_text())["prometheus"]
VERSION = next(iter(PINS))
NAME = f"prometheus-{VERSION}.linux-amd64"
PROGRAMS = ("prometheus", "promtool")
# Where scenarios find it: its place in the cache depends on the compiler.
LINK = CHECKOUT / ".lab/prometheus-archive"
VARIABLE = "github.com/prometheus/common/version"


def flags(version: str) -> list[str]:
    """Return the flags of Go, with what a compiled version says of itself."""
    info = {
        "Version": version,
        "Revision": PINS[version].get("revision", ""),
        "Branch": f"v{version}",
        "BuildUser": "linmonitor.stack",
        "BuildDate": "19700101-00:00:00",
    }
    words = [f"-X {VARIABLE}.{name}={value}" for name, value in info.items() if value]
    return ["-tags=netgo", f"-ldflags={' '.join(['-s -w', *words])}"]


def compiled(version: str, packed: Path) -> None:
    """Compile the programs of a version into a folder."""
    print(f"lab: compiling Prometheus {version} from its Go module (minutes)", file=sys.stderr)
    pin = PINS[version]
    tree = go.source(f"{pin['module']}@{pin['module_version']}", pin["h1"])
    go.compile_into(packed, tree, (f"./cmd/{name}" for name in PROGRAMS), *flags(version))


def unpacked(suite: str, packed: Path) -> None:
    """Take the programs of Debian's packages into a folder."""
    with tempfile.TemporaryDirectory(prefix="linmonitor-prometheus-") as scratch:
        try:
            archive = Archive([suite], Path(scratch, "apt"))
            archive.apt("apt-get", "update")
            archive.unpack(list(PROGRAMS), Path(scratch, "root"))
        except (RuntimeError, LookupError, FileNotFoundError) as error:
            raise LabError(f"Debian's {suite} gave no packages: {error}") from error
        for name in PROGRAMS:
            shutil.copy(Path(scratch, "root/usr/bin", name), packed / name)


def pack(packed: Path) -> None:
    """Make the archive of a folder, and its checksums, beside it."""
    tarball = packed.with_name(f"{packed.name}.tar.gz")
    run(
        "tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner",
        "--mode=u=rwX,go=rX", "--use-compress-program=gzip -n -6",
        f"--directory={packed.parent}", "--create", f"--file={tarball}", packed.name,
    )  # fmt: skip
    packed.with_name("sha256sums.txt").write_text(f"{sha256(tarball)}  {tarball.name}\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def folder_of(version: str) -> Path:
    """Return the folder of a version in the cache, which its content and its compiler name."""
    inputs = [version, PINS[version]]
    if "module" in PINS[version]:
        inputs = [PINS[version], [*go.BUILD, *flags(version)], go.ENVIRONMENT, go.version()]
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    return cache() / "prometheus-module" / key


def cached(version: str = VERSION) -> Path:
    """Return the folder with archive, checksums and binaries, after making what is missing."""
    if "module" in PINS[version]:
        go.require()

    def make(folder: Path) -> None:
        packed = folder / "new"
        packed.mkdir()
        if "module" in PINS[version]:
            compiled(version, packed)
        else:
            unpacked(PINS[version]["debian"], packed)
        said = run(str(packed / "prometheus"), "--version")
        # A suite may have moved on.
        found = re.findall(r"version ([\d.]+)", said)[0]
        pack(packed.rename(folder / f"prometheus-{found}.linux-amd64"))

    return made_once(folder_of(version), make)


def programs(version: str = VERSION) -> Path:
    """Return the folder of the programs, which has the name of their archive."""
    return next(path for path in cached(version).iterdir() if path.is_dir())


def to_be_had() -> list[str]:
    """Return the versions that tests run: all but those that only a long build would bring."""
    compiler = shutil.which("go")
    return [
        version
        for version, pin in PINS.items()
        if version == VERSION or "debian" in pin or (compiler and folder_of(version).exists())
    ]


def handed_in(version: str = VERSION) -> dict[str, str]:
    """Return the variables of the role that hand the archive in."""
    packed = programs(version)
    archive = packed.with_name(f"{packed.name}.tar.gz")
    return {
        "prometheus_version": re.findall(r"prometheus-([\d.]+)\.linux", packed.name)[0],
        "prometheus_archive": str(archive),
        "prometheus_archive_sha256": sha256(archive),
    }


def tool(name: str, version: str = VERSION) -> Path:
    """Return the path of one of its programs: prometheus or promtool."""
    return programs(version) / name


def main() -> int:
    """Make it, link to it from the checkout, and print the variables that hand it in."""
    version = sys.argv[1] if len(sys.argv) > 1 else VERSION
    try:
        variables = handed_in(version)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    if version == VERSION:
        LINK.parent.mkdir(exist_ok=True)
        draft = LINK.with_name(f"{LINK.name}.{os.getpid()}")
        draft.symlink_to(Path(variables["prometheus_archive"]).parent)
        draft.replace(LINK)
    print(yaml.safe_dump(variables), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
