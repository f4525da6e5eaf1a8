# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forecast which BPF programs of a catalogue a kernel can run.

The catalogue says per variant which options the kernel must have, and where it was joined
with the compiled objects also which hooks they use; most needs follow from the hooks. A claim
about the kernel is true, false, or None where the host does not say; None refuses nothing and is
reported.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from ansible_collections.linmonitor.stack.plugins.module_utils import _btf, _host, _kernel

BTF_FILE = "/sys/kernel/btf/vmlinux"
# Of manifest.json; the build writes it, the chooser reads it.
MANIFEST_FORMAT = 2
CAPABILITIES = ("CAP_BPF", "CAP_PERFMON")
# What each kind of hook needs from the kernel's configuration, besides BPF itself.
EVENTS = ("CONFIG_BPF_EVENTS",)
TRAMPOLINE = (*EVENTS, "CONFIG_BPF_JIT", "CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS")
PROBE = (*EVENTS, "CONFIG_KPROBES", "CONFIG_KPROBE_EVENTS")
TRACEPOINT_HOOKS = ("raw_tp", "raw_tracepoint", "tp_btf", "tracepoint", "tp")
TRAMPOLINE_HOOKS = ("fentry", "fexit", "fmod_ret")
PROBE_HOOKS = ("kprobe", "kretprobe")
# Attached through perf events, whose use perf_event_paranoid limits.
PERF_HOOKS = (*PROBE_HOOKS, "tracepoint", "tp")
# Their programs follow pointers themselves, without helpers that read kernel memory.
TYPED_HOOKS = ("tp_btf", *TRAMPOLINE_HOOKS)


class CatalogueError(ValueError):
    """The catalogue, or what is asked of it, is wrong; the message says what is valid."""


class Claim(NamedTuple):
    """Something about the kernel or the host, and whether it holds (None: nobody knows)."""

    text: str
    holds: Optional[bool]
    detail: str = ""
    where: str = "kernel"


class Kernel:
    """What a forecast looks at, each part read when it is first needed."""

    def __init__(self, root: str, release: str) -> None:
        """Look below `root`."""
        self.root = root
        self.release = release
        self.version = _kernel.version(release)
        self.machine = _kernel.machine(root)
        self.lockdown = _kernel.lockdown(root)
        self.paranoid = _kernel.number(root, "/proc/sys/kernel/perf_event_paranoid")
        self.bounding = _kernel.bounding_set(root)
        self.user_namespace = _kernel.user_namespace(root)
        self.btf: Optional[_btf.Btf] = None
        self.btf_reason = ""
        try:
            self.btf = _btf.read(_kernel.under(root, BTF_FILE))
        except FileNotFoundError:
            self.btf_reason = f"{BTF_FILE} does not exist"
        except (OSError, _btf.BtfError) as error:
            self.btf_reason = f"{BTF_FILE}: {error}"

    @cached_property
    def config(self) -> _kernel.Config:
        """The kernel's configuration."""
        return _kernel.config(self.root, self.release)

    @cached_property
    def symbols(self) -> Set[str]:
        """The names in /proc/kallsyms."""
        return _kernel.symbols(self.root)

    @cached_property
    def bpf_call_allowed(self) -> Optional[bool]:
        """Whether the system call bpf gets through, None where nobody knows."""
        return _kernel.bpf_call_allowed(self.root)

    @property
    def limits_perf(self) -> bool:
        """Whether perf events are refused to all but CAP_SYS_ADMIN.

        Debian's kernel does so above 2. In Ubuntu's, CAP_PERFMON is enough at any level.
        """
        ubuntu = "Ubuntu" in (_kernel.text(self.root, "/proc/version") or "")
        return self.paranoid is not None and self.paranoid > 2 and not ubuntu

    @property
    def trampoline_parameters(self) -> int:
        """Most parameters a function may have for fentry and fexit to work."""
        if self.machine == "aarch64":
            return 8
        return 6 if self.version < (6, 6) else 12

    def possible_cpus(self) -> int:
        """Count the CPUs for which per-CPU maps hold values."""
        ranges = _kernel.text(self.root, "/sys/devices/system/cpu/possible") or "0"
        bounds = (part.partition("-") for part in ranges.split(","))
        return sum(int(last or first) - int(first) + 1 for first, _dash, last in bounds)


class Forecast(NamedTuple):
    """What is expected of one variant; it is refused where there are reasons."""

    reasons: List[str]
    unknown: List[str]
    capabilities: List[str]


