# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cut a run off where a task of a role begins."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: cut_off
type: aggregate
short_description: Cut a run off where a task of a role begins
description:
  - Writes number, from 1 on, and name of each task of a role that ran to the file in CUT_OFF_TASKS.
  - Where number CUT_OFF_AT begins, it runs the command in CUT_OFF_BY.
"""


class CallbackModule(CallbackBase):
    """Counts the tasks of roles."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "cut_off"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Begin to count."""
        super().__init__()
        self.number = 0

    def v2_playbook_on_task_start(self, task, is_conditional) -> None:
        """Count one more."""
        if task._role is None:
            return
        self.number += 1
        if self.number == int(os.environ.get("CUT_OFF_AT", "0")):
            subprocess.run(os.environ["CUT_OFF_BY"], shell=True, check=True)

    v2_playbook_on_handler_task_start = v2_playbook_on_task_start

    def v2_runner_on_ok(self, result) -> None:
        """Write down what was not skipped."""
        if result._task._role is not None:
            with Path(os.environ["CUT_OFF_TASKS"]).open("a") as tasks:
                tasks.write(f"{self.number} {result._task.get_name()}\n")
