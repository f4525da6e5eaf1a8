# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Receivers that run short of memory: TCP_INFO and the kernel's counters are the truth."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time

from .lab import Lab, proves
from .net import RCV_SSTHRESH, SERVER, UNACKED, Counted, sysctl, tcp_info
from .tcp import ORDINARY, SO_RCVBUFFORCE, Capture, close_all, connected

CLAMPS = "tcp_window_clamps_total"
OVERLIMIT = "tcp_rcvbuf_overlimit_total"
FAILURES = "tcp_rcv_rmem_failures_total"


def read_all(sock: socket.socket) -> None:
    """Empty a receive buffer."""
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 20):
            pass


SMALL_BUFFER = (socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
SMALL_SEGMENTS = (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 160)
# 2 MiB, whatever net.core.rmem_max says: it neither grows by itself nor is it filled in few sends.
LARGE_BUFFER = (socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)


def stall(option: tuple[int, int, int]) -> None:
    """Send all that goes to a reader that does not read."""
    sender, receiver = connected(option)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        try:
            sender.send(bytes(1 << 16))
        except BlockingIOError:
            time.sleep(0.01)
    close_all([sender, receiver])


def wait_for_ack(sock: socket.socket) -> None:
    """Wait until what was sent has arrived; what was dropped is not waited for.

    That is sent again after 0.2 s at the earliest; on a starved machine arriving takes a while.
    """
    deadline = time.monotonic() + 0.06
    while tcp_info(sock, UNACKED) and time.monotonic() < deadline:
        time.sleep(0.0005)


def send_watched(sender: socket.socket, receiver: socket.socket, size: int) -> int:
    """Send one segment; return the receiver's threshold after it, by its own TCP_INFO.

    That is the second observer, so there must be one segment at a time.
    """
    with contextlib.suppress(BlockingIOError):
        sender.send(bytes(size))
    wait_for_ack(sender)
    return tcp_info(receiver, RCV_SSTHRESH)


def times_lowered(thresholds: list[int]) -> int:
    """Return how often a threshold went down from one look to the next."""
    return sum(after < before for before, after in itertools.pairwise(thresholds))


def exhaust(connections: int) -> int:
    """Fill buffers that may not grow with small segments; return how often thresholds went down."""
    lowered = 0
    usual = sysctl(SERVER, "ipv4/tcp_rmem", "4096 131072 131072")
    # The kernel merges small segments and saves the memory, unless somebody else holds them too.
    holder = Capture(SERVER, "s0")
    for _ in range(connections):
        sender, receiver = connected(SMALL_SEGMENTS)
        lowered += times_lowered([send_watched(sender, receiver, 100) for _ in range(250)])
        close_all([sender, receiver])
    holder.close()
    sysctl(SERVER, "ipv4/tcp_rmem", usual)
    return lowered


def squeeze(connections: int) -> int:
    """Take the memory away that a window was offered for; return how often thresholds went down.

    The small buffer takes one segment whole and begins a second one.
    """
    lowered = 0
    for _ in range(connections):
        sender, receiver = connected(ORDINARY)
        thresholds = []
        for size in (1 << 17, 1500) * 2:
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            # Newer kernels lower it here already, for the new size.
            thresholds.append(tcp_info(receiver, RCV_SSTHRESH))
            for number in range(65 if size > 1500 else 5):
                thresholds.append(send_watched(sender, receiver, 1000))
                if number < 40 and size > 1500:
                    read_all(receiver)
        lowered += times_lowered(thresholds)
        close_all([sender, receiver])
    return lowered


def starve(connections: int) -> int:
    """Take the memory of all TCP away from large buffers; return how often thresholds went down."""
    pairs = [connected(LARGE_BUFFER) for _ in range(connections)]
    thresholds: list[list[int]] = [[] for _ in pairs]
    for looks, (sender, receiver) in zip(thresholds, pairs, strict=True):
        for _ in range(150):
            looks.append(send_watched(sender, receiver, 16000))
            read_all(receiver)
    # Pressure begins at the second number; the third is never reached.
    usual = sysctl(None, "ipv4/tcp_mem", "1 2 1000000")
    for looks, (sender, receiver) in zip(thresholds, pairs, strict=True):
        # The kernel waits until half of the buffer is full, and for 1 MiB that each processor may
        # take without telling the others (since 6.0): the buffers together are larger.
        while len(looks) < 1500 and not times_lowered(looks):
            looks.append(send_watched(sender, receiver, 4000))
    sysctl(None, "ipv4/tcp_mem", usual)
    for pair in pairs:
        close_all(list(pair))
    return sum(map(times_lowered, thresholds))


@proves(CLAMPS, OVERLIMIT, FAILURES)
def window_clamps(lab: Lab) -> None:
    """Run short of memory without lowering the threshold, and with."""
    for case, lowers, workload in (
        ("SO_RCVBUF 16384, stalled reader", 0, lambda: stall(SMALL_BUFFER) or 0),
        ("autotuned, small segments, stalled reader", 0, lambda: stall(SMALL_SEGMENTS) or 0),
        ("buffer taken away 10 times", 1, lambda: squeeze(5)),
        ("tcp_rmem lowered, small segments", 1, lambda: exhaust(3)),
    ):
        counted = Counted(SERVER)
        with lab.measured():
            lowered = workload()
            pruned = counted("TcpExtPruneCalled")
        lab.check("tcp-window-clamps", CLAMPS, f"{case}: rcv_ssthresh went down", lowered,
                  lambda d: d.total(CLAMPS))  # fmt: skip
        lab.check("tcp-window-clamps", CLAMPS, f"{case}: at all", lowers,
                  lambda d: min(1, d.total(CLAMPS)))  # fmt: skip
        lab.check("tcp-receive-memory", OVERLIMIT, f"{case}: TcpExtPruneCalled", pruned,
                  lambda d: d.total(OVERLIMIT))  # fmt: skip
        lab.check("tcp-receive-memory", FAILURES, f"{case}: TcpExtRcvPruned",
                  counted("TcpExtRcvPruned"), lambda d: d.total(FAILURES))  # fmt: skip


@proves(CLAMPS)
def memory_runs_out(lab: Lab) -> None:
    """Lower thresholds because all of TCP is short of memory, while the buffers have room."""
    with lab.measured():
        lowered = starve(4)
    lab.check("tcp-window-clamps", CLAMPS, "tcp_mem lowered: rcv_ssthresh went down", lowered,
              lambda d: d.total(CLAMPS))  # fmt: skip
    lab.check("tcp-window-clamps", CLAMPS, "tcp_mem lowered: at all", 1,
              lambda d: min(1, d.total(CLAMPS)))  # fmt: skip


VM = (
    window_clamps,
    memory_runs_out,
)
LIVE = (window_clamps,)
