# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse, on the controller, a host that a role cannot work on."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.linmonitor.stack.plugins.module_utils import _host

# Few, because they are asked afresh: cached facts may be another kernel's.
SUBSET = ["!all", "!min", "architecture", "distribution", "kernel", "service_mgr", "user"]


def fault(host: str, facts: dict[str, Any], architectures: list[str]) -> str:
    """Return why a role cannot work on a host; nothing where it can."""
    if facts["ansible_effective_user_id"] != 0:
        return (
            f"This role needs become: true. On {host} it has to be root, and it is "
            f"{facts['ansible_user_id']}: set become: true for the play or the role, or log in as "
            f"root."
        )
    manager, machine = facts["ansible_service_mgr"], facts["ansible_architecture"]
    system, version = facts["ansible_distribution"], facts["ansible_distribution_version"]
    ours = _host.supported([system, facts["ansible_os_family"]], version)
    if architectures and not (ours and manager == "systemd" and machine in architectures):
        return (
            f"{host} is {system} {version} with {manager} on {machine}. This role needs "
            f"{_host.WANTED}, with systemd, on {' or '.join(architectures)}. Nothing was changed."
        )
    return ""


class ActionModule(ActionBase):
    """Asks who Ansible is on the host and what the host is, and leaves the answers as facts."""

    def run(self, tmp: str | None = None, task_vars: dict | None = None) -> dict[str, Any]:
        """Return the facts, and a failure where the role cannot work."""
        result = super().run(tmp, task_vars)
        arguments = self.validate_argument_spec(
            {"architectures": {"type": "list", "elements": "str", "default": []}}
        )[1]
        answer = self._execute_module(
            "ansible.legacy.setup", module_args={"gather_subset": SUBSET}, task_vars=task_vars
        )
        host = (task_vars or {})["inventory_hostname"]
        if said := _host.unreadable(host, answer):
            return {"failed": True, "msg": said}
        if "ansible_facts" not in answer:
            return answer
        facts = answer["ansible_facts"]
        said = fault(host, facts, arguments["architectures"])
        result.update(changed=False, ansible_facts=facts)
        if said:
            result.update(failed=True, msg=said)
        return result
