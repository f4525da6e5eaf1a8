# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that look at dashboards, settings and others' files on the controller."""

from __future__ import annotations

import base64
import configparser
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import yaml

DOCUMENTATION = r"""
name: grafana
short_description: Look at dashboards, settings and others' files before a host is touched
version_added: 1.0.0
description:
  - Used by the grafana role, by C(playbooks/grafana.yml) and by C(playbooks/verify.yml).
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""


def apt_signed_by(texts: list[str], url: str) -> str:
    """Return the key file, or the key itself, that apt's entries of a repository name."""
    wanted = url.rstrip("/")
    for text in texts:
        for line in text.splitlines():
            found = re.match(r"\s*deb\s+\[([^]]*)\]\s+(\S+)", line)
            if found and found[2].rstrip("/") == wanted:
                named = re.search(r"signed-by=(\S+)", found[1], re.I)
                return named[1] if named else ""
        for stanza in re.split(r"\n\s*\n", text):
            folded = re.sub(r"\n[ \t]+", "\n ", re.sub(r"(?m)^#.*\n?", "", stanza))
            fields = dict(re.findall(r"(?m)^([\w-]+):[ \t]*((?:.*)(?:\n .*)*)", folded))
            fields = {name.lower(): value for name, value in fields.items()}
            if wanted in [uri.rstrip("/") for uri in fields.get("uris", "").split()]:
                lines = fields.get("signed-by", "").strip().split("\n ")
                return "\n".join("" if line == "." else line for line in lines)
    return ""


OURS = "linmonitor"


def provisioned_datasources(contents: Mapping[str, str], folder: str) -> list[dict]:
    """Return what others' files of datasources hold: where, whether a default, whether our name.

    A file that is no YAML holds nothing; it is Grafana itself that refuses it.
    """
    found = []
    for path, encoded in contents.items():
        if not path.startswith(f"{folder}/") or path == f"{folder}/{OURS}.yml":
            continue
        try:
            content = yaml.safe_load(base64.b64decode(encoded)) or {}
            listed = content.get("datasources") or []
        except (yaml.YAMLError, AttributeError):
            continue
        for source in listed:
            if not isinstance(source, dict) or str(source.get("orgId") or 1) != "1":
                continue
            # A variable counts as yes: nobody here knows its value.
            default = str(source.get("isDefault", source.get("is_default", False))).lower()
            found.append(
                {
                    "where": f"{source.get('name')!r} in {path}",
                    "default": default not in ("false", "no", "off", "0", "none", ""),
                    "claims": OURS in (source.get("name"), source.get("uid")),
                }
            )
    return found


def claims(datasources: list[dict]) -> list[str]:
    """Return those datasources of a database that have our name or uid and were not provisioned."""
    return [
        f"{source['name']!r} (uid {source['uid']}) in its database"
        for source in datasources
        if source["org_id"] == 1
        and OURS in (source["name"], source["uid"])
        and not (source["name"] == source["uid"] and source["read_only"])
    ]


# Values that are shown: numbers, times, sizes, switches, names of files, and these keys.
PLAIN = re.compile(
    r"(|true|false|yes|no|on|off|\d+(\.\d+)?(ms|s|m|h|d|w|y|[kmg]i?b?)?|/[\w./-]*|\$__\w+\{[^{}]*\})",
    re.I,
)
SHOWN = {
    "admin_user",
    "allowed_domains",
    "app_mode",
    "cert_key",
    "default_language",
    "default_theme",
    "domain",
    "enable",
    "format",
    "from_address",
    "from_name",
    "http_addr",
    "instance_name",
    "level",
    "mode",
    "org_name",
    "org_role",
    "protocol",
    "scopes",
    "type",
}
SECRET = re.compile(r"pass|secret|token|credential|key|pwd|dsn|pin|salt|code|private", re.I)


def _settings(text: str) -> dict[tuple[str, str], str]:
    """Return the settings of an ini file by section and key."""
    ini = configparser.RawConfigParser(
        strict=False, allow_no_value=True, default_section="", inline_comment_prefixes=(";", "#")
    )
    try:
        ini.read_string("[top]\n" + text)
    except configparser.Error:
        return {}
    return {
        (section, key): (value or "").strip('"')
        for section in ini.sections()
        for key, value in ini.items(section)
    }


def _shown(key: str, value: str) -> str:
    """Return a value for a person's eyes, or that it is hidden."""
    expression = value.startswith("$__")
    if PLAIN.fullmatch(value) and (expression or not SECRET.search(key)):
        return value
    return value if key in SHOWN and "://" not in value else "(hidden)"


def settings_diff(before: str, after: str) -> list[str]:
    """Return the settings that differ; a value is shown only if it is known to be harmless."""
    old, new, lines = _settings(before), _settings(after), []
    for section, key in sorted(old.keys() | new.keys()):
        place = (section, key)
        if old.get(place) == new.get(place):
            continue
        for mark, settings in (("-", old), ("+", new)):
            if place in settings:
                lines.append(f"{mark} [{section}] {key} = {_shown(key, settings[place])}")
    return lines


