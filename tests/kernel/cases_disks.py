# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which requests are counted, under which disk's name, and which have a time of their own."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .cases_block import (
    BLOCK,
    CONFIG,
    CONFIGFS,
    LATENCY,
    TOTAL,
    file_on_own_disk,
    null_disks,
    read_direct,
)
from .exporter import SERVICE, Exporter
from .lab import Lab, NotHere, proves

SYSTEM_BLOCK = Path("/sys/block")
BLKRESETZONE = 0x40101283
DM_SECTORS = 64 * 2048


def timed(work: Callable, *arguments: object) -> float:
    """Run a workload; return the seconds that it took."""
    began = time.monotonic()
    work(*arguments)
    return time.monotonic() - began


def not_longer(lab: Lab, case: str, seconds: float, **labels: str) -> None:
    """All requests together lasted no longer than the one process that waited for them."""
    lab.check(CONFIG, TOTAL, f"{case}: sum, s (half of the reader's, and as much off)",
              seconds / 2, lambda d: d.sum(TOTAL, **labels), allowed=seconds / 2)  # fmt: skip


@contextlib.contextmanager
def no_statistics(disk: str) -> Iterator[None]:
    """Let a disk keep none, for a while, after requests that had some are long over."""
    iostats = SYSTEM_BLOCK / disk / "queue" / "iostats"
    time.sleep(2)
    iostats.write_text("0", encoding="ascii")
    try:
        time.sleep(0.5)  # what was under way ends
        yield
    finally:
        iostats.write_text("1", encoding="ascii")


def flush(path: str, number: int) -> None:
    """Flush a disk's cache this many times."""
    descriptor = os.open(path, os.O_RDWR)
    for _ in range(number):
        os.fsync(descriptor)
    os.close(descriptor)


def write_through(path: str, number: int) -> None:
    """Write blocks, each with a flush behind it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
    for block in range(number):
        os.pwritev(descriptor, [mmap.mmap(-1, BLOCK)], block * BLOCK)
    os.close(descriptor)


@proves(LATENCY, TOTAL)
def without_statistics(lab: Lab) -> None:
    """Read a disk that keeps no statistics, whose requests carry the birth of earlier ones."""
    with null_disks(1, irqmode=0, memory_backed=1, cache_size=1) as (disk,):
        nomerges = SYSTEM_BLOCK / disk / "queue" / "nomerges"
        nomerges.write_text("2", encoding="ascii")
        read_direct(f"/dev/{disk}", 500, 8)
        with no_statistics(disk), lab.measured():
            read_direct(f"/dev/{disk}", 500, 8)
            seconds = timed(flush, f"/dev/{disk}", 5)
            seconds += timed(write_through, f"/dev/{disk}", 6)
    case = "iostats 0"
    labels = {"device": disk, "operation": "read"}
    lab.check(CONFIG, LATENCY, f"{case}, 500 reads: count", 500,
              lambda d: d.count(LATENCY, **labels), may_skip=True)  # fmt: skip
    unaccounted(lab, f"{case}, 500 reads", **labels)
    unaccounted(lab, f"{case}, 6 writes that flush", device=disk, operation="write")
    labels = {"device": disk, "operation": "flush"}
    for metric in (LATENCY, TOTAL):
        lab.check(CONFIG, metric, f"{case}, 11 flushes: count", 11,
                  lambda d, m=metric: d.count(m, **labels))  # fmt: skip
    not_longer(lab, f"{case}, 11 flushes", seconds, **labels)


def unaccounted(lab: Lab, case: str, **labels: str) -> None:
    """The kernel keeps no time of these requests, and so we tell none."""
    lab.check(CONFIG, TOTAL, f"{case}: count", 0, lambda d: d.count(TOTAL, **labels))
    lab.check(CONFIG, TOTAL, f"{case}: sum, s", 0, lambda d: d.sum(TOTAL, **labels))


@proves(TOTAL)
def own_disk_without_statistics(lab: Lab) -> None:
    """Read this machine's own disk while it keeps no statistics."""
    with file_on_own_disk() as (path, disk):
        read_direct(path, 500, 8)
        with no_statistics(disk), lab.measured():
            read_direct(path, 500, 8)
    unaccounted(lab, "own disk, iostats 0", device=disk, operation="read")


