# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transient unit that does a job of _release, and what the job came to."""

from __future__ import annotations

import inspect
import json
import os
import sys
import time

from ansible_collections.linmonitor.stack.plugins.module_utils import _release

JOB_UNIT = "linmonitor-release.service"
JOBS = "/run/linmonitor-release"
BUSY = ("active", "activating", "deactivating", "reloading")


def start(job):
    # type: (dict) -> None
    """Hand a job and the source of _release to a transient unit."""
    folder = os.path.join(JOBS, "job")
    _release.remove(folder)
    os.makedirs(JOBS, mode=0o700, exist_ok=True)
    os.mkdir(folder, 0o700)
    path, program = os.path.join(folder, "job.json"), os.path.join(folder, "release.py")
    _release.write(program, inspect.getsource(_release), 0o600)
    _release.write(path, json.dumps(job), 0o600)
    status, said = _release.run(
        "systemd-run", "--quiet", "--collect", "--unit=" + JOB_UNIT,
        "--description=Switch to another release of the eBPF exporter",
        # Killed, it begins again and finds what is done.
        "--property=Restart=on-abnormal", "--property=RestartSec=1",
        sys.executable, "-B", program, path,
    )  # fmt: skip
    if status != 0:
        raise _release.Fault("systemd did not take the deployment: %s" % said)


def result():
    # type: () -> dict
    """Return what the last job came to, nothing where nobody left one."""
    return _release.read_json(os.path.join(JOBS, "job", "result.json"))


def at_work():
    # type: () -> bool
    """Say whether a job is at work."""
    return _release.unit_property(JOB_UNIT, "ActiveState") in BUSY


def wait(pause=0.2):
    # type: (float) -> dict
    """Wait for the job at work to end, and return its result."""
    while at_work():
        time.sleep(pause)
    return result()
