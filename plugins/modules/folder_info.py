#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: folder_info
short_description: Tell where a folder lies, or would lie, and what a service could do with it
version_added: 1.0.0
description:
  - Follows links and looks at the file system, also for a folder that does not exist yet.
attributes:
  check_mode:
    description: Whether the module may run in check mode.
    support: full
    details: The module only looks, so it answers in check mode as it does otherwise.
  diff_mode:
    description: Whether the module shows what it changes.
    support: N/A
    details: The module changes nothing.
  idempotent:
    description: Whether a second run with the same arguments changes nothing.
    support: full
    details: The module changes nothing.
  platform:
    description: Operating systems the module works on.
    platforms: linux
    support: full
options:
  path:
    description: Absolute path of the folder.
    type: path
    required: true
author:
  - The linmonitor.stack maintainers (@linmonitor)
"""

EXAMPLES = r"""
- name: Look at the place of the releases
  linmonitor.stack.folder_info:
    path: /opt/linmonitor
  register: place

- name: Refuse a full disk
  ansible.builtin.assert:
    that: place.free_bytes > 200000000
"""

RETURN = r"""
resolved:
  description: The path without links.
  type: str
  returned: always
  sample: /data/linmonitor
existing:
  description: The folder itself, or the nearest one above it that exists, without links.
  type: str
  returned: always
  sample: /data
is_folder:
  description: Whether RV(existing) is a folder, so that others can be made in it.
  type: bool
  returned: always
closed:
  description: The first folder on the way that other users cannot enter, empty if there is none.
  type: str
  returned: always
  sample: /root
free_bytes:
  description: Room that unprivileged users may fill.
  type: int
  returned: always
noexec:
  description: Whether its file system refuses to run programs.
  type: bool
  returned: always
read_only:
  description: Whether its file system is mounted read-only.
  type: bool
  returned: always
"""

import os
import stat
from pathlib import Path
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule


def look(path: str) -> Dict[str, Any]:
    """Describe a folder as the documentation says."""
    resolved = Path(os.path.realpath(path))
    way = [resolved, *resolved.parents]
    existing = next(place for place in way if place.exists())
    closed = (
        place
        for place in reversed([existing, *existing.parents])
        if place.is_dir() and not place.stat().st_mode & stat.S_IXOTH
    )
    system = os.statvfs(existing)
    return {
        "resolved": str(resolved),
        "existing": str(existing),
        "is_folder": existing.is_dir(),
        "closed": str(next(closed, "")),
        "free_bytes": system.f_bavail * system.f_frsize,
        "noexec": bool(system.f_flag & os.ST_NOEXEC),
        "read_only": bool(system.f_flag & os.ST_RDONLY),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    path = module.params["path"]
    if not path.startswith("/"):
        module.fail_json(msg=f"path: {path} is not absolute")
    module.exit_json(changed=False, **look(path))


if __name__ == "__main__":
    main()
