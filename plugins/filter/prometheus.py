# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn what an operator asks of Prometheus into its configuration and its command line."""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.linmonitor.stack.plugins.filter.artifact import pins
from ansible_collections.linmonitor.stack.plugins.module_utils import _values
from ansible_collections.linmonitor.stack.plugins.module_utils._prometheus import numbers

DOCUMENTATION = r"""
name: prometheus
short_description: Turn what an operator asks of Prometheus into configuration and command line
version_added: 1.0.0
description:
  - Used by the prometheus role.
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

# Flags that a variable of the role sets, because more than the command line depends on them.
NAMED_FLAGS = {
    "agent": "prometheus_mode",
    "config.file": "prometheus_config",
    "storage.agent.path": "prometheus_data_dir",
    "storage.tsdb.path": "prometheus_data_dir",
    "storage.tsdb.retention.size": "prometheus_retention_size",
    "storage.tsdb.retention.time": "prometheus_retention_time",
    "web.config.file": "prometheus_web_config",
    "web.external-url": "prometheus_external_url",
    "web.listen-address": "prometheus_listen_address",
}
# The job of our exporters where nobody names it otherwise.
JOB = "ebpf_exporter"
MARK = "# Managed by linmonitor.stack\n"
URL_WITH_PASSWORD = re.compile(r"\s*[A-Za-z][\w+.-]*://[^/@\s]*:[^/\s]*@")
# Of the rules that the role writes.
OWN_RULE_FILES = ("alerts.yml", "recording.yml")
# Of Unicode, beside those that YAML escapes anyway.
LINE_BREAKS = frozenset("\x85\u2028\u2029")
NUMBER = r"-?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?"
# What bcrypt reads of a password, in bytes.
PASSWORD_BYTES = 72


class _OneLine(yaml.SafeDumper):
    """Writes every text on one line, so that a line is never a part of a value."""

    long_texts = '"'


class _Blocks(yaml.SafeDumper):
    """Writes texts of more lines as a person does."""

    long_texts = "|"


def _text(dumper: _OneLine | _Blocks, value: str) -> yaml.ScalarNode:
    style = dumper.long_texts if len(value.splitlines()) > 1 else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_OneLine.add_representer(str, _text)
_Blocks.add_representer(str, _text)


def _plain(value: Any) -> Any:
    """Return a value without Ansible's own types; what an inventory encrypts is text then."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    # What Ansible marks as unsafe stays of its type through str() alone.
    return str.__str__(str(value))


def _dump(structure: object, dumper: type[yaml.SafeDumper]) -> str:
    plain = _plain(structure)
    dump = functools.partial(yaml.dump, plain, Dumper=dumper, sort_keys=False, width=sys.maxsize)
    text = dump(allow_unicode=True)
    # What YAML takes for a line break too is read back only where it is escaped.
    return text if LINE_BREAKS.isdisjoint(text) else dump(allow_unicode=False)


def differences(version: object) -> dict[str, Any]:
    """Return what versions.yml says of a version: its last row that is not newer."""
    table = pins("prometheus_differences")
    known = [row for since, row in table.items() if numbers(since) <= numbers(str(version))]
    return known[-1] if known else next(iter(table.values()))


def to_yaml(structure: object) -> str:
    """Write a structure in its own order, one line per value."""
    return _dump(structure, _OneLine)


def without_empty(structure: Mapping) -> dict:
    """Return a mapping without what is empty in it and in mappings below; lists are not entered."""
    entered = {
        key: without_empty(value) if isinstance(value, Mapping) else value
        for key, value in structure.items()
    }
    return {key: value for key, value in entered.items() if value not in (None, "", {}, [])}


def jobs(own: Iterable[Mapping], theirs: Iterable[Mapping]) -> list[dict]:
    """Return scrape jobs: our own, changed by those of the same name, then the others."""
    found = {job["job_name"]: dict(job) for job in own}
    others = []
    for job in theirs:
        if job.get("job_name") in found:
            found[job["job_name"]] |= job
        else:
            others.append(dict(job))
    return [*found.values(), *others]


