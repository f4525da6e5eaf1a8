# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections that several cases make, and what they are called."""

from __future__ import annotations

import contextlib
import socket
import struct

from .net import SERVER, SERVER_ADDRESS, client, inside, listener

IPV4, IPV6 = socket.AF_INET, socket.AF_INET6
PORT = 7070
SO_RCVBUFFORCE = 33  # asm/socket.h, which Python does not name
BACKLOG = "tcp_syn_backlog"
CONNECT = "tcp_connect_time_seconds"
CONNECT_DROPPED = "tcp_connect_time_dropped_total"


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


class Capture:
    """Packets of an interface, stamped by the kernel."""

    SO_TIMESTAMPNS, ETH_P_ALL, ETH_P_IP = 35, 3, 0x0800

    def __init__(self, namespace: str, device: str) -> None:
        """Begin capturing."""
        with inside(namespace):
            self.sock = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(self.ETH_P_ALL)
            )
            self.sock.bind((device, self.ETH_P_ALL))
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
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


ORDINARY = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
