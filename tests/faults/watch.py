# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user without rights can see and change on a host while a role is at work."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

# Prints what it finds, once. What is open before the work begins is not the role's. It looks until
# its input ends, and once more then.
WATCH = r"""
import glob, os, select, stat, sys
secrets = sys.stdin.readline().encode().split()
roots = "/tmp /var/tmp /dev/shm /run /opt /srv /root /etc/linmonitor /etc/grafana /var/lib".split()
seen, read = set(), set()
def tells(path):
    with open(path, "rb") as stream:
        return any(secret in stream.read(1000000) for secret in secrets)
def look_at(path):
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        return
    if os.access(path, os.W_OK):
        yield "can be written: " + path
    version = path, found.st_ino, found.st_mtime_ns
    if stat.S_ISREG(found.st_mode) and version not in read:
        if tells(path):
            yield "says a secret: " + path
        read.add(version)
def look():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            if tells(path):
                yield "runs with a secret: " + path
        except OSError:
            pass
    for root in roots:
        for folder, _, files in os.walk(root):
            for path in [folder, *(os.path.join(folder, name) for name in files)]:
                try:
                    yield from look_at(path)
                except OSError:
                    pass
seen.update(look())
print("watching", flush=True)
watching = True
while watching:
    watching = not select.select([sys.stdin], [], [], 0.05)[0]
    for found in look():
        if found not in seen:
            seen.add(found)
            print(found, flush=True)
"""


@contextmanager
def watched(container: str, *secrets: str) -> Iterator[list[str]]:
    """Give the list that tells, after the block, what `nobody` found on a host in the meantime."""
    found: list[str] = []
    watcher = subprocess.Popen(
        ["podman", "exec", "--interactive", "--user=nobody", container, "python3", "-c", WATCH],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert watcher.stdin and watcher.stdout
    watcher.stdin.write(" ".join(secrets) + "\n")
    watcher.stdin.flush()
    assert watcher.stdout.readline() == "watching\n"
    try:
        yield found
    finally:
        said, _ = watcher.communicate()
        found += said.splitlines()
