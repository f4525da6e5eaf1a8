# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long connections take to open, and what becomes of them: timed from outside."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time

from .exporter import SERVICE, Exporter
from .lab import Lab, proves
from .net import (
    CLIENT,
    ROUTER,
    SERVER,
    SERVER_ADDRESS,
    VERSION,
    VOID,
    client,
    inside,
    ip,
    listener,
    netem,
    sysctl,
)
from .tcp import CONNECT, CONNECT_DROPPED, IPV4, IPV6, PORT, close_all, start_connecting


def timed_connect(family: int, address: str, port: int, timeout: float = 30) -> float:
    """Connect and return how long the call took."""
    sock = client(family)
    sock.settimeout(timeout)
    began = time.monotonic()
    with contextlib.suppress(OSError):
        sock.connect((address, port))
    took = time.monotonic() - began
    sock.close()
    return took


@proves(CONNECT)
def connect_results(lab: Lab) -> None:
    """End connections in every way and time them here too."""
    sysctl(CLIENT, "ipv4/tcp_syn_retries", "1")
    sysctl(CLIENT, "ipv4/tcp_syn_linear_timeouts", "0")
    for family in (IPV4, IPV6):
        server = listener(SERVER, family, port=PORT)
        address, void = SERVER_ADDRESS[family], VOID[family]
        took: dict[str, list[float]] = {"ok": [], "refused": [], "aborted": [], "timeout": []}

        def give_up(family=family, void=void, took=took) -> None:
            took["timeout"].append(timed_connect(family, void, PORT))

        with netem("delay 100ms", "delay 100ms"), lab.measured():
            waiting = [threading.Thread(target=give_up) for _ in range(3)]
            for thread in waiting:
                thread.start()
            for _ in range(10):
                took["ok"].append(timed_connect(family, address, PORT))
            for _ in range(5):
                took["refused"].append(timed_connect(family, address, PORT + 1))
            for _ in range(4):
                took["aborted"].append(timed_connect(family, void, PORT, timeout=0.2))
            for thread in waiting:
                thread.join()
        server.close()
        for result, durations in took.items():
            labels = {"family": VERSION[family], "scope": "public", "result": result}
            case = f"{len(durations)} {result}, {VERSION[family]}"
            lab.check("tcp-connect-time", CONNECT, f"{case}: count", len(durations),
                      lambda d, ls=labels: d.count(CONNECT, **ls))  # fmt: skip
            lab.check("tcp-connect-time", CONNECT, f"{case}: sum, s", sum(durations),
                      lambda d, ls=labels: d.sum(CONNECT, **ls), relative=0.1)  # fmt: skip
        labels = {"family": VERSION[family], "scope": "public"}
        lab.check("tcp-connect-time", CONNECT, f"nothing else, {VERSION[family]}",
                  sum(map(len, took.values())),
                  lambda d, ls=labels: d.count(CONNECT, **ls))  # fmt: skip


@proves(CONNECT)
def rare_results(lab: Lab) -> None:
    """Meet an unreachable host, have no port left, open from both ends at once."""
    nowhere = "203.0.113.77"
    ip("-n", ROUTER, "route", "add", "unreachable", nowhere)
    ports = sysctl(CLIENT, "ipv4/ip_local_port_range", "40000 40001")
    server = listener(SERVER, IPV4, port=PORT)
    ends = [
        (client(IPV4), "10.99.0.1", 41000),
        (client(IPV4, SERVER), SERVER_ADDRESS[IPV4], 42000),
    ]
    with lab.measured(), netem("delay 200ms", "delay 200ms"):
        timed_connect(IPV4, nowhere, PORT)
        clients = [client(IPV4) for _ in range(3)]
        refused = [sock.connect_ex((SERVER_ADDRESS[IPV4], PORT)) for sock in clients]
        for sock, address, port in ends:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.setblocking(False)
        for (sock, _, _), (_, address, port) in zip(ends, reversed(ends), strict=True):
            sock.connect_ex((address, port))
        time.sleep(1.5)
        close_all([*clients, *(sock for sock, _, _ in ends)])
    server.close()
    sysctl(CLIENT, "ipv4/ip_local_port_range", ports)
    ip("-n", ROUTER, "route", "del", "unreachable", nowhere)
    assert refused.count(errno.EADDRNOTAVAIL) == 1, refused
    for case, labels, truth in (
        ("host unreachable", {"scope": "public", "result": "other"}, 1),
        ("no port left", {"scope": "public", "result": "aborted"}, 1),
        ("2 connected, 1 opened from both ends", {"scope": "public", "result": "ok"}, 3),
        ("opened from both ends, the other one", {"scope": "private", "result": "ok"}, 1),
        ("2 accepted, which do not count", {"scope": "private"}, 1),
    ):
        lab.check("tcp-connect-time", CONNECT, case, truth,
                  lambda d, ls=labels: d.count(CONNECT, **ls))  # fmt: skip


