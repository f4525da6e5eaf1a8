# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block I/O with known truth, on null_blk or on the machine's own disk."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import re
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from .exporter import LEFT, SKIPPED
from .lab import Lab, at_once, proves

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


@contextlib.contextmanager
def null_disks(number: int, name: str = "nullb", /, **settings: int) -> Iterator[list[str]]:
    """Make disks whose completion time is known; kernels before 6.0 choose the names themselves."""
    subprocess.run(["modprobe", "null_blk", "nr_devices=0"], check=True)
    if not (CONFIGFS / "nullb").exists():
        subprocess.run(["mount", "-t", "configfs", "none", CONFIGFS], check=True)
    folders = [CONFIGFS / "nullb" / f"{name}{i}" for i in range(number)]
    for folder in folders:
        folder.mkdir()
        for setting, value in {"size": 64, "blocksize": 512, **settings}.items():
            (folder / setting).write_text(str(value), encoding="ascii")
        (folder / "power").write_text("1", encoding="ascii")
    time.sleep(0.5)  # the kernel and udev look at new disks
    try:
        indices = [(folder / "index").read_text(encoding="ascii").strip() for folder in folders]
        named = (Path("/sys/block") / folders[0].name).exists()
        yield [folder.name for folder in folders] if named else [f"nullb{i}" for i in indices]
    finally:
        for folder in folders:
            (folder / "power").write_text("0", encoding="ascii")
            folder.rmdir()


def read_direct(path: str, number: int, threads: int) -> list[float]:
    """Read blocks past the page cache, each request on its own; return the seconds of each."""
    seconds: list[float] = []

    def work(first: int) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
        buffer = mmap.mmap(-1, BLOCK)
        for block in range(first, number, threads):
            began = time.monotonic()
            os.preadv(descriptor, [buffer], block % 1024 * BLOCK)
            seconds.append(time.monotonic() - began)
        os.close(descriptor)

    workers = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return seconds


@proves(LATENCY, TOTAL)
def known_latency(lab: Lab) -> None:
    """Read 1,000 times from a disk that takes 50 ms."""
    with null_disks(1, irqmode=2, completion_nsec=DEVICE_MS * 1_000_000) as (disk,):
        # Threads read neighbouring blocks: the scheduler must not make one request of two.
        Path(f"/sys/block/{disk}/queue/nomerges").write_text("2", encoding="ascii")
        labels = {"device": disk, "operation": "read"}
        ticks = stat(disk)[READ_MS]
        with lab.measured():
            seconds = read_direct(f"/dev/{disk}", 1000, 8)
        ticks = stat(disk)[READ_MS] - ticks
    case = f"null_blk {DEVICE_MS} ms, 1,000 reads"
    check = lab.check
    check(CONFIG, LATENCY, f"{case}: count", 1000, lambda d: d.count(LATENCY, **labels),
          may_skip=True)  # fmt: skip
    nothing_lost(lab, case, [labels["device"]], 1000)
    check(CONFIG, LATENCY, f"{case}: below 49.2 ms", 0,
          lambda d: d.bucket(LATENCY, "0.049152", **labels))  # fmt: skip
    # A busy machine wakes up late. The reader waits at least as long as the disk takes, so each
    # read that was in time for it is in this bucket, and of the others any may be.
    late = sum(one > 0.065536 for one in seconds)
    check(CONFIG, LATENCY, f"{case}: 49.2 to 65.5 ms, {late} late for the reader",
          1000 - late / 2, lambda d: d.bucket(LATENCY, "0.065536", **labels),
          allowed=late / 2)  # fmt: skip
    check(CONFIG, LATENCY, f"{case}: mean, s (/sys/block/*/stat)", ticks / 1000 / 1000,
          lambda d: d.mean(LATENCY, **labels), relative=0.05)  # fmt: skip
    check(CONFIG, TOTAL, f"{case}: sum, s (/sys/block/*/stat)", ticks / 1000,
          lambda d: d.sum(TOTAL, **labels), relative=0.02)  # fmt: skip


# Microseconds; half steps and whole ones.
BOUNDS = (96, 128, 1_536, 24_576, 32_768, 49_152, 65_536)
# An eighth of these is more than an emulated machine is late as a rule.
RESOLVED = BOUNDS[3:]
READS_EACH = 20


def read_null_disk(lab: Lab, microseconds: int) -> tuple[dict[str, str], list[float]]:
    """Read from a disk that takes so long; return its labels and the seconds of each read."""
    settings = {"irqmode": 2, "completion_nsec": microseconds * 1000}
    with null_disks(1, **settings) as (disk,), lab.measured():
        seconds = read_direct(f"/dev/{disk}", READS_EACH, 1)
    return {"device": disk, "operation": "read"}, seconds


