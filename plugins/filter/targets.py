# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Prometheus is to scrape, said by the inventory and by what hosts chose to run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

DOCUMENTATION = r"""
name: targets
short_description: Make Prometheus' target list from the inventory
"""

PORT = 9435


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


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict:
        """Return the filters by name."""
        return {"scrape_targets": scrape_targets}
