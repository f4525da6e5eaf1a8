#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: owned_files
short_description: Record what a role puts on a host, and take exactly that away
version_added: 1.0.0
description:
  - With O(state=present) a role says what it is about to write. What is there and not ours is
    answered in RV(foreign) and nothing is changed; else the record
    C(/var/lib/linmonitor/installed/NAME.json) is written, before the files, so that a run that is
    cut off leaves nothing that nobody owns. Then O(files) are written; the role writes the others.
  - A file is ours if it is recorded, or carries the line C(Managed by linmonitor.stack) in a
    comment, or is named in O(known).
  - With O(state=absent) what is recorded goes, file by file. Adopted originals come back, with the
    state of their units. Folders go when they are empty, users when nothing runs as them and no
    file is theirs. The record goes last, so that the next run finishes what was cut off.
  - Parents of what is listed that do not exist yet count as made by the role.
  - With a name alone nothing is changed, and the record is told.
  - Another run that is at work on files of the same O(name) is waited for. O(lock) says for how
    long this one keeps others out.
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  check_mode:
    support: full
    description: Says what it would record or remove.
  diff_mode:
    support: partial
    description: >-
      Shows what differs in O(files), but no secrets and no record, and of long files only how many
      lines they have.
options:
  name:
    description: Whose files these are.
    type: str
    required: true
  state:
    description: Whether the role is about to write, or to leave.
    type: str
    default: present
    choices: [present, absent]
  paths:
    description: >-
      Files that carry the marker. One that somebody replaced by a file without it stays when the
      role leaves.
    type: list
    elements: path
    default: []
  unmarked:
    description: Files of formats without comments, and binaries.
    type: list
    elements: path
    default: []
  files:
    description:
      - Files to write, each whole or not at all, and only those that differ.
      - One that lies in none of O(trees) and is not O(unmarked) counts as one of O(paths). Folders
        above it that are missing are made with its owner and group.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where it lies.
        type: path
        required: true
      content:
        description: What it holds, where O(secrets) does not say so.
        type: str
      owner:
        description: Its owner.
        type: str
        default: root
      group:
        description: Its group.
        type: str
        default: root
      mode:
        description: Its mode, in octal digits.
        type: str
        default: "0644"
  secrets:
    description:
      - What those of O(files) hold that nobody may see, by path. It is not shown as a difference,
        and no log of the host has it.
    type: dict
    default: {}
  folders:
    description: Folders that others may use too; only what did not exist counts as made.
    type: list
    elements: path
    default: []
  trees:
    description: Folders that are unpacked whole and removed whole.
    type: list
    elements: path
    default: []
  unpacked:
    description: >-
      Those of O(trees) that M(linmonitor.stack.unpacked_archive) made. Each file of them is
      compared with what was unpacked.
    type: list
    elements: path
    default: []
  data:
    description:
      - Folders of what the service measures. They stay when the role leaves, unless O(purge).
      - One that holds something is ours only if it is recorded or belongs to one of O(users).
        Others' data is never adopted.
    type: list
    elements: path
    default: []
  users:
    description: System users that the role makes where they do not exist.
    type: list
    elements: str
    default: []
  groups:
    description: System groups that the role makes where they do not exist.
    type: list
    elements: str
    default: []
  units:
    description:
      - Units that the role writes to C(/etc/systemd/system), with the marker.
      - A unit of that name in another place of systemd, a drop-in for it or a mask is foreign too.
    type: list
    elements: str
    default: []
  listen:
    description:
      - Addresses (host:port) at which O(units) will listen. Another program there is foreign.
      - The units of O(known) may listen there too.
    type: list
    elements: str
    default: []
  notes:
    description: What else the role must know when it leaves. A value that is recorded stays.
    type: dict
    default: {}
  known:
    description: >-
      Those of the listed paths, users and groups, and units at O(listen), that are ours by a proof
      of the caller's, such as an older deployment that had no record.
    type: list
    elements: str
    default: []
  adopt:
    description: >-
      Replace files that are not ours, after a copy was kept beside each as
      C(PATH.before-linmonitor).
    type: bool
    default: false
  purge:
    description: With O(state=absent), delete the recorded data too.
    type: bool
    default: false
  lock:
    description:
      - V(take) keeps other runs out from here on, V(release) lets them in after this. By default it
        is as before.
      - It ends with the run that took it, as far as the controller of the other one can know it, or
        a quarter of an hour after its last step, or with a boot.
    type: str
    choices: [take, release]
  run:
    description:
      - Which run of a playbook this is, for whoever comes at the same time. The action plugin sets
        it.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Record what will be written
  linmonitor.stack.owned_files:
    name: prometheus
    paths: [/etc/linmonitor/prometheus/prometheus.yml]
    data: [/var/lib/linmonitor/prometheus]
    users: [linmonitor-prometheus]
    units: [linmonitor-prometheus.service]
    adopt: "{{ prometheus_adopt }}"
  register: owned

- name: Refuse what is not ours
  ansible.builtin.assert:
    that: owned.foreign | length == 0

