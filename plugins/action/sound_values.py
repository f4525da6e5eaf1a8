# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse, on the controller, values of a role's variables that nobody can mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError, AnsibleFileNotFound
from ansible.plugins.action import ActionBase
from ansible_collections.linmonitor.stack.plugins.module_utils import _values
from ansible_collections.linmonitor.stack.plugins.plugin_utils import _yaml

# The kind of each variable that has one; read here, once, before Ansible forks for each host.
KINDS = _yaml.read(Path(__file__).parents[2] / "meta/values.yml")
# Variables that every role reads.
COMMON = ("linmonitor_", "toolchain_environment")


class ActionModule(ActionBase):
    """Looks at the variables of a role as this host has them; asks no host."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict | None = None) -> dict[str, Any]:
        """Return a failure that names each variable with what it may be."""
        result = super().run(tmp, task_vars)
        arguments = self.validate_argument_spec(
            {
                "role": {"type": "str", "required": True},
                "files": {"type": "bool", "default": True},
                "faults": {"type": "str"},
                "settle": {"type": "list", "elements": "str", "default": []},
            }
        )[1]
        known = dict(task_vars or {})
        self._templar.available_variables = known
        wrong = []
        for name, kind in KINDS.items():
            if name.startswith((f"{arguments['role']}_", *COMMON)) and name in known:
                try:
                    # Once: others are made from it.
                    known[name] = self._templar.template(known[name])
                except AnsibleError as error:
                    # One of all roles need not be read here: on the controller, which is in no
                    # inventory, it may have no value.
                    if not name.startswith(COMMON):
                        wrong.append(f"{name} cannot be evaluated: {error.message}.")
                    continue
                said = _values.fault(kind, known[name])
                if arguments["files"] and not said:
                    said = self._lacking(kind, known[name])
                wrong += [f"{name} must be {said}."] if said else []
        result["changed"] = False
        if wrong:
            said = f"Nothing was changed on {known['inventory_hostname']}. {' '.join(wrong)}"
            return result | {"failed": True, "msg": said}
        unsettled = self._settle(arguments["settle"], known)
        if arguments["faults"]:
            said = " ".join(filter(None, self._templar.template(known[arguments["faults"]])))
            if said:
                return result | {"failed": True, "msg": said}
        if unsettled:
            raise unsettled
        return result | {"settled": {name: known[name] for name in arguments["settle"]}}

    def _settle(self, names: list[str], known: dict) -> AnsibleError | None:
        """Evaluate variables for good; return what kept one from it, which a fault may explain."""
        for name in names:
            try:
                known[name] = self._templar.template(known[name])
            except AnsibleError as error:
                return error
        return None

    def _lacking(self, kind: str, value: Any) -> str:
        """Name a file that is not where a task of the role looks for it, "" where all are there."""
        if _values.GIVEN not in kind:
            return ""
        for path in filter(None, [value] if isinstance(value, str) else value):
            try:
                places = self._task.get_search_path()
                self._loader.path_dwim_relative_stack(places, "files", str(path))
            except AnsibleFileNotFound:
                return f"a file of the controller, and {str(path)!r} is not there"
        return ""
