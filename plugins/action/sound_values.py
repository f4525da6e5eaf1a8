# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse, on the controller, values of a role's variables that nobody can mean."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.plugins.action import ActionBase
from ansible_collections.linmonitor.stack.plugins.module_utils import _values

COLLECTION = Path(__file__).parents[2]


@cache
def kinds() -> dict[str, str]:
    """Return the kind of each variable that has one."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load((COLLECTION / "meta/values.yml").read_text(), loader)


class ActionModule(ActionBase):
    """Looks at the variables of a role as this host has them; asks no host."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict | None = None) -> dict[str, Any]:
        """Return a failure that names each variable with what it may be."""
        result = super().run(tmp, task_vars)
        role = self.validate_argument_spec({"role": {"type": "str", "required": True}})[1]["role"]
        known = task_vars or {}
        faults = []
        for name, kind in kinds().items():
            if name.startswith(f"{role}_") and name in known:
                said = _values.fault(kind, self._templar.template(known[name]))
                faults += [f"{name} must be {said}."] if said else []
        result["changed"] = False
        if faults:
            host = known["inventory_hostname"]
            result.update(failed=True, msg=f"Nothing was changed on {host}. {' '.join(faults)}")
        return result