def take_errors(clients: list[socket.socket]) -> list[int]:
    """Take each connection's error as soon as the kernel tells of one; return them."""
    taken = []
    with select.epoll() as events:
        for sock in clients:
            events.register(sock, 0)
        waiting = {sock.fileno(): sock for sock in clients}
        while waiting:
            for number, _ in events.poll(0):
                if error := waiting[number].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    taken.append(error)
                    events.unregister(waiting.pop(number))
    return taken


@proves(CONNECT)
def errors_taken(lab: Lab) -> None:
    """Fail while another CPU waits for the error, and takes it before the connection ends."""
    nowhere = {IPV4: "203.0.113.77", IPV6: "2001:db8::77"}
    retries = sysctl(CLIENT, "ipv4/tcp_syn_retries", "1")
    linear = sysctl(CLIENT, "ipv4/tcp_syn_linear_timeouts", "0")
    processors = os.sched_getaffinity(0)
    for family in (IPV4, IPV6):
        ip("-n", ROUTER, "route", "add", "unreachable", nowhere[family])
        errors = []
        # ICMP messages come when connect() has let go of the socket.
        with netem(to_client="delay 100ms"), lab.measured():
            for address, number in ((VOID[family], 50), (nowhere[family], 5)):
                os.sched_setaffinity(0, {min(processors)})  # where the timer runs out
                clients = start_connecting(family, address, PORT, number)
                os.sched_setaffinity(0, {max(processors)})
                errors += take_errors(clients)
                close_all(clients)
        os.sched_setaffinity(0, processors)
        ip("-n", ROUTER, "route", "del", "unreachable", nowhere[family])
        timeouts = errors.count(errno.ETIMEDOUT)
        for result, truth in (
            ("timeout", timeouts),
            ("other", len(errors) - timeouts),
            ("aborted", 0),
        ):
            labels = {"family": VERSION[family], "scope": "public", "result": result}
            lab.check("tcp-connect-time", CONNECT, f"error taken, {VERSION[family]}: {result}",
                      truth, lambda d, ls=labels: d.count(CONNECT, **ls))  # fmt: skip
    sysctl(CLIENT, "ipv4/tcp_syn_retries", retries)
    sysctl(CLIENT, "ipv4/tcp_syn_linear_timeouts", linear)


TCP_FASTOPEN, TCP_FASTOPEN_CONNECT = 23, 30
THINKING = 0.6  # seconds


def open_fast(thinks: float, writes: bool = True) -> float:
    """Promise a connection, think, write; return how long SYN and answer took."""
    with client(IPV4) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        sock.connect((SERVER_ADDRESS[IPV4], PORT))
        time.sleep(thinks)
        began = time.monotonic()
        if writes:
            sock.send(b"x")
            sock.recv(1)
        return time.monotonic() - began


def answer_all(server: socket.socket) -> None:
    """Answer one byte to each client until the listener is closed."""
    with contextlib.suppress(OSError):
        while True:
            with server.accept()[0] as peer:
                if peer.recv(1):
                    peer.send(b"y")


