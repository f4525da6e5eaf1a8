# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse, on the controller, values of a role's variables that nobody can mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.linmonitor.stack.plugins.module_utils import _values
from ansible_collections.linmonitor.stack.plugins.plugin_utils import _yaml

# The kind of each variable that has one.
KINDS = Path(__file__).parents[2] / "meta/values.yml"


class ActionModule(ActionBase):
    """Looks at the variables of a role as this host has them; asks no host."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict | None = None) -> dict[str, Any]:
        """Return a failure that names each variable with what it may be."""
        result = super().run(tmp, task_vars)
        role = self.validate_argument_spec({"role": {"type": "str", "required": True}})[1]["role"]
        known = task_vars or {}
        faults = []
        for name, kind in _yaml.read(KINDS).items():
            if name.startswith(f"{role}_") and name in known:
                said = _values.fault(kind, self._templar.template(known[name]))
                faults += [f"{name} must be {said}."] if said else []
        result["changed"] = False
        if faults:
            host = known["inventory_hostname"]
            result.update(failed=True, msg=f"Nothing was changed on {host}. {' '.join(faults)}")
        return result
