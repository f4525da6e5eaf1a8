# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an address is: where a server listens, where it is reached, and who may talk to it.

One notation for all: HOST:PORT, where HOST is an IPv4 address, an IPv6 address in brackets or a
name, and is empty, 0.0.0.0 or [::] for every address of a host.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import NamedTuple

PLACES = "10.0.0.5:PORT, [2001:db8::5]:PORT or name.example.com:PORT"
SOURCES = "addresses, networks such as 10.0.0.0/8, names, localhost, link-local, multicast and any"
# What systemd's IPAddressAllow= knows by name (systemd.resource-control(5)).
WORDS = ("any", "localhost", "link-local", "multicast")
LOOPBACK = "127.0.0.1"
LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
NAME = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(?:\.{LABEL})*\.?")


class AddressError(ValueError):
    """An address that means nothing; the message says what is wrong and what is allowed."""


class Address(NamedTuple):
    """A host without brackets, empty for every address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return HOST:PORT, which is a listener, a Prometheus target and a part of a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def wildcard(self) -> bool:
        """Whether this is every address of a host."""
        return not self.host or (is_ip(self.host) and _ip(self.host).is_unspecified)

    @property
    def loopback(self) -> bool:
        """Whether only the host itself can talk to this."""
        return is_loopback(self.host)

    @property
    def name(self) -> bool:
        """Whether somebody has to look up what address this is."""
        return bool(self.host) and not is_ip(self.host) and not self.loopback

    @property
    def own(self) -> Address:
        """Where the host itself reaches this; Go's wildcards take IPv4 in each notation."""
        return Address(LOOPBACK, self.port) if self.wildcard else self

    def stream(self, known: list[str]) -> str:
        """Return this as one socket that systemd opens; `known` are a name's own addresses."""
        if self.wildcard:
            return str(self.port)
        if is_ip(self.host):
            return str(Address(str(_ip(self.host)), self.port))
        if self.loopback:
            known = ["::1"] if self.host.startswith("ip6-") else [LOOPBACK]
        addresses = sorted(known, key=lambda one: (":" in one, one))
        return str(Address(addresses[0], self.port)) if addresses else ""

    def at(self, host: str) -> Address:
        """Return where others reach this, given how they reach the host."""
        return Address(host, self.port) if self.wildcard else self


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an IP address; one that is IPv4 in the clothes of IPv6 is IPv4."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def is_ip(text: str) -> bool:
    """Say whether this is an IP address, without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Say whether a host without brackets is the loopback of whoever uses it."""
    if is_ip(host):
        return _ip(host).is_loopback
    return host.rstrip(".").lower() in ("localhost", "ip6-localhost", "ip6-loopback")


def host_of(text: object) -> str:
    """Return a host without a port: an IP address, with or without brackets, or a name."""
    host = str(text)
    if re.fullmatch(r"\[[^\[\]]*\]", host):
        if not is_ip(host[1:-1]) or ":" not in host:
            raise AddressError(f"{host} has no IPv6 address in its brackets")
        host = host[1:-1]
    if "%" in host:
        raise AddressError(f"{host} has a zone, which means nothing on another host")
    if is_ip(host):
        return str(ipaddress.ip_address(host))
    if ":" in host or not NAME.fullmatch(host):
        raise AddressError(f"{host!r} is neither an IP address nor a name")
    if re.fullmatch(r"[0-9.]+|0[xX][0-9a-fA-F]+", host):
        raise AddressError(f"{host} is no IP address, and no name can look like one")
    return host


def parse(text: object, port: int | None = None) -> Address:
    """Read HOST:PORT. With a default `port`, a host without one is an address too."""
    try:
        return _parse(str(text), port)
    except AddressError as error:
        more = ", or :PORT for every address" if port is None else ", with or without :PORT"
        raise AddressError(f"{error}. Allowed is an address such as {PLACES}{more}") from error


def _parse(text: str, default: int | None) -> Address:
    if "%" in text:
        raise AddressError(f"{text} has a zone, which means nothing on another host")
    head, colon, tail = text.rpartition(":")
    bare = is_ip(text) and colon != ""
    if bare and default is None:
        raise AddressError(f"an IPv6 address needs brackets: {_spelling(text)}")
    if bare and is_ip(head) and tail.isdigit():
        raise AddressError(f"{text} has two meanings: [{text}], or [{head}]:{tail} with a port")
    if default is not None and (bare or not colon or text.endswith("]")):
        return Address(host_of(text), default)
    if not colon or text.endswith("]"):
        raise AddressError(f"{text!r} has no port")
    if not re.fullmatch(r"[0-9]{1,5}", tail) or not 1 <= int(tail) <= 65535:
        raise AddressError(f"{tail!r} is no port from 1 to 65535")
    return Address(host_of(head) if head else "", int(tail))


def _spelling(text: str) -> str:
    """Guess what was meant by an IPv6 address without brackets where a port belongs."""
    head, _colon, tail = text.rpartition(":")
    if is_ip(head) and tail.isdigit():
        return f"[{head}]:{tail}"
    return f"[{text}]:PORT"


def resolve(name: str) -> list[str]:
    """Return every IP address of a name, as this machine knows it."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise AddressError(f"{name} cannot be resolved here ({error.strerror or error})") from error
    return sorted({str(entry[4][0]).partition("%")[0] for entry in found})


def prefixes(text: object) -> list[str]:
    """Return a source as systemd's IPAddressAllow= takes it, which does not know names."""
    source = str(text)
    if source in WORDS:
        return [source]
    if "/" in source:
        return [_network(source)]
    try:
        host = host_of(source)
    except AddressError as error:
        raise AddressError(f"{error}. Allowed are {SOURCES}") from error
    if is_ip(host):
        if _ip(host).is_unspecified:
            raise AddressError(f"{host} is nobody's address; everybody is any")
        return [str(_ip(host))]
    found = resolve(host)
    if all(map(is_loopback, found)):
        raise AddressError(
            f"{host} is {', '.join(found)} here, which is no address that others come from; "
            "name the address itself"
        )
    return [str(_ip(address)) for address in found if not is_loopback(address)]


def _network(text: str) -> str:
    address, _slash, length = text.partition("/")
    if not is_ip(address) or "%" in text or not re.fullmatch(r"[0-9]{1,3}", length):
        raise AddressError(f"{text!r} is no network. Allowed are {SOURCES}")
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        if "host bits" not in str(error):
            raise AddressError(f"{text} is no network: {error}") from error
        meant = ipaddress.ip_network(text, strict=False)
        raise AddressError(
            f"{text} is an address within the network {meant}; name {meant} or {address}"
        ) from error
