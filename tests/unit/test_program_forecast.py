# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forecast on the hosts that matter, against what their kernels were seen to run."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _kernel, _program
from catalogues import CATALOGUE
from hosts import HOSTS, KPROBES, put

CEILING = frozenset({"CAP_BPF", "CAP_PERFMON"})
ADMIN = CEILING | {"CAP_SYS_ADMIN"}


def kernel_of(host, root) -> _program.Kernel:
    return _program.Kernel(host.write(root), host.release)


def forecast(kernel, config, ceiling=CEILING) -> dict[str, _program.Forecast]:
    variants = CATALOGUE["configs"][config]["variants"]
    return {one["name"]: _program.forecast(one, kernel, ceiling) for one in variants}


def chosen(kernel, config, ceiling=CEILING) -> str | None:
    variants = forecast(kernel, config, ceiling).items()
    return next((name for name, one in variants if not one.reasons), None)


@pytest.mark.parametrize(
    ("name", "expected", "with_admin"),
    [
        ("debian11", ("tp_btf", "fentry", "fentry"), ("tp_btf", "fentry", "fentry")),
        ("debian12", ("tp_btf", "fentry", None), ("tp_btf", "fentry", "kprobe")),
        ("debian13", ("tp_btf", "fentry", "fentry"), ("tp_btf", "fentry", "fentry")),
        ("ubuntu2004", (None, None, None), ("tp_btf", "fentry", "fentry")),
        ("ubuntu2204", ("tp_btf", "fentry", "kprobe"), ("tp_btf", "fentry", "kprobe")),
        ("ubuntu2404", ("tp_btf", "fentry", "fentry"), ("tp_btf", "fentry", "fentry")),
        ("no_btf", (None, None, None), (None, None, None)),
        ("locked", ("tp_btf", "fentry", "fentry"), ("tp_btf", "fentry", "fentry")),
        ("container", ("tp_btf", "fentry", "fentry"), ("tp_btf", "fentry", "fentry")),
        ("arm64", ("tp_btf", None, None), ("tp_btf", "kprobe", "kprobe")),
    ],
)
def test_each_host_gets_the_variants_it_can_run(name, expected, with_admin, tmp_path):
    kernel = kernel_of(HOSTS[name], tmp_path)
    configs = ("biolatency", "tcp-window-clamps", "tcp-syn-recv")
    assert tuple(chosen(kernel, one) for one in configs) == expected
    assert tuple(chosen(kernel, one, ADMIN) for one in configs) == with_admin


@pytest.mark.parametrize(
    ("name", "config", "variant", "words"),
    [
        ("debian12", "tcp-syn-recv", "fentry", "tcp_v4_syn_recv_sock has 7 parameters"),
        ("debian12", "tcp-syn-recv", "kprobe", "perf_event_paranoid is 3, and above 2"),
        ("ubuntu2004", "biolatency", "raw_tp", "kernels before 5.8 have no CAP_BPF"),
        ("no_btf", "biolatency", "tp_btf", "/sys/kernel/btf/vmlinux does not exist"),
        ("locked", "biolatency", "raw_tp", "lockdown=confidentiality"),
        ("container", "tcp-window-clamps", "kprobe", "lacks CONFIG_KPROBES"),
        ("arm64", "tcp-syn-recv", "fentry", "lacks CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS"),
    ],
)
def test_reason_names_what_is_in_the_way(name, config, variant, words, tmp_path):
    reasons = forecast(kernel_of(HOSTS[name], tmp_path), config)[variant].reasons
    assert any(words in reason for reason in reasons), reasons


def test_under_lockdown_nobody_knows_whether_typed_access_is_enough(tmp_path):
    expected = forecast(kernel_of(HOSTS["locked"], tmp_path), "biolatency")["tp_btf"]
    assert expected.reasons == []
    assert expected.unknown == ["helpers that read kernel memory"]


DEBIAN12 = HOSTS["debian12"]
# What podman leaves a container without --privileged, and what --cap-add brings back.
PLAIN = "00000000800405fb"
WITH_ADMIN = "00000000802405fb"
WITH_BPF = "000000c0800405fb"
WITH_ALL = "000000c0802405fb"


@pytest.mark.parametrize(
    ("bounding", "ceiling", "reasons"),
    [
        (PLAIN, CEILING, ["lacks CAP_SYS_ADMIN of PID 1", "CAP_BPF, which PID 1", "CAP_PERFMON"]),
        (WITH_ADMIN, CEILING, ["needs CAP_BPF, which PID 1 of this host may not hold"]),
        (WITH_BPF, CEILING, ["with which systemd makes the service's sandbox"]),
        (WITH_ALL, CEILING, []),
        # CAP_SYS_ADMIN includes the two, where the service may have it.
        (WITH_ADMIN, ADMIN, []),
        (WITH_ALL, {"CAP_BPF"}, ["needs CAP_PERFMON, which is not allowed"]),
    ],
)
def test_what_a_containers_pid_1_lacks_no_service_gets(bounding, ceiling, reasons, tmp_path):
    kernel = kernel_of(replace(DEBIAN12, bounding=bounding), tmp_path)
    found = forecast(kernel, "biolatency", frozenset(ceiling))["tp_btf"].reasons
    assert bool(found) == bool(reasons)
    assert all(any(words in reason for reason in found) for words in reasons), found


