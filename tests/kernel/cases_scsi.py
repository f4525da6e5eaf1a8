# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What SCSI disks do: give requests back, end them in parts, take commands of the driver."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from .cases_block import BLOCK, CONFIG, ERRORS, LATENCY, TOTAL, read_direct, stat
from .cases_disks import SYSTEM_BLOCK, not_longer, timed
from .lab import Lab, proves

ADAPTER = Path("/sys/bus/pseudo/drivers/scsi_debug")
TRACING = Path("/sys/kernel/tracing")
SG_IO, TO_DEVICE, FROM_DEVICE, NO_DATA = 0x2285, -2, -3, -1
TEST_UNIT_READY, WRITE_6, INQUIRY = 0x00, 0x0A, 0x12
BLKZEROOUT = 0x127F
# What scsi_debug does to every nth command.
SHORT_TRANSFER, HOST_BUSY = 0x100, 0x8000
CDROM = 5


@contextlib.contextmanager
def scsi_disk(**settings: int) -> Iterator[str]:
    """Make a disk in memory behind the kernel's SCSI layer; return its name."""
    subprocess.run(["modprobe", "-a", "sd_mod", "sr_mod"], check=True)
    options = [f"{name}={value}" for name, value in settings.items()]
    subprocess.run(["modprobe", "scsi_debug", "delay=0", *options], check=True)
    try:
        deadline = time.monotonic() + 60
        while not (found := list(ADAPTER.glob("adapter*/host*/target*/*:*/block/*"))):
            if time.monotonic() > deadline:
                raise RuntimeError("scsi_debug made no disk")
            time.sleep(0.5)
        time.sleep(2)  # the kernel and udev look at the new disk
        yield found[0].name
    finally:
        subprocess.run(["modprobe", "-r", "scsi_debug"], check=False)


@contextlib.contextmanager
def traced(event: str, disk: str) -> Iterator[list[str]]:
    """Collect what the kernel's own tracing says about an event of a disk."""
    if not (TRACING / "trace").exists():
        subprocess.run(["mount", "-t", "tracefs", "none", TRACING], check=True)
    switch, trace = TRACING / "events" / event / "enable", TRACING / "trace"
    major, minor = (SYSTEM_BLOCK / disk / "dev").read_text(encoding="ascii").strip().split(":")
    trace.write_text("", encoding="ascii")
    lines: list[str] = []
    switch.write_text("1", encoding="ascii")
    try:
        yield lines
    finally:
        switch.write_text("0", encoding="ascii")
        name = event.rpartition("/")[2]
        lines += re.findall(rf"{name}: {major},{minor} .*", trace.read_text(encoding="utf-8"))


@contextlib.contextmanager
def every_nth(number: int, fault: int, disk: str) -> Iterator[list[str]]:
    """Let a disk do something to every nth command; yield what the kernel says of its requeues."""
    for name, value in (("opts", fault), ("every_nth", number)):
        (ADAPTER / name).write_text(str(value), encoding="ascii")
    try:
        with traced("block/block_rq_requeue", disk) as lines:
            yield lines
    finally:
        for name in ("every_nth", "opts"):
            (ADAPTER / name).write_text("0", encoding="ascii")


@proves(LATENCY, TOTAL, ERRORS)
def given_back(lab: Lab) -> None:
    """Read from a disk that gives requests back, and from one that ends them half done."""
    for case, number, fault in (("busy", 5, HOST_BUSY), ("half done", 5, SHORT_TRANSFER)):
        with scsi_disk() as disk, lab.measured(), every_nth(number, fault, disk) as back:
            read_direct(f"/dev/{disk}", 200, 1)
        labels = {"device": disk, "operation": "read"}
        lab.check(CONFIG, LATENCY, f"200 reads, {case}: given back at all", 1,
                  lambda _, back=back: float(len(back) > 0))  # fmt: skip
        for metric in (LATENCY, TOTAL):
            lab.check(CONFIG, metric, f"200 reads, {case}: count", 200,
                      lambda d, m=metric, ls=labels: d.count(m, **ls))  # fmt: skip
        lab.check(CONFIG, ERRORS, f"200 reads, {case}", 0,
                  lambda d, disk=disk: d.total(ERRORS, device=disk))  # fmt: skip


