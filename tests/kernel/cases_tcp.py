# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP with known truth: the kernel's counters, ss, clocks and captures."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import socket
import struct
import threading
import time

from . import maps
from .exporter import LEFT, SERVICE, SKIPPED, Exporter
from .lab import Lab, at_once, proves
from .net import (
    CLIENT,
    RCV_SSTHRESH,
    ROUTER,
    RTT,
    SERVER,
    SERVER_ADDRESS,
    UNACKED,
    VERSION,
    VOID,
    Counted,
    client,
    inside,
    ip,
    listener,
    netem,
    sysctl,
    tcp_info,
)

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6
PORT = 7070
BACKLOG = "tcp_syn_backlog"
RATIO = "tcp_accept_queue_utilization_ratio"
OVERFLOWS = "tcp_listen_overflows_total"
CONNECT = "tcp_connect_time_seconds"
RETRANSMITS = "tcp_retransmits_total"
DELAY = "tcp_retransmit_delay_seconds"
CLAMPS = "tcp_window_clamps_total"
OVERLIMIT = "tcp_rcvbuf_overlimit_total"
FAILURES = "tcp_rcv_rmem_failures_total"
ROUND_TRIP = "tcp_rtt_seconds"
CONNECTION_RTT = "tcp_connection_rtt_seconds"
BACKLOG_DROPPED = "tcp_syn_backlog_dropped_total"
CONNECT_DROPPED = "tcp_connect_time_dropped_total"
DELAY_DROPPED = "tcp_retransmit_delay_dropped_total"


# -- accept queue -----------------------------------------------------------


def start_connecting(family: int, address: str, port: int, number: int) -> list[socket.socket]:
    """Begin connections without waiting for them."""
    started = []
    for _ in range(number):
        sock = client(family)
        sock.setblocking(False)
        sock.connect_ex((address, port))
        started.append(sock)
    return started


def close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


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


# -- connect time -----------------------------------------------------------


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


# -- round-trip time --------------------------------------------------------


def ping_pong(family: int, rounds: int) -> float:
    """Send one byte to and fro; return the mean of the rtt that ss would show."""
    server = listener(SERVER, family, port=PORT)
    sock = client(family)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.connect((SERVER_ADDRESS[family], PORT))
    peer, _ = server.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    rtts = []
    for _ in range(rounds):
        # The value an ACK meets is the one from before it.
        rtts.append(tcp_info(sock, RTT) / 1e6)
        sock.send(b"x")
        peer.recv(1)
        peer.send(b"y")
        sock.recv(1)
    close_all([sock, peer, server])
    return sum(rtts) / rounds


@proves(ROUND_TRIP)
def rtt(lab: Lab) -> None:
    """Compare with TCP_INFO, which is what ss -ti shows, at three distances."""
    for family, delay in ((IPV4, 5), (IPV4, 25), (IPV4, 100), (IPV6, 25)):
        labels = {"family": VERSION[family], "scope": "public"}
        with netem(f"delay {delay}ms"), lab.measured():
            truth = ping_pong(family, 20)
        lab.check("tcp-rtt", ROUND_TRIP, f"{delay} ms {VERSION[family]}: mean, s (ss -ti)",
                  truth,
                  lambda d, ls=labels: d.mean(ROUND_TRIP, **ls), relative=0.1)  # fmt: skip
        # Each of the 20 answers acknowledges one byte.
        lab.check("tcp-rtt", ROUND_TRIP, f"{delay} ms {VERSION[family]}: 20 answers", 20,
                  lambda d, ls=labels: d.count(ROUND_TRIP, **ls), allowed=1)  # fmt: skip


@proves(ROUND_TRIP)
def receive_only(lab: Lab) -> None:
    """Count almost no sample on the side that only receives."""
    server = listener(SERVER, IPV4, port=PORT)
    with lab.measured():
        sock = client(IPV4)
        sock.connect((SERVER_ADDRESS[IPV4], PORT))
        peer, _ = server.accept()
        sender = threading.Thread(target=lambda: (peer.sendall(bytes(2_000_000)), peer.close()))
        sender.start()
        while sock.recv(1 << 16):
            pass
        sender.join()
        sock.close()
    server.close()
    lab.check("tcp-rtt", ROUND_TRIP, "2 MB received: samples of the receiver", 0,
              lambda d: d.count(ROUND_TRIP, scope="public"), allowed=1)  # fmt: skip
    lab.check("tcp-rtt", ROUND_TRIP, "2 MB received: the sender has samples", 1,
              lambda d: min(1, d.count(ROUND_TRIP, scope="private")))  # fmt: skip


