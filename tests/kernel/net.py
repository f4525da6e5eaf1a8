# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three network namespaces in a row: client, router, server.

The client's peers are public addresses and the server's are private ones, so
that a metric's scope says which end it saw.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

CLIENT, ROUTER, SERVER = "lm-client", "lm-router", "lm-server"
SERVER_ADDRESS = {socket.AF_INET: "203.0.113.2", socket.AF_INET6: "2001:db8::2"}
# A neighbour of the server that nobody is: SYNs to it vanish.
VOID = {socket.AF_INET: "203.0.113.99", socket.AF_INET6: "2001:db8::99"}
VERSION = {socket.AF_INET: "ipv4", socket.AF_INET6: "ipv6"}
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

TOPOLOGY = """
netns add {CLIENT}
netns add {ROUTER}
netns add {SERVER}
link add c0 netns {CLIENT} type veth peer name rc0 netns {ROUTER}
link add s0 netns {SERVER} type veth peer name rs0 netns {ROUTER}
-n {CLIENT} addr add 10.99.0.1/24 dev c0
-n {CLIENT} addr add fd99::1/64 dev c0 nodad
-n {ROUTER} addr add 10.99.0.254/24 dev rc0
-n {ROUTER} addr add fd99::fe/64 dev rc0 nodad
-n {ROUTER} addr add 203.0.113.254/24 dev rs0
-n {ROUTER} addr add 2001:db8::fe/64 dev rs0 nodad
-n {SERVER} addr add 203.0.113.2/24 dev s0
-n {SERVER} addr add 2001:db8::2/64 dev s0 nodad
-n {CLIENT} link set lo up
-n {SERVER} link set lo up
-n {CLIENT} link set c0 up
-n {ROUTER} link set rc0 up
-n {ROUTER} link set rs0 up
-n {SERVER} link set s0 up
-n {CLIENT} route add default via 10.99.0.254
-n {CLIENT} route add default via fd99::fe
-n {SERVER} route add default via 203.0.113.254
-n {SERVER} route add default via 2001:db8::fe
-n {ROUTER} neigh add 203.0.113.99 lladdr 02:00:00:00:00:99 dev rs0
-n {ROUTER} neigh add 2001:db8::99 lladdr 02:00:00:00:00:99 dev rs0
"""


def ip(*arguments: str) -> None:
    """Run ip(8)."""
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Be in a namespace; sockets made here stay in it."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{namespace}") as there:  # noqa: PTH123 (file descriptors)
        enter(there.fileno())
        try:
            yield
        finally:
            enter(home.fileno())


def enter(descriptor: int) -> None:
    """Move this thread to a network namespace."""
    if LIBC.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sysctl(namespace: str | None, name: str, value: str) -> str:
    """Set a network setting of a namespace, where the kernel has it; return what it was."""
    path = Path("/proc/sys/net") / name
    with inside(namespace) if namespace else contextlib.nullcontext():
        if not path.exists():
            return ""
        before = path.read_text(encoding="ascii")
        path.write_text(value, encoding="ascii")
        return before


@contextlib.contextmanager
def topology() -> Iterator[None]:
    """Make the three namespaces, and take them away."""
    remove()
    for line in TOPOLOGY.format(**globals()).strip().splitlines():
        ip(*line.split())
    for family in ("ipv4/conf", "ipv6/conf"):
        sysctl(ROUTER, f"{family}/all/forwarding", "1")
    for namespace in (CLIENT, SERVER):
        # Every connection starts from the same knowledge: none.
        sysctl(namespace, "ipv4/tcp_no_metrics_save", "1")
    try:
        yield
    finally:
        remove()


def remove() -> None:
    """Remove the namespaces, if they are there."""
    for namespace in (CLIENT, ROUTER, SERVER):
        if Path(f"/run/netns/{namespace}").exists():
            ip("netns", "del", namespace)


@contextlib.contextmanager
def netem(to_server: str = "", to_client: str = "") -> Iterator[None]:
    """Disturb the way; what is not named stays as it is."""
    disturbed = [(d, s) for d, s in (("rs0", to_server), ("rc0", to_client)) if s]
    for device, settings in disturbed:
        command = f"tc -n {ROUTER} qdisc add dev {device} root netem {settings} limit 10000"
        subprocess.run(command.split(), check=True)
    try:
        yield
    finally:
        for device, _ in disturbed:
            subprocess.run(f"tc -n {ROUTER} qdisc del dev {device} root".split(), check=True)


def counters(namespace: str | None = None) -> dict[str, int]:
    """Return the kernel's counters in a namespace."""
    with inside(namespace) if namespace else contextlib.nullcontext():
        return counters_of(Path("/proc/thread-self"))


def counters_of(process: Path) -> dict[str, int]:
    """Return the kernel's counters, where a process is, by the names nstat gives them."""
    text = (process / "net" / "snmp").read_text(encoding="ascii")
    text += (process / "net" / "netstat").read_text(encoding="ascii")
    lines = [line.split() for line in text.splitlines()]
    return {
        names[0].rstrip(":") + name: int(value)
        for names, values in zip(lines[::2], lines[1::2], strict=True)
        for name, value in zip(names[1:], values[1:], strict=True)
    }


def of_each_namespace() -> dict[str, Counter[str]]:
    """Return the kernel's counters of every network namespace in use, by the namespace's number."""
    found: dict[str, Counter[str]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            namespace = str((process / "ns/net").stat().st_ino)
            if namespace not in found:
                found[namespace] = Counter(counters_of(process))
    return found


def accepted_by_others() -> int:
    """Return how many connections were accepted outside the three namespaces, ever."""
    ours = {str(Path(f"/run/netns/{name}").stat().st_ino) for name in (CLIENT, ROUTER, SERVER)}
    found = of_each_namespace()
    return sum(found[name]["TcpPassiveOpens"] for name in found.keys() - ours)


class Counted:
    """How much the kernel's counters of some namespaces grew."""

    def __init__(self, *namespaces: str | None) -> None:
        """Remember where they stand."""
        self.namespaces = namespaces
        self.before = [counters(namespace) for namespace in namespaces]

    def __call__(self, name: str) -> int:
        """Return a counter's growth over all the namespaces."""
        now = [counters(namespace) for namespace in self.namespaces]
        return sum(a.get(name, 0) - b.get(name, 0) for a, b in zip(now, self.before, strict=True))


def listener(
    namespace: str, family: int, address: str = "", port: int = 0, backlog: int = 128, **flags: bool
) -> socket.socket:
    """Listen in a namespace."""
    with inside(namespace):
        sock = socket.socket(family)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not flags.get("dual"))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(backlog)
    return sock


def client(family: int, namespace: str = CLIENT) -> socket.socket:
    """Make a socket that is not yet connected."""
    with inside(namespace):
        return socket.socket(family)


def tcp_info(sock: socket.socket, offset: int) -> int:
    """Return a 32-bit field of the kernel's struct tcp_info."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return struct.unpack_from("I", info, offset)[0]


UNACKED = 24
RCV_SSTHRESH = 64
RTT = 68
