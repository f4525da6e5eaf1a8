# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every clang of Debian compiles every program without a word, for both architectures."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

from files.bpf.build import catalogue
from tests.lab.hosts import CHECKOUT, Lab
from tests.unit.bpf_build import libbpf_include

CATALOGUE = catalogue.load([CHECKOUT / "files/bpf"])["configs"]
OBJECTS = sum(len(entry["variants"]) for entry in CATALOGUE.values())
CLANGS = {"bookworm": (14, 15, 16), "trixie": (17, 18, 19)}


@pytest.fixture(scope="module")
def run() -> Iterator[Callable[[str, str], subprocess.CompletedProcess[str]]]:
    """Return a function that runs a command in the test host of a suite."""
    lab = Lab("compilers")
    lab.up({suite: suite for suite in CLANGS}, {})

    def in_host(suite: str, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["podman", "exec", lab.container(suite), "sh", "-ec", command],
                              capture_output=True, text=True, check=False)  # fmt: skip

    headers = (libbpf_include() / "bpf").resolve()
    for suite in CLANGS:
        name = lab.container(suite)
        subprocess.run(["podman", "cp", CHECKOUT / "files/bpf", f"{name}:/bpf"], check=True)
        subprocess.run(["podman", "cp", headers, f"{name}:/bpf/include/bpf"], check=True)
        done = in_host(suite, "apt-get update && apt-get install --yes make python3-yaml")
        assert done.returncode == 0, done.stderr
    yield in_host
    lab.down()


@pytest.mark.parametrize(
    ("suite", "clang"), [(suite, clang) for suite, clangs in CLANGS.items() for clang in clangs]
)
def test_a_clang_of_debian_compiles_every_program(
    run: Callable[[str, str], subprocess.CompletedProcess[str]], suite: str, clang: int
) -> None:
    install = f"apt-get install --yes --no-install-recommends clang-{clang} llvm-{clang}"
    assert run(suite, install).returncode == 0, f"{suite} has no clang-{clang}"
    for arch in ("x86_64", "aarch64"):
        made = run(
            suite,
            f"make -s -C /bpf/build OUT=/out/{clang}/{arch} ARCH={arch} LIBBPF_INCLUDE=/bpf/include"
            f" CLANG=clang-{clang} LLVM_STRIP=llvm-strip-{clang}",
        )
        assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
        objects = run(suite, f"ls /out/{clang}/{arch}/programs/*/*.bpf.o | wc -l")
        assert int(objects.stdout) == OBJECTS
