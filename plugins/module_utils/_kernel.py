# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's files say about its kernel.

Every function takes the root of a file system, so that it answers for the running host
("/") and for a captured tree alike, and treats what is absent as an answer.
"""

from __future__ import annotations

import ctypes
import errno
import gzip
import os
import platform
import re
import zlib
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

# A kernel configuration is about 300 KB; anything far above is not one.
MAX_CONFIG = 8 << 20
MAX_LINKS = 40

# What BPF programs, their hooks and their loader depend on.
BPF_OPTIONS = (
    "CONFIG_BPF_SYSCALL",
    "CONFIG_BPF_JIT",
    "CONFIG_BPF_EVENTS",
    "CONFIG_DEBUG_INFO_BTF",
    "CONFIG_DEBUG_INFO_BTF_MODULES",
    "CONFIG_PERF_EVENTS",
    "CONFIG_TRACEPOINTS",
    "CONFIG_FTRACE",
    "CONFIG_FUNCTION_TRACER",
    "CONFIG_DYNAMIC_FTRACE",
    "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
    "CONFIG_KPROBES",
    "CONFIG_KPROBE_EVENTS",
    "CONFIG_KALLSYMS",
    "CONFIG_SECURITY_LOCKDOWN_LSM",
)

# In the order of their numbers, as include/uapi/linux/capability.h has them.
CAPABILITIES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
PERFMON BPF CHECKPOINT_RESTORE
"""
# Number of the system call bpf.
BPF_CALL = {"x86_64": 321, "aarch64": 280}
NO_SUCH_COMMAND = 0xFFFF


class Config(NamedTuple):
    """A kernel's configuration: where it was found, and what was wrong with other places."""

    source: Optional[str]
    options: Dict[str, str]
    problems: List[str]

    def state(self, option: str) -> str:
        """Say whether an option is present, module, absent, or unknown without a configuration."""
        if self.source is None:
            return "unknown"
        value = self.options.get(option, "n")
        return {"m": "module", "n": "absent"}.get(value, "present")


def under(root: str, path: str) -> Path:
    """Place an absolute path below the root."""
    return Path(root) / path.lstrip("/")


def follow(root: str, path: str) -> Path:
    """Follow a link the way a process that has this root would."""
    at = under(root, path)
    for _hop in range(MAX_LINKS):
        if not at.is_symlink():
            break
        target = os.readlink(at)
        at = under(root, target) if target.startswith("/") else at.parent / target
    return at


def text(root: str, path: str) -> Optional[str]:
    """Read a small file of /proc or /sys, or None where it cannot be read."""
    try:
        return under(root, path).read_text(errors="replace").strip()
    except OSError:
        return None


def number(root: str, path: str) -> Optional[int]:
    """Read a file that holds one number, or None."""
    try:
        return int(text(root, path) or "")
    except ValueError:
        return None


def release(root: str) -> Optional[str]:
    """Give the running kernel's release, as `uname -r` does."""
    return text(root, "/proc/sys/kernel/osrelease")


def machine(root: str) -> str:
    """Give the architecture; kernels before 6.1 do not write it to a file."""
    return text(root, "/proc/sys/kernel/arch") or platform.machine()


def os_release(root: str) -> Dict[str, str]:
    """Return what a system says of itself; nothing where it says nothing."""
    lines = (text(root, "/etc/os-release") or "").splitlines()
    pairs = [line.split("=", 1) for line in lines if "=" in line]
    return {key: value.strip("\"'") for key, value in pairs}


def version(kernel_release: str) -> Tuple[int, ...]:
    """Turn a release into numbers that sort: 6.1.0-32-amd64 is (6, 1, 0, 32).

    The flavour, from the first dash before a letter, is no part of the age.
    """
    age = re.split(r"-(?=[A-Za-z])", kernel_release)[0]
    return tuple(int(digits) for digits in re.findall(r"\d+", age))


