# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of ebpf_release: send the artifact, and only where the host lacks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.linmonitor.stack.plugins.module_utils import _release_artifact, _sources
from ansible_collections.linmonitor.stack.plugins.module_utils._release import Fault
from ansible_collections.linmonitor.stack.plugins.plugin_utils import _turn

MODULE = "linmonitor.stack.ebpf_release"


def texts(folder: str) -> dict[str, str]:
    """Return the text of each file in a folder, by name."""
    return {
        path.name: path.read_text() for path in sorted(Path(folder).iterdir()) if path.is_file()
    }


def manifest(artifact: str) -> dict[str, Any]:
    """Return an artifact's manifest without unpacking anything; nothing where there is none."""
    if not Path(artifact).is_file():
        return {}
    try:
        return _release_artifact.manifest_of(artifact)
    except Fault as fault:
        raise AnsibleActionFail(f"{artifact}: {fault}") from fault


class ActionModule(ActionBase):
    """Runs the module, twice where the host needs the artifact."""

    def run(self, tmp: str | None = None, task_vars: dict | None = None) -> dict[str, Any]:
        """Ask the host, send what it lacks, and let it deploy."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        artifact = arguments.pop("artifact", None)
        host = (task_vars or {}).get("inventory_hostname", "this host")
        arguments.setdefault("host", host)
        if arguments.get("files"):
            arguments["texts"] = texts(self._loader.path_dwim(arguments["files"]))
        result.update(self._ask(arguments, task_vars))
        if not (artifact and result.get("artifact_wanted")):
            return result
        artifact = self._loader.path_dwim(artifact)
        if self._task.check_mode:
            arguments["manifest"] = manifest(artifact)
            return self._ask(arguments, task_vars)
        return self._deploy(artifact, arguments, task_vars)

    def _ask(self, arguments: dict, task_vars: dict | None) -> dict[str, Any]:
        """Execute the module, once nobody else does."""
        return _turn.in_turn(self, MODULE, "ebpf_exporter", arguments, task_vars or {})

    def _deploy(self, artifact: str, arguments: dict, task_vars: dict | None) -> dict[str, Any]:
        """Send the artifact and let the host deploy it."""
        expected = arguments.get("artifact_sha256")
        if not Path(artifact).is_file():
            raise AnsibleActionFail(f"There is no artifact {artifact} for {arguments['host']}.")
        found = _sources.file_sha256(artifact)
        if expected and found != expected:
            raise AnsibleActionFail(
                f"{artifact} for {arguments['host']} has the SHA-256 {found}, expected is "
                f"{expected}. It was not sent."
            )
        folder = self._make_tmp_path()
        try:
            arguments["artifact"] = self._transfer_file(
                artifact, self._connection._shell.join_path(folder, "artifact.tar.gz")
            )
            return self._ask(arguments, task_vars)
        finally:
            self._remove_tmp_path(folder)
