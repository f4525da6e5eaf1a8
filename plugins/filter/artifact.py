# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters that name an artifact by what it is made from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _release,
    _release_artifact,
    _sources,
)
from ansible_collections.linmonitor.stack.plugins.plugin_utils import _yaml

DOCUMENTATION = r"""
name: artifact
short_description: Name an artifact by what it is made from
version_added: 1.0.0
description:
  - Used by the ebpf_exporter and prometheus roles and by the playbooks.
  - Private to this collection, whose releases may change or drop these filters without notice.
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

# Read here, once: Ansible loads filters before it forks a process for each task of a host.
VERSIONS = _yaml.read(Path(__file__).parents[2] / "versions.yml")
KEY_LENGTH = 16
GOARCH = {"x86_64": "amd64", "aarch64": "arm64"}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Facts that roles leave behind: a file that has its folder to itself, and entries of the cache.
FOUND = ("ebpf_exporter_artifact_path", "prometheus_archive_path")
EXPORTED = (
    "ebpf_exporter_exported_sources",
    "toolchain_exported_packages",
    "grafana_exported_package",
)
# What says where to download from decides no byte: those are verified by content.
TRANSPORT = re.compile(
    r"(?i:(https?|ftp|all|no)_proxy)|GO(PROXY|SUMDB|PRIVATE|NOPROXY|NOSUMDB|INSECURE|VCS|AUTH)"
    r"|(SSL|CURL|GIT|CARGO|PIP|REQUESTS)_.*|HOME|TMPDIR|GO(MOD)?CACHE|GOPATH"
)


def matched_set(exporter: str, libbpf: str = "", libbpfgo: str = "") -> dict:
    """Return the first set of versions.yml with the versions named; nothing if there is none."""
    named = {"exporter": exporter, "libbpf": libbpf, "libbpfgo": libbpfgo}
    wanted = {name: version for name, version in named.items() if version}
    return next((one for one in pins("sets") if one.items() >= wanted.items()), {})


def version_fault(exporter: str, libbpf: str, libbpfgo: str, host: str) -> str:
    """Say which versions belong together where those that a host asks for do not; else nothing."""
    if matched_set(exporter, libbpf, libbpfgo):
        return ""
    sets = "; ".join(
        "{exporter} with {libbpf} and {libbpfgo}".format(**one) for one in pins("sets")
    )
    return (
        f"ebpf_exporter {exporter}, libbpf {libbpf} and libbpfgo {libbpfgo} do not fit together "
        f"(asked for by {host}). Set ebpf_exporter_version, ebpf_exporter_libbpf_version and "
        f"ebpf_exporter_libbpfgo_version to one of these sets: {sets}."
    )


def pins(part: str) -> dict:
    """Return a part of versions.yml."""
    return VERSIONS[part]


def build_environment(target: str, go: str) -> dict[str, str]:
    """Return what compilers run with for an architecture: the pinned Go, never one it downloads."""
    triplet = f"{target}-linux-gnu"
    return {
        "PATH": f"/usr/lib/go-{go}/bin:{SYSTEM_PATH}",
        "GOTOOLCHAIN": "local",
        "LC_ALL": "C.UTF-8",
        "GOARCH": GOARCH[target],
        "CC": f"{triplet}-gcc",
        "AR": f"{triplet}-ar",
        "PKG_CONFIG_LIBDIR": f"/usr/lib/{triplet}/pkgconfig:/usr/share/pkgconfig",
    }


def deciding_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of a user's environment that can change what a compiler makes."""
    return {name: value for name, value in environment.items() if not TRANSPORT.fullmatch(name)}


def artifact_key(inputs: dict) -> str:
    """Return the short name of an artifact: a hash of its declared inputs."""
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_LENGTH]


def file_sha256(path: str) -> str:
    """Return the SHA-256 of a file; nothing where there is none, or something else."""
    return _sources.file_sha256(path) if Path(path).is_file() else ""


def packed_catalogue(artifact: str) -> dict:
    """Return the catalogue in an artifact; nothing where there is none that can be read."""
    if not Path(artifact).is_file():
        return {}
    try:
        manifest = _release_artifact.manifest_of(artifact)
    except (_release.Fault, OSError):
        return {}
    return manifest.get("catalogue") or {}


def tree_sha256(root: str) -> str:
    """Return one hash over all files below a folder of the controller."""
    return _sources.tree_sha256(root, ["."])


def programs_sha256(root: str) -> str:
    """Return one hash over a folder of BPF programs; pages (*.md) decide no byte of an artifact."""
    return _sources.tree_sha256(root, ["."], leave_out=".md")


def reproducible_tar(content: list[str], archive: str) -> list[str]:
    """Return the command that packs the same bytes for the same content, whatever the umask.

    `content` is what tar is told of it: names, folders to change to, patterns to leave out.
    """
    compress = ["--use-compress-program=gzip -n -9"] if archive.endswith(".gz") else []
    return [
        "tar", "--create", f"--file={archive}", "--sort=name", "--mtime=@0", "--owner=0",
        "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX,a-st", *compress, *content,
    ]  # fmt: skip


def bundle_entries(hosts: list[Mapping], builders: list[Mapping]) -> list[str]:
    """Return what a bundle holds: folders and files of the cache that roles tell of hosts.

    What build hosts export is for builds at the site; their artifacts are those of the others.
    """
    found = {str(Path(host[name]).parent) for host in hosts for name in FOUND if name in host}
    told = [host[name] for host in [*hosts, *builders] for name in EXPORTED if name in host]
    return sorted(found.union(*([entry] if isinstance(entry, str) else entry for entry in told)))


def lock_lines(entries: list[str], root: str) -> list[str]:
    """Return what `sha256sum` prints in `root` for all files that are entries or below one."""
    tops = {Path(entry) for entry in entries}
    files = sorted(tops.union(*(top.rglob("*") for top in tops)))
    return [
        f"{_sources.file_sha256(str(path))}  {path.relative_to(root)}"
        for path in files
        if path.is_file()
    ]


def locked_sha256(lock: str, name: str) -> str:
    """Return what a lock, in the form of `sha256sum`, says about a file; nothing if it does not."""
    lines = (line.split(maxsplit=1) for line in lock.splitlines())
    return next((line[0] for line in lines if line[1:] == [name]), "")


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {
            "artifact_key": artifact_key,
            "build_environment": build_environment,
            "bundle_entries": bundle_entries,
            "deciding_environment": deciding_environment,
            "file_sha256": file_sha256,
            "packed_catalogue": packed_catalogue,
            "lock_lines": lock_lines,
            "locked_sha256": locked_sha256,
            "matched_set": matched_set,
            "pins": pins,
            "programs_sha256": programs_sha256,
            "reproducible_tar": reproducible_tar,
            "tree_sha256": tree_sha256,
            "version_fault": version_fault,
        }
