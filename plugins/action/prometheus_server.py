# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of prometheus_server: say which run this is, and wait for its turn."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.linmonitor.stack.plugins.plugin_utils import _turn

MODULE = "linmonitor.stack.prometheus_server"


class ActionModule(ActionBase):
    """Runs the module."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict | None = None) -> dict[str, Any]:
        """Return what the module says."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        name = str(arguments.get("record"))
        result.update(_turn.in_turn(self, MODULE, name, arguments, task_vars or {}))
        return result
