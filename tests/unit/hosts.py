# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""File trees as the modules find them on the hosts that matter, written by code.

Values are those of the distributions' own kernels: where the configuration lies,
perf_event_paranoid, signatures of the functions, the text of /proc/version.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.linmonitor.stack.plugins.module_utils._kernel import BPF_OPTIONS
from btf_blob import INT, PTR, STRUCT, Blob

DEBIAN = "Linux version {} (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14) 12.2.0)"
UBUNTU = "Linux version {} (buildd@lcy02-amd64-001) (x86_64-linux-gnu-gcc-13 (Ubuntu 13.2.0))"
OWN = "Linux version {} (root@build) (gcc (GCC) 13.2.0)"


@dataclass
class Host:
    """One host; what is not named is as on a Debian 12 host with headers available."""

    release: str
    machine: str = "x86_64"
    version: str = DEBIAN
    config_at: str = "/boot/config-{}"
    without: tuple[str, ...] = ()
    paranoid: int | None = 3
    lockdown: str | None = "none"
    btf: bool = True
    retransmit_arguments: int = 2
    syn_recv_parameters: int = 6
    rq_disk: bool = False
    symbols: tuple[str, ...] = ("tcp_try_rmem_schedule", "tcp_v4_syn_recv_sock", "blk_start")
    kernels: tuple[str, ...] | None = None
    container: bool = False
    bounding: str = "000001ffffffffff"
    seccomp: int = 0
    uid_map: str = "0 0 4294967295"
    links: dict[str, str] = field(default_factory=dict)

    def write(self, root: Path) -> str:
        """Write the tree and give its root as modules take it."""
        files = {
            "/proc/sys/kernel/osrelease": self.release,
            "/proc/sys/kernel/arch": self.machine,
            "/proc/1/status": f"CapBnd:\t{self.bounding}\nSeccomp:\t{self.seccomp}\n",
            "/proc/1/uid_map": f"{self.uid_map}\n",
            "/proc/version": self.version.format(self.release),
            "/proc/kallsyms": "".join(f"0000000000000000 T {name}\n" for name in self.symbols),
        }
        if self.paranoid is not None:
            files["/proc/sys/kernel/perf_event_paranoid"] = str(self.paranoid)
        if self.lockdown:
            states = "none integrity confidentiality"
            files["/sys/kernel/security/lockdown"] = states.replace(
                self.lockdown, f"[{self.lockdown}]"
            )
        if self.container:
            files["/run/systemd/container"] = "podman"
        kernels = (self.release,) if self.kernels is None else self.kernels
        files.update({f"/boot/vmlinuz-{one}": "" for one in kernels})
        for path, content in files.items():
            put(root, path, content.encode())
        config = "".join(
            f"# {one} is not set\n" if one in self.without else f"{one}=y\n" for one in BPF_OPTIONS
        ).encode()
        at = self.config_at.format(self.release)
        put(root, at, gzip.compress(config) if at.endswith(".gz") else config)
        if self.btf:
            put(root, "/sys/kernel/btf/vmlinux", self.types())
        for path, target in self.links.items():
            link = root / path.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        return str(root)

    def types(self) -> bytes:
        """Write the BTF of this host's kernel."""
        blob = Blob()
        number = blob.add(INT, "int", 4, 0, 32)
        pointer = blob.add(PTR, "", blob.composite(STRUCT, "gendisk", ("major", number)))
        disk = [("rq_disk", pointer)] if self.rq_disk else []
        request = blob.add(PTR, "", blob.composite(STRUCT, "request", ("tag", number), *disk))
        blob.tracepoint("block_rq_issue", request)
        blob.tracepoint("block_rq_complete", request, number, number)
        blob.tracepoint("tcp_retransmit_skb", *[pointer] * self.retransmit_arguments)
        parameters = [(f"a{i}", pointer) for i in range(self.syn_recv_parameters)]
        blob.function("tcp_v4_syn_recv_sock", *parameters)
        blob.function("tcp_try_rmem_schedule", *parameters[:3])
        blob.function("blk_start", ("rq", request))
        return blob.bytes()


def put(root: Path, path: str, content: bytes) -> Path:
    """Write one file below the root."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def put_headers(root: Path, release: str) -> None:
    """Install headers as the Debian package does, with its absolute link."""
    folder = f"/usr/src/linux-headers-{release}"
    put(root, f"{folder}/Makefile", b"")
    put(root, f"{folder}/include/config/auto.conf", b"")
    link = root / f"lib/modules/{release}/build"
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(folder)


KPROBES = ("CONFIG_KPROBES", "CONFIG_KPROBE_EVENTS")
HOSTS = {
    "debian11": Host("5.10.0-33-amd64", rq_disk=True),
    "debian12": Host("6.1.0-32-amd64", syn_recv_parameters=7),
    "debian13": Host("6.12.38+deb13-amd64"),
    "ubuntu2204": Host(
        "5.15.0-130-generic", version=UBUNTU, paranoid=4, rq_disk=True, syn_recv_parameters=7
    ),
    "ubuntu2404": Host("6.8.0-51-generic", version=UBUNTU, paranoid=4, lockdown="integrity"),
    "ubuntu2004": Host("5.4.0-216-generic", version=UBUNTU, paranoid=4, rq_disk=True),
    "no_btf": Host("5.10.200", version=OWN, btf=False, without=("CONFIG_DEBUG_INFO_BTF",)),
    "locked": Host("6.1.0-32-amd64", lockdown="confidentiality"),
    "container": Host(
        "6.18.44-fc",
        version=OWN,
        config_at="/proc/config.gz",
        without=KPROBES,
        paranoid=2,
        lockdown=None,
        retransmit_arguments=3,
        syn_recv_parameters=7,
        kernels=(),
        container=True,
    ),
    "arm64": Host(
        "6.1.0-32-arm64", machine="aarch64", without=("CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",)
    ),
}
