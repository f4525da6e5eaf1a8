# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a variable's value may be, beyond its type: kinds, each with what is wrong with a value.

Values end in units, YAML, ini files and command lines. A value that means something else there
than its owner meant is refused, and what is left needs no escaping in any of them.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.linmonitor.stack.plugins.module_utils import _address

# Folders that programs share (FHS): nobody's own, so never made, taken over or removed.
SHARED = re.compile(
    r"/|/(bin|boot|dev|etc|home|lib\w*|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var)"
    r"|/usr/(bin|games|include|lib\w*|local|sbin|share|src)(/(bin|lib|share))?"
    r"|/var/(backups|cache|lib|local|lock|log|mail|opt|run|spool|tmp)"
    r"|/etc/(systemd|systemd/system|apt|default|grafana|prometheus)"
)
CAPABILITIES = """
AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN
DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE
MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON
SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT
SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG WAKE_ALARM
"""
# Of a file's name, and of a path to which units and programs add what lies below.
LONGEST_NAME, LONGEST_FOLDER = 255, 1000
DURATION = r"(?=.)(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?"
URL = r"(%s):/[^\s\"'\\<>{}|^`$]+"


def _like(pattern: str, allowed: str) -> Callable[[str], str]:
    """Return a kind whose values match a pattern and are one line."""
    return lambda text: "" if re.fullmatch(pattern, text) and text.isprintable() else allowed


def _line(text: str) -> str:
    return "" if text.isprintable() else "one line of printable characters"


def _path(text: str) -> str:
    if _line(text) or text != text.strip():
        return "a path of printable characters, without blanks at its ends"
    return ""


def _file(text: str) -> str:
    """Look at a path of the controller whose file need not be there yet."""
    if _path(text):
        return _path(text)
    return "a file, and this is a folder" if os.path.isdir(os.path.expanduser(text)) else ""


def _folder(text: str) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9._+@-]+)+/?", text) or {".", ".."} & set(text.split("/")):
        return "an absolute path of letters, digits and . _ + @ -, without . and .. as parts"
    if SHARED.fullmatch(text.rstrip("/") or "/"):
        return "a folder of its own: other programs use that one, and what is ours gets removed"
    if len(text) > LONGEST_FOLDER or max(map(len, text.split("/"))) > LONGEST_NAME:
        return f"a path of {LONGEST_FOLDER} letters, with {LONGEST_NAME} in a name, at most"
    return ""


def _capability(text: str) -> str:
    known = text.startswith("CAP_") and text[len("CAP_") :] in CAPABILITIES.split()
    return "" if known else "a capability, as CAP_BPF"


def _address_of(text: str, port: int | None = None) -> str:
    """Look at HOST:PORT; with a default `port`, a host without one is an address too."""
    try:
        _address.parse(text, port)
    except _address.AddressError as error:
        return f"an address that means something ({error})"
    return ""


def _source(text: str) -> str:
    return KINDS["url"](text) if "://" in text else _path(text)


