# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile the programs for the tests, against libbpf's own headers."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.pins import DEFAULT, LIBBPF

SOURCES = Path(__file__).resolve().parents[2] / "files" / "bpf"
CRATE = f"libbpf-sys-{LIBBPF['crate']}+v{DEFAULT['libbpf']}"
CARGO_TOML = """[package]
name = "headers"
version = "0.1.0"
edition = "2021"
[lib]
path = "/dev/null"
[dependencies]
libbpf-sys = "=1.2.1"
"""

sys.path.insert(0, str(SOURCES / "build"))


@functools.cache
def libbpf_include() -> Path:
    """Return a folder with bpf/bpf_helpers.h: LIBBPF_INCLUDE, or from the crate."""
    named = os.environ.get("LIBBPF_INCLUDE")
    if named:
        return Path(named)
    folder = Path(tempfile.mkdtemp(prefix="libbpf-include-"))
    (folder / "Cargo.toml").write_text(CARGO_TOML, encoding="utf-8")
    subprocess.run(["cargo", "fetch", "--quiet"], cwd=folder, check=True)
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    source = next((home / "registry" / "src").glob(f"*/{CRATE}/libbpf/src"))
    (folder / "bpf").symlink_to(source)
    return folder


@functools.cache
def programs(arch: str = "x86_64") -> Path:
    """Build all programs for an architecture; return the artifact's folder."""
    folder = Path(tempfile.mkdtemp(prefix="programs-"))
    make = ["make", "-s", "-C", str(SOURCES / "build"), f"OUT={folder}", f"ARCH={arch}"]
    make += [f"LIBBPF_INCLUDE={libbpf_include()}", f"PYTHON={sys.executable}"]
    done = subprocess.run(make, check=False, capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise AssertionError(f"make: {done.stderr or done.stdout}")
    return folder


def compile_c(source: str, target: Path, *flags: str) -> Path:
    """Compile a piece of C with our headers."""
    command = ["clang", *flags, "-O2", "-g", "-Wall", f"-I{SOURCES / 'include'}"]
    command += [f"-I{libbpf_include()}", "-x", "c", "-", "-o", str(target)]
    subprocess.run(command, input=source, text=True, check=True)
    return target
