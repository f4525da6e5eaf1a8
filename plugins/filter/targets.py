# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks whom: what Prometheus scrapes and where Grafana finds it, said by the inventory."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: targets
short_description: Make Prometheus' target list and its address for Grafana from the inventory
version_added: 1.0.0
description:
  - Used by C(playbooks/site.yml) and C(playbooks/grafana.yml).
author: [The linmonitor.stack maintainers (@linmonitor)]
"""

PORT = 9435
PROMETHEUS = "127.0.0.1:9090"


def _address(host: str, variables: Mapping, scraper: str) -> str:
    """Return where the scraper reaches a host's exporter."""
    given = variables.get("ebpf_exporter_scrape_address")
    if given:
        return given
    return (
        f"127.0.0.1:{PORT}" if host == scraper else f"{variables.get('ansible_host', host)}:{PORT}"
    )


def _configs(choice: Path) -> dict[str, str]:
    """Return the label that names the programs of a host, if its choice is known here."""
    if not choice.is_file():
        return {}
    configs = json.loads(choice.read_text())["configs"]
    running = [name for name, verdict in configs.items() if verdict["variant"]]
    return {"ebpf_configs": f",{','.join(running)},"}


def scrape_targets(hosts: list[str], hostvars: Mapping, scraper: str, choices: str) -> list[dict]:
    """Return `hosts` in file_sd form, as seen from the host `scraper`.

    `choices` is the controller's folder with the last known choice.json of each host. All hosts
    of the inventory are in, so a run limited to some changes nobody else's target.
    """
    return [
        {
            "targets": [_address(host, hostvars[host], scraper)],
            "labels": {"instance": host} | _configs(Path(choices) / f"{host}.json"),
        }
        for host in hosts
    ]


def prometheus_url(hosts: list[str], hostvars: Mapping, here: str) -> str:
    """Return where the host `here` reaches a Prometheus of `hosts`: its own, else the first."""
    host = here if here in hosts or not hosts else hosts[0]
    variables = hostvars[host]
    listener = str(variables.get("prometheus_listen_address", PROMETHEUS))
    address, port = listener.rpartition(":")[::2]
    if address in ("", "0.0.0.0", "[::]"):
        address = "127.0.0.1" if host == here else variables.get("ansible_host", host)
        address = f"[{address}]" if ":" in address else address
    if host != here and re.match(r"127\.|localhost$|\[::1\]$", address):
        raise AnsibleFilterError(
            f"Prometheus of {host} listens on {listener}, where Grafana of {here} cannot reach it. "
            f"Set prometheus_listen_address of {host} to an address of a network you trust, or "
            f"name a proxy before it in grafana_prometheus_url of {here}."
        )
    return f"http://{address}:{port}"


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"prometheus_url": prometheus_url, "scrape_targets": scrape_targets}
