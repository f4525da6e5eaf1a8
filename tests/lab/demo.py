# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show the latency of this machine's own disk, end to end, in one throw-away Debian host.

The host runs in podman under this machine's kernel; site.yml deploys to it exactly what it
would deploy anywhere. Its services listen on its own loopback, so an ssh tunnel relays them
to this machine's loopback.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.lab import prometheus
from tests.lab.hosts import CHECKOUT, Lab, LabError

LAB = Lab("demo")
HOST = "demo"
GROUPS = ("build", "targets", "prometheus", "grafana")
# What a person opens.
RELAYED = {"Grafana": 3000, "Prometheus": 9090, "ebpf_exporter": 9435}
PATHS = {
    "Grafana": "/",
    "Prometheus": "/api/v1/query?query=ebpf_exporter_bio_latency_seconds_count",
    "ebpf_exporter": "/metrics",
}
RELEASES = "https://github.com/prometheus/prometheus/releases"
BAR_WIDTH = 46
PICTURES = LAB.folder.parent / "demo-dashboards"
SECRETS = LAB.folder / "grafana"
LOG = LAB.folder.parent / "demo.log"


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why."""


@contextmanager
def phase(title: str) -> Iterator[None]:
    """Announce a phase and print its time when it is done."""
    print(f"  {title:<58}", end="", flush=True)
    started = time.monotonic()
    try:
        yield
    except BaseException:
        print("FAILED", flush=True)
        raise
    print(f"{time.monotonic() - started:5.0f} s", flush=True)


def play(playbook: str, *arguments: str) -> list[str]:
    """Run a playbook against the demo's host; return its output lines, keep them in the log."""
    command = ["ansible-playbook", "-i", str(LAB.inventory), playbook, *arguments]
    done = subprocess.run(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    with LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n{done.stdout}\n")
    if done.returncode != 0:
        told = [line for line in done.stdout.splitlines() if "msg:" in line or "ERROR" in line]
        last = "\n".join(told[-6:] or done.stdout.splitlines()[-12:])
        raise DemoError(f"{playbook} failed:\n{last}\nThe whole output is in {LOG}.")
    return done.stdout.splitlines()


def shown_by(task: str, output: list[str]) -> list[str]:
    """Return the lines that a debug task printed."""
    begin = next(number for number, line in enumerate(output) if f"TASK [{task}]" in line)
    end = next(number for number in range(begin + 1, len(output)) if not output[number])
    block = "\n".join(line for line in output[begin + 2 : end])
    return next(iter(yaml.safe_load(block).values()))


def answers(url: str) -> bool:
    """Say whether a URL can be read."""
    try:
        urllib.request.urlopen(url, timeout=10).close()
    except OSError:
        return False
    return True


def free_port(wanted: int) -> int:
    """Return the first free loopback port from `wanted` on."""
    for port in range(wanted, wanted + 50):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise DemoError(f"no free port between {wanted} and {wanted + 49} on 127.0.0.1")


def relay(services: dict[str, int]) -> dict[str, int]:
    """Tunnel the host's loopback ports to this machine's; return where each one is."""
    ports = {name: free_port(port) for name, port in services.items()}
    address = yaml.safe_load(LAB.inventory.read_text())["all"]["hosts"][HOST]["ansible_host"]
    forwards = [f"-L127.0.0.1:{ports[name]}:127.0.0.1:{port}" for name, port in services.items()]
    tunnel = subprocess.Popen(
        ["ssh", "-N", *forwards, "-i", str(LAB.folder / "id_ed25519"),
         "-o", f"UserKnownHostsFile={LAB.folder}/known_hosts", "-o", "ExitOnForwardFailure=yes",
         "-o", "ControlPath=none", f"root@{address}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    (LAB.folder / "tunnel.pid").write_text(str(tunnel.pid))
    return ports


def end_tunnel() -> None:
    """End the tunnel of an earlier demo, if it still is that tunnel."""
    pid_file = LAB.folder / "tunnel.pid"
    if not pid_file.exists():
        return
    pid = int(pid_file.read_text())
    command = Path(f"/proc/{pid}/cmdline")
    if command.exists() and str(LAB.folder).encode() in command.read_bytes():
        signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGTERM)


def query(port: int, expression: str) -> list[dict]:
    """Return the vector of an instant query, waiting for the tunnel to stand."""
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    deadline = time.monotonic() + 15
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]["result"]
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def draw(port: int) -> None:
    """Render the dashboards without Grafana, so that there is something to look at."""
    url = f"http://127.0.0.1:{port}"
    query(port, "up")  # waits for the tunnel
    module = "tests.dashboards.snapshot"
    command = [sys.executable, "-m", module, "--prometheus", url, "--out", str(PICTURES)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DemoError(f"the dashboards could not be drawn:\n{done.stderr}")


def readable(seconds: float) -> str:
    """Show a time as people say it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def histogram(port: int) -> list[str]:
    """Draw the distribution of device time over all disks as text."""
    vector = query(port, "sum by (le) (ebpf_exporter_bio_latency_seconds_bucket)")
    cumulative = sorted((float(s["metric"]["le"]), float(s["value"][1])) for s in vector)
    buckets, before = [], 0.0
    for edge, count in cumulative:
        if math.isfinite(edge):
            buckets.append((edge, count - before))
        before = count
    used = [index for index, (_, count) in enumerate(buckets) if count]
    if not used:
        return ["    (no request was counted yet)"]
    shown = buckets[used[0] : used[-1] + 1]
    most = max(count for _, count in shown)
    bars = ("█" * math.ceil(BAR_WIDTH * count / most) for _, count in shown)
    return [
        f"    <= {readable(edge):>8}  {bar:<{BAR_WIDTH}} {count:.0f}"
        for (edge, count), bar in zip(shown, bars, strict=True)
    ]


def up() -> None:
    """Make the host, deploy, verify, and say where to look."""
    started = time.monotonic()
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("")
    print(f"linmonitor demo: one Debian 12 host under the kernel of this machine (log: {LOG})")
    with phase("Booting the host"):
        end_tunnel()
        LAB.up({HOST: "bookworm"}, {f"linmonitor_{group}": [HOST] for group in GROUPS})
    choices = {
        "prometheus_scrape_interval": "5s",
        # Where its repository is out of reach the demo goes on, and draws the panels itself.
        "grafana_enabled": "auto",
        "grafana_secrets_dir": str(SECRETS),
    }
    compiled = not answers(RELEASES)
    with phase("Building what the cache lacks (minutes at the first time)"):
        if compiled:
            choices |= prometheus.handed_in()
        extra = [part for name, value in choices.items() for part in ("-e", f"{name}={value}")]
        play("playbooks/build.yml", *extra)
    with phase("Deploying: ansible-playbook site.yml"):
        deployed = play("site.yml", *extra)
    with phase("Writing to the disk and asking Prometheus"):
        output = play("playbooks/verify.yml")
    ports = relay(RELAYED)

    with phase("Drawing the dashboards from Prometheus"):
        draw(ports["Prometheus"])

    print("\nWhat Prometheus counted:")
    for line in shown_by("Show the numbers", output):
        print(f"    {line}")
    print("\nTime that the disks took per request (bio_latency_seconds):")
    print("\n".join(histogram(ports["Prometheus"])))
    print("\nPrograms:")
    for line in shown_by("Say what to open and what was left out", deployed):
        if line.startswith(("Programs", "Left out")):
            print(f"    {line}")
    print("\nOpen:")
    for name, port in RELAYED.items():
        if name == "Grafana" and not answers(f"http://127.0.0.1:{ports[name]}/api/health"):
            print(f"    {name:<14} is not here: its repository did not answer")
            continue
        moved = "" if ports[name] == port else f"  ({port} is taken on this machine)"
        print(f"    {name:<14} http://127.0.0.1:{ports[name]}{PATHS[name]}{moved}")
        if name == "Grafana":
            print(f"    {'':<14} as admin, whose password is in {SECRETS}/{HOST}/admin_password")
    print(f"    {'Pictures':<14} file://{PICTURES}/index.html")
    print("    The pictures are the dashboards' panels, drawn without Grafana.")
    if compiled:
        print("    This Prometheus was compiled from its Go module: the API without the web UI.")
    print(f"\nDone in {time.monotonic() - started:.0f} s. `make demo-clean` removes all of it.")


def down() -> None:
    """Remove the host and the tunnel; the build cache stays."""
    end_tunnel()
    LAB.down()
    print("The demo's host is gone. Built artifacts stay in the cache for the next time.")


def main() -> int:
    """Command line: `up` or `down`."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.demo", description=__doc__)
    parser.add_argument("verb", choices=["up", "down"])
    verb = parser.parse_args().verb
    try:
        for tool in ("podman", "ssh", "mmdebstrap"):
            if shutil.which(tool) is None:
                raise DemoError(f"{tool} is not installed: run `make demo`")
        {"up": up, "down": down}[verb]()
    except (DemoError, LabError) as error:
        print(f"\ndemo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