@proves(CONNECTION_RTT, ROUND_TRIP)
def closes_first(lab: Lab) -> None:
    """Serve and close at once, as HTTP/1.0 does: each end has one sample at its end."""
    server = listener(SERVER, IPV4, port=PORT)
    rtts: list[float] = []

    def serve() -> None:
        for _ in range(20):
            with server.accept()[0] as peer:
                peer.recv(1)
                rtts.append(tcp_info(peer, RTT) / 1e6)
                peer.send(b"y")

    acceptor = threading.Thread(target=serve)
    acceptor.start()
    with netem(to_client="delay 25ms"), lab.measured():
        for _ in range(20):
            with client(IPV4) as sock:
                sock.connect((SERVER_ADDRESS[IPV4], PORT))
                sock.send(b"x")
                while sock.recv(1):
                    pass
        acceptor.join()
        time.sleep(0.3)
    server.close()
    for end, scope in (("server", "private"), ("client", "public")):
        lab.check("tcp-rtt", CONNECTION_RTT, f"20 requests, the server closes: the {end}'s end",
                  20, lambda d, s=scope: d.count(CONNECTION_RTT, scope=s))  # fmt: skip
    lab.check("tcp-rtt", CONNECTION_RTT, "20 requests, the server closes: mean, s (ss -ti)",
              sum(rtts) / 20, lambda d: d.mean(CONNECTION_RTT, scope="private"),
              relative=0.1)  # fmt: skip
    lab.check("tcp-rtt", ROUND_TRIP, "20 requests, the server closes: samples of the server", 0,
              lambda d: d.count(ROUND_TRIP, scope="private"))  # fmt: skip


# -- retransmissions --------------------------------------------------------


def transfer(family: int, size: int, seconds: float) -> None:
    """Send from client to server until enough is sent or time is up."""
    server = listener(SERVER, family, port=PORT)
    sock = client(family)
    sock.connect((SERVER_ADDRESS[family], PORT))
    peer, _ = server.accept()

    def drain() -> None:
        while peer.recv(1 << 18):
            pass

    receiver = threading.Thread(target=drain)
    receiver.start()
    deadline = time.monotonic() + seconds
    sent = 0
    while sent < size and time.monotonic() < deadline:
        sent += sock.send(bytes(1 << 16))
    sock.shutdown(socket.SHUT_WR)
    receiver.join()
    close_all([sock, peer, server])


@proves(RETRANSMITS)
def retransmits(lab: Lab) -> None:
    """Lose 5 % of the packets; compare with the kernel's own counters."""
    for family in (IPV4, IPV6):
        counted = Counted(CLIENT, SERVER)
        labels = {"family": VERSION[family]}
        with netem("delay 10ms loss 5%", "delay 10ms"), lab.measured():
            # Chance and a slow machine may lose too little at first.
            for _ in range(5):
                transfer(family, 2_500_000, 8)
                if counted("TcpRetransSegs") > 30:
                    break
        sent = counted("TcpRetransSegs") - counted("TcpExtTCPRetransFail")
        case = f"5 % loss, {VERSION[family]}"
        lab.check("tcp-retransmit", RETRANSMITS, f"{case}: all = TcpRetransSegs", sent,
                  lambda d, ls=labels: d.total(RETRANSMITS, **ls))  # fmt: skip
        lab.check("tcp-retransmit", RETRANSMITS, f"{case}: fast = TCPFastRetrans",
                  counted("TcpExtTCPFastRetrans"),
                  lambda d, ls=labels: d.total(RETRANSMITS, type="fast", **ls))  # fmt: skip
        lab.check("tcp-retransmit", RETRANSMITS, f"{case}: more than 20", 1,
                  lambda d, ls=labels: d.total(RETRANSMITS, **ls) > 20)  # fmt: skip


