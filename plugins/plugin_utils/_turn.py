# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let a module whose lock another run has wait for its turn, and tell who that is."""

from __future__ import annotations

import getpass
import multiprocessing
import os
import socket
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.linmonitor.stack.plugins.module_utils import _host, _lock

PATIENCE_SECONDS = 300
PAUSE_SECONDS = 3
display = Display()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return f"user {os.getuid()}"


def _machine() -> str:
    """Return what no other machine, boot or container has, as far as this one knows itself."""
    words = [socket.gethostname()]
    boot, processes = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists():
        words += [boot.read_text().strip(), os.readlink(processes)]
    return " ".join(words)


def _started(process: int) -> str:
    """Return when a process of this machine started, in words of its own; nothing where none is."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except FileNotFoundError:
        pass
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "some time"


def this_run() -> dict[str, str]:
    """Return who runs this play, for whoever comes at the same time."""
    # Actions run in processes of their own, which end with a task.
    parent = multiprocessing.parent_process()
    process = parent.pid if parent and parent.pid else os.getpid()
    return {
        "id": f"{_machine()}/{process}/{_started(process)}",
        "owner": f"{_user()} on {socket.gethostname()} (process {process})",
    }


def has_ended(run: str) -> bool:
    """Say whether a run is known to be no more: it was this machine's."""
    machine, process, started = run.rsplit("/", 2) if run.count("/") > 1 else ("", "0", "")
    return machine == _machine() and _started(int(process)) != started


def _words(name: str, host: str, holder: dict[str, Any]) -> str:
    since = f", since {holder['since']}" if holder["since"] else ""
    return f"Another run is at work on {name} of {host}: {holder['owner']}{since}."


def _way_out(name: str, holder: dict[str, Any]) -> str:
    words = "Nothing was changed. Wait for its end, or end it, and run this again."
    if holder["ends"]:
        words += (
            f" If it is dead already, its lock ends at {holder['ends']} by the host's clock, with "
            f"a boot of the host, or by: rm {_lock.FOLDER}/{name}.lock"
        )
    return words


def in_turn(action: ActionBase, module: str, name: str, arguments: dict, known: dict) -> dict:
    """Execute a module that takes a lock of the host; wait while another run has it."""
    host, told = known.get("inventory_hostname", "this host"), False
    ended: list[str] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        run = dict(this_run(), ended=ended)
        result = action._execute_module(
            module, module_args=dict(arguments, run=run), task_vars=known
        )
        if said := _host.unreadable(host, result):
            return {"failed": True, "msg": said}
        holder = result.get("held_by")
        if not holder:
            return result
        if has_ended(holder["id"]) and holder["id"] not in ended:
            ended.append(holder["id"])
            continue
        if time.monotonic() > deadline:
            words = _words(name, host, holder)
            return dict(result, msg=f"{words} {_way_out(name, holder)}")
        if not told:
            told = True
            wait = f"This one waits up to {PATIENCE_SECONDS} s for its end."
            display.warning(f"{_words(name, host, holder)} {wait}")
        time.sleep(PAUSE_SECONDS)


class ActionInTurn(ActionBase):
    """Runs a module in turn, under the lock that an argument of the module names."""

    TRANSFERS_FILES = False
    MODULE = ""
    LOCK_NAMED_BY = ""

    def run(self, tmp: str | None = None, task_vars: dict | None = None) -> dict[str, Any]:
        """Return what the module says."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        name = str(arguments.get(self.LOCK_NAMED_BY, ""))
        result.update(in_turn(self, self.MODULE, name, arguments, task_vars or {}))
        return result
