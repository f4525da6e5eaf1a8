# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Boot the disk of a test host with other kernels, under emulation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.kernel import initramfs
from tests.kernel.kernels import BootImage
from tests.lab.debian import run

BOOT_SECONDS = 420
# What a kernel of Debian has as modules and needs to find its disk.
DISK_MODULES = ("virtio_pci", "virtio_blk", "ext4")
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod "$module"; done
/bin/busybox mount -t ext4 /dev/vda /disk
/bin/busybox mount --move /dev /disk/dev
exec /bin/busybox switch_root /disk /sbin/init
"""
# Runs once the exporter's start job has ended, however it ended.
REPORT_UNIT = """[Unit]
After=ebpf_exporter.service
[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /root/report.py
ExecStopPost=/usr/bin/systemctl poweroff --no-block
"""


def make_disk(container: str, image: Path) -> None:
    """Copy a test host's file system to a disk image that reports and powers off when booted."""
    with tempfile.TemporaryDirectory(dir=image.parent) as scratch:
        root = Path(scratch)
        with subprocess.Popen(["podman", "export", container], stdout=subprocess.PIPE) as export:
            subprocess.run(["tar", "-x", "-C", root], stdin=export.stdout, check=True)
        if export.returncode:
            raise RuntimeError(f"podman export {container} ended with {export.returncode}")
        shutil.copy(Path(__file__).with_name("report.py"), root / "root/report.py")
        units = root / "etc/systemd/system"
        (units / "report.service").write_text(REPORT_UNIT)
        wants = units / "multi-user.target.wants"
        wants.mkdir(exist_ok=True)
        (wants / "report.service").symlink_to("../report.service")
        with image.open("wb") as file:
            file.truncate(2 << 30)
        run("mkfs.ext4", "-q", "-F", "-d", str(root), str(image))


def write_file(image: Path, path: str, text: str) -> None:
    """Put a file into a disk that is not running, with the folder it lies in."""
    with tempfile.NamedTemporaryFile("w") as source:
        source.write(text)
        source.flush()
        orders = f"mkdir {os.path.dirname(path)}\nrm {path}\nwrite {source.name} {path}\n"  # noqa: PTH120 (a path of the guest)
        subprocess.run(["debugfs", "-w", "-f", "-", image], input=orders, text=True,
                       capture_output=True, check=True)  # fmt: skip


def remove_file(image: Path, path: str) -> None:
    """Remove a file from a disk that is not running."""
    run("debugfs", "-w", "-R", f"rm {path}", str(image))


def boot(kernel: BootImage, image: Path, arguments: str = "") -> dict:
    """Boot the disk with a kernel until it powers itself off; return its report."""
    remove_file(image, "/root/report.json")
    initrd, console = image.with_suffix(".initrd"), image.with_suffix(".console")
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    initramfs.write(initrd, kernel, busybox, DISK_MODULES, INIT)
    command: list[str | Path] = [
        # One processor: a kernel that changes itself while another processor runs it crashes
        # at times under emulation, and nothing here needs two.
        "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max",
        "-m", "1G", "-nographic", "-no-reboot", "-nic", "none",
        "-kernel", kernel.image, "-initrd", initrd,
        "-append", f"console=ttyS0 panic=-1 {arguments}",
        "-drive", f"file={image},format=raw,if=virtio,cache=unsafe",
    ]  # fmt: skip
    with console.open("wb") as log:
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                       timeout=BOOT_SECONDS, check=True)  # fmt: skip
    answer = run("debugfs", "-R", "cat /root/report.json", str(image))
    if not answer:
        tail = console.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{kernel.release} booted and said nothing:\n{tail}")
    return json.loads(answer)