def sharded(scrapes: Iterable[Mapping], shards: int, shard: int) -> list[dict]:
    """Return scrape jobs, that of our exporters with one part of its targets.

    By the instance, after whatever the operator's own relabelling made of it: a server's own host
    has another address there than elsewhere. What has no instance gets its address as one later.
    """
    rules = [
        {"source_labels": ["__address__"], "target_label": "__tmp_shard"},
        {"source_labels": ["instance"], "regex": "(.+)", "target_label": "__tmp_shard"},
        {
            "source_labels": ["__tmp_shard"],
            "modulus": shards,
            "target_label": "__tmp_shard",
            "action": "hashmod",
        },
        {"source_labels": ["__tmp_shard"], "regex": str(shard), "action": "keep"},
    ]
    found = [dict(job) for job in scrapes]
    for job in found:
        if shards > 1 and job["job_name"] == JOB:
            job["relabel_configs"] = [*job.get("relabel_configs", []), *rules]
    return found


def shard_of(instance: str, shards: int) -> int:
    """Return the shard of an instance as Prometheus' hashmod does: the lower half of its MD5."""
    digest = hashlib.md5(instance.encode(), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "big") % shards


def shard_faults(shards: int, shard: int) -> list[str]:
    """Say why a host cannot be this shard of so many."""
    if shards < 1:
        return [f"prometheus_shards must be 1 or more, not {shards}"]
    if not 0 <= shard < shards:
        told = f"of prometheus_shards: {shards} they are 0 to {shards - 1}"
        return [f"prometheus_shard is {shard}, and {told}"]
    return []


def arguments(flags: Mapping) -> list[str]:
    """Return the command line for flags: true and false are switches, a list is one flag each."""
    words = []
    for name, given in flags.items():
        for value in given if isinstance(given, (list, tuple)) else [given]:
            if isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no-{name}")
            elif value not in (None, ""):
                words.append(f"--{name}={value}")
    return words


def systemd_word(word: object) -> str:
    """Return one word of a command line as ExecStart= takes it."""
    text = str(word)
    if not text.isprintable():
        raise AnsibleFilterError(f"{text!r} cannot be a word of a command line")
    for sign, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        text = text.replace(sign, escaped)
    return f'"{text}"' if set(text) & set(" \"';\\") else text


def flag_faults(flags: Mapping) -> list[str]:
    """Say which flags are not the business of prometheus_flags."""
    faults = [
        f"prometheus_flags has {name}, which {NAMED_FLAGS[name]} sets"
        for name in flags
        if name in NAMED_FLAGS
    ]
    faults += [
        f"prometheus_flags has {name}: names are without the dashes before them"
        for name in flags
        if str(name).startswith("-")
    ]
    return faults


def url_faults(structure: object, place: str = "") -> list[str]:
    """Say which addresses of a configuration hold a password; Prometheus logs addresses."""
    if isinstance(structure, Mapping):
        below = [(f"{place}.{key}", value) for key, value in structure.items()]
    elif isinstance(structure, (list, tuple)):
        below = [(f"{place}[{number}]", value) for number, value in enumerate(structure)]
    elif URL_WITH_PASSWORD.match(str(structure)):
        told = "holds a password, which Prometheus writes into its journal: use basic_auth"
        return [f"the address {place.lstrip('.')} {told}"]
    else:
        return []
    return [fault for there, value in below for fault in url_faults(value, there)]


def user_faults(users: Mapping) -> list[str]:
    """Say which users of a web configuration cannot log in as they are; never a password."""
    faults = []
    for name, given in users.items():
        password = str(given)
        if isinstance(given, (bool, int, float)):
            faults.append(f"the password of {name} needs quotes, as text does")
        elif not password or len(password.encode()) > PASSWORD_BYTES:
            faults.append(f"the password of {name} needs 1 to {PASSWORD_BYTES} bytes")
        elif not password.isprintable():
            faults.append(f"the password of {name} must be one line, as a browser sends it")
        elif password.startswith(("$2a$", "$2b$", "$2y$")):
            faults.append(f"{name} has a hash: give the password, and keep it in a vault")
        if not str(name) or ":" in str(name):
            faults.append(f"{name!r} is no name that can log in")
    return faults


