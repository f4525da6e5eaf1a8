# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Written into a test host's disk: say how the exporter came up at this boot."""

import http.client
import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path

WATCHED = 20  # seconds in which a crash loop would show
UNIT = "ebpf_exporter.service"
HOST = "192.0.2.1"
PROPERTIES = ("ActiveState", "Result", "NRestarts", "ConditionResult", "MainPID")


def ask(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout


def up_at():
    """Return the seconds after boot at which the unit became active, 0 if it never did."""
    answer = ask("systemctl", "show", UNIT, "--property=ActiveEnterTimestampMonotonic", "--value")
    return int(answer or 0) / 1e6


def enabled():
    """Return the programs that the exporter says it runs."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:9435/metrics", timeout=30) as answer:
            text = answer.read().decode()
    except OSError:
        return []
    head = "ebpf_exporter_enabled_configs{"
    return sorted(line.split('"')[1] for line in text.splitlines() if line.startswith(head))


def answers(source):
    """Say whether the exporter answers who asks from this address."""
    for address in (HOST, source):
        subprocess.run(["ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True)
    connection = http.client.HTTPConnection(HOST, 9435, timeout=10, source_address=(source, 0))
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def capabilities(process):
    """Return the effective capabilities of a process as a number."""
    try:
        with Path(f"/proc/{process}/status").open() as status:
            lines = dict(line.split(":", 1) for line in status)
        return int(lines["CapEff"], 16)
    except OSError:
        return 0


def choice():
    try:
        with Path("/run/ebpf_exporter/choice.json").open() as file:
            return json.load(file)["configs"]
    except OSError:
        return {}


time.sleep(WATCHED)
shown = dict(
    line.split("=", 1)
    for line in ask("systemctl", "show", UNIT, *(f"--property={p}" for p in PROPERTIES)).split()
)
report = {
    "kernel": os.uname().release,
    "unit": shown,
    "up_at": up_at(),
    "enabled": enabled(),
    "capabilities": capabilities(shown["MainPID"]),
    "choice": choice(),
    "answers": {source: answers(source) for source in ("192.0.2.2", "192.0.2.3")},
    "journal": ask("journalctl", f"--unit={UNIT}", "--boot", "--output=cat", "--no-pager"),
}
with Path("/root/report.json").open("w") as file:
    json.dump(report, file)
os.sync()
