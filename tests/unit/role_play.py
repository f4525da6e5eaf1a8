# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let Ansible itself evaluate variables of roles: one short play on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]


def play(scratch: Path, roles: tuple[str, ...], tasks: list[dict]) -> None:
    """Run tasks with the defaults and constants of some roles; fail with what Ansible says."""
    files = [
        str(CHECKOUT / f"roles/{role}/{part}/main.yml")
        for role in roles
        for part in ("defaults", "vars")
    ]
    written = {"hosts": "localhost", "gather_facts": False, "vars_files": files, "tasks": tasks}
    # Files that all roles share are named from the folder of one.
    role_path = str(CHECKOUT / "roles" / roles[0])
    written["vars"] = {"ansible_python_interpreter": sys.executable, "role_path": role_path}
    (scratch / "play.yml").write_text(yaml.safe_dump([written]))
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", str(scratch / "play.yml")]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def prometheus_answer(folder: Path, data: Path, variables: dict[str, Any]) -> dict[str, Any]:
    """Return a task that writes files and flags of an instance of Prometheus as JSON.

    They are those that the role would deploy with the variables, but for the places: below the
    folder, with samples in `data`.
    """
    usual = f"/var/lib/linmonitor/prometheus-{variables['prometheus_instance']}"
    places = {
        "__prometheus_owned": {"resolved": {usual: str(data)}},
        "__prometheus_config_dir": str(folder),
    }
    files = "__prometheus_secret_files | combine(__prometheus_files)"
    answer = f"{{{{ {{'files': {files}, 'flags': __prometheus_arguments}} | to_json }}}}"
    return {
        "ansible.builtin.copy": {"content": answer, "dest": str(folder / "answer")},
        "vars": variables | places,
    }
