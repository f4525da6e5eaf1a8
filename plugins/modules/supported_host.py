#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: supported_host
short_description: Refuse a host that a role cannot work on
version_added: 1.0.0
description:
  - The first task of every entry point that changes a host. Fails where Ansible is not root.
  - It asks for the facts that the roles read, afresh, and leaves them behind.
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
  architectures:
    description:
      - Where it is given, the host must also be Debian from 11 or Ubuntu from 22.04 on, or made
        from these, with systemd on one of these architectures, in the words of C(uname -m).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Refuse a host without root
  linmonitor.stack.supported_host:

- name: Refuse a host that this role is not prepared for
  linmonitor.stack.supported_host:
    architectures: [x86_64, aarch64]
"""

RETURN = r"""
ansible_facts:
  description: Architecture, distribution, kernel, service manager and user of the host.
  returned: where the host answers
  type: dict
"""
