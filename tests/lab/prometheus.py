# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make archives of Prometheus in the shape of its releases, where those cannot be had.

The binaries are real, compiled from the pinned Go module or out of Debian's packages; what they
lack is the web UI's files, so the API works and the pages do not. `python -m tests.lab.prometheus`
prints what to hand in.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from tests.lab.debian import Archive
from tests.lab.hosts import CHECKOUT, LabError, run

PINS = yaml.safe_load((CHECKOUT / "versions.yml").read_text())["prometheus"]
VERSION = next(iter(PINS))
NAME = f"prometheus-{VERSION}.linux-amd64"
PROGRAMS = ("prometheus", "promtool")
# Where scenarios find it: its place in the cache depends on the compiler.
LINK = CHECKOUT / ".lab/prometheus-archive"
VARIABLE = "github.com/prometheus/common/version"
BUILD = ["build", "-buildvcs=false", "-trimpath", "-tags=netgo"]
# The compiler of this machine and no flags of its user: the same bytes for everybody who has it.
ENVIRONMENT = {
    "GOTOOLCHAIN": "local", "GOFLAGS": "", "GOWORK": "off",
    "GOOS": "linux", "GOARCH": "amd64", "GOAMD64": "v1", "CGO_ENABLED": "0",
}  # fmt: skip


def go(*arguments: str, folder: Path = CHECKOUT) -> str:
    """Return what Go prints; LabError with its last lines where it fails."""
    done = subprocess.run(
        ["go", *arguments], cwd=folder, env=os.environ | ENVIRONMENT,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise LabError(f"go {arguments[0]} ended with {done.returncode}:\n{tail}")
    return done.stdout


def require_go() -> None:
    """Install the distribution's Go where there is none, or say how."""
    if shutil.which("go"):
        return
    installer = str(CHECKOUT / "tests/lab/packages/install")
    if os.geteuid() != 0:
        raise LabError(
            f"Prometheus is compiled with Go, which is missing here: sudo {installer} golang-go"
        )
    run(installer, "golang-go")


def source(version: str = VERSION) -> Path:
    """Return the pinned module in Go's cache; LabError where the proxy has other bytes."""
    pin = PINS[version]
    module = f"{pin['module']}@{pin['module_version']}"
    found = json.loads(go("mod", "download", "-json", module))
    if found["Sum"] != pin["h1"]:
        raise LabError(f"{module} has the hash {found['Sum']}, pinned is {pin['h1']}")
    return Path(found["Dir"])


def ldflags(version: str) -> str:
    """Return what a compiled version says of itself, as the linker's flags."""
    info = {
        "Version": version,
        "Revision": PINS[version].get("revision", ""),
        "Branch": f"v{version}",
        "BuildUser": "linmonitor.stack",
        "BuildDate": "19700101-00:00:00",
    }
    words = [f"-X {VARIABLE}.{name}={value}" for name, value in info.items() if value]
    return " ".join(["-s -w", *words])


def compiled(version: str, packed: Path) -> None:
    """Compile the programs of a version into a folder."""
    print(f"lab: compiling Prometheus {version} from its Go module (minutes)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="linmonitor-prometheus-") as scratch:
        # Go does not compile inside of its cache.
        tree = shutil.copytree(source(version), Path(scratch, "source"))
        for path in tree.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        commands = [f"./cmd/{name}" for name in PROGRAMS]
        go(*BUILD, f"-ldflags={ldflags(version)}", f"-o={packed}/", *commands, folder=tree)


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
        build = [*BUILD, f"-ldflags={ldflags(version)}"]
        inputs = [PINS[version], build, ENVIRONMENT, go("env", "GOVERSION").strip()]
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "linmonitor/prometheus-module" / key


def cached(version: str = VERSION) -> Path:
    """Return the folder with archive, checksums and binaries, after making what is missing."""
    if "module" in PINS[version]:
        require_go()
    folder = folder_of(version)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel tests ask at once
        if not folder.exists():
            draft = folder.with_name(f"{folder.name}.new")
            shutil.rmtree(draft, ignore_errors=True)
            packed = draft / "new"
            packed.mkdir(parents=True)
            if "module" in PINS[version]:
                compiled(version, packed)
            else:
                unpacked(PINS[version]["debian"], packed)
            said = run(str(packed / "prometheus"), "--version")
            # A suite may have moved on.
            found = re.findall(r"version ([\d.]+)", said)[0]
            pack(packed.rename(draft / f"prometheus-{found}.linux-amd64"))
            draft.rename(folder)
    return folder


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