@proves(LATENCY, TOTAL)
def bounds(lab: Lab) -> None:
    """Read from disks that take as long as a bound, and a little less.

    The disk's timer starts after the request's issue and never ends too soon, so what takes a
    bound's time is above it by microseconds.
    """
    for bound in BOUNDS:
        le, case = repr(bound / 1e6), f"null_blk {bound:,} us, {READS_EACH} reads"
        labels, _ = read_null_disk(lab, bound)
        for metric in (LATENCY, TOTAL):
            lab.check(CONFIG, metric, f"{case}: above {le} s", READS_EACH,
                      lambda d, m=metric, le=le, ls=labels:
                      d.count(m, **ls) - d.bucket(m, le, **ls), may_skip=True)  # fmt: skip
    for metric in (LATENCY, TOTAL):
        lab.check(CONFIG, metric, "null_blk: buckets of these bounds", len(BOUNDS),
                  lambda d, m=metric: len(
                      {repr(bound / 1e6) for bound in BOUNDS}
                      & {dict(pairs)["le"] for pairs in d.named(f"{m}_bucket")}))  # fmt: skip
    for bound in RESOLVED:
        le, taken = repr(bound / 1e6), bound * 7 // 8
        labels, seconds = read_null_disk(lab, taken)
        late = sum(one > bound / 1e6 for one in seconds)
        case = (
            f"null_blk {taken:,} us, {READS_EACH} reads: within {le} s, {late} late for the reader"
        )
        for metric in (LATENCY, TOTAL):
            lab.check(CONFIG, metric, case, READS_EACH - late / 2,
                      lambda d, m=metric, le=le, ls=labels: d.bucket(m, le, **ls),
                      allowed=late / 2, may_skip=True)  # fmt: skip


def fail(disk: str, number: int) -> None:
    """Read a bad block this many times."""
    badblocks = CONFIGFS / "nullb" / disk / "badblocks"
    badblocks.write_text("+800-807", encoding="ascii")
    descriptor = os.open(f"/dev/{disk}", os.O_RDONLY | os.O_DIRECT)
    buffer = mmap.mmap(-1, BLOCK)
    for _ in range(number):
        with contextlib.suppress(OSError):
            os.preadv(descriptor, [buffer], 800 * 512)
    os.close(descriptor)
    badblocks.write_text("-800-807", encoding="ascii")


@proves(LATENCY, TOTAL, ERRORS)
def operations(lab: Lab) -> None:
    """Tell reads, writes, flushes, discards and errors apart."""
    settings = {"memory_backed": 1, "cache_size": 1, "discard": 1, "irqmode": 0}
    with null_disks(1, **settings) as (disk,):
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
            os.close(descriptor)
            fail(disk, 4)
    known = {"read": 34, "write": 30, "flush": 7, "discard": 5}
    counted = {"read": READS, "write": WRITES, "flush": FLUSHES, "discard": DISCARDS}
    for operation, truth in known.items():
        labels = {"device": disk, "operation": operation}
        for metric in (LATENCY, TOTAL):
            lab.check(CONFIG, metric, f"{operation} among others: count", truth,
                      lambda d, m=metric, ls=labels: d.count(m, **ls))  # fmt: skip
    for operation, column in counted.items():
        labels = {"device": disk, "operation": operation}
        truth = after[column] - before[column] + (4 if operation == "read" else 0)
        # The kernel counts a flush that carries no data as a write besides.
        truth -= after[FLUSHES] - before[FLUSHES] if operation == "write" else 0
        lab.check(CONFIG, TOTAL, f"{operation} in /sys/block/*/stat", truth,
                  lambda d, ls=labels: d.count(TOTAL, **ls))  # fmt: skip
    lab.check(CONFIG, ERRORS, "4 reads of a bad block", 4,
              lambda d: d.total(ERRORS, device=disk, operation="read"))  # fmt: skip
    lab.check(CONFIG, ERRORS, "nothing else failed", 4, lambda d: d.total(ERRORS, device=disk))


@proves(LATENCY, TOTAL)
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
                at_once(read_direct, [(f"/dev/{disk}", 500, 8) for disk in disks])
            for disk in disks:
                labels = {"device": disk, "operation": "read"}
                lab.check(CONFIG, LATENCY, f"2 CPUs, 2 disks, {name}: {disk} count", 500,
                          lambda d, ls=labels: d.count(LATENCY, **ls), may_skip=True)  # fmt: skip
            nothing_lost(lab, f"2 CPUs, 2 disks, {name}", disks, 1000)


