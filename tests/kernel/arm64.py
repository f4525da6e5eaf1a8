# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot Debian's arm64 kernels on an emulated processor, with a root of their own architecture.

The root is unpacked from the archive and no program of it runs on this machine. What a machine
changes of it is lost with the machine; it shares the folder of its script with this one.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from tests.lab.cache import made_once
from tests.lab.debian import run

from . import initramfs, kernels

ARCHITECTURE = "arm64"
SERIES = ("6.1", "6.12")
SUITE = "trixie"
PACKAGES = "base-files,busybox-static,coreutils,dash,dmsetup,iproute2,kmod,mount,python3,util-linux"
# What its kernels have as modules and need to reach the folders of this machine.
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
# A processor of real servers: with the atomic instructions that the kernel's compiler of programs
# takes where it finds them, and without what QEMU emulates slowly. Its clock counts instructions,
# 4 ns each, and goes on to the next timer where there are none: however busy this machine is, no
# timer of that one is late.
QEMU = (
    "qemu-system-aarch64", "-machine", "virt", "-cpu", "neoverse-n1", "-accel", "tcg,thread=single",
    "-icount", "shift=2,sleep=off", "-smp", "2", "-m", "2G", "-nographic", "-no-reboot",
    "-nic", "none",
)  # fmt: skip
INIT = """#!/bin/busybox sh
/bin/busybox mkdir /lower /upper
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod "$module"; done
share() {{
  /bin/busybox mkdir -p "$2"
  /bin/busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,"$3" "$1" "$2"
}}
share root /lower ro,cache=loose
/bin/busybox mount -t tmpfs upper /upper
/bin/busybox mkdir /upper/new /upper/work
/bin/busybox mount -t overlay -o lowerdir=/lower,upperdir=/upper/new,workdir=/upper/work disk /disk
share boot /disk/boot ro,cache=loose
share modules /disk/usr/lib/modules ro,cache=loose
share work "/disk{work}" rw
/bin/busybox mount --move /dev /disk/dev
/bin/busybox mount -t proc proc /disk/proc
/bin/busybox mount -t sysfs sys /disk/sys
for folder in tmp run; do /bin/busybox mount -t tmpfs "$folder" "/disk/$folder"; done
/bin/busybox mount -t securityfs security /disk/sys/kernel/security
exec /bin/busybox switch_root /disk /bin/sh -c '"{script}"; exec busybox poweroff -f'
"""


def root() -> Path:
    """Return the folder of the machines' root, which stays in the cache."""

    def make(folder: Path) -> None:
        run("mmdebstrap", "--quiet", "--variant=extract", f"--architectures={ARCHITECTURE}",
            f"--include={PACKAGES}", SUITE, str(folder))  # fmt: skip

    recipe = hashlib.sha256(f"{SUITE} {PACKAGES}".encode()).hexdigest()[:12]
    return made_once(kernels.cache() / f"root-{ARCHITECTURE}-{recipe}", make)


class Image(kernels.BootImage):
    """An unpacked kernel image of arm64."""

    def boot(self, script: Path, log: Path, at_once: bool = False) -> subprocess.Popen:
        """Start a script in a virtual machine with two processors, which take turns."""
        if at_once:
            raise RuntimeError("the processors of an arm64 machine do not run at once here")
        work, initrd = script.parent, script.with_suffix(".initrd")
        init = INIT.format(work=work, script=script)
        initramfs.write(initrd, self, root() / "usr/bin/busybox", MODULES, init)
        shared = {
            "root": f"{root()},readonly=on",
            "boot": f"{self.root / 'boot'},readonly=on",
            "modules": f"{self.modules.parent},readonly=on",
            "work": str(work),
        }
        command = [*QEMU, "-kernel", str(self.image), "-initrd", str(initrd),
                   "-append", "console=ttyAMA0 loglevel=2 panic=-1"]  # fmt: skip
        for tag, folder in shared.items():
            command += [
                "-virtfs",
                f"local,mount_tag={tag},security_model=passthrough,path={folder}",
            ]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def fetch(series: str) -> Image:
    """Return the newest arm64 kernel of a series, from the archive or the cache."""
    return Image(kernels.fetch(series, ARCHITECTURE).root)
