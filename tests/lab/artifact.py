# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command on the unpacked artifact of this checkout: the bytes that hosts get.

python -m tests.lab.artifact [--architecture aarch64] COMMAND … gives the command `--artifact DIR`
at its end; without a command it prints where the tarball lies. What the cache lacks is built in a
test host.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab.hosts import CHECKOUT, Lab, LabError, run

ARCHITECTURES = ("x86_64", "aarch64")


def chosen(architecture: str) -> list[str]:
    """Return the arguments of ansible-playbook for the artifact of an architecture."""
    return ["-e", f"ebpf_exporter_architecture={architecture}"]


def ask(architecture: str = "x86_64") -> Path:
    """Return the tarball that the roles would deploy, verified; LabError where it is not built."""
    with tempfile.NamedTemporaryFile() as answer:
        run(
            "ansible-playbook", "-i", "localhost,", "-e", f"answer={answer.name}",
            *chosen(architecture), str(CHECKOUT / "tests/lab/cached_artifact.yml"),
        )  # fmt: skip
        return Path(Path(answer.name).read_text())


def cached(architecture: str = "x86_64") -> Path:
    """Return the tarball, after building it where it is missing or altered."""
    try:
        return ask(architecture)
    except LabError as missing:
        print(f"lab: building the artifact, because of\n{missing}", file=sys.stderr, flush=True)
    lab = Lab("build")
    inventory = lab.up({"builder": "bookworm"}, {"linmonitor_build": ["builder"]})
    playbook = str(CHECKOUT / "playbooks/build.yml")
    try:
        run("ansible-playbook", "-i", str(inventory), *chosen(architecture), playbook)
    finally:
        lab.down()
    return ask(architecture)


def main() -> int:
    """Unpack the artifact into a folder of its own for the time of one command, if there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.artifact", description=__doc__)
    parser.add_argument("--architecture", choices=ARCHITECTURES, default=ARCHITECTURES[0])
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    try:
        tarball = cached(options.architecture)
    except LabError as error:
        sys.exit(str(error))
    if not options.command:
        print(tarball)
        return 0
    with tempfile.TemporaryDirectory(prefix="linmonitor-artifact-") as folder:
        Path(folder).chmod(0o755)
        run("tar", "-xzf", str(tarball), "-C", folder)
        return subprocess.run([*options.command, "--artifact", folder], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
