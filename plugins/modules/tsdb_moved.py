#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tsdb_moved
short_description: Move the database of a stopped Prometheus to another folder and user
version_added: 1.0.0
description:
  - Renames what belongs to the database, entry by entry, and gives it to another user. Nothing is
    copied, so both folders must lie on one file system.
  - What else lies in the folder stays where it is.
  - A run that was cut off is finished by the next. The log goes last, so that until then the old
    place still starts.
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  check_mode:
    support: full
    description: Refuses what would be refused, and says whether there is something to move.
  diff_mode:
    support: none
    description: Databases are not shown.
options:
  src:
    description: Folder that holds the database. One that does not exist holds nothing.
    type: path
    required: true
  dest:
    description:
      - Folder that is to hold it; made where it does not exist.
      - The same folder as O(src) changes only the owner, and must hold nothing else.
    type: path
    required: true
  user:
    description: Who will own it. In check mode the user need not exist.
    type: str
    required: true
  group:
    description: The owner's group.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Move the data
  linmonitor.stack.tsdb_moved:
    src: /var/lib/prometheus
    dest: /var/lib/linmonitor/prometheus
    user: linmonitor-prometheus
    group: linmonitor-prometheus
"""

RETURN = r"""
moved:
  description: Names of the entries that were moved.
  returned: success
  type: list
  elements: str
  sample: [01J8Z3C1V5W7Y9A2B4D6F8H0JK, chunks_head, wal]
"""

import os
import re
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_native
from ansible_collections.linmonitor.stack.plugins.module_utils import _prometheus

BLOCK = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}(\.tmp-for-(creation|deletion))?$")
# In the order in which they go: without its log a database would start empty.
OTHERS = ("snapshots", "chunks_head", "wbl", "wal", _prometheus.DATA_RECORD)
# Made anew at each start.
PASSING = ("lock", "queries.active")


class MoveError(Exception):
    """The database cannot be moved; the message says why."""


def entries(folder):
    """Return the names in a folder that belong to a database, in the order of moving."""
    if not os.path.isdir(folder):
        return []
    names = set(os.listdir(folder))
    return sorted(filter(BLOCK.match, names)) + [name for name in OTHERS if name in names]


def nearest(path):
    """Return the folder that a path is in, or will be made in."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def check(src, dest):
    """Raise MoveError where the database cannot go."""
    if not os.path.isdir(src):
        return
    if src == dest:
        rest = set(os.listdir(src)) - set(entries(src)) - set(PASSING) - {"lost+found"}
        if rest:
            raise MoveError(
                "%s also holds %s, which is not its database's" % (src, sorted(rest)[0])
            )
        return
    names = entries(src)
    if names and os.stat(src).st_dev != os.stat(nearest(dest)).st_dev:
        raise MoveError("%s and %s lie on two file systems" % (src, dest))
    both = [name for name in names if os.path.lexists(os.path.join(dest, name))]
    if both:
        raise MoveError("%s and %s both hold %s" % (src, dest, both[0]))


def give(path, user, group):
    """Give a file or folder with all that is in it to a user."""
    for parent, folders, names in os.walk(path):
        for name in folders + names:
            shutil.chown(os.path.join(parent, name), user, group)
    shutil.chown(path, user, group)


def move(src, dest, user, group):
    """Move the database and return the names that went."""
    if not os.path.isdir(dest):
        os.makedirs(dest)
        os.chmod(dest, 0o750)
    shutil.chown(dest, user, group)
    names = entries(src)
    for name in PASSING:
        path = os.path.join(src, name)
        if os.path.isfile(path):
            os.unlink(path)
    if src != dest:
        for name in names:
            os.rename(os.path.join(src, name), os.path.join(dest, name))
    # All of them: an earlier run may have been cut off before it gave them away.
    for name in entries(dest):
        give(os.path.join(dest, name), user, group)
    return names if src != dest else []


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec=dict(
            src=dict(type="path", required=True),
            dest=dict(type="path", required=True),
            user=dict(type="str", required=True),
            group=dict(type="str", required=True),
        ),
        supports_check_mode=True,
    )
    params = module.params
    src, dest = os.path.realpath(params["src"]), os.path.realpath(params["dest"])
    try:
        check(src, dest)
        if module.check_mode:
            module.exit_json(changed=bool(entries(src)), moved=[])
        moved = move(src, dest, params["user"], params["group"])
    except (MoveError, OSError, LookupError) as error:
        module.fail_json(msg=to_native(error))
    module.exit_json(changed=True, moved=moved)


if __name__ == "__main__":
    main()
