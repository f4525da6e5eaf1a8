#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: file_contents_info
short_description: Read several files at once
version_added: 1.0.0
description:
  - What M(ansible.builtin.slurp) does for one file, for many in one execution. What is not there is
    left out, and so is what is no file.
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  check_mode:
    support: full
    description: It only looks.
  diff_mode:
    support: N/A
    description: It changes nothing.
options:
  paths:
    description: Files, or shell patterns of files.
    type: list
    elements: path
    required: true
"""

EXAMPLES = r"""
- name: Read what others provision # it may hold passwords
  linmonitor.stack.file_contents_info:
    paths: [/etc/grafana/provisioning/datasources/*.yaml, /etc/grafana/grafana.ini]
  no_log: true
  register: provided
"""

RETURN = r"""
contents:
  description: Each file's content in Base64, by its path.
  returned: always
  type: dict
  sample: {/etc/grafana/grafana.ini: W3NlcnZlcl0K}
"""

import base64
import glob
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_native


def read(patterns):
    # type: (list) -> dict
    """Return the contents by path, in the order of the patterns."""
    found = {}
    for pattern in patterns:
        for path in sorted(glob.glob(pattern)):
            if os.path.isfile(path):
                with open(path, "rb") as stream:
                    found[path] = base64.b64encode(stream.read()).decode("ascii")
    return found


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec=dict(paths=dict(type="list", elements="path", required=True)),
        supports_check_mode=True,
    )
    try:
        contents = read(module.params["paths"])
    except OSError as error:
        module.fail_json(msg=to_native(error))
    module.exit_json(changed=False, contents=contents)


if __name__ == "__main__":
    main()
