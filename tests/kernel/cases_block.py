# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: linmonitor.stack contributors
"""Block I/O with known truth, on null_blk or on the machine's own disk."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import multiprocessing
import os
import re
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from . import maps
from .lab import Lab

CONFIG = "biolatency"
CONFIGFS = Path("/sys/kernel/config")
BLKDISCARD = 0x1277
BLOCK = 4096
# Long enough for the emulator's lateness not to matter.
DEVICE_MS = 50
LATENCY, TOTAL, ERRORS = "bio_latency_seconds", "bio_total_latency_seconds", "bio_errors_total"


def stat(disk: str) -> list[int]:
    """Return /sys/block/<disk>/stat: counts and milliseconds."""
    return [int(n) for n in Path(f"/sys/block/{disk}/stat").read_text(encoding="ascii").split()]


READS, READ_MS, WRITES, DISCARDS, FLUSHES = 0, 3, 4, 11, 15


def label(disk: str) -> str:
    """Return the exporter's name for a disk: older kernels hide null_blk from its list."""
    if re.search(rf" {disk}$", Path("/proc/partitions").read_text(encoding="ascii"), re.MULTILINE):
        return disk
    number = Path(f"/sys/block/{disk}/dev").read_text(encoding="ascii").strip()
    return f"unknown:{number}"


@contextlib.contextmanager
def null_disks(number: int, **settings: int | str) -> Iterator[list[str]]:
    """Make disks whose completion time is known."""
    subprocess.run(["modprobe", "null_blk", "nr_devices=0"], check=True)
    if not (CONFIGFS / "nullb").exists():
        subprocess.run(["mount", "-t", "configfs", "none", CONFIGFS], check=True)
    folders = [CONFIGFS / "nullb" / f"nullb{i}" for i in range(number)]
    for folder in folders:
        folder.mkdir()
        for name, value in {"size": 64, "blocksize": 512, **settings}.items():
            (folder / name).write_text(str(value), encoding="ascii")
        (folder / "power").write_text("1", encoding="ascii")
    time.sleep(0.5)  # the kernel and udev look at new disks
    try:
        yield [folder.name for folder in folders]
    finally:
        for folder in folders:
            (folder / "power").write_text("0", encoding="ascii")
            folder.rmdir()


def read_direct(path: str, number: int, threads: int) -> None:
    """Read blocks past the page cache, each request on its own."""

    def work(first: int) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, BLOCK)
        for block in range(first, number, threads):
            os.preadv(descriptor, [buffer], block % 1024 * BLOCK)
        os.close(descriptor)

    workers = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def known_latency(lab: Lab) -> None:
    """Read 1,000 times from a disk that takes 50 ms."""
    with null_disks(1, irqmode=2, completion_nsec=DEVICE_MS * 1_000_000) as (disk,):
        # Threads read neighbouring blocks: the scheduler must not make one request of two.
        Path(f"/sys/block/{disk}/queue/nomerges").write_text("2", encoding="ascii")
        labels = {"device": label(disk), "operation": "read"}
        ticks = stat(disk)[READ_MS]
        with lab.measured():
            read_direct(f"/dev/{disk}", 1000, 8)
        ticks = stat(disk)[READ_MS] - ticks
    case = f"null_blk {DEVICE_MS} ms, 1,000 reads"
    check = lab.check
    check(CONFIG, LATENCY, f"{case}: count", 1000, lambda d: d.count(LATENCY, **labels))
    check(CONFIG, TOTAL, f"{case}: count", 1000, lambda d: d.count(TOTAL, **labels))
    check(CONFIG, LATENCY, f"{case}: below 32.8 ms", 0,
          lambda d: d.bucket(LATENCY, "0.032768", **labels))  # fmt: skip
    # Emulation may wake up late; the few that do are no error of ours.
    check(CONFIG, LATENCY, f"{case}: 32.8 to 65.5 ms", 1000,
          lambda d: d.bucket(LATENCY, "0.065536", **labels), relative=0.01)  # fmt: skip
    check(CONFIG, LATENCY, f"{case}: mean, s", DEVICE_MS / 1000,
          lambda d: d.mean(LATENCY, **labels), relative=0.05)  # fmt: skip
    check(CONFIG, TOTAL, f"{case}: sum, s (/sys/block/*/stat)", ticks / 1000,
          lambda d: d.sum(TOTAL, **labels), relative=0.02)  # fmt: skip