@proves(LATENCY, TOTAL)
def serial_number(lab: Lab) -> None:
    """Ask this machine's own disk for its serial number, a command of the driver."""
    with file_on_own_disk() as (path, disk):
        serial = SYSTEM_BLOCK / disk / "serial"
        if not serial.exists():
            return
        read_direct(path, 500, 8)
        time.sleep(2)
        with lab.measured():
            seconds = timed(lambda: [serial.read_text(encoding="ascii") for _ in range(50)])
    labels = {"device": disk, "operation": "driver_in"}
    lab.check(CONFIG, LATENCY, "serial number, 50 times: count", 50,
              lambda d: d.count(LATENCY, **labels))  # fmt: skip
    not_longer(lab, "serial number, 50 times", seconds, **labels)


@proves(LATENCY)
def zone_commands(lab: Lab) -> None:
    """Reset zones: commands without data, numbered differently on each kernel."""
    settings = {"zoned": 1, "zone_size": 4, "memory_backed": 1, "irqmode": 0}
    with null_disks(1, **settings) as (disk,):
        descriptor = os.open(f"/dev/{disk}", os.O_RDWR | os.O_DIRECT)
        with lab.measured():
            for zone in range(3):
                os.pwritev(descriptor, [mmap.mmap(-1, BLOCK)], zone << 22)
                fcntl.ioctl(descriptor, BLKRESETZONE, struct.pack("QQ", zone << 13, 1 << 13))
        os.close(descriptor)
    for operation in ("write", "other"):
        labels = {"device": disk, "operation": operation}
        lab.check(CONFIG, LATENCY, f"3 zones written and reset: {operation}", 3,
                  lambda d, ls=labels: d.count(LATENCY, **ls))  # fmt: skip


@proves(LATENCY, TOTAL)
def swapped_disk(lab: Lab) -> None:
    """Take a disk out and put one of another name in, which gets the numbers of the first."""
    numbers, disks = set(), []
    # Names that differ in their last letters alone.
    for name, reads in (("nullb-of-the-first-owner", 100), ("nullb-of-the-first-heir", 40)):
        with null_disks(1, name, irqmode=0) as (disk,):
            numbers.add((SYSTEM_BLOCK / disk / "dev").read_text(encoding="ascii"))
            disks.append(disk)
            with lab.measured():
                read_direct(f"/dev/{disk}", reads, 1)
            for metric in (LATENCY, TOTAL):
                lab.check(CONFIG, metric, f"disk {len(disks)} of one number, {reads} reads", reads,
                          lambda d, m=metric, disk=disk: d.count(m, device=disk))  # fmt: skip
                if disks[0] != disk:
                    lab.check(CONFIG, metric, "disk 2 of one number, on the name of the first", 0,
                              lambda d, m=metric: d.count(m, device=disks[0]))  # fmt: skip
    if len(numbers) > 1:
        raise AssertionError(f"the two disks have numbers of their own: {numbers}")


@contextlib.contextmanager
def mapped(path: str, target: str) -> Iterator[str]:
    """Put a target of device mapper over a disk; return the name of the one above."""
    number = (SYSTEM_BLOCK / path / "dev").read_text(encoding="ascii").strip()
    dmsetup = ["dmsetup", "--noudevsync"]
    table = f"0 {DM_SECTORS} {target.format(number)}"
    subprocess.run([*dmsetup, "create", "mapped", "--table", table], check=True)
    try:
        (holder,) = (SYSTEM_BLOCK / path / "holders").iterdir()
        yield holder.name
    finally:
        subprocess.run([*dmsetup, "remove", "--retry", "mapped"], check=True)


