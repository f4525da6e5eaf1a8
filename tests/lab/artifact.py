# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command on the unpacked artifact of this checkout: the bytes that hosts get.

python -m tests.lab.artifact COMMAND … gives the command `--artifact DIR` at its end.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.lab.hosts import CHECKOUT, LabError, run


def cached() -> Path:
    """Return the tarball that the roles would deploy, verified; LabError where it is not built."""
    with tempfile.NamedTemporaryFile() as answer:
        run(
            "ansible-playbook", "-i", "localhost,", "-e", f"answer={answer.name}",
            str(CHECKOUT / "tests/lab/cached_artifact.yml"),
        )  # fmt: skip
        return Path(Path(answer.name).read_text())


def main() -> int:
    """Unpack the artifact into a folder of its own for the time of one command."""
    try:
        tarball = cached()
    except LabError as error:
        sys.exit(str(error))
    # Below /var/tmp: virtual machines see this machine's files, but not its /tmp.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="linmonitor-artifact-") as folder:
        Path(folder).chmod(0o755)
        with tarfile.open(tarball) as bundle:
            bundle.extractall(folder, filter="data")
        return subprocess.run([*sys.argv[1:], "--artifact", folder], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
