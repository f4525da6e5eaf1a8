# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""All programs at once under many connections, and a map that is full."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

from . import maps
from .exporter import LEFT, SKIPPED
from .lab import Lab, at_once, proves
from .net import SERVER, SERVER_ADDRESS, VOID, client, listener
from .tcp import BACKLOG, CONNECT, CONNECT_DROPPED, IPV4, IPV6, PORT, close_all

OPENED, REFUSED, ABORTED = 2000, 2000, 1000


def open_and_close(family: int, port: int) -> None:
    """Open connections that end in every way."""
    address, void = SERVER_ADDRESS[family], VOID[family]
    for _ in range(OPENED):
        with client(family) as sock:
            sock.connect((address, port))
    for _ in range(REFUSED):
        with client(family) as sock:
            sock.connect_ex((address, port + 10))
    for _ in range(ABORTED):
        with client(family) as sock:
            sock.setblocking(False)
            sock.connect_ex((void, port))


def accept_all(server: socket.socket, stop: threading.Event) -> None:
    while not stop.is_set():
        if select.select([server], [], [], 0.1)[0]:
            with contextlib.suppress(OSError):
                server.accept()[0].close()


@proves(CONNECT, BACKLOG)
def ten_thousand(lab: Lab) -> None:
    """Open 10,000 connections on two CPUs: none is lost, nothing is left behind."""
    stop = threading.Event()
    servers = [listener(SERVER, f, port=PORT + i, backlog=1024) for i, f in enumerate((IPV4, IPV6))]
    acceptors = [threading.Thread(target=accept_all, args=(s, stop)) for s in servers]
    for acceptor in acceptors:
        acceptor.start()
    with lab.measured(settle=0.5):
        at_once(open_and_close, [(IPV4, PORT), (IPV6, PORT + 1)])
        stop.set()
        for acceptor in acceptors:
            acceptor.join()
    close_all(servers)
    case = "10,000 connections, 2 CPUs"
    for result, number in (("ok", OPENED), ("refused", REFUSED), ("aborted", ABORTED)):
        for family in ("ipv4", "ipv6"):
            labels = {"family": family, "scope": "public", "result": result}
            lab.check("tcp-connect-time", CONNECT, f"{case}: {result}, {family}", number,
                      lambda d, ls=labels: d.count(CONNECT, **ls), may_skip=True)  # fmt: skip
    for family in ("ipv4", "ipv6"):
        lab.check("tcp-syn-backlog", BACKLOG, f"{case}: handshakes, {family}", OPENED,
                  lambda d, f=family: d.count(BACKLOG, family=f), may_skip=True)  # fmt: skip
    # What lost its start or its end to the kernel is dropped, or still waits to be found.
    lab.check("tcp-connect-time", CONNECT, f"{case}: counted, dropped or left",
              2 * (OPENED + REFUSED + ABORTED),
              lambda d: d.count(CONNECT, scope="public") + d.total(CONNECT_DROPPED)
              + d.total(LEFT, map="opening"))  # fmt: skip
    if not lab.live:  # the kernel's other sockets are opening too
        for config, name in (("tcp-connect-time", "opening"), ("tcp-retransmit-delay", "sending"),
                             ("tcp-receive-memory", "calls")):  # fmt: skip
            lab.check(config, "start maps", f"{case}: entries left in {name}, beyond skipped runs",
                      0, lambda d, c=config, m=name:
                      max(0, d.total(LEFT, map=m) - d.total(SKIPPED, config=c)))  # fmt: skip


@proves(CONNECT_DROPPED)
def full_map(lab: Lab) -> None:
    """Fill an exported map: the drop counter rises, the scrape stays whole."""
    for found in maps.named(CONNECT):
        if found.max_entries > 1:
            found.fill()
    with lab.measured(), client(IPV4, SERVER) as sock:
        sock.connect_ex(("127.0.0.1", PORT))
    lab.check("tcp-connect-time", CONNECT_DROPPED, "map full, 1 connection", 1,
              lambda d: d.total(CONNECT_DROPPED))  # fmt: skip
    lab.check("tcp-connect-time", "decoder_errors_total", "map full", 0,
              lambda d: d.total("decoder_errors_total"))  # fmt: skip


VM = (
    ten_thousand,
    full_map,
)
LIVE = (ten_thousand,)