def nothing_lost(lab: Lab, case: str, devices: list[str], requests: int) -> None:
    """Each request has its latency, is known to lack it, or still waits to be found."""
    lab.check(CONFIG, LATENCY, f"{case}: counted, dropped or left", requests,
              lambda d: sum(d.count(LATENCY, device=device) for device in devices)
              + d.total("biolatency_dropped_total") + d.total(LEFT, map="starts"))  # fmt: skip
    lab.check(CONFIG, TOTAL, f"{case}: count", requests,
              lambda d: sum(d.count(TOTAL, device=device) for device in devices),
              may_skip=True)  # fmt: skip
    lab.check(CONFIG, "start maps", f"{case}: times left, beyond skipped runs", 0,
              lambda d: max(0, d.total(LEFT, map="starts")
                            - d.total(SKIPPED, config=CONFIG)))  # fmt: skip
    lab.check(CONFIG, "start maps", f"{case}: entries left", 0,
              lambda d: d.total(LEFT, map="spilled_starts"))  # fmt: skip


ROUNDS, EXTRAS = 2250, 200


def use_in_every_way(path: str) -> None:
    """Write and read, with a flush and a discard now and then."""
    descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
    buffer = mmap.mmap(-1, BLOCK)
    for number in range(ROUNDS):
        offset = number % 1024 * BLOCK
        os.pwritev(descriptor, [buffer], offset)
        os.preadv(descriptor, [buffer], offset)
        if number < EXTRAS:
            os.fsync(descriptor)
            fcntl.ioctl(descriptor, BLKDISCARD, struct.pack("QQ", offset, BLOCK))
    os.close(descriptor)


@proves(LATENCY, TOTAL, ERRORS)
def ten_thousand_requests(lab: Lab) -> None:
    """End 10,000 requests in every way, at full speed: none is lost, nothing is left behind.

    The disks have so many requests that their addresses cannot all have slots of their own.
    """
    settings = {"memory_backed": 1, "cache_size": 1, "discard": 1, "irqmode": 0,
                "submit_queues": 2, "hw_queue_depth": 4096}  # fmt: skip
    with null_disks(2, **settings) as disks, lab.measured():
        at_once(use_in_every_way, [(f"/dev/{disk}",) for disk in disks])
        for disk in disks:
            fail(disk, 100)
    case = "10,000 requests, 2 CPUs"
    known = {"read": ROUNDS + 100, "write": ROUNDS, "flush": EXTRAS, "discard": EXTRAS}
    for disk in disks:
        for operation, truth in known.items():
            labels = {"device": disk, "operation": operation}
            lab.check(CONFIG, LATENCY, f"{case}: {disk} {operation}", truth,
                      lambda d, ls=labels: d.count(LATENCY, **ls), may_skip=True)  # fmt: skip
        lab.check(CONFIG, ERRORS, f"{case}: {disk}", 100,
                  lambda d, disk=disk: d.total(ERRORS, device=disk))  # fmt: skip
    nothing_lost(lab, case, disks, 10_000)


@contextlib.contextmanager
def file_on_own_disk() -> Iterator[tuple[str, str]]:
    """Make a file of 1,024 blocks; return its path and the name of the disk that it is on."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        device = Path(file.name).stat().st_dev
        link = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
        file.write(bytes(1024 * BLOCK))
        file.flush()
        os.fsync(file.fileno())
        yield file.name, (link.parent if (link / "partition").exists() else link).name


@proves(LATENCY, TOTAL)
def own_disk(lab: Lab) -> None:
    """Compare with the kernel's own statistics of a disk in use."""
    with file_on_own_disk() as (path, disk):
        outer = stat(disk)
        with lab.measured():
            inner = stat(disk)
            at_once(read_direct, [(path, 5000, 8)] * 2)
            inner = [b - a for a, b in zip(inner, stat(disk), strict=True)]
        outer = [b - a for a, b in zip(outer, stat(disk), strict=True)]
    labels = {"device": disk, "operation": "read"}
    for metric in (LATENCY, TOTAL):
        # Others read too between a scrape and a look at the statistics.
        lab.check(CONFIG, metric, "own disk, 2 CPUs, 10,000 reads: count", inner[READS],
                  lambda d, m=metric: d.count(m, **labels),
                  allowed=outer[READS] - inner[READS], may_skip=True)  # fmt: skip
    # The statistics' clock stops after the tracepoint, in which every exporter's program ran.
    lab.check(CONFIG, TOTAL, "own disk, 10,000 reads: sum, s (stat)", inner[READ_MS] / 1000,
              lambda d: d.sum(TOTAL, **labels),
              allowed=(outer[READ_MS] - inner[READ_MS]) / 1000, relative=0.05)  # fmt: skip


VM = (known_latency, bounds, operations, two_disks, ten_thousand_requests)
LIVE = (own_disk,)
