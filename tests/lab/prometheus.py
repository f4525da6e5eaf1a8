# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make an archive of Prometheus in the shape of its release, where a Go proxy is all there is.

The binaries are real, compiled from the pinned Go module; what that lacks is the web UI's files, so
the API works and the pages do not. `python -m tests.lab.prometheus` prints what to hand in.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from tests.lab.hosts import CHECKOUT, LabError, run

PINS = yaml.safe_load((CHECKOUT / "versions.yml").read_text())["prometheus"]
VERSION = next(iter(PINS))
PIN = PINS[VERSION]
NAME = f"prometheus-{VERSION}.linux-amd64"
# Where scenarios find it: its place in the cache depends on the compiler.
LINK = CHECKOUT / ".lab/prometheus-archive"
INFO = {
    "Version": VERSION,
    "Revision": PIN["revision"],
    "Branch": f"v{VERSION}",
    "BuildUser": "linmonitor.stack",
    "BuildDate": "19700101-00:00:00",
}
VARIABLE = "github.com/prometheus/common/version"
LDFLAGS = " ".join(["-s -w", *(f"-X {VARIABLE}.{name}={value}" for name, value in INFO.items())])
BUILD = ["build", "-buildvcs=false", "-trimpath", "-tags=netgo", f"-ldflags={LDFLAGS}"]
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


def source() -> Path:
    """Return the pinned module in Go's cache; LabError where the proxy has other bytes."""
    module = f"{PIN['module']}@{PIN['module_version']}"
    found = json.loads(go("mod", "download", "-json", module))
    if found["Sum"] != PIN["h1"]:
        raise LabError(f"{module} has the hash {found['Sum']}, pinned is {PIN['h1']}")
    return Path(found["Dir"])


def build(folder: Path) -> None:
    """Compile and pack into a folder."""
    print(f"lab: compiling Prometheus {VERSION} from its Go module (minutes)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="linmonitor-prometheus-") as scratch:
        # Go does not compile inside of its cache.
        tree = shutil.copytree(source(), Path(scratch, "source"))
        for path in tree.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        packed = folder / NAME
        packed.mkdir()
        go(*BUILD, f"-o={packed}/", "./cmd/prometheus", "./cmd/promtool", folder=tree)
    tarball = folder / f"{NAME}.tar.gz"
    run(
        "tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner",
        "--mode=u=rwX,go=rX", "--use-compress-program=gzip -n -6",
        f"--directory={folder}", "--create", f"--file={tarball}", NAME,
    )  # fmt: skip
    (folder / "sha256sums.txt").write_text(f"{sha256(tarball)}  {tarball.name}\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def cached() -> Path:
    """Return the folder with archive, checksums and binaries, after building what is missing."""
    require_go()
    inputs = [PIN, BUILD, ENVIRONMENT, go("env", "GOVERSION").strip()]
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "linmonitor/prometheus-module" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel tests ask at once
        if not folder.exists():
            draft = folder.with_name(f"{key}.new")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            build(draft)
            draft.rename(folder)
    return folder


def handed_in() -> dict[str, str]:
    """Return the variables of the role that hand the archive in."""
    archive = cached() / f"{NAME}.tar.gz"
    return {"prometheus_archive": str(archive), "prometheus_archive_sha256": sha256(archive)}


def tool(name: str) -> Path:
    """Return the path of one of its programs: prometheus or promtool."""
    return cached() / NAME / name


def main() -> int:
    """Make it, link to it from the checkout, and print the variables that hand it in."""
    try:
        variables = handed_in()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    LINK.parent.mkdir(exist_ok=True)
    draft = LINK.with_name(f"{LINK.name}.{os.getpid()}")
    draft.symlink_to(Path(variables["prometheus_archive"]).parent)
    draft.replace(LINK)
    print(yaml.safe_dump(variables), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
