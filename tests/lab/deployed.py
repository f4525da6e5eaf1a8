# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One test host, and how tests deploy to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.lab.hosts import CHECKOUT, Lab

PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))


def failures(output: str) -> str:
    """Return what tasks failed with, of a play's output on one line; if none did, its end."""
    found = re.findall(r"(?:TASK \[[^]]*\] \*+ )?fatal: .*?(?= (?:TASK|PLAY) |$)", output)
    return "\n".join(one[:3000] for one in found) or output[-3000:]


class Deployed:
    """A host named box that playbooks deploy to, with the same variables each time."""

    checkout = CHECKOUT

    def __init__(self, lab: str, groups: dict[str, list[str]], variables: dict) -> None:
        """Boot it."""
        self.lab = Lab(lab)
        self.variables = variables
        self.lab.up({"box": "bookworm"}, groups)
        self.inventories = [self.lab.inventory]

    def close(self) -> None:
        """Remove it."""
        self.lab.down()

    def start(
        self,
        variables: dict | None = None,
        *words: str,
        playbook: str = "site",
        **environment: str,
    ) -> subprocess.Popen:
        """Start a playbook in a process group of its own."""
        extra = json.dumps(self.variables | (variables or {}))
        inventories = [f"--inventory={inventory}" for inventory in self.inventories]
        return subprocess.Popen(
            [PLAYBOOK, *inventories, "--extra-vars", extra, *words, f"playbooks/{playbook}.yml"],
            cwd=self.checkout,
            env=os.environ
            | {"ANSIBLE_CONFIG": str(self.checkout / "ansible.cfg"), "ANSIBLE_VERBOSITY": "1"}
            | environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def play(self, variables: dict | None = None, *words: str, **options: str) -> tuple[int, str]:
        """Run a playbook as `start` does; return exit status and output without line breaks."""
        process = self.start(variables, *words, **options)
        output, _ = process.communicate()
        return process.returncode, " ".join(output.split())

    def deploy(self, **variables: object) -> str:
        """Deploy and insist on success."""
        status, output = self.play(variables)
        assert status == 0, failures(output)
        return output

    def run(self, command: str) -> str:
        """Run a command in the host; return its standard output, stripped.

        Not its errors: podman writes warnings of its own there.
        """
        done = subprocess.run(self._inside(command), stdout=subprocess.PIPE, text=True, check=False)
        return done.stdout.strip()

    @contextmanager
    def running(self, command: str) -> Iterator[IO[str]]:
        """Have a command running in the host; yield its standard output as it comes."""
        process = subprocess.Popen(self._inside(command), stdout=subprocess.PIPE, text=True)
        assert process.stdout
        try:
            yield process.stdout
        finally:
            process.kill()
            process.communicate()

    def _inside(self, command: str) -> list[str]:
        return ["podman", "exec", self.lab.container("box"), "sh", "-c", command]

    def process(self, unit: str) -> str:
        """Return the process of a unit."""
        return self.run(f"systemctl show --value --property=MainPID {unit}")
