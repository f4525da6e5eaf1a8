# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of owned_files: say which run this is, and wait for its turn."""

from __future__ import annotations

from ansible_collections.linmonitor.stack.plugins.plugin_utils import _turn


class ActionModule(_turn.ActionInTurn):
    """Runs the module."""

    MODULE = "linmonitor.stack.owned_files"
    LOCK_NAMED_BY = "name"