def catalogue_of(manifest: Dict[str, Any]) -> Any:
    """Return a manifest's catalogue; CatalogueError where it is of another format."""
    if manifest.get("format") != MANIFEST_FORMAT:
        raise CatalogueError(
            f"has format {manifest.get('format')}, known is {MANIFEST_FORMAT}; "
            "build the artifact again with this version of the collection"
        )
    return manifest.get("catalogue")


def check(catalogue: Any) -> None:
    """Refuse a catalogue that is not one, naming the place."""
    configs = catalogue.get("configs") if isinstance(catalogue, dict) else None
    if not isinstance(configs, dict) or not configs:
        raise CatalogueError("the catalogue has no configs")
    sets = catalogue.get("sets") or {}
    if not isinstance(sets, dict) or not all(isinstance(names, list) for names in sets.values()):
        raise CatalogueError("the catalogue's sets must each list programs")
    for config, entry in configs.items():
        variants = entry.get("variants") if isinstance(entry, dict) else None
        if not isinstance(variants, list) or not variants:
            raise CatalogueError(f"{config}: the catalogue names no variants")
        for variant in variants:
            if not isinstance(variant, dict) or not isinstance(variant.get("name"), str):
                raise CatalogueError(f"{config}: a variant has no name")
            if not isinstance(variant.get("requires", []), list):
                place = f"{config}/{variant['name']}: requires"
                raise CatalogueError(f"{place} must list options of the kernel's configuration")
            for hook in variant.get("hooks") or ():
                if not isinstance(hook, dict) or not {"type", "target"} <= hook.keys():
                    raise CatalogueError(
                        f"{config}/{variant['name']}: a hook has no type or target"
                    )


def wanted(catalogue: Dict[str, Any], names: Sequence[str]) -> List[str]:
    """Turn names of configs and sets into configs, in the order asked for."""
    sets, configs = catalogue.get("sets") or {}, catalogue["configs"]
    valid = f"sets are {', '.join(sorted(sets))}; programs are {', '.join(sorted(configs))}"
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CatalogueError(f"asked for twice: {', '.join(twice)}")
    members = {**{config: [config] for config in configs}, **sets}
    unknown = [name for name in names if name not in members]
    unknown += [one for name in names for one in members.get(name, ()) if one not in configs]
    if unknown:
        raise CatalogueError(f"not in the catalogue: {', '.join(unknown)}; {valid}")
    return list(dict.fromkeys(one for name in names for one in members[name]))


def forecast(variant: Dict[str, Any], kernel: Kernel, ceiling: Set[str]) -> Forecast:
    """Forecast one variant on one kernel within the capabilities allowed."""
    # All programs are relocated by the kernel's types when they are loaded (CO-RE).
    btf = Claim("usable BTF", kernel.btf is not None, kernel.btf_reason)
    needed = [_option("CONFIG_BPF_SYSCALL", kernel), btf]
    needed += _service_claims(kernel)
    needed += [_option(name, kernel) for name in variant.get("requires", [])]
    for hook in variant.get("hooks") or ():
        needed += _hook_claims(hook["type"], hook["target"], kernel)
    reasons = [
        f"this {claim.where} lacks {claim.text}" + (f" ({claim.detail})" if claim.detail else "")
        for claim in needed
        if claim.holds is False
    ]
    capabilities, refusals = _capabilities(variant, kernel, ceiling)
    unknown = [claim.text for claim in needed if claim.holds is None]
    return Forecast(_unique(reasons + refusals), _unique(unknown), capabilities)


