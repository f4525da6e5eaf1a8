# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of unpacked_archive: send the archive, and only where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.linmonitor.stack.plugins.module_utils import _archive

MODULE = "linmonitor.stack.unpacked_archive"


class ActionModule(ActionBase):
    """Runs the module, twice where the host needs the archive."""

    def run(self, tmp: str | None = None, task_vars: dict | None = None) -> dict[str, Any]:
        """Ask the host, send what it lacks, and let it unpack."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        source = self._loader.path_dwim(str(arguments.get("src", "")))
        if not arguments.get("sha256") and Path(source).is_file():
            arguments["sha256"] = _archive.file_sha256(source)
        result.update(self._execute_module(MODULE, module_args=arguments, task_vars=task_vars))
        if self._task.check_mode or not result.get("archive_wanted"):
            return result
        if not Path(source).is_file():
            host = (task_vars or {}).get("inventory_hostname", "this host")
            raise AnsibleActionFail(f"There is no archive {source} for {host}.")
        folder = self._make_tmp_path()
        try:
            arguments["sent"] = self._transfer_file(
                source, self._connection._shell.join_path(folder, "archive")
            )
            return self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        finally:
            self._remove_tmp_path(folder)