@proves(RETRANSMITS, DELAY)
def lost_handshakes(lab: Lab) -> None:
    """Lose SYNs, then SYN-ACKs."""
    sysctl(CLIENT, "ipv4/tcp_syn_retries", "2")
    # One after a second and no more: nothing is sent between the kernel's count and the last
    # scrape.
    retries = sysctl(SERVER, "ipv4/tcp_synack_retries", "1")
    for family in (IPV4, IPV6):
        server = listener(SERVER, family, port=PORT)
        for lost, kind in (("to_server", "syn"), ("to_client", "synack")):
            counted = Counted(CLIENT if kind == "syn" else SERVER)
            all_counted = Counted(CLIENT, SERVER)
            with netem(**{lost: "loss 100%"}), lab.measured():
                clients = start_connecting(family, SERVER_ADDRESS[family], PORT, 5)
                time.sleep(1.6)
                close_all(clients)
                # Timers of a busy machine are late.
                time.sleep(0.8)
                repeated = counted("TcpExtTCPSynRetrans")
                segments = all_counted("TcpRetransSegs")
            labels = {"family": VERSION[family]}
            case = f"5 lost {kind}s, {VERSION[family]}"
            lab.check("tcp-retransmit", RETRANSMITS, f"{case}: {kind} = TCPSynRetrans", repeated,
                      lambda d, k=kind, ls=labels: d.total(RETRANSMITS, type=k, **ls))  # fmt: skip
            lab.check("tcp-retransmit", RETRANSMITS, f"{case}: all = TcpRetransSegs", segments,
                      lambda d, ls=labels: d.total(RETRANSMITS, **ls))  # fmt: skip
            if kind == "syn":
                lab.check("tcp-retransmit-delay", DELAY, f"{case}: mean, s", 1.0,
                          lambda d, ls=labels: d.mean(DELAY, type="syn", **ls),
                          relative=0.1)  # fmt: skip
            else:
                # The clients send their SYNs again meanwhile.
                lab.check("tcp-retransmit-delay", DELAY, f"{case}: not in it",
                          segments - repeated,
                          lambda d, ls=labels: d.count(DELAY, **ls))  # fmt: skip
        server.close()
    sysctl(SERVER, "ipv4/tcp_synack_retries", retries)


@proves(RETRANSMITS, DELAY, DELAY_DROPPED)
def route_lost(lab: Lab) -> None:
    """Try to send again without a route, until there is one again."""
    pairs = [connected(ORDINARY) for _ in range(20)]
    counted = Counted(CLIENT)
    with lab.measured():
        with netem(to_server="loss 100%"):
            for sender, _ in pairs:
                sender.send(bytes(1000))
            ip("-n", CLIENT, "route", "del", "default", "via", "10.99.0.254")
            time.sleep(1)
            ip("-n", CLIENT, "route", "add", "default", "via", "10.99.0.254")
        deadline = time.monotonic() + 5
        while any(tcp_info(sender, UNACKED) for sender, _ in pairs):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        sent = counted("TcpRetransSegs") - counted("TcpExtTCPRetransFail")
    for pair in pairs:
        close_all(list(pair))
    case = "20 connections without a route"
    lab.check("tcp-retransmit", RETRANSMITS, f"{case}: TcpRetransSegs", sent,
              lambda d: d.total(RETRANSMITS))  # fmt: skip
    lab.check("tcp-retransmit-delay", DELAY, f"{case}: TcpRetransSegs", sent,
              lambda d: d.count(DELAY))  # fmt: skip
    lab.check("tcp-retransmit-delay", DELAY_DROPPED, case, 0, lambda d: d.total(DELAY_DROPPED))


@proves(RETRANSMITS)
def namespaces(lab: Lab) -> None:
    """Lose SYNs of the host's own network namespace, and of another."""
    ip("link", "add", "lm-lost", "type", "dummy")
    ip("addr", "add", "10.98.0.1/24", "dev", "lm-lost")
    ip("link", "set", "lm-lost", "up")
    host, other = Counted(None), Counted(CLIENT)
    with netem(to_server="loss 100%"), lab.measured():
        clients = start_connecting(IPV4, SERVER_ADDRESS[IPV4], PORT, 5)
        for _ in range(3):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("10.98.0.2", PORT))
            clients.append(sock)
        time.sleep(1.6)
        close_all(clients)
        time.sleep(0.8)
        truth = {"host": host("TcpRetransSegs"), "other": other("TcpRetransSegs")}
    ip("link", "del", "lm-lost")
    for netns, segments in truth.items():
        lab.check("tcp-retransmit", RETRANSMITS, f"lost SYNs, {netns} = TcpRetransSegs there",
                  segments, lambda d, n=netns: d.total(RETRANSMITS, netns=n))  # fmt: skip
        lab.check("tcp-retransmit", RETRANSMITS, f"lost SYNs, {netns}: at all", 1,
                  lambda d, n=netns: min(1, d.total(RETRANSMITS, netns=n)))  # fmt: skip


