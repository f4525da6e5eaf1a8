# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that answers by HTTP: what systemd says of its unit, and what it says of itself."""

from __future__ import annotations

import base64
import http.client
import os
import ssl
import time
import urllib.error
import urllib.request
from typing import Callable, Dict, List, Optional, Sequence, Tuple

# As AnsibleModule.run_command: exit status, output, errors.
Run = Callable[[List[str]], Tuple[int, str, str]]
PROPERTIES = (
    "ActiveState",
    "ExecMainStartTimestampMonotonic",
    "MainPID",
    "NeedDaemonReload",
    "UnitFileState",
)
RUNNING = ("active", "activating", "reloading")
PAUSE = 0.5
JOURNAL_LINES = 10
JOURNAL_SECONDS = 10
# systemd's words for a process that failed.
ENDED = "Main process exited"


class Fault(Exception):
    """The server is not as it should be; the message is the end of a sentence about it."""


class Ended(Fault):
    """The server's process is no more."""


class Replaying(Fault):
    """The server is not ready yet and works on it."""


def ask(url: str, login: Optional[Tuple[str, str]] = None) -> Tuple[int, str]:
    """Return status and text of an answer; the status is 0 where nobody answers.

    A host asks itself, by an address that the server's certificate need not have.
    """
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),
    )
    request = urllib.request.Request(url)
    if login is not None:
        words = base64.b64encode(":".join(login).encode()).decode()
        request.add_header("Authorization", "Basic " + words)
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""
    except (OSError, http.client.HTTPException):
        return 0, ""


class Unit:
    """The server's unit."""

    def __init__(self, name: str, path: str, run: Run) -> None:
        """Take its name, its file, and what runs commands."""
        self.name, self.path, self.run = name, path, run

    def systemctl(self, *words: str) -> None:
        """Do something with it; Fault with systemd's words where that fails."""
        code, out, err = self.run(["systemctl", *words])
        if code != 0:
            raise Fault("systemctl %s failed: %s" % (" ".join(words), (err or out).strip()))

    def state(self) -> Dict[str, str]:
        """Return what systemd knows of it."""
        _code, out, _err = self.run(
            ["systemctl", "show", "--property=" + ",".join(PROPERTIES), self.name]
        )
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def process(self) -> int:
        """Return the process that runs, or 0."""
        state = self.state()
        return int(state.get("MainPID", 0)) if state.get("ActiveState") in RUNNING else 0

    def outdated(self, program: str, files: Sequence[str] = ()) -> bool:
        """Say whether what runs was started from other files or programs than those on the disk."""
        state = self.state()
        try:
            runs = os.readlink("/proc/%s/exe" % state["MainPID"])
        except OSError:
            return True
        age = time.monotonic() - int(state["ExecMainStartTimestampMonotonic"]) / 1e6
        # Not the time of the inode: who only changes a mode asks for no restart.
        newest = max(os.stat(path).st_mtime for path in (self.path, *files))
        written = newest > time.time() - age
        return written or state["NeedDaemonReload"] == "yes" or runs != os.path.realpath(program)

    def journal(self, since: float, ended: bool) -> str:
        """Return its last lines; of one that ended, those of its first end, which may come late."""
        # Not --lines: with a beginning, older versions take the first ones.
        command = ["journalctl", "--unit=" + self.name, "--since=@%d" % since, "--output=cat"]
        deadline = time.monotonic() + JOURNAL_SECONDS
        while True:
            _code, out, _err = self.run([*command, "--no-pager"])
            if not ended or ENDED in out or time.monotonic() > deadline:
                break
            time.sleep(PAUSE)
        # After a wrong flag it prints all of its help, which is indented.
        lines = [line for line in out.splitlines() if not line.startswith((" ", "\t"))]
        ends = [number for number, line in enumerate(lines, 1) if ENDED in line]
        if ended and ends:
            lines = lines[: ends[0]]
        return "\n".join(lines[-JOURNAL_LINES:])


class Server:
    """The server that a unit runs, at its address."""

    def __init__(
        self,
        unit: Unit,
        url: str,
        seconds: int,
        login: Optional[Tuple[str, str]] = None,
        ready: str = "/-/ready",
    ) -> None:
        """Take unit, URL, how long a start may take, who may ask, and what answers then."""
        self.unit, self.url, self.seconds, self.login = unit, url, seconds, login
        self.ready = ready

    def ask(self, path: str) -> Tuple[int, str]:
        """Return status and text of what it answers at a path."""
        return ask(self.url + path, self.login)

    def start(self) -> None:
        """Start it with the unit on the disk, also where it runs, and wait until it is ready."""
        self.unit.systemctl("daemon-reload")
        # Where it failed too often before, systemd would refuse.
        self.unit.run(["systemctl", "reset-failed", self.unit.name])
        self.unit.systemctl("restart", self.unit.name)
        self.wait()

    def wait(self) -> None:
        """Wait until it is ready; Fault as soon as it has ended or the time is over."""
        process = self.unit.process()
        deadline = time.monotonic() + self.seconds
        while True:
            status, _text = self.ask(self.ready)
            if process == 0 or self.unit.process() != process:
                raise Ended("it ended instead of becoming ready")
            # Whoever may not ask learns no more than that it answers.
            if status == 200 or (status == 401 and self.login is None):
                return
            if time.monotonic() > deadline:
                if status == 503:
                    raise Replaying("it is not ready after %d s" % self.seconds)
                raise Fault(
                    "%s gave no answer for %d s" % (self.url + self.ready, self.seconds)
                    if status == 0
                    else "%s answers %d" % (self.url + self.ready, status)
                )
            time.sleep(PAUSE)
