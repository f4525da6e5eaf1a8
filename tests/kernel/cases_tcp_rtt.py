# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Round-trip times: what TCP_INFO, and so ss, says of the same sockets."""

from __future__ import annotations

import socket
import threading
import time

from .lab import Lab, proves
from .net import RTT, SERVER, SERVER_ADDRESS, VERSION, client, listener, netem, tcp_info
from .tcp import IPV4, IPV6, PORT, close_all

ROUND_TRIP = "tcp_rtt_seconds"
CONNECTION_RTT = "tcp_connection_rtt_seconds"


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


VM = (
    rtt,
    receive_only,
    closes_first,
)
LIVE = (receive_only,)
