# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lock on a host, for one run at a time: it says whose it is, since when and for how long.

The kernel holds it while a module is at work, also one whose controller is gone. Between two
modules of a run its file does, for a while: what the controller knows to have ended lets go at
once, what another one does not know lets go when that while is over, and a boot clears them all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from typing import Any, Dict, TextIO

from ansible_collections.linmonitor.stack.plugins.module_utils import _writing

FOLDER = "/run/linmonitor"
# Longer than what a role does between two modules that hold it: an archive sent, a package got.
LEASE_SECONDS = 900


class Busy(Exception):
    """Another run has the lock; `holder` says which."""

    def __init__(self, holder: Dict[str, Any]) -> None:
        """Take what its file says."""
        super().__init__("Another run is at work: %s." % holder["owner"])
        self.holder = holder


def _clock(seconds_from_now: int = 0) -> str:
    return time.strftime("%H:%M:%S %Z", time.localtime(time.time() + seconds_from_now))


def _now() -> float:
    """Return the time since the boot: no clock that is set changes it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lock:
    """The lock of one thing on the host, for a run.

    `run` has id, owner and ended: the ids of runs that are known to be no more. After the block it
    stays with the run where `stays` says so; by default as it was before.
    """

    def __init__(self, name: str, run: Dict[str, Any]) -> None:
        """Take a name and whose it is to be."""
        self.path = os.path.join(FOLDER, name + ".lock")
        self.run: Dict[str, Any] = {
            "id": "process %d" % os.getpid(),
            "owner": "somebody",
            "ended": [],
        }
        self.run.update({key: value for key, value in run.items() if value})
        self.stays = False
        self._since = ""

    def __enter__(self) -> Lock:
        """Take it, or raise Busy."""
        self._stream = self._open()
        try:
            self._take()
        except BaseException:
            self._stream.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let it go, or keep it for what comes next."""
        with self._stream:
            if self.stays:
                self._write()
            else:
                self._clear()

    def _open(self) -> TextIO:
        """Open the file and lock it, or say who has it."""
        while True:
            os.makedirs(FOLDER, mode=0o755, exist_ok=True)
            try:
                handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:
                continue  # whoever let go last took the folder away
            stream = os.fdopen(handle, "r+")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with stream:
                    raise Busy(self._holder(stream)) from None
            # One that was taken away keeps nobody else out.
            if os.fstat(stream.fileno()).st_nlink:
                return stream
            stream.close()

    def _take(self) -> None:
        holder = self._holder(self._stream)
        ours = holder["id"] == self.run["id"]
        if not ours and holder["until"] > _now() and holder["id"] not in self.run["ended"]:
            raise Busy(holder)
        self._since = holder["since"] if ours else _clock()
        self.stays = ours and holder["until"] > 0
        self._write()

    def _holder(self, stream: TextIO) -> Dict[str, Any]:
        """Return whose it is by its file."""
        stream.seek(0)
        try:
            said = json.load(stream)
        except ValueError:
            said = {}
        nobody = {"id": "", "owner": "somebody", "since": "", "until": 0, "ends": ""}
        return dict(nobody, **said) if isinstance(said, dict) else nobody

    def _write(self) -> None:
        said = {
            "id": self.run["id"],
            "owner": self.run["owner"],
            "since": self._since,
            # The kernel lets go of what is held for one module only.
            "until": _now() + LEASE_SECONDS if self.stays else 0,
            "ends": _clock(LEASE_SECONDS) if self.stays else "",
        }
        with _writing.naming(self.path):
            self._stream.seek(0)
            self._stream.truncate()
            json.dump(said, self._stream)
            self._stream.flush()

    def _clear(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self.path)
            os.rmdir(FOLDER)
