# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SYNs that meet an accept queue: the kernel's own counters are the truth."""

from __future__ import annotations

import socket
import time

from .lab import Lab, proves
from .net import (
    CLIENT,
    ROUTER,
    SERVER,
    SERVER_ADDRESS,
    UNACKED,
    VERSION,
    Counted,
    client,
    listener,
    netem,
    sysctl,
    tcp_info,
)
from .tcp import BACKLOG, IPV4, IPV6, PORT, close_all, start_connecting

RATIO = "tcp_accept_queue_utilization_ratio"
OVERFLOWS = "tcp_listen_overflows_total"
BACKLOG_DROPPED = "tcp_syn_backlog_dropped_total"


def fill_queue(server: socket.socket, family: int, number: int) -> list[socket.socket]:
    """Connect one after the other, each once the last is in the queue.

    Two handshakes that end at once on two CPUs meet the same queue.
    """
    clients = []
    for waiting in range(number):
        clients += start_connecting(family, SERVER_ADDRESS[family], PORT, 1)
        deadline = time.monotonic() + 1
        while tcp_info(server, UNACKED) <= waiting and time.monotonic() < deadline:
            time.sleep(0.001)
    return clients


@proves(BACKLOG, RATIO, BACKLOG_DROPPED, OVERFLOWS)
def accept_queue(lab: Lab) -> None:
    """Let 12 clients meet listen(5) that never accepts."""
    for name, family, client_family in (
        ("IPv4", IPV4, IPV4),
        ("IPv6", IPV6, IPV6),
        ("dual-stack", IPV6, IPV4),
    ):
        server = listener(SERVER, family, port=PORT, backlog=5, dual=name == "dual-stack")
        counted = Counted(SERVER)
        labels = {"family": VERSION[family]}
        asked_again = Counted(CLIENT)
        with lab.measured():
            clients = fill_queue(server, client_family, 6)
            clients += start_connecting(client_family, SERVER_ADDRESS[client_family], PORT, 6)
            time.sleep(0.3)
            # Who was refused asks again after a second: not while the exporters are read.
            close_all(clients)
            overflows = counted("TcpExtListenOverflows")
            refused = 6 + asked_again("TcpExtTCPSynRetrans")
        server.close()
        case = f"listen(5), 12 clients, {name}"
        for le, truth in (("0", 1), ("1", 2), ("2", 3), ("4", 5), ("8", 6), ("+Inf", 6)):
            lab.check("tcp-syn-backlog", BACKLOG, f"{case}: le {le}", truth,
                      lambda d, b=le, ls=labels: d.bucket(BACKLOG, b, **ls))  # fmt: skip
        lab.check("tcp-syn-backlog", BACKLOG, f"{case}: sum", 15,
                  lambda d, ls=labels: d.sum(BACKLOG, **ls))  # fmt: skip
        for le, truth in (("0", 1), ("0.1", 1), ("0.25", 2), ("0.5", 3), ("0.75", 4), ("1", 6)):
            lab.check("tcp-syn-backlog", RATIO, f"{case}: le {le}", truth,
                      lambda d, b=le, ls=labels: d.bucket(RATIO, b, **ls))  # fmt: skip
        lab.check("tcp-syn-backlog", RATIO, f"{case}: sum", 3,
                  lambda d, ls=labels: d.sum(RATIO, **ls))  # fmt: skip
        lab.check("tcp-syn-backlog", BACKLOG_DROPPED, case, 0, lambda d: d.total(BACKLOG_DROPPED))
        lab.check("tcp-listen-overflows", OVERFLOWS, case, overflows,
                  lambda d, ls=labels: d.total(OVERFLOWS, **ls))  # fmt: skip
        lab.check("tcp-listen-overflows", OVERFLOWS, f"{case}: SYNs beyond the 6", refused,
                  lambda d, ls=labels: d.total(OVERFLOWS, **ls))  # fmt: skip


@proves(OVERFLOWS)
def late_overflow(lab: Lab) -> None:
    """Overflow with the last ACK of the handshake: all SYNs come before any ACK."""
    for family in (IPV4, IPV6):
        server = listener(SERVER, family, port=PORT, backlog=2)
        counted = Counted(SERVER)
        with netem("delay 100ms"), lab.measured():
            clients = start_connecting(family, SERVER_ADDRESS[family], PORT, 10)
            time.sleep(0.7)
            close_all(clients)
            server.close()
            time.sleep(0.3)  # what is under way arrives
            overflows = counted("TcpExtListenOverflows")
        lab.check("tcp-listen-overflows", OVERFLOWS,
                  f"listen(2), 10 at once, {VERSION[family]}", overflows,
                  lambda d, f=family: d.total(OVERFLOWS, family=VERSION[f]))  # fmt: skip


def rest(listening: socket.socket) -> tuple[str, int]:
    """Leave a connection in TIME_WAIT at a listener; return the address of its client."""
    with client(IPV4) as sock:
        sock.connect((SERVER_ADDRESS[IPV4], PORT))
        listening.accept()[0].close()
        sock.recv(1)
        return sock.getsockname()


@proves(OVERFLOWS)
def overflow_without_cookies(lab: Lab) -> None:
    """Let SYNs meet a full queue with half-open connections beside it, as many as may be or more.

    Beyond that the kernel refuses them for another reason, but for a peer that it knows.
    """
    cookies = sysctl(SERVER, "ipv4/tcp_syncookies", "0")
    for case, half_open, known, truth in (
        ("as many half-open as the backlog", 2, False, 8),
        ("more half-open", 5, False, 0),
        ("more half-open, TIME_WAIT", 5, True, 1),
    ):
        server = listener(SERVER, IPV4, port=PORT, backlog=64)
        name = rest(server) if known else None
        with netem(to_client="loss 100%"):
            clients = start_connecting(IPV4, SERVER_ADDRESS[IPV4], PORT, half_open)
            clients += [client(IPV4, ROUTER) for _ in range(3)]
            for sock in clients[half_open:]:
                sock.connect((SERVER_ADDRESS[IPV4], PORT))
            server.listen(2)
            counted = Counted(SERVER)
            with lab.measured():
                late = [client(IPV4, CLIENT if known else ROUTER) for _ in range(1 if known else 8)]
                for sock in late:
                    if name:
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        sock.bind(name)
                    sock.setblocking(False)
                    sock.connect_ex((SERVER_ADDRESS[IPV4], PORT))
                close_all(late)
                overflows = counted("TcpExtListenOverflows")
            close_all([*clients, server])
        lab.check("tcp-listen-overflows", OVERFLOWS, f"no cookies, {case}", overflows,
                  lambda d: d.total(OVERFLOWS))  # fmt: skip
        if not known:  # 5.10 refuses its SYN now and then
            lab.check("tcp-listen-overflows", OVERFLOWS, f"no cookies, {case}: expected", truth,
                      lambda d: d.total(OVERFLOWS))  # fmt: skip
    sysctl(SERVER, "ipv4/tcp_syncookies", cookies)


VM = (
    accept_queue,
    late_overflow,
    overflow_without_cookies,
)
LIVE = (accept_queue,)