def config(root: str, kernel_release: str) -> Config:
    """Read the configuration of the running kernel from the first place that has one."""
    problems = []
    for path in (
        "/proc/config.gz",
        f"/boot/config-{kernel_release}",
        f"/lib/modules/{kernel_release}/config",
        f"/lib/modules/{kernel_release}/build/.config",
    ):
        opener = gzip.open if path.endswith(".gz") else open
        parent, name = os.path.split(path)
        file = follow(root, parent) / name
        try:
            with opener(file, "rb") as stream:
                content = stream.read(MAX_CONFIG)
        except FileNotFoundError:
            continue
        except (OSError, EOFError, zlib.error) as error:
            problems.append(f"{path}: {error}")
            continue
        options = dict(re.findall(r"^(CONFIG_\w+)=(.*)$", content.decode("utf-8", "replace"), re.M))
        if options:
            return Config(path, options, problems)
        problems.append(f"{path}: holds no kernel option")
    return Config(None, {}, problems)


def lockdown(root: str) -> Optional[str]:
    """Give none, integrity or confidentiality; None where the kernel does not say."""
    found = re.search(r"\[(\w+)\]", text(root, "/sys/kernel/security/lockdown") or "")
    return found.group(1) if found else None


def bounding_set(root: str) -> Optional[Set[str]]:
    """Give the capabilities that PID 1 can hand on to services; None where /proc does not say."""
    status = text(root, "/proc/1/status") or ""
    found = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.M)
    if not found:
        return None
    bits = int(found.group(1), 16)
    names = enumerate(CAPABILITIES.split())
    return {f"CAP_{name}" for number, name in names if bits >> number & 1}


def user_namespace(root: str) -> bool:
    """Say whether PID 1's root is not the machine's, whose capabilities alone count for BPF."""
    fields = (text(root, "/proc/1/uid_map") or "0 0 4294967295").split()
    return fields != ["0", "0", "4294967295"]


def bpf_call_allowed(root: str) -> Optional[bool]:
    """Say whether a seccomp filter of PID 1 lets the system call bpf through; None: nobody knows.

    Asked with a command that does not exist, by a process that inherits the filter.
    """
    found = re.search(r"^Seccomp:\s*(\d)$", text(root, "/proc/1/status") or "", re.M)
    if not found or found.group(1) == "0":
        return True if found else None
    call = BPF_CALL.get(platform.machine())
    if root != "/" or call is None:
        return None
    ctypes.CDLL(None, use_errno=True).syscall(call, NO_SUCH_COMMAND, None, 0)
    return ctypes.get_errno() == errno.EINVAL


def symbols(root: str) -> Set[str]:
    """Give the names in /proc/kallsyms, those of modules included; empty if unreadable."""
    try:
        with under(root, "/proc/kallsyms").open(errors="replace") as lines:
            return {fields[2] for fields in map(str.split, lines) if len(fields) > 2}
    except OSError:
        return set()


def container(root: str) -> bool:
    """Say whether the host is a container, which runs another machine's kernel."""
    return any(
        under(root, mark).exists()
        for mark in ("/run/systemd/container", "/run/.containerenv", "/.dockerenv")
    )


def installed_kernels(root: str) -> List[str]:
    """Give the releases of installed kernels, oldest first."""
    images = under(root, "/boot").glob("vmlinu[xz]-*")
    releases = {image.name.split("-", 1)[1] for image in images}
    return sorted(releases, key=lambda one: (version(one), one))


def build_link(root: str, kernel_release: str) -> Tuple[str, Optional[str]]:
    """Judge the link to the headers: (valid, folder), (broken, target) or (absent, None).

    Valid means that modules can be built: a Makefile and the generated configuration.
    """
    link = f"/lib/modules/{kernel_release}/build"
    if not os.path.lexists(under(root, link)):
        return "absent", None
    folder = follow(root, link)
    shown = "/" + os.path.relpath(folder, root)
    complete = (folder / "Makefile").is_file() and any(
        (folder / sign).is_file()
        for sign in ("include/generated/autoconf.h", "include/config/auto.conf")
    )
    return ("valid" if complete else "broken"), shown


def has_package_lists(root: str) -> bool:
    """Say whether the host knows its repositories' contents at all."""
    return any(under(root, "/var/lib/apt/lists").glob("*_Packages*"))


def candidate(policy: str) -> Optional[str]:
    """Read the version that `apt-cache policy` would install."""
    found = re.search(r"^ *Candidate: *(\S+)", policy, re.M)
    return found.group(1) if found and found.group(1) != "(none)" else None
