# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command on the unpacked artifact of this checkout: the bytes that hosts get.

python -m tests.lab.artifact COMMAND … gives the command `--artifact DIR` at its end; without a
command it prints where the tarball lies. What the cache lacks is built in a test host.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab.hosts import CHECKOUT, Lab, LabError, run


def ask() -> Path:
    """Return the tarball that the roles would deploy, verified; LabError where it is not built."""
    with tempfile.NamedTemporaryFile() as answer:
        run(
            "ansible-playbook", "-i", "localhost,", "-e", f"answer={answer.name}",
            str(CHECKOUT / "tests/lab/cached_artifact.yml"),
        )  # fmt: skip
        return Path(Path(answer.name).read_text())


def cached() -> Path:
    """Return the tarball, after building it where it is missing or altered."""
    try:
        return ask()
    except LabError as missing:
        print(f"lab: building the artifact, because of\n{missing}", file=sys.stderr, flush=True)
    lab = Lab("build")
    inventory = lab.up({"builder": "bookworm"}, {"linmonitor_build": ["builder"]})
    try:
        run("ansible-playbook", "-i", str(inventory), str(CHECKOUT / "playbooks/build.yml"))
    finally:
        lab.down()
    return ask()


def main() -> int:
    """Unpack the artifact into a folder of its own for the time of one command, if there is one."""
    try:
        tarball = cached()
    except LabError as error:
        sys.exit(str(error))
    if not sys.argv[1:]:
        print(tarball)
        return 0
    with tempfile.TemporaryDirectory(prefix="linmonitor-artifact-") as folder:
        Path(folder).chmod(0o755)
        run("tar", "-xzf", str(tarball), "-C", folder)
        return subprocess.run([*sys.argv[1:], "--artifact", folder], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
