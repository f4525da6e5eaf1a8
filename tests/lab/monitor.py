# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One test host for Prometheus, and what tests ask of it."""

from __future__ import annotations

import json

from tests.lab import prometheus
from tests.lab.deployed import Deployed

ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"


class Monitor(Deployed):
    """A host that is to run Prometheus."""

    # Of the server that most tests ask.
    port = 9090

    def __init__(self, lab: str, members: dict[str, dict] | None = None) -> None:
        """Boot it; the inventory knows it by each member's name, with that member's variables."""
        groups = {} if members else {"linmonitor_prometheus": ["box"]}
        super().__init__(lab, groups, prometheus.handed_in())
        if members:
            address = {"ansible_host": self.lab.address("box")}
            hosts = {name: address | variables for name, variables in members.items()}
            self.inventories.append(self.lab.folder / "members.yml")
            self.inventories[1].write_text(json.dumps({"linmonitor_prometheus": {"hosts": hosts}}))

    def ask(self, path: str, port: int | None = None) -> dict:
        """Return what a server says."""
        url = f"http://127.0.0.1:{port or self.port}/api/v1/{path}"
        return json.loads(self.run(f"python3 -c '{ASK}' '{url}'"))["data"]

    def process(self, unit: str = "linmonitor-prometheus") -> str:
        """Return the process of a unit."""
        return super().process(unit)