def operations(lab: Lab) -> None:
    """Tell reads, writes, flushes, discards and errors apart."""
    settings = {"memory_backed": 1, "cache_size": 1, "discard": 1, "irqmode": 0}
    with null_disks(1, **settings) as (disk,):
        device = label(disk)
        badblocks = CONFIGFS / "nullb" / disk / "badblocks"
        before = stat(disk)
        buffer = mmap.mmap(-1, BLOCK)
        with lab.measured():
            descriptor = os.open(f"/dev/{disk}", os.O_RDWR | os.O_DIRECT)
            for block in range(30):
                os.pwritev(descriptor, [buffer], block * BLOCK)
                os.preadv(descriptor, [buffer], block * BLOCK)
            for _ in range(7):
                os.fsync(descriptor)
            for block in range(5):
                fcntl.ioctl(descriptor, BLKDISCARD, struct.pack("QQ", block * BLOCK, BLOCK))
            after = stat(disk)
            badblocks.write_text("+800-807", encoding="ascii")
            for _ in range(4):
                with contextlib.suppress(OSError):
                    os.preadv(descriptor, [buffer], 800 * 512)
            badblocks.write_text("-800-807", encoding="ascii")
            os.close(descriptor)
    known = {"read": 34, "write": 30, "flush": 7, "discard": 5}
    counted = {"read": READS, "flush": FLUSHES, "discard": DISCARDS}
    for operation, truth in known.items():
        labels = {"device": device, "operation": operation}
        for metric in (LATENCY, TOTAL):
            lab.check(CONFIG, metric, f"{operation} among others: count", truth,
                      lambda d, m=metric, ls=labels: d.count(m, **ls))  # fmt: skip
    for operation, column in counted.items():
        labels = {"device": device, "operation": operation}
        truth = after[column] - before[column] + (4 if operation == "read" else 0)
        lab.check(CONFIG, TOTAL, f"{operation} in /sys/block/*/stat", truth,
                  lambda d, ls=labels: d.count(TOTAL, **ls))  # fmt: skip
    lab.check(CONFIG, ERRORS, "4 reads of a bad block", 4,
              lambda d: d.total(ERRORS, device=device, operation="read"))  # fmt: skip
    lab.check(CONFIG, ERRORS, "nothing else failed", 4, lambda d: d.total(ERRORS, device=device))


def two_disks(lab: Lab) -> None:
    """Load two disks at once under each scheduler: no request is lost."""
    for module in ("bfq", "kyber-iosched", "mq-deadline"):
        subprocess.run(["modprobe", "-q", module], check=False)
    with null_disks(2, irqmode=2, completion_nsec=200_000, submit_queues=2) as disks:
        schedulers = Path(f"/sys/block/{disks[0]}/queue/scheduler").read_text(encoding="ascii")
        for name in re.findall(r"[\w-]+", schedulers):
            for disk in disks:
                queue = Path(f"/sys/block/{disk}/queue")
                (queue / "scheduler").write_text(name, encoding="ascii")
                (queue / "nomerges").write_text("2", encoding="ascii")
            with lab.measured():
                workers = [
                    multiprocessing.Process(target=read_direct, args=(f"/dev/{disk}", 500, 8))
                    for disk in disks
                ]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
            for disk in disks:
                labels = {"device": label(disk), "operation": "read"}
                lab.check(CONFIG, LATENCY, f"2 CPUs, 2 disks, {name}: {disk} count", 500,
                          lambda d, ls=labels: d.count(LATENCY, **ls))  # fmt: skip
    lab.check(CONFIG, "biolatency_dropped_total", "2 CPUs, 2 disks", 0,
              lambda d: d.total("biolatency_dropped_total"))  # fmt: skip


def no_start_left(lab: Lab) -> None:
    """Find no issue time left once the disks are idle."""
    with lab.measured():
        starts = [any(any(v[:8]) for v in m.values()) for m in maps.named("starts")]
        left = sum(starts) + sum(len(m.keys()) for m in maps.named("spilled_starts"))
    lab.check(CONFIG, "start maps", "entries left", 0, lambda _: left)


def own_disk(lab: Lab) -> None:
    """Compare with the kernel's own statistics of a disk in use."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        device = Path(file.name).stat().st_dev
        link = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
        disk = (link.parent if (link / "partition").exists() else link).name
        file.write(bytes(1024 * BLOCK))
        file.flush()
        os.fsync(file.fileno())
        outer = stat(disk)
        with lab.measured(settle=0):
            inner = stat(disk)
            workers = [
                multiprocessing.Process(target=read_direct, args=(file.name, 5000, 8))
                for _ in range(2)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            inner = [b - a for a, b in zip(inner, stat(disk), strict=True)]
        outer = [b - a for a, b in zip(outer, stat(disk), strict=True)]
    labels = {"device": disk, "operation": "read"}
    for metric in (LATENCY, TOTAL):
        # Others read too between a scrape and a look at the statistics.
        lab.check(CONFIG, metric, "own disk, 2 CPUs, 10,000 reads: count", inner[READS],
                  lambda d, m=metric: d.count(m, **labels),
                  allowed=outer[READS] - inner[READS])  # fmt: skip
    lab.check(CONFIG, TOTAL, "own disk, 10,000 reads: sum, s (stat)", inner[READ_MS] / 1000,
              lambda d: d.sum(TOTAL, **labels), relative=0.02)  # fmt: skip


VM = (known_latency, operations, two_disks, no_start_left)
LIVE = (own_disk,)