def rule_file_faults(files: Iterable[str]) -> list[str]:
    """Say which rule files of one's own would lie where another one lies."""
    taken: dict[str, str] = dict.fromkeys(OWN_RULE_FILES, "ours")
    faults = []
    for path in map(str, files):
        name = PurePath(path).name
        if name in taken:
            faults.append(f"prometheus_rule_files has {path}, whose name is that of {taken[name]}")
        taken[name] = path
    return faults


def alert_faults(changes: Mapping, settings: Mapping) -> list[str]:
    """Say which changes of alerts change nothing that there is, or make no number or time of it."""
    faults = []
    for alert, change in changes.items():
        if alert not in settings:
            known = ", ".join(sorted(settings))
            faults.append(f"prometheus_alerts changes {alert}, which is no alert: {known}")
        elif not isinstance(change, Mapping):
            faults.append(f"prometheus_alerts.{alert} must be a dictionary, not {change!r}")
        else:
            faults += _setting_faults(f"prometheus_alerts.{alert}", change, settings[alert])
    return faults


def _setting_faults(place: str, change: Mapping, settings: Mapping) -> list[str]:
    faults = [
        f"{place} sets {name}; it has {', '.join(settings)}"
        for name in change
        if name not in settings
    ]
    threshold, hold = change.get("threshold", 0), change.get("hold", "0s")
    if isinstance(threshold, bool) or not re.fullmatch(NUMBER, str(threshold)):
        faults.append(f"{place}.threshold must be a number, not {threshold!r}")
    if said := _values.fault("duration", hold):
        faults.append(f"{place}.hold must be {said}")
    return faults


def _alert_of(rule: Mapping) -> str:
    """Return the alert that a rule is, or whose threshold it records; nothing of another."""
    return str(rule.get("alert") or rule.get("labels", {}).get("alert", ""))


def pattern_faults(rules: str, patterns: Iterable[str]) -> list[str]:
    """Say which patterns choose no alert of a rule file."""
    groups = yaml.safe_load(rules)["groups"]
    alerts = {str(rule["alert"]) for group in groups for rule in group["rules"] if "alert" in rule}
    return [
        f"prometheus_export_alerts has {pattern}, which is no alert: {', '.join(sorted(alerts))}"
        for pattern in patterns
        if not fnmatch.filter(alerts, pattern)
    ]


def exported_rules(rules: str, job: str, patterns: Iterable[str] = ()) -> str:
    """Return a rule file for another Prometheus: the job's name there, and chosen alerts only."""
    document = yaml.safe_load(rules.replace(f'job="{JOB}"', f'job="{job}"'))
    chosen = list(patterns)
    groups = []
    for group in document["groups"]:
        kept = [
            rule
            for rule in group["rules"]
            if not _alert_of(rule)
            or any(fnmatch.fnmatchcase(_alert_of(rule), one) for one in chosen)
        ]
        groups += [group | {"rules": kept}] if kept else []
    return _dump({"groups": groups}, _Blocks)


def exported_files(texts: Mapping[str, str], folder: str) -> list[dict[str, str]]:
    """Return files below a folder, marked as ours where their format has comments."""
    return [
        {"path": f"{folder}/{name}", "content": (MARK if name.endswith(".yml") else "") + text}
        for name, text in texts.items()
    ]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {
            "prometheus_alert_faults": alert_faults,
            "prometheus_arguments": arguments,
            "prometheus_differences": differences,
            "prometheus_exported_files": exported_files,
            "prometheus_exported_rules": exported_rules,
            "prometheus_flag_faults": flag_faults,
            "prometheus_jobs": jobs,
            "prometheus_pattern_faults": pattern_faults,
            "prometheus_rule_file_faults": rule_file_faults,
            "prometheus_shard_faults": shard_faults,
            "prometheus_sharded": sharded,
            "prometheus_url_faults": url_faults,
            "prometheus_user_faults": user_faults,
            "prometheus_yaml": to_yaml,
            "systemd_word": systemd_word,
            "without_empty": without_empty,
        }