- name: Write it
  linmonitor.stack.owned_files:
    name: prometheus
    files:
      - path: /etc/linmonitor/prometheus/prometheus.yml
        content: "# Managed by linmonitor.stack\n"
        group: linmonitor-prometheus
        mode: "0640"

- name: Take it away and leave the data
  linmonitor.stack.owned_files:
    name: prometheus
    state: absent
"""

RETURN = r"""
foreign:
  description: What is there and not ours; nothing was changed then.
  returned: when state is present
  type: list
  elements: dict
  contains:
    kind:
      description: One of file, tree, data and port.
      type: str
    path:
      description: The file or folder, or the word port with its address.
      type: str
    reason:
      description: Why it is not ours, as the end of a sentence that begins with the path.
      type: str
    package:
      description: The distribution package that it belongs to, or nothing.
      type: str
    adoptable:
      description: Whether O(adopt) would take it.
      type: bool
  sample:
    - {kind: file, path: /etc/a.conf, reason: is there and not ours, package: a, adoptable: true}
written:
  description: Those of O(files) that were written, because they differed.
  returned: when state is present
  type: list
  elements: str
  sample: [/etc/linmonitor/prometheus/prometheus.yml]
missing:
  description: >-
    Those of the listed paths and recorded folders that do not exist yet, and those of O(unpacked)
    that are damaged.
  returned: when state is present
  type: list
  elements: str
  sample: [/etc/linmonitor/prometheus]
resolved:
  description: Where each of O(data) lies after links were followed.
  returned: when state is present
  type: dict
  sample: {/srv/metrics: /mnt/disk/metrics}
other_records:
  description: Names of the other records on the host.
  returned: when state is present
  type: list
  elements: str
  sample: [ebpf_exporter]
record:
  description: >-
    The record, or what it was before it was removed. C(users) and C(groups) say of each name
    whether we made it; C(notes) are the role's. Empty where there is none.
  returned: always
  type: dict
  sample: {files: {/etc/a.conf: {marked: true, copy: null}}, users: {a: true}, notes: {}}
held_by:
  description: >-
    Which other run is at work here, with C(id), C(owner), C(since) and C(ends), so that nothing was
    done. The action plugin waits for its end.
  returned: when there is one
  type: dict
  sample: {id: laptop/4711/9, owner: ada on laptop (process 4711), since: "10:31:02 UTC"}
kept:
  description: What is recorded and was not removed, with the reason.
  returned: when state is absent
  type: list
  elements: dict
  contains:
    path:
      description: The file, folder or user.
      type: str
    reason:
      description: Why it stays.
      type: str
  sample: [{path: linmonitor-prometheus, reason: owns /srv/metrics}]
"""

import contextlib

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_native
from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _lock,
    _record_absent,
    _record_present,
)


def turn(module):
    """Return the lock to work under; asking needs none."""
    params = module.params
    asks = params["state"] == "present" and not any(params[kind] for kind in _record_present.KINDS)
    if module.check_mode or (asks and not params["lock"]):
        return contextlib.nullcontext()
    return _lock.Lock(params["name"], params["run"])


def main():
    """Run the module."""
    lists = dict(type="list", elements="path", default=[])
    names = dict(type="list", elements="str", default=[])
    module = AnsibleModule(
        argument_spec=dict(
            name=dict(type="str", required=True),
            state=dict(type="str", default="present", choices=["present", "absent"]),
            paths=lists,
            unmarked=lists,
            files=dict(
                type="list",
                elements="dict",
                default=[],
                options=dict(
                    path=dict(type="path", required=True),
                    content=dict(type="str"),
                    owner=dict(type="str", default="root"),
                    group=dict(type="str", default="root"),
                    mode=dict(type="str", default="0644"),
                ),
            ),
            # By itself: of a secret within a list Ansible's log masks no more than a single line.
            secrets=dict(type="dict", default={}, no_log=True),
            folders=lists,
            trees=lists,
            unpacked=lists,
            data=lists,
            users=names,
            groups=names,
            units=names,
            listen=names,
            notes=dict(type="dict", default={}),
            known=names,
            adopt=dict(type="bool", default=False),
            purge=dict(type="bool", default=False),
            lock=dict(type="str", choices=["take", "release"]),
            run=dict(type="dict", default={}),
        ),
        supports_check_mode=True,
    )
    secrets = module.params["secrets"]
    for file in module.params["files"]:
        if (file["content"] is None) != (file["path"] in secrets):
            module.fail_json(msg="files: %(path)s has no content, or two of them" % file)
    try:
        with turn(module) as lock:
            absent = module.params["state"] == "absent"
            owner = _record_absent.Absent(module) if absent else _record_present.Present(module)
            answer = owner.perform()
            if lock and module.params["lock"]:
                # Where something is not ours nothing follows.
                lock.stays = module.params["lock"] == "take" and not answer.get("foreign")
    except _lock.Busy as busy:
        module.fail_json(msg=str(busy), held_by=busy.holder)
    except (OSError, ValueError) as error:
        module.fail_json(msg="%s: %s" % (module.params["name"], to_native(error)))
    module.exit_json(diff=owner.diff, **answer)


if __name__ == "__main__":
    main()
