# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafana's settings as it reads them itself: command line, environment, file."""

from __future__ import annotations

import configparser
import os
import re

CONFIG = "/etc/grafana/grafana.ini"


def assignments(text):
    # type: (str) -> dict
    """Return the variables of an environment file, or of systemd's own list of them."""
    found = {}
    for line in text.splitlines():
        name, mark, value = line.strip().partition("=")
        if mark and not name.startswith(("#", ";")):
            found[name.strip()] = value.strip().strip("\"'")
    return found


def environment(shown):
    # type: (dict) -> dict
    """Return the environment that systemd gives the unit."""
    found = assignments("\n".join(shown.get("Environment", "").split()))
    for path in re.findall(r"(/\S+) \(ignore_errors=\w+\)", shown.get("EnvironmentFiles", "")):
        try:
            with open(path) as stream:
                found.update(assignments(stream.read()))
        except OSError:
            continue
    return found


def arguments(shown, variables):
    # type: (dict, dict) -> list
    """Return the command line of the unit, with the variables of its environment."""
    match = re.search(r"argv\[\]=(.*?) ; ignore_errors=", shown.get("ExecStart", ""))
    expanded = re.sub(
        r"\$\{(\w+)\}", lambda name: variables.get(name[1], ""), match[1] if match else ""
    )
    return expanded.split()


class Settings:
    """Grafana's settings, wherever they stand."""

    def __init__(self, shown):
        # type: (dict) -> None
        self.variables = environment(shown)
        words = [word.lstrip("-") for word in arguments(shown, self.variables)]
        self.options = dict(word.split("=", 1) for word in words if "=" in word)
        self.home = self.options.get("homepath") or shown.get("WorkingDirectory", "").lstrip("!-")
        self.home = self.home or "/usr/share/grafana"
        self.file = self.options.get("config") or CONFIG
        self.ini = configparser.RawConfigParser(
            strict=False,
            allow_no_value=True,
            default_section="",
            inline_comment_prefixes=(";", "#"),
        )
        try:
            with open(self.file, encoding="utf-8") as stream:
                self.ini.read_string("[top]\n" + stream.read())
        except (OSError, ValueError, configparser.Error):
            pass

    def get(self, section, key, default=""):
        # type: (str, str, str) -> str
        """Return one setting; $__file{} and $__env{} are taken for what they stand for."""
        dotted = "%s.%s" % (section, key)
        variable = "GF_%s_%s" % (re.sub(r"[.-]", "_", section).upper(), key.upper())
        places = (
            self.options.get("cfg:" + dotted),
            self.variables.get(variable),
            self.ini.get(section, key, fallback=None),
            self.options.get("cfg:default." + dotted),
        )
        value = next((place for place in places if place), default).strip("\"'`")
        value = re.sub(r"\$__env\{(\w+)\}", lambda name: self.variables.get(name[1], ""), value)
        return re.sub(r"\$__file\{([^}]+)\}", self._content, value)

    def path(self, section, key, default):
        # type: (str, str, str) -> str
        """Return a path; relative ones begin at Grafana's home."""
        return os.path.normpath(os.path.join(self.home, self.get(section, key, default)))

    @staticmethod
    def _content(name):
        try:
            with open(name[1]) as stream:
                return stream.read().strip()
        except OSError:
            return ""

    def listener(self):
        # type: () -> tuple
        """Return address with port, and the address under which it answers on this host."""
        protocol = self.get("server", "protocol", "http")
        if protocol == "socket":
            return "", ""
        host, port = self.get("server", "http_addr"), self.get("server", "http_port", "3000")
        near = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        host, near = ("[%s]" % name if ":" in name else name for name in (host, near))
        below = ""
        if self.get("server", "serve_from_sub_path").lower() == "true":
            match = re.match(r"\w+://[^/]*(/.*)", self.get("server", "root_url"))
            below = match[1].rstrip("/") if match else ""
        scheme = "http" if protocol == "http" else "https"
        return (
            "%s:%s" % (host or "0.0.0.0", port),
            "%s://%s:%s%s" % (scheme, near, port, below),
        )

    def database(self):
        # type: () -> str
        """Return the path of an SQLite database, or nothing for another kind."""
        url = self.get("database", "url")
        kind = url.split(":", 1)[0] if url else self.get("database", "type", "sqlite3")
        if kind != "sqlite3":
            return ""
        path = url.split("://", 1)[-1] if url else self.get("database", "path", "grafana.db")
        return os.path.normpath(os.path.join(self.path("paths", "data", "data"), path))