@proves(CONNECT)
def fast_open(lab: Lab) -> None:
    """Time the handshake of TCP Fast Open, not what the application does before it writes."""
    before = [sysctl(end, "ipv4/tcp_fastopen", "3") for end in (CLIENT, SERVER)]
    # A slow machine repairs the way late.
    retries = sysctl(CLIENT, "ipv4/tcp_syn_retries", "6")
    sysctl(CLIENT, "ipv4/tcp_no_metrics_save", "0")
    sysctl(CLIENT, "ipv4/tcp_fastopen_blackhole_timeout_sec", "0")
    server = listener(SERVER, IPV4, port=PORT)
    server.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
    acceptor = threading.Thread(target=answer_all, args=(server,))
    acceptor.start()
    labels = {"scope": "public", "result": "ok"}
    # Long beside the time that the server takes to answer.
    with netem(to_client="delay 200ms"):
        open_fast(0)  # fetches the cookie
        for case, writes in (("thinking first", 5), ("never writing", 0)):
            with lab.measured():
                took = [open_fast(THINKING) for _ in range(writes)]
                if not writes:
                    open_fast(THINKING, writes=False)
            lab.check("tcp-connect-time", CONNECT, f"Fast Open, {case}: count", writes,
                      lambda d: d.count(CONNECT, scope="public"))  # fmt: skip
            lab.check("tcp-connect-time", CONNECT, f"Fast Open, {case}: sum, s", sum(took),
                      lambda d: d.sum(CONNECT, **labels), relative=0.1)  # fmt: skip
    took = []
    with lab.measured():
        with netem(to_server="loss 100%"):
            thread = threading.Thread(target=lambda: took.append(open_fast(THINKING)))
            thread.start()
            time.sleep(THINKING + 0.5)
        thread.join()
    assert len(took) == 1, "the connection whose first SYN was lost failed"
    lab.check("tcp-connect-time", CONNECT, "Fast Open, first SYN lost: sum, s", sum(took),
              lambda d: d.sum(CONNECT, **labels), relative=0.1)  # fmt: skip
    with inside(SERVER):
        server.shutdown(socket.SHUT_RDWR)
    server.close()
    acceptor.join()
    sysctl(CLIENT, "ipv4/tcp_no_metrics_save", "1")
    sysctl(CLIENT, "ipv4/tcp_syn_retries", retries)
    for end, value in zip((CLIENT, SERVER), before, strict=True):
        sysctl(end, "ipv4/tcp_fastopen", value)


@proves(CONNECT_DROPPED)
def under_way(lab: Lab) -> None:
    """Start the exporter while connections open: their ends are not dropped events."""
    retries = sysctl(CLIENT, "ipv4/tcp_syn_retries", "6")
    config = "tcp-connect-time"
    variants = [exporter.variants[config] for exporter in lab.exporters
                if config in exporter.variants]  # fmt: skip
    for variant in variants:
        server = listener(SERVER, IPV4, port=PORT)
        with netem(to_client="delay 3s"):
            opening = start_connecting(IPV4, SERVER_ADDRESS[IPV4], PORT, 20)
            opening += start_connecting(IPV4, VOID[IPV4], PORT, 20)
            late = Exporter(lab.artifact, {config: variant}, SERVICE, "late")
            late.wait()
            before = late.metrics()
            with client(IPV4, SERVER) as other:  # now it knows when it began to watch
                other.connect_ex(("127.0.0.1", PORT + 1))
            time.sleep(4)
            close_all(opening)
            lab.deltas = [(late, late.metrics() - before)]
        late.stop()
        server.close()
        lab.check(config, CONNECT_DROPPED, "40 under way when it starts", 0,
                  lambda d: d.total(CONNECT_DROPPED))  # fmt: skip
    sysctl(CLIENT, "ipv4/tcp_syn_retries", retries)


VM = (
    connect_results,
    rare_results,
    errors_taken,
    fast_open,
    under_way,
)
LIVE = ()
