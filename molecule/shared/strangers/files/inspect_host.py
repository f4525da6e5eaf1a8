# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""List what a host has, one thing a line: files, users, groups, units and listening ports.

Each argument is a folder whose files change by themselves; only the folder is listed then.
"""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import subprocess
import sys
from pathlib import Path

# What lives in memory, logs, caches, and files that list users, which are listed themselves.
LEFT_OUT = {
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/log", "/root/.ansible"),
    *("/var/lib/apt", "/var/cache/apt", "/var/cache/ldconfig", "/var/lib/systemd"),
    *(f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")),
    *(f"/etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")),
    "/etc/.pwd.lock",
}


def content(path: Path) -> str:
    """Return what stands for the content of a path."""
    if path.is_symlink():
        return f"-> {os.readlink(path)}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "-"


def files(changing: set):
    """Give a line for each file and folder."""
    for parent, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for path in (Path(parent, name) for name in folders + names):
            if str(path) not in LEFT_OUT:
                status = path.lstat()
                owner = f"{status.st_uid}:{status.st_gid}"
                yield f"file {path} {status.st_mode:06o} {owner} {content(path)}"
        unseen = LEFT_OUT | changing
        folders[:] = [name for name in folders if str(Path(parent, name)) not in unseen]


def answer(*command: str) -> list:
    """Return the lines that a command prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout.splitlines()


def units():
    """Give a line for each service that runs, with its process, and for each unit file."""
    shown = answer("systemctl", "show", "--property=Id,ActiveState,MainPID", "*.service")
    for block in "\n".join(shown).split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines())
        # Sessions come and go.
        if fields.get("MainPID", "0") != "0" and not fields["Id"].startswith("user@"):
            yield f"unit {fields['Id']} {fields['ActiveState']} {fields['MainPID']}"
    for line in answer("systemctl", "list-unit-files", "--no-legend", "--no-pager"):
        name, state = line.split()[:2]
        if not name.startswith("run-") and not name.endswith(".scope"):
            yield f"unit-file {name} {state}"


def main() -> None:
    """Print all lines."""
    lines = [*files(set(sys.argv[1:])), *units()]
    lines += [f"user {':'.join(map(str, entry))}" for entry in pwd.getpwall()]
    lines += [f"group {':'.join(map(str, entry))}" for entry in grp.getgrall()]
    for line in answer("ss", "-Hltnp"):
        fields = line.split()
        lines.append(f"port {fields[3]} {' '.join(fields[5:])}")
    print("\n".join(sorted(lines)))


if __name__ == "__main__":
    main()