def map_bytes(maps: Sequence[Dict[str, Any]], cpus: int) -> int:
    """Estimate the memory of maps, as the kernel accounts it where entries are preallocated."""
    total = 0
    for one in maps:
        key, value = (-(-one[part] // 8) * 8 for part in ("key_size", "value_size"))
        if one["type"].startswith("percpu"):
            value *= cpus
        # A hash has a head of 48 bytes per entry and at least one bucket of 16 for each.
        total += one["max_entries"] * (key + value + 64 if "hash" in one["type"] else value)
    return total


def _unique(items: List[str]) -> List[str]:
    return list(dict.fromkeys(items))


def _option(name: str, kernel: Kernel) -> Claim:
    state = kernel.config.state(name)
    return Claim(name, None if state == "unknown" else state != "absent")


def _service_claims(kernel: Kernel) -> Iterator[Claim]:
    """Claim what the service needs: a system of ours, and what containers may take away."""
    about = _kernel.os_release(kernel.root)
    if about:
        other = f"it is {about.get('PRETTY_NAME', 'another system')}"
        yield Claim(_host.WANTED, _host.described(about), other, "host")
    if kernel.user_namespace:
        own = "it is a container with a user namespace, whose root is none for BPF"
        yield Claim("root's rights on the machine", False, own, "host")
    if kernel.bounding is not None:
        sandbox = "PID 1 may not hold CAP_SYS_ADMIN, with which systemd makes the service's sandbox"
        yield Claim("CAP_SYS_ADMIN of PID 1", "CAP_SYS_ADMIN" in kernel.bounding, sandbox, "host")
    seccomp = "a seccomp filter of the container refuses it"
    yield Claim("the system call bpf", kernel.bpf_call_allowed, seccomp, "host")


def _symbol(name: str, kernel: Kernel) -> Claim:
    """Claim that a function can be found by its name; without kallsyms, BTF answers."""
    if not kernel.symbols:
        known = kernel.btf is not None and kernel.btf.function(name) is not None
        return Claim(f"function {name}", known or None)
    if name in kernel.symbols:
        return Claim(f"function {name}", True)
    copies = sorted(one for one in kernel.symbols if one.startswith(name + "."))
    detail = f"only {', '.join(copies)}, changed by the compiler" if copies else ""
    return Claim(f"function {name}", False, detail)


def _tracepoint(name: str, kernel: Kernel) -> Claim:
    if kernel.btf:
        return Claim(f"tracepoint {name}", kernel.btf.tracepoint(name) is not None)
    return Claim(f"tracepoint {name}", f"__traceiter_{name}" in kernel.symbols or None)


def _hook_claims(kind: str, target: str, kernel: Kernel) -> Iterator[Claim]:
    """Claim what one hook needs; nothing is known about kinds that are not listed above."""
    if kernel.lockdown == "confidentiality":
        # Programs with typed access may do without, and then they load.
        holds = None if kind in TYPED_HOOKS else False
        yield Claim("helpers that read kernel memory", holds, "lockdown=confidentiality")
    if kind in TRACEPOINT_HOOKS:
        yield from (_option(name, kernel) for name in EVENTS)
        yield _tracepoint(target.rpartition("/")[2], kernel)
    elif kind in PROBE_HOOKS:
        yield from (_option(name, kernel) for name in PROBE)
        yield _symbol(target.partition("+")[0], kernel)
    elif kind in TRAMPOLINE_HOOKS:
        yield from (_option(name, kernel) for name in TRAMPOLINE)
        yield _symbol(target, kernel)
        yield from _described_function(target, kernel)


def _described_function(name: str, kernel: Kernel) -> Iterator[Claim]:
    """Claim that BTF describes a function and a trampoline can carry its parameters."""
    if not kernel.btf:
        return
    parameters = kernel.btf.function(name)
    yield Claim(f"BTF of function {name}", parameters is not None)
    most = kernel.trampoline_parameters
    if parameters and len(parameters) > most:
        count = f"{name} has {len(parameters)} parameters, more than {most}"
        yield Claim("fentry and fexit for so many parameters", False, count)


def _capabilities(
    variant: Dict[str, Any], kernel: Kernel, ceiling: Set[str]
) -> Tuple[List[str], List[str]]:
    """Give the capabilities a variant needs here, and why the ceiling forbids them."""
    need = dict.fromkeys(CAPABILITIES, "")
    perf = sorted({hook["type"] for hook in variant.get("hooks") or ()} & set(PERF_HOOKS))
    if kernel.version < (5, 8):
        need = {name: why for name, why in need.items() if name not in CAPABILITIES}
        need["CAP_SYS_ADMIN"] = "kernels before 5.8 have no CAP_BPF and CAP_PERFMON"
    elif perf and kernel.limits_perf:
        need["CAP_SYS_ADMIN"] = (
            f"perf_event_paranoid is {kernel.paranoid}, and above 2 this kernel refuses "
            f"{', '.join(perf)} to anybody else"
        )

    # What a container's PID 1 lacks, no service of it gets: systemd says nothing of it.
    held = ceiling if kernel.bounding is None else ceiling & kernel.bounding

    def granted(name: str) -> str:
        """Name the allowed capability that serves; CAP_SYS_ADMIN includes those split from it."""
        stands_in = name in CAPABILITIES and name not in held and "CAP_SYS_ADMIN" in held
        return "CAP_SYS_ADMIN" if stands_in else name

    refusals = [
        f"needs {name}, which "
        + ("PID 1 of this host may not hold" if granted(name) in ceiling else "is not allowed")
        + (f": {why}" if why else "")
        for name, why in need.items()
        if granted(name) not in held
    ]
    return _unique([granted(name) for name in need]), refusals