def scsi_command(descriptor: int, operation: int, size: int, direction: int = FROM_DEVICE) -> None:
    """Send a six-byte SCSI command that answers with so many bytes, or takes them as one block."""
    length = size if direction == FROM_DEVICE else 1
    command = ctypes.create_string_buffer(bytes([operation, 0, 0, 0, length, 0]), 6)
    sense, data = ctypes.create_string_buffer(32), ctypes.create_string_buffer(max(size, 1))
    header = struct.pack(
        "iiBBHIQQQIIi4xQBBBBHHiII4x", ord("S"), direction if size else NO_DATA, 6, 32, 0, size,
        *(ctypes.addressof(buffer) for buffer in (data, command, sense)),
        10_000, 0, 0, 0, *[0] * 9,
    )  # fmt: skip
    fcntl.ioctl(descriptor, SG_IO, bytearray(header))


def send_commands(descriptor: int) -> None:
    """Send commands that read, that have no data, and that write."""
    for _ in range(40):
        scsi_command(descriptor, INQUIRY, 96)
    for _ in range(10):
        scsi_command(descriptor, TEST_UNIT_READY, 0)
    for _ in range(20):
        scsi_command(descriptor, WRITE_6, 512, TO_DEVICE)


@proves(LATENCY, TOTAL)
def commands_of_the_driver(lab: Lab) -> None:
    """Send SCSI commands with and without data to a disk, past the block layer's accounts."""
    with scsi_disk() as disk:
        read_direct(f"/dev/{disk}", 200, 8)
        descriptor = os.open(f"/dev/{disk}", os.O_RDWR)
        with lab.measured():
            seconds = timed(send_commands, descriptor)
        os.close(descriptor)
    for case, operation, number in (
        ("40 INQUIRY, 10 TEST UNIT READY", "driver_in", 50),
        ("20 WRITE(6)", "driver_out", 20),
    ):
        labels = {"device": disk, "operation": operation}
        lab.check(CONFIG, LATENCY, f"{case}: count", number,
                  lambda d, ls=labels: d.count(LATENCY, **ls))  # fmt: skip
        not_longer(lab, case, seconds, **labels)


@proves(LATENCY, TOTAL)
def zeroes(lab: Lab) -> None:
    """Let the disk itself write zeroes."""
    with scsi_disk(lbpws=1) as disk:
        descriptor = os.open(f"/dev/{disk}", os.O_RDWR)
        with lab.measured():
            for block in range(5):
                fcntl.ioctl(descriptor, BLKZEROOUT, struct.pack("QQ", block * BLOCK, BLOCK))
        os.close(descriptor)
    labels = {"device": disk, "operation": "write_zeroes"}
    for metric in (LATENCY, TOTAL):
        lab.check(CONFIG, metric, "5 blocks zeroed by the disk: count", 5,
                  lambda d, m=metric: d.count(m, **labels))  # fmt: skip


@proves(LATENCY, TOTAL)
def a_cdrom(lab: Lab) -> None:
    """Read a CD-ROM, which is left out."""
    with scsi_disk(ptype=CDROM) as disk:
        if not disk.startswith("sr"):
            raise AssertionError(f"{disk} is no CD-ROM")
        before = stat(disk)[0]
        with lab.measured():
            read_direct(f"/dev/{disk}", 20, 1)
        reads = stat(disk)[0] - before
    lab.check(CONFIG, LATENCY, "CD-ROM: 20 reads in /sys/block/*/stat", 20, lambda _: float(reads))
    for metric in (LATENCY, TOTAL):
        lab.check(CONFIG, metric, "CD-ROM, 20 reads: none of them", 0,
                  lambda d, m=metric: d.count(m, device=disk))  # fmt: skip


VM = (given_back, commands_of_the_driver, zeroes, a_cdrom)
LIVE = ()
