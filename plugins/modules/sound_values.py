#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sound_values
short_description: Refuse values of a role's variables that nobody can mean
version_added: 1.0.0
description:
  - Stands before everything that changes a host. Says what each wrong value may be instead, and
    which files of the controller that a role reads are not there. Asks no host.
  - What a value may be, beyond its type, stands in C(meta/values.yml) of this collection.
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  action:
    support: full
    description: Decides on the controller.
  check_mode:
    support: full
    description: Changes nothing, so it answers in check mode as it does otherwise.
  diff_mode:
    support: N/A
    description: Changes nothing.
options:
  role:
    description: The role whose variables are looked at.
    type: str
    required: true
  files:
    description: Whether files of the controller that variables name must be there.
    type: bool
    default: true
  faults:
    description:
      - Name of a variable, a list of texts, that says what else is wrong; an empty text is nothing.
      - It is evaluated where every value is sound.
    type: str
  settle:
    description:
      - Names of variables whose values later tasks read from the result, in an order in which each
        is made from those before it. They and what they are made from are evaluated once, where
        Ansible evaluates a variable, and all that it is made from, wherever one is read.
      - They are evaluated before O(faults), which may read them; one that cannot be
        evaluated is a failure of its own only where there are no faults.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Refuse values that cannot be meant
  linmonitor.stack.sound_values:
    role: ebpf_exporter

- name: Refuse what does not fit together too
  linmonitor.stack.sound_values:
    role: ebpf_exporter
    faults: my_faults
  vars:
    my_faults:
      - "{{ 'No program is wanted.' if bpf_programs_enabled | length == 0 else '' }}"

- name: Settle what later tasks read
  linmonitor.stack.sound_values:
    role: ebpf_exporter
    settle: [my_folder]
  register: my_result
  vars:
    my_folder: "{{ ebpf_exporter_root }}/current"

- name: Show it
  ansible.builtin.debug:
    msg: "{{ my_result.settled.my_folder }}"
"""

RETURN = r"""
msg:
  description: The variables that were refused, and what each may be, or the faults.
  returned: on failure
  type: str
settled:
  description: The value of each variable that O(settle) names.
  returned: success
  type: dict
  sample: {my_folder: /opt/linmonitor/current}
"""