class Capture:
    """Packets of an interface, stamped by the kernel."""

    SO_TIMESTAMPNS, SO_RCVBUFFORCE, ETH_P_ALL, ETH_P_IP = 35, 33, 3, 0x0800

    def __init__(self, namespace: str, device: str) -> None:
        """Begin capturing."""
        with inside(namespace):
            self.sock = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(self.ETH_P_ALL)
            )
            self.sock.bind((device, self.ETH_P_ALL))
        self.sock.setsockopt(socket.SOL_SOCKET, self.SO_RCVBUFFORCE, 256 << 20)
        self.sock.setsockopt(socket.SOL_SOCKET, self.SO_TIMESTAMPNS, 1)

    def close(self) -> None:
        """Let the packets go."""
        self.sock.close()

    def retransmission_delays(self) -> list[float]:
        """Return the time since a segment's previous transmission, for each one sent again."""
        self.sock.setblocking(False)
        last: dict[tuple, float] = {}
        delays = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, ancillary, _, address = self.sock.recvmsg(128, 64)
                if address[2] != socket.PACKET_OUTGOING or address[1] != self.ETH_P_IP:
                    continue
                head = (packet[0] & 15) * 4
                port, _, sequence = struct.unpack_from("!HHI", packet, head)
                data = (packet[head + 12] >> 4) * 4 + head
                total = struct.unpack_from("!H", packet, 2)[0]
                if total == data and not packet[head + 13] & 3:  # no data, SYN or FIN
                    continue
                seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
                now = seconds + nanoseconds / 1e9
                if (port, sequence) in last:
                    delays.append(now - last[port, sequence])
                last[port, sequence] = now
        self.close()
        return delays


@proves(RETRANSMITS, DELAY, DELAY_DROPPED)
def retransmit_delay(lab: Lab) -> None:
    """Compare with the times of the sender's own packets."""
    # One segment per packet, so that a packet's first byte names its segment.
    with inside(CLIENT):
        ip("link", "set", "c0", "gso_max_segs", "1")
    counted = Counted(CLIENT)
    with netem("delay 10ms loss 5%", "delay 10ms"), lab.measured():
        # Before the router disturbs anything.
        capture = Capture(CLIENT, "c0")
        transfer(IPV4, 1_500_000, 8)
        delays = capture.retransmission_delays()
    with inside(CLIENT):
        ip("link", "set", "c0", "gso_max_segs", "65535")
    sent = counted("TcpRetransSegs") - counted("TcpExtTCPRetransFail")
    labels = {"family": "ipv4", "scope": "public"}
    case = "5 % loss, single segments"
    lab.check("tcp-retransmit", RETRANSMITS, f"{case}: sent again (capture)", len(delays),
              lambda d: d.total(RETRANSMITS, **labels))  # fmt: skip
    lab.check("tcp-retransmit-delay", DELAY, f"{case}: count = TcpRetransSegs", sent,
              lambda d: d.count(DELAY, **labels))  # fmt: skip
    lab.check("tcp-retransmit-delay", DELAY, f"{case}: count (capture)", len(delays),
              lambda d: d.count(DELAY, **labels))  # fmt: skip
    lab.check("tcp-retransmit-delay", DELAY, f"{case}: sum, s (capture)", sum(delays),
              lambda d: d.sum(DELAY, **labels), relative=0.02)  # fmt: skip
    lab.check("tcp-retransmit-delay", DELAY_DROPPED, case, 0, lambda d: d.total(DELAY_DROPPED))


# -- receive memory ---------------------------------------------------------


def connected(option: tuple[int, int, int]) -> tuple[socket.socket, socket.socket]:
    """Return a non-blocking sender and its receiver, on which an option is set."""
    server = listener(SERVER, IPV4, port=PORT)
    server.setsockopt(*option)
    sender = client(IPV4)
    sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sender.connect((SERVER_ADDRESS[IPV4], PORT))
    receiver, _ = server.accept()
    sender.setblocking(False)
    receiver.setblocking(False)
    server.close()
    return sender, receiver


def read_all(sock: socket.socket) -> None:
    """Empty a receive buffer."""
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 20):
            pass


SO_RCVBUFFORCE = 33  # asm/socket.h, which Python does not name
SMALL_BUFFER = (socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
SMALL_SEGMENTS = (socket.IPPROTO_TCP, socket.TCP_MAXSEG, 160)
ORDINARY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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


# -- everything together ----------------------------------------------------

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
    accept_queue,
    late_overflow,
    overflow_without_cookies,
    connect_results,
    rare_results,
    errors_taken,
    fast_open,
    under_way,
    rtt,
    receive_only,
    closes_first,
    retransmits,
    lost_handshakes,
    namespaces,
    route_lost,
    retransmit_delay,
    window_clamps,
    memory_runs_out,
    ten_thousand,
    full_map,
)
LIVE = (accept_queue, receive_only, window_clamps, ten_thousand)
