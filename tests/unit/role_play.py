# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let Ansible itself evaluate variables of roles: one short play on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