LIST, TEXT = "list of ", "list or text of "
# A file of the controller; whether it is there, only who knows where tasks look can say.
GIVEN = "given_file"
KINDS: dict[str, Callable[[str], str]] = {
    "address": _address_of,
    "capability": _capability,
    "count": _like(r"[1-9]\d{0,8}", "a number from 1 on"),
    "duration": _like(DURATION, "a duration as Prometheus writes it: 15s, 90m, 1h30m, 15d"),
    "file": _file,
    "file_name": _like(r"[A-Za-z0-9][A-Za-z0-9._-]*", "the name of a file, without its folder"),
    "fingerprint": _like(r"[0-9A-Fa-f]{40}", "the 40 hexadecimal digits of a fingerprint"),
    "folder": _folder,
    GIVEN: _path,
    "image": _like(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*", "an image, as debian:bookworm"),
    # The end of a user's name, which has 32 characters at most.
    "instance": _like(r"[a-z0-9][a-z0-9-]{0,9}", "at most 10 of a-z, 0-9 and -"),
    # Prometheus takes 0s for its own default.
    "interval": _like(r"(?=.*[1-9])" + DURATION, "a duration from 1ms on: 15s, 90m, 1h30m, 15d"),
    "line": _line,
    # Names are resolved later; what is neither name nor network is refused there.
    "network": _like(r"[A-Za-z0-9.:_/\[\]-]+", f"one of: {_address.SOURCES}"),
    "path": _path,
    "repository": _like(URL % "https?|ssh|git|file", "a URL of git, as https://…"),
    "scrape_address": functools.partial(_address_of, port=1),
    "secret": _line,
    "package_version": _like(r"newest|\d[0-9A-Za-z.+~:-]*", "a version of the package, or newest"),
    "sha256": _like(r"[0-9A-Fa-f]{64}", "the 64 digits that sha256sum prints"),
    "share": _like(r"[1-9]\d*%?", "a number of hosts or a share of them, as 10 or 25%"),
    "size": _like(r"[1-9]\d*[KMGTPE]?B", "a size with its unit, as 500GB"),
    "source": _source,
    "url": _like(URL % "https?|file", "a URL, as https://…, without blanks and quotes"),
    "user": _like(r"[^\s:]+", "a name without blanks and colons"),
    "version": _like(r"\d+(\.\d+)*([.~+-][0-9A-Za-z.~+-]+)?", "a version, as 2.37.8"),
    "word": _like(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a name of letters, digits and . _ -"),
}
MOST = 300
# Values that no message repeats.
SECRET = frozenset({"secret"})


def _is_line(value: Any) -> bool:
    """Say whether a value in a dictionary is one line and has no parts.

    What is encrypted by itself is no text before ansible-core 2.19, and says what it holds.
    """
    has_parts = isinstance(value, (list, tuple, Mapping))
    return value is not None and not has_parts and not _line(str(value))


def _environment(values: Mapping) -> str:
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", str(name)) or not _is_line(value):
            return f"names of environment variables with a line each; {name} is not"
    return ""


def _settings(values: Mapping) -> str:
    """Look at sections of an ini file; their values may be secret, so only names are said."""
    for section, settings in values.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]+", str(section)) or not isinstance(settings, Mapping):
            return f"sections, each with its settings; {section!r} is not"
        for key, value in settings.items():
            plain = _is_line(value) and '"""' not in str(value)
            if not re.fullmatch(r"[A-Za-z0-9._-]+", str(key)) or not plain:
                return f"settings of one line each; {section}.{key} is not"
    return ""


def _headers(values: Mapping) -> str:
    """Look at headers of HTTP; their values may be secret, so only names are said."""
    for name, value in values.items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", str(name)) or not str(value) or not _is_line(value):
            return f"names of headers with a line each; {name!r} is not"
    return ""


DICTS = {"environment": _environment, "headers": _headers, "settings": _settings}


def fault(kind: str, value: Any) -> str:
    """Say what is wrong with a value of a kind, "" where nothing is.

    A kind ends in "?" where the value may be empty, and begins with LIST for a list of its values,
    with TEXT where names between commas, as of a command line, are a list too.
    """
    may_be_empty, kind = kind.endswith("?"), kind.rstrip("?")
    if kind in DICTS:
        # What it is, not what it says: that may be a secret.
        wrong = f"a dictionary, not {_kind_of(value)}"
        return _shown(DICTS[kind](value) if isinstance(value, Mapping) else wrong)
    if kind.startswith(TEXT) and isinstance(value, str):
        value = [one.strip() for one in value.split(",")]
    kind = kind.replace(TEXT, LIST)
    if kind.startswith(LIST):
        if not isinstance(value, (list, tuple)):
            return _shown(f"a list, not {value!r}")
        return next(filter(None, (fault(kind[len(LIST) :], one) for one in value)), "")
    if value is None or isinstance(value, (bool, list, tuple, Mapping)):
        # YAML reads yes and off as true and false, and nothing as null: as text they would mean
        # something else.
        hint = "in quotes where YAML reads it as something else"
        if value is None and may_be_empty:
            hint = 'empty ("") where nothing is meant'
        return f"a text, {hint}, not {_kind_of(value)}"
    text = str(value)
    if may_be_empty and not text:
        return ""
    allowed = KINDS[kind](text) if text else "not empty"
    if allowed and kind not in SECRET:
        allowed = f"{_shown(allowed)}, not {text[:200]!r}"
    return allowed


def _shown(words: str) -> str:
    """Return what a message can repeat: one line, not too long, whatever a name in it is."""
    return words[:MOST] if words.isprintable() else repr(words)[1 : MOST + 1]


def _kind_of(value: Any) -> str:
    """Return what a person calls this; Ansible has classes of its own for texts and lists."""
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, Mapping):
        return "a dictionary"
    return "null" if value is None else repr(value)
