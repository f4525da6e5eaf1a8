# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch kernel images of Debian's and Ubuntu's archives and boot them under virtme-ng.

Nothing is installed: images are unpacked into the user's cache and linked below
/lib/modules while they are used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tests.lab import debian, ubuntu
from tests.lab.cache import cache as users_cache

from . import emulator

# Debian's name of the one that this machine runs.
ARCHITECTURE = "amd64"
# What the suite that moves on has, whatever its number is today.
NEWEST = "newest"
# Series, oldest first, and where they are; behind a dash the flavour of its kernels.
SUITES = {
    "5.10": ["bullseye", "bullseye-security"],
    "6.1": ["bookworm", "bookworm-security"],
    "6.12": ["trixie", "trixie-security"],
    "6.12-rt": ["trixie", "trixie-security"],
    NEWEST: ["sid", "trixie-backports"],
}
UBUNTU = "ubuntu-"
# The one for newer hardware: what its suite has besides its own series, whatever its number today.
HWE = f"{UBUNTU}hwe"
# What others run: Debian's kernel for clouds, and the generic ones of Ubuntu.
OTHERS = {
    "6.12-cloud": SUITES["6.12"],
    f"{UBUNTU}5.15": ["jammy"],
    f"{UBUNTU}6.8": ["noble"],
    HWE: ["noble"],
}
MODULES = Path("/lib/modules")
# All that the machines need of udev and tmpfiles. The rules of this machine would load drivers for
# devices that no test needs: under emulation that takes longer than the tests of some kernels.
GUEST_FILES = {
    "/usr/lib/udev/rules.d": {
        "50-ports.rules": 'SUBSYSTEM=="virtio-ports", ATTR{name}=="?*", '
        'SYMLINK+="virtio-ports/$attr{name}"\n'
    },
    "/usr/lib/tmpfiles.d": {},
}
# Puts folders in the places of others in a mount namespace of its own, so that this machine keeps
# its files: `sh -c HIDE hide FOLDER TARGET FOLDER TARGET … -- COMMAND`.
HIDE = """
while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit; shift 2; done
shift
exec "$@"
"""
FRESH = 24 * 3600  # seconds after which the archive is asked for a newer image


class NotInArchive(RuntimeError):
    """The archive has no kernel of a series, or does not answer, and the cache never had one."""


def cache() -> Path:
    """Return the folder of the unpacked kernels."""
    return users_cache() / "kernels"


def guest_folders() -> list[str]:
    """Make the folders that machines see in the place of others; return pairs for HIDE."""
    pairs = []
    for target, files in GUEST_FILES.items():
        folder = cache() / "guest" / Path(target).name
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="ascii")
        if Path(target).is_dir():
            pairs += [str(folder), target]
    return pairs


def newest(
    series: str, names: list[str], architecture: str = ARCHITECTURE
) -> tuple[str, list[str]]:
    """Return the newest release of a series among names of packages, and its own packages."""
    number, _, flavour = series.removeprefix(UBUNTU).partition("-")
    number = r"\d+\.\d+" if series in (NEWEST, HWE) else re.escape(number)
    if series.startswith(UBUNTU):
        ending, parts = "generic", ("image-unsigned", "modules", "modules-extra")
    else:
        ending = f"{flavour}-{architecture}" if flavour else architecture
        parts = ("image", "binary", "modules")
    # Where an archive counts builds they stand behind a dash, as in 5.10.0-46.
    image = re.compile(rf"linux-{parts[0]}-({number}\.\d+[+.\w]*(-\d[.\w]*)?-{ending})")
    releases = [match[1] for match in map(image.fullmatch, names) if match]
    if not names:
        raise NotInArchive("the archive does not answer")
    if not releases:
        suites = ", ".join((SUITES | OTHERS)[series])
        raise NotInArchive(f"the archive has no kernel {series} in {suites}")
    release = max(releases, key=lambda r: [int(n) for n in re.findall(r"\d+", r)])
    packages = (f"linux-{part}-{release}" for part in parts)
    return release, [package for package in packages if package in names]


class BootImage:
    """An unpacked kernel image."""

    def __init__(self, root: Path) -> None:
        """Find image and modules below the folder it was unpacked to."""
        self.root = root
        # Newer packages keep both below /usr, the image among the modules.
        base = root / "usr" if (root / "usr/lib/modules").is_dir() else root
        self.modules = next((base / "lib/modules").iterdir())
        self.release = self.modules.name
        beside = self.modules / "vmlinuz"
        self.image = beside if beside.exists() else root / "boot" / f"vmlinuz-{self.release}"

    def boot(self, script: Path, log: Path, at_once: bool = False) -> subprocess.Popen:
        """Start a script in a virtual machine with two processors and the root of this machine."""
        link = MODULES / self.release
        if not link.exists():
            MODULES.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(self.modules)
        vng = Path(sys.executable).with_name("vng")
        # On its console, which ends in the log: why a kernel gave up, and nothing else.
        command = ["unshare", "--mount", "sh", "-c", HIDE, "hide", *guest_folders(), "--",
                   vng, "--verbose", "--append", "loglevel=2", "--run", self.image,
                   *(emulator.at_once(cache()) if at_once else emulator.by_turns()),
                   "--disable-kvm", "--cpus", "2", "--memory", "2G",
                   "--rw", "--", str(script)]  # fmt: skip
        path = [str(vng.parent), os.environ["PATH"]]
        if not list(self.modules.glob("kernel/fs/9p/9p.ko*")):
            path.insert(0, str(emulator.sharer(cache())))
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            env={**os.environ, "PATH": ":".join(path)},
            cwd="/",  # the machine has a /tmp of its own, and a folder below it would be missing
            start_new_session=True,
        )

    def unlink(self) -> None:
        """Remove the link below /lib/modules, if it is ours."""
        link = MODULES / self.release
        if link.is_symlink():
            link.unlink()


def fetch(series: str, architecture: str = ARCHITECTURE) -> BootImage:
    """Return the newest kernel of a series, from the archive or the cache."""
    home = cache() / (series if architecture == ARCHITECTURE else f"{series}-{architecture}")
    kept = home / "newest"
    if kept.exists() and time.time() - kept.stat().st_mtime < FRESH:
        return BootImage(home / kept.read_text(encoding="utf-8"))
    distribution = ubuntu if series.startswith(UBUNTU) else debian
    try:
        archive = distribution.Archive((SUITES | OTHERS)[series], home / "apt", architecture)
        release, names = newest(series, archive.names("linux-"), architecture)
    except RuntimeError as error:
        if not kept.exists():
            # What a site keeps of Debian's archive it may not keep of Ubuntu's.
            raise (NotInArchive(error) if distribution is ubuntu else error) from None
        print(f"{series}: {error}; using the cached image", file=sys.stderr)
        return BootImage(home / kept.read_text(encoding="utf-8"))
    root = home / release
    if not root.exists():
        unpacked = home / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        archive.unpack(names, unpacked)
        kernel = BootImage(unpacked)
        debian.run("depmod", "-b", str(kernel.modules.parents[2]), kernel.release)
        unpacked.rename(root)
    kept.write_text(release, encoding="utf-8")
    return BootImage(root)
