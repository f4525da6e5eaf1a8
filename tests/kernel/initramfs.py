# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack what a kernel of Debian needs to find its root: a busybox, modules and a script."""

from __future__ import annotations

import lzma
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from .kernels import BootImage

FOLDERS = ("bin", "dev", "disk", "modules")


def with_dependencies(kernel: BootImage, modules: Iterable[str]) -> list[Path]:
    """Return the files of modules and of what they need, in the order of loading.

    What is not found is built in: newer kernels keep that list in another package.
    """
    found: list[Path] = []
    for module in modules:
        answer = subprocess.run(
            ["modprobe", "-d", str(kernel.modules.parents[2]), "-S", kernel.release,
             "--show-depends", module],
            capture_output=True, text=True, check=False,
        ).stdout  # fmt: skip
        lines = (line.split() for line in answer.splitlines())
        paths = [Path(line[1]) for line in lines if line[0] == "insmod"]
        found += [path for path in paths if path not in found]
    return found


def write(
    target: Path, kernel: BootImage, busybox: Path, modules: Iterable[str], init: str
) -> None:
    """Write an initramfs whose /init finds /bin/busybox and /modules/*, in the order of loading."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        for folder in FOLDERS:
            (root / folder).mkdir()
        shutil.copy(busybox, root / "bin/busybox")
        (root / "init").write_text(init, encoding="utf-8")
        (root / "init").chmod(0o755)
        for number, path in enumerate(with_dependencies(kernel, modules)):
            content = path.read_bytes()
            if path.suffix == ".xz":
                content = lzma.decompress(content)
            (root / "modules" / f"{number:02}.ko").write_bytes(content)
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        with target.open("wb") as file:
            command = ["busybox", "cpio", "-o", "-H", "newc"]
            subprocess.run(command, cwd=root, input=names.encode(), stdout=file,
                           stderr=subprocess.DEVNULL, check=True)  # fmt: skip