def test_a_user_namespaces_root_is_none_for_bpf(tmp_path):
    kernel = kernel_of(replace(DEBIAN12, uid_map="0 100000 65536"), tmp_path)
    (reason,) = forecast(kernel, "biolatency")["tp_btf"].reasons
    assert "a container with a user namespace" in reason


def test_a_system_that_is_not_ours_is_a_reason(tmp_path):
    kernel = kernel_of(DEBIAN12, tmp_path)
    (tmp_path / "etc").mkdir(exist_ok=True)
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    assert not forecast(kernel, "biolatency")["tp_btf"].reasons
    about = 'PRETTY_NAME="CentOS Stream 9"\nID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="9"\n'
    (tmp_path / "etc/os-release").write_text(about)
    (reason,) = forecast(kernel, "biolatency")["tp_btf"].reasons
    assert "Debian from 11 or Ubuntu from 22.04 on" in reason
    assert "it is CentOS Stream 9" in reason


def test_a_seccomp_filter_of_a_captured_host_is_unknown(tmp_path):
    kernel = kernel_of(replace(DEBIAN12, seccomp=2), tmp_path)
    expected = forecast(kernel, "biolatency")["tp_btf"]
    assert (expected.reasons, expected.unknown) == ([], ["the system call bpf"])


@pytest.mark.parametrize(("error", "allowed"), [(22, True), (1, False), (38, False)])
def test_a_seccomp_filter_is_asked_where_the_module_runs(error, allowed, tmp_path, monkeypatch):
    (tmp_path / "status").write_text("Seccomp:\t2\n")
    monkeypatch.setattr(_kernel, "text", lambda _root, _path: (tmp_path / "status").read_text())
    monkeypatch.setattr(_kernel.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(_kernel.ctypes, "get_errno", lambda: error)
    assert _kernel.bpf_call_allowed("/") is allowed


def one(kernel, ceiling=CEILING, **variant) -> _program.Forecast:
    return _program.forecast({"name": "x", **variant}, kernel, ceiling)


def test_option_that_a_variant_requires(tmp_path):
    kernel = kernel_of(DEBIAN12, tmp_path)
    assert one(kernel, requires=["CONFIG_BPF_JIT"]).reasons == []
    assert one(kernel, requires=["CONFIG_NOPE"]).reasons == ["this kernel lacks CONFIG_NOPE"]


def test_hook_that_no_kernel_has_is_a_reason(tmp_path):
    kernel = kernel_of(DEBIAN12, tmp_path)
    for kind in _program.TRACEPOINT_HOOKS:
        hook = [{"type": kind, "target": "block/block_rq_typo"}]
        assert "this kernel lacks tracepoint block_rq_typo" in one(kernel, hooks=hook).reasons
    for kind in (*_program.PROBE_HOOKS, *_program.TRAMPOLINE_HOOKS):
        hook = [{"type": kind, "target": "blk_typo"}]
        assert "this kernel lacks function blk_typo" in one(kernel, hooks=hook).reasons


def test_function_changed_by_the_compiler_is_named(tmp_path):
    host = replace(DEBIAN12, symbols=("tcp_try_rmem_schedule.isra.0",))
    hooks = [{"type": "kprobe", "target": "tcp_try_rmem_schedule"}]
    reasons = one(kernel_of(host, tmp_path), ADMIN, hooks=hooks).reasons
    assert reasons == [
        "this kernel lacks function tcp_try_rmem_schedule "
        "(only tcp_try_rmem_schedule.isra.0, changed by the compiler)"
    ]


def test_probe_at_an_offset_is_looked_up_by_its_function(tmp_path):
    kernel = kernel_of(DEBIAN12, tmp_path)
    assert not one(kernel, ADMIN, hooks=[{"type": "kprobe", "target": "blk_start+0x10"}]).reasons


def test_what_the_host_does_not_tell_refuses_nothing(tmp_path):
    host = replace(DEBIAN12, symbols=(), config_at="/elsewhere", btf=False)
    hooks = [
        {"type": "kprobe", "target": "tcp_try_rmem_schedule"},
        {"type": "raw_tp", "target": "block_rq_issue"},
    ]
    found = one(kernel_of(host, tmp_path), ADMIN, hooks=hooks)
    assert [reason for reason in found.reasons if "usable BTF" not in reason] == []
    assert {"CONFIG_KPROBES", "function tcp_try_rmem_schedule", "tracepoint block_rq_issue"} <= set(
        found.unknown
    )


def test_unlisted_hook_needs_nothing(tmp_path):
    kernel = kernel_of(DEBIAN12, tmp_path)
    assert one(kernel, hooks=[{"type": "xdp", "target": "lo"}]).reasons == []


def test_kernel_events_missing_refuses_every_known_hook(tmp_path):
    kernel = kernel_of(replace(DEBIAN12, without=("CONFIG_BPF_EVENTS",)), tmp_path)
    for kind in (*_program.TRACEPOINT_HOOKS, *_program.PROBE_HOOKS, *_program.TRAMPOLINE_HOOKS):
        reasons = one(kernel, hooks=[{"type": kind, "target": "blk_start"}]).reasons
        assert "this kernel lacks CONFIG_BPF_EVENTS" in reasons


def test_capabilities_are_those_used_and_allowed(tmp_path):
    kernel = kernel_of(DEBIAN12, tmp_path)
    kprobe = {"hooks": [{"type": "kprobe", "target": "blk_start"}]}
    raw = {"hooks": [{"type": "raw_tp", "target": "block_rq_issue"}]}
    assert one(kernel, ADMIN, **kprobe).capabilities == ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"]
    assert one(kernel, ADMIN, **raw).capabilities == ["CAP_BPF", "CAP_PERFMON"]
    assert one(kernel, {"CAP_SYS_ADMIN"}, **raw).capabilities == ["CAP_SYS_ADMIN"]
    assert one(kernel, {"CAP_BPF"}, **raw).reasons == ["needs CAP_PERFMON, which is not allowed"]


def test_paranoid_of_two_or_ubuntus_allows_probes(tmp_path):
    variant = {"hooks": [{"type": "kprobe", "target": "blk_start"}]}
    for number, host in enumerate((replace(DEBIAN12, paranoid=2), HOSTS["ubuntu2404"])):
        assert one(kernel_of(host, tmp_path / str(number)), **variant).reasons == []


def test_damaged_btf_is_the_reason(tmp_path):
    root = DEBIAN12.write(tmp_path)
    put(tmp_path, "/sys/kernel/btf/vmlinux", b"\x9f\xeb")
    kernel = _program.Kernel(root, DEBIAN12.release)
    assert "too few for a header" in one(kernel).reasons[0]


@pytest.mark.parametrize(
    ("machine", "release", "most"),
    [("x86_64", "6.5.0", 6), ("x86_64", "6.6.1", 12), ("aarch64", "6.12.1", 8)],
)
def test_parameters_a_trampoline_carries(machine, release, most, tmp_path):
    host = replace(DEBIAN12, machine=machine, release=release)
    assert kernel_of(host, tmp_path).trampoline_parameters == most


@pytest.mark.parametrize(("ranges", "count"), [("0-3", 4), ("0", 1), ("0,2-3", 3)])
def test_possible_cpus(ranges, count, tmp_path):
    put(tmp_path, "/sys/devices/system/cpu/possible", ranges.encode())
    assert kernel_of(DEBIAN12, tmp_path).possible_cpus() == count


def test_map_memory_counts_per_cpu_values():
    plain = {"type": "hash", "key_size": 12, "value_size": 8, "max_entries": 100}
    assert _program.map_bytes([plain], 4) == 100 * (16 + 8 + 64)
    assert _program.map_bytes([dict(plain, type="percpu_hash")], 4) == 100 * (16 + 32 + 64)
    assert _program.map_bytes([dict(plain, type="array", key_size=4)], 4) == 800


def test_sets_and_names_become_configs_in_order():
    assert _program.wanted(CATALOGUE, ["default"]) == ["biolatency", "tcp-window-clamps"]
    assert _program.wanted(CATALOGUE, ["tcp-syn-recv", "default"])[0] == "tcp-syn-recv"
    assert _program.wanted(CATALOGUE, ["biolatency", "default"]) == CATALOGUE["sets"]["default"]


def test_unknown_or_repeated_name_is_an_error_that_lists_the_valid():
    with pytest.raises(_program.CatalogueError, match=r"nope; sets are default; programs are bio"):
        _program.wanted(CATALOGUE, ["biolatency", "nope"])
    with pytest.raises(_program.CatalogueError, match="asked for twice: biolatency"):
        _program.wanted(CATALOGUE, ["biolatency", "biolatency"])
    broken = {**CATALOGUE, "sets": {"default": ["gone"]}}
    with pytest.raises(_program.CatalogueError, match="not in the catalogue: gone"):
        _program.wanted(broken, ["default"])


def variant_with(**parts) -> dict:
    return {"configs": {"mine": {"variants": [{"name": "raw_tp", **parts}]}}}


@pytest.mark.parametrize(
    ("catalogue", "words"),
    [
        (None, "has no configs"),
        ({"configs": {}}, "has no configs"),
        ({"configs": {"mine": {}}}, "mine: the catalogue names no variants"),
        ({"configs": {"mine": {"variants": [{}]}}}, "mine: a variant has no name"),
        (variant_with(requires={"config": "X"}), "mine/raw_tp: requires must list options"),
    ],
)
def test_broken_catalogue_names_the_place(catalogue, words):
    with pytest.raises(_program.CatalogueError, match=words):
        _program.check(catalogue)


def test_good_catalogue_passes():
    _program.check(CATALOGUE)
    assert set(KPROBES) <= set(_program.PROBE)