def _dashboard(path: Path) -> dict:
    """Read one dashboard: what Grafana will know it by, and what keeps it from loading."""
    content = path.read_bytes()
    # SHA-1 is what Ansible's find reports of the host's copy.
    seen = {"file": path.name, "path": str(path), "checksum": hashlib.sha1(content).hexdigest()}
    seen |= {"uid": "", "title": "", "fault": ""}
    try:
        model = json.loads(content)
    except ValueError as error:
        return seen | {"fault": f"{path.name} is not valid JSON: {error}"}
    if not isinstance(model, dict):
        return seen | {"fault": f"{path.name} is not a dashboard: it holds no JSON object"}
    if {"elements", "layout", "spec"} & model.keys():
        return seen | {
            "fault": f"{path.name} has the v2 schema, which file provisioning refuses; "
            "export the dashboard in the classic format"
        }
    for field in ("uid", "title"):
        if not isinstance(model.get(field), str) or not model[field]:
            return seen | {"fault": f"{path.name} has no {field}"}
    return seen | {"uid": model["uid"], "title": model["title"]}


def dashboards(folder: str) -> list[dict]:
    """Return the dashboards of a folder on the controller, each with its fault or none.

    Two with one uid or title would freeze all writes of Grafana's provider, with a warning only.
    """
    found = [_dashboard(path) for path in sorted(Path(folder).glob("*.json"))]
    for field in ("uid", "title"):
        times = Counter(seen[field] for seen in found if not seen["fault"])
        for seen in found:
            if not seen["fault"] and times[seen[field]] > 1:
                same = [other["file"] for other in found if other[field] == seen[field]]
                seen["fault"] = f"{' and '.join(same)} have the same {field} {seen[field]!r}"
    return found


def changed_dashboards(
    found: list[dict], there: list[dict], folder: str, group: str
) -> list[dict[str, str]]:
    """Return those dashboards, as files to write, that a host has not or has otherwise."""
    same = {(file["path"], file["checksum"]) for file in there}
    return [
        {
            "path": f"{folder}/{seen['file']}",
            "content": Path(seen["path"]).read_text(encoding="utf-8"),
            "group": group,
            "mode": "0640",
        }
        for seen in found
        if (f"{folder}/{seen['file']}", seen["checksum"]) not in same
    ]


def untouched_samples(contents: Mapping[str, str], folder: str, originals: str) -> list[str]:
    """Return those files of a folder that are the package's own, or hold nothing but comments."""
    found = []
    for path, encoded in contents.items():
        if not path.startswith(f"{folder}/"):
            continue
        lines = base64.b64decode(encoded).decode(errors="replace").splitlines()
        silent = all(not line.strip() or line.lstrip().startswith("#") for line in lines)
        if silent or contents.get(originals + path[len(folder) :]) == encoded:
            found.append(path)
    return found


def entry(edition: str, channel: str, version: str, architecture: str) -> str:
    """Return the cache's folder of a package; without a version the newest one was asked for."""
    return f"grafana/{edition}-{channel}-{version or 'newest'}-{architecture}"


def bundled_package(variables: Mapping, bundled: dict[str, dict]) -> dict[str, str]:
    """Return the package that a host's variables name, else the one that a bundle has for it."""
    version = variables.get("grafana_version", "")
    asked = {
        "path": variables.get("grafana_deb", ""),
        "sha256": variables.get("grafana_deb_sha256", ""),
        "version": version,
    }
    folder = entry(
        variables.get("grafana_edition", "oss"),
        variables.get("grafana_channel", "stable"),
        version,
        variables.get("grafana_architecture", "x86_64"),
    )
    found = [name for name in bundled if name.startswith(f"{folder}/") and name.endswith(".deb")]
    if asked["path"] or not found:
        return asked
    # apt names the file PACKAGE_VERSION_ARCHITECTURE.deb.
    return bundled[found[0]] | {"version": Path(found[0]).name.split("_")[1]}


def headers(given: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return headers as a datasource has them: names and secret values apart, by number."""
    return {
        "jsonData": {f"httpHeaderName{n}": name for n, name in enumerate(given, 1)},
        # A $ starts a variable in provisioned files.
        "secureJsonData": {
            f"httpHeaderValue{n}": str(value).replace("$", "$$")
            for n, value in enumerate(given.values(), 1)
        },
    }


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {
            "apt_signed_by": apt_signed_by,
            "bundled_package": bundled_package,
            "grafana_claims": claims,
            "grafana_dashboards": dashboards,
            "grafana_datasources": provisioned_datasources,
            "grafana_headers": headers,
            "grafana_files": changed_dashboards,
            "grafana_entry": lambda asked: entry(*asked),
            "grafana_samples": untouched_samples,
            "grafana_settings_diff": settings_diff,
        }
