# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the Host dashboard asks for what node_exporter says of the same hosts, whatever its job."""

from __future__ import annotations

from .metrics import RATE

HOST = 'instance=~"$instance"'


def _rate(name: str, selector: str = "") -> str:
    return f"rate(node_{name}{{{HOST}{selector}}}{RATE})"


IDLE = f'node_cpu_seconds_total{{{HOST},mode="idle"}}'
CPU = f"1 - avg by (instance) (rate({IDLE}{RATE}))"
MEMORY = (
    f"1 - max by (instance) (node_memory_MemAvailable_bytes{{{HOST}}})"
    f" / max by (instance) (node_memory_MemTotal_bytes{{{HOST}}})"
)
LOAD = f"max by (instance) (node_load1{{{HOST}}}) / count by (instance) (rate({IDLE}{RATE}))"
READ = f"max by (instance, device) ({_rate('disk_read_bytes_total')})"
WRITTEN = f"max by (instance, device) ({_rate('disk_written_bytes_total')})"
BUSY = f"max by (instance, device) ({_rate('disk_io_time_seconds_total')})"
RECEIVED = f"""sum by (instance) ({_rate("network_receive_bytes_total", ',device!="lo"')})"""
SENT = f"""sum by (instance) ({_rate("network_transmit_bytes_total", ',device!="lo"')})"""
