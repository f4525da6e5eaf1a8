# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give tests this checkout's artifact: from the controller's cache, else built in a lab host."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab.hosts import CHECKOUT, Lab, LabError

BUILD_LAB = Lab("build")


def play(*arguments: str) -> None:
    """Run ansible-playbook with this checkout's settings, whoever's settings the caller has."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
    environment["ANSIBLE_CONFIG"] = str(CHECKOUT / "ansible.cfg")
    command = [str(Path(sys.executable).with_name("ansible-playbook")), *arguments]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-3000:]}")


def cached_artifact() -> Path:
    """Return the artifact's place in the cache, after building it where it is missing."""
    with tempfile.TemporaryDirectory() as scratch:
        answer = Path(scratch) / "answer"
        play("-i", "localhost,", "-c", "local", "tests/lab/artifact.yml", "-e", f"answer={answer}")
        artifact = Path(answer.read_text())
    if not artifact.exists():
        print("lab: building the artifact (some minutes)", flush=True)
        inventory = BUILD_LAB.up({"builder": "bookworm"}, {"linmonitor_build": ["builder"]})
        try:
            play("-i", str(inventory), "playbooks/build.yml")
        finally:
            BUILD_LAB.down()
    return artifact


def main() -> int:
    """Copy the artifact to a place of the caller's choice."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.artifact", description=__doc__)
    parser.add_argument("destination", type=Path)
    shutil.copyfile(cached_artifact(), parser.parse_args().destination)
    return 0


if __name__ == "__main__":
    sys.exit(main())