@contextlib.contextmanager
def looped(path: str) -> Iterator[str]:
    """Put a loop device over a disk; return its name."""
    losetup = ["losetup", "--find", "--show", "--direct-io=on", f"/dev/{path}"]
    made = subprocess.run(losetup, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield Path(made).name
    finally:
        subprocess.run(["losetup", "--detach", made], check=True)


@proves(LATENCY, TOTAL)
def request_once(lab: Lab) -> None:
    """Read through what hands its requests on: once, at the disk that does the work."""
    subprocess.run(["modprobe", "-a", "loop", "dm-multipath", "dm-round-robin"], check=True)
    ways: dict[str, Callable] = {
        "multipath": lambda disk: mapped(disk, "multipath 0 0 1 1 round-robin 0 1 1 {} 1000"),
        "linear": lambda disk: mapped(disk, "linear {} 0"),
        "loop": looped,
    }
    for way, over in ways.items():
        with null_disks(1, irqmode=0) as (disk,), over(disk) as upper, lab.measured():
            read_direct(f"/dev/{upper}", 300, 1)
        for metric in (LATENCY, TOTAL):
            for where, device, truth in (("the disk", disk, 300), ("above it", upper, 0)):
                lab.check(CONFIG, metric, f"{way}, 300 reads: {where}", truth,
                          lambda d, m=metric, device=device: d.count(m, device=device),
                          may_skip=True)  # fmt: skip


@contextlib.contextmanager
def nvme(backing: str) -> Iterator[tuple[str, str]]:
    """Make an NVMe disk of a controller that may have more ports; return it and its path."""
    target = CONFIGFS / "nvmet"
    subsystem, port = target / "subsystems" / "linmonitor", target / "ports" / "1"
    namespace = subsystem / "namespaces" / "1"
    for folder in (subsystem, namespace, port):
        folder.mkdir()
    for file, text in {
        subsystem / "attr_allow_any_host": "1",
        namespace / "device_path": f"/dev/{backing}",
        namespace / "enable": "1",
        port / "addr_trtype": "loop",
    }.items():
        file.write_text(text, encoding="ascii")
    link = port / "subsystems" / "linmonitor"
    link.symlink_to(subsystem)
    host = "7f1f0a52-5b1e-4a43-9a55-6ffb0e5c8b11"
    fabrics = os.open("/dev/nvme-fabrics", os.O_RDWR)
    options = f"transport=loop,nqn=linmonitor,hostnqn=nqn.2014-08.org.nvmexpress:uuid:{host}"
    os.write(fabrics, f"{options},hostid={host}".encode())
    (controller,) = re.findall(r"instance=(\d+)", os.read(fabrics, 200).decode())
    os.close(fabrics)
    try:
        deadline = time.monotonic() + 60
        while not (paths := list(SYSTEM_BLOCK.glob(f"nvme*c{controller}n1"))):
            if time.monotonic() > deadline:
                raise RuntimeError("the NVMe controller made no disk")
            time.sleep(0.2)
        time.sleep(1)  # the kernel looks at the new disk
        yield re.sub(r"c\d+", "", paths[0].name), paths[0].name
    finally:
        remove = Path(f"/sys/class/nvme/nvme{controller}/delete_controller")
        remove.write_text("1", encoding="ascii")
        link.unlink()
        for folder in (port, namespace, subsystem):
            folder.rmdir()


NBD_SET_SOCK, NBD_SET_BLKSIZE, NBD_SET_SIZE, NBD_DO_IT, NBD_CLEAR_SOCK, NBD_DISCONNECT = (
    0xAB00, 0xAB01, 0xAB02, 0xAB03, 0xAB04, 0xAB08
)  # fmt: skip
NBD_REPLY = 0x67446698


class HeldDisk:
    """A disk that answers when it is told to: this process is its server."""

    def __init__(self) -> None:
        """Make the disk and answer at once for now."""
        subprocess.run(["modprobe", "nbd", "nbds_max=1"], check=True)
        self.name = "nbd0"
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        kernel, self.server = socket.socketpair()
        self.device = os.open(f"/dev/{self.name}", os.O_RDWR)
        for request, value in (
            (NBD_SET_BLKSIZE, BLOCK),
            (NBD_SET_SIZE, 1024 * BLOCK),
            (NBD_SET_SOCK, kernel.fileno()),
        ):
            fcntl.ioctl(self.device, request, value)
        self.kernel = kernel
        for work in (self.answer, lambda: fcntl.ioctl(self.device, NBD_DO_IT)):
            threading.Thread(target=work, daemon=True).start()
        read_direct(f"/dev/{self.name}", 1, 1)
        time.sleep(2)  # the kernel and udev look at the new disk
        # Where no udev has opened it, the kernel looks for partitions when it is opened next.
        read_direct(f"/dev/{self.name}", 1, 1)

    def answer(self) -> None:
        """Answer each read with zeroes, when that may be, until the kernel disconnects."""
        while header := self.server.recv(28, socket.MSG_WAITALL):
            _, kind, handle, _, length = struct.unpack(">II8sQI", header)
            if kind & 0xFFFF:
                return
            self.asked.set()
            self.may_answer.wait()
            self.server.sendall(struct.pack(">II8s", NBD_REPLY, 0, handle) + bytes(length))

    def close(self) -> None:
        """Take the disk away."""
        fcntl.ioctl(self.device, NBD_DISCONNECT)
        fcntl.ioctl(self.device, NBD_CLEAR_SOCK)
        os.close(self.device)
        subprocess.run(["modprobe", "-r", "nbd"], check=False)


@proves(LATENCY, TOTAL)
def under_way(lab: Lab) -> None:
    """Start the exporter while a request is under way: it has no latency, and is not dropped."""
    case = "a read under way when it starts"
    with contextlib.closing(HeldDisk()) as disk:
        labels = {"device": disk.name, "operation": "read"}
        for variant in [e.variants[CONFIG] for e in lab.exporters if CONFIG in e.variants]:
            disk.may_answer.clear()
            disk.asked.clear()
            reader = threading.Thread(target=read_direct, args=(f"/dev/{disk.name}", 1, 1))
            reader.start()
            disk.asked.wait()
            late = Exporter(lab.artifact, {CONFIG: variant}, SERVICE, "late")
            late.wait()
            before = late.metrics()
            disk.may_answer.set()
            reader.join()
            time.sleep(1)
            lab.deltas = [(late, late.metrics() - before)]
            late.stop()
            for metric, truth in ((LATENCY, 0), (TOTAL, 1)):
                lab.check(CONFIG, metric, f"{case}: count", truth,
                          lambda d, m=metric: d.count(m, **labels))  # fmt: skip
            lab.check(CONFIG, LATENCY, f"{case}: dropped", 0,
                      lambda d: d.total("biolatency_dropped_total"))  # fmt: skip


@proves()
def hidden_path(lab: Lab) -> None:
    """Read an NVMe disk whose requests belong to a path that the kernel hides."""
    if subprocess.run(["modprobe", "-qa", "nvmet", "nvme-loop"], check=False).returncode:
        raise NotHere("no NVMe target of its own, which Debian's kernels have from 6.12 on")
    with null_disks(1, irqmode=0) as (disk,), nvme(disk) as (head, path), lab.measured():
        read_direct(f"/dev/{head}", 200, 1)
    for metric in (LATENCY, TOTAL):
        lab.check(CONFIG, metric, "NVMe of several ports, 200 reads: the hidden path", 200,
                  lambda d, m=metric: d.count(m, device=path, operation="read"),
                  may_skip=True)  # fmt: skip


CELLS = 96 + 9  # of disks and operations, and `other` for each operation


@proves(LATENCY, TOTAL)
def more_than_the_bound(lab: Lab) -> None:
    """Use more disks and operations than there are cells: none is lost, and the series end."""
    with null_disks(60, irqmode=0) as disks, lab.measured():
        for disk in disks:
            read_direct(f"/dev/{disk}", 1, 1)
            write_through(f"/dev/{disk}", 1)
    for metric in (LATENCY, TOTAL):
        lab.check(CONFIG, metric, "60 disks, read and written: all and other", 120,
                  lambda d, m=metric: d.count(m), may_skip=True)  # fmt: skip
        lab.check(CONFIG, metric, "60 disks, read and written: label sets above the bound", 0,
                  lambda d, m=metric: max(0, len(d.named(f"{m}_count")) - CELLS))  # fmt: skip
    lab.check(CONFIG, LATENCY, "60 disks, read and written: some are other", 1,
              lambda d: float(d.count(LATENCY, device="other") > 0))  # fmt: skip


VM = (
    without_statistics,
    zone_commands,
    swapped_disk,
    request_once,
    hidden_path,
    under_way,
    more_than_the_bound,  # at last: cells are not given back
)
LIVE = (own_disk_without_statistics, serial_number)
