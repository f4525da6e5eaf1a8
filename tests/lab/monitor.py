# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One test host for Prometheus, and how tests deploy to it and look at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.lab import prometheus
from tests.lab.hosts import CHECKOUT, Lab

PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"


class Monitor:
    """A host that is to run Prometheus."""

    # Of the server that most tests ask.
    port = 9090

    def __init__(self, lab: str, members: dict[str, dict] | None = None) -> None:
        """Boot it; the inventory knows it by each member's name, with that member's variables."""
        self.lab = Lab(lab)
        self.handed_in = prometheus.handed_in()
        self.lab.up({"box": "bookworm"}, {} if members else {"linmonitor_prometheus": ["box"]})
        self.inventories = [self.lab.inventory]
        if members:
            address = {"ansible_host": self.lab.address("box")}
            hosts = {name: address | variables for name, variables in members.items()}
            self.inventories.append(self.lab.folder / "members.yml")
            self.inventories[1].write_text(json.dumps({"linmonitor_prometheus": {"hosts": hosts}}))

    def start(
        self,
        variables: dict | None = None,
        *words: str,
        playbook: str = "site.yml",
        **environment: str,
    ) -> subprocess.Popen:
        """Start a playbook in a process group of its own."""
        extra = json.dumps(self.handed_in | (variables or {}))
        inventories = [f"--inventory={inventory}" for inventory in self.inventories]
        return subprocess.Popen(
            [PLAYBOOK, *inventories, "--extra-vars", extra, *words, playbook],
            cwd=CHECKOUT,
            env=os.environ
            | {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "ANSIBLE_VERBOSITY": "1"}
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
        assert status == 0, output[-3000:]
        return output

    def run(self, command: str) -> str:
        """Run a command in the host; return its standard output, stripped."""
        done = subprocess.run(
            ["podman", "exec", self.lab.container("box"), "sh", "-c", command],
            stdout=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip()

    def ask(self, path: str, port: int | None = None) -> dict:
        """Return what a server says."""
        url = f"http://127.0.0.1:{port or self.port}/api/v1/{path}"
        return json.loads(self.run(f"python3 -c '{ASK}' '{url}'"))["data"]

    def process(self, unit: str = "linmonitor-prometheus") -> str:
        """Return the process of a unit."""
        return self.run(f"systemctl show --value --property=MainPID {unit}")
