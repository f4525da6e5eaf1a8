# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel's files say, on trees of the hosts that matter."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _kernel
from hosts import HOSTS, Host, put, put_headers

DEBIAN12 = HOSTS["debian12"]


@pytest.mark.parametrize("name", HOSTS)
def test_every_host_gives_its_release_machine_and_config(name, tmp_path):
    host = HOSTS[name]
    root = host.write(tmp_path)
    assert _kernel.release(root) == host.release
    assert _kernel.machine(root) == host.machine
    config = _kernel.config(root, host.release)
    assert config.source == host.config_at.format(host.release)
    assert config.problems == []
    for option in _kernel.BPF_OPTIONS:
        assert config.state(option) == ("absent" if option in host.without else "present")
    assert _kernel.lockdown(root) == host.lockdown
    assert _kernel.symbols(root) == set(host.symbols)
    assert _kernel.container(root) is host.container


def test_releases_sort_by_age():
    ages = [
        "5.10.0-9-amd64",
        "5.10.0-33-amd64",
        "6.1.0-0.deb11.21-amd64",
        "6.1.0-9-cloud-amd64",
        "6.1.0-32-amd64",
        "6.8.0-51-generic",
        "6.12.9+deb13-amd64",
        "6.12.38+deb13-amd64",
        "7.2-amd64",
    ]
    assert [_kernel.version(one) for one in ages] == sorted(map(_kernel.version, ages))
    for older, newer in itertools.pairwise(ages):
        assert _kernel.version(older) < _kernel.version(newer)
    assert _kernel.version("6.1.0-32-amd64") == _kernel.version("6.1.0-32-rt-amd64")


def test_option_of_a_module_and_of_a_value(tmp_path):
    put(tmp_path, "/boot/config-1", b'CONFIG_A=m\nCONFIG_B=64\nCONFIG_C="x"\nCONFIG_D=n\n')
    config = _kernel.config(str(tmp_path), "1")
    states = [config.state(f"CONFIG_{letter}") for letter in "ABCDE"]
    assert states == ["module", "present", "present", "absent", "absent"]


def test_without_configuration_every_option_is_unknown(tmp_path):
    config = _kernel.config(str(tmp_path), "1")
    assert config.source is None and config.problems == []
    assert config.state("CONFIG_BPF_SYSCALL") == "unknown"


@pytest.mark.parametrize(
    "broken",
    [b"", b"not gzip", gzip.compress(b"CONFIG_A=y\n" * 99)[:-20], gzip.compress(b"hello")],
    ids=["empty", "not gzip", "truncated", "no option"],
)
def test_broken_config_gz_is_named_and_the_next_place_is_taken(broken, tmp_path):
    put(tmp_path, "/proc/config.gz", broken)
    config = _kernel.config(str(tmp_path), "1")
    assert config.source is None
    assert config.problems[0].startswith("/proc/config.gz: ")
    put(tmp_path, "/boot/config-1", b"CONFIG_A=y\n")
    assert _kernel.config(str(tmp_path), "1").source == "/boot/config-1"


def test_unreadable_config_is_named(tmp_path):
    (tmp_path / "boot/config-1").mkdir(parents=True)
    assert "directory" in _kernel.config(str(tmp_path), "1").problems[0]


@pytest.mark.parametrize("place", ["config", "build/.config"])
def test_config_of_the_modules_folder(place, tmp_path):
    put(tmp_path, f"/lib/modules/1/{place}", b"CONFIG_A=y\n")
    assert _kernel.config(str(tmp_path), "1").source == f"/lib/modules/1/{place}"


def test_config_behind_an_absolute_build_link(tmp_path):
    put_headers(tmp_path, "1")
    put(tmp_path, "/usr/src/linux-headers-1/.config", b"CONFIG_A=y\n")
    assert _kernel.config(str(tmp_path), "1").state("CONFIG_A") == "present"


def test_oversized_config_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(_kernel, "MAX_CONFIG", 30)
    put(tmp_path, "/proc/config.gz", gzip.compress(b"CONFIG_A=y\n" + b"#" * 100 + b"\nCONFIG_B=y"))
    config = _kernel.config(str(tmp_path), "1")
    assert config.state("CONFIG_A") == "present" and config.state("CONFIG_B") == "absent"


def test_headers_link_is_judged_below_the_root(tmp_path):
    root, release = DEBIAN12.write(tmp_path), DEBIAN12.release
    assert _kernel.build_link(root, release) == ("absent", None)
    put_headers(tmp_path, release)
    folder = f"/usr/src/linux-headers-{release}"
    assert _kernel.build_link(root, release) == ("valid", folder)
    (tmp_path / folder.lstrip("/") / "include/config/auto.conf").unlink()
    assert _kernel.build_link(root, release) == ("broken", folder)


def test_dangling_and_circular_links_are_broken(tmp_path):
    host = Host("1", links={"/lib/modules/1/build": "/nowhere"})
    assert _kernel.build_link(host.write(tmp_path), "1") == ("broken", "/nowhere")
    link = tmp_path / "lib/modules/1/build"
    link.unlink()
    link.symlink_to("build")
    assert _kernel.build_link(str(tmp_path), "1")[0] == "broken"


def test_kernels_are_listed_oldest_first(tmp_path):
    releases = ("6.1.0-32-amd64", "6.1.0-9-amd64", "5.10.0-33-amd64")
    root = Host("6.1.0-9-amd64", kernels=releases).write(tmp_path)
    put(tmp_path, "/boot/initrd.img-6.9.0-1-amd64", b"")
    assert _kernel.installed_kernels(root) == sorted(releases, key=_kernel.version)


def test_missing_files_are_none(tmp_path: Path):
    root = str(tmp_path)
    assert _kernel.release(root) is None
    assert _kernel.number(root, "/proc/sys/kernel/perf_event_paranoid") is None
    assert _kernel.lockdown(root) is None
    assert _kernel.symbols(root) == set()


def test_candidate_of_apt_cache():
    answer = "linux-headers-1:\n  Installed: (none)\n  Candidate: {}\n  Version table:\n"
    assert _kernel.candidate(answer.format("6.1.129-1")) == "6.1.129-1"
    assert _kernel.candidate(answer.format("(none)")) is None
    assert _kernel.candidate("") is None
