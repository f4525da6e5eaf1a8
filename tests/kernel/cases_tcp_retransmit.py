# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What TCP sends again: the kernel's counters and captures are the truth."""

from __future__ import annotations

import socket
import threading
import time

from .lab import Lab, proves
from .net import (
    CLIENT,
    SERVER,
    SERVER_ADDRESS,
    UNACKED,
    VERSION,
    Counted,
    client,
    inside,
    ip,
    listener,
    netem,
    sysctl,
    tcp_info,
)
from .tcp import IPV4, IPV6, ORDINARY, PORT, Capture, close_all, connected, start_connecting

RETRANSMITS = "tcp_retransmits_total"
DELAY = "tcp_retransmit_delay_seconds"
DELAY_DROPPED = "tcp_retransmit_delay_dropped_total"


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


VM = (
    retransmits,
    lost_handshakes,
    namespaces,
    route_lost,
    retransmit_delay,
)
LIVE = ()
