#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_headers_info
short_description: Report the kernel's headers, configuration and pending reboot
version_added: 1.0.0
description:
  - Says whether headers for exactly the running kernel are installed, could be installed from
    the host's repositories, or neither.
  - Reads the kernel's configuration and says what BPF needs of it.
  - Says whether a newer kernel is installed and waits for a reboot.
  - What is absent, from the headers to C(apt-cache) itself, is an answer and not a failure.
extends_documentation_fragment:
  - linmonitor.stack.info
options:
  options:
    description:
      - Kernel options to report besides those that BPF needs, for example V(CONFIG_NETEM).
    type: list
    elements: str
    default: []
notes:
  - Repositories are asked with C(apt-cache), which knows what the last C(apt-get update) saw.
    It is asked for the running host only, never for another O(root).
author:
  - The linmonitor.stack maintainers (@linmonitor)
seealso:
  - module: linmonitor.stack.btf_info
  - module: linmonitor.stack.bpf_program_info
"""

EXAMPLES = r"""
- name: Look at the kernel
  linmonitor.stack.kernel_headers_info:
  register: kernel

- name: Install the headers where there are any
  ansible.builtin.apt:
    name: "{{ kernel.headers.package }}"
  when: kernel.headers.state == 'available'

- name: Say why there are none
  ansible.builtin.debug:
    msg: "{{ kernel.headers.message }}"
  when: kernel.headers.state in ['missing', 'unknown']

- name: Ask for an option that BPF does not need
  linmonitor.stack.kernel_headers_info:
    options:
      - CONFIG_NET_SCH_NETEM
"""

RETURN = r"""
release:
  description: Release of the running kernel, as C(uname -r) prints it.
  type: str
  returned: always
  sample: 6.1.0-32-amd64
machine:
  description: Architecture of the running kernel.
  type: str
  returned: always
  sample: x86_64
container:
  description: Whether the host is a container, which runs another machine's kernel.
  type: bool
  returned: always
headers:
  description: Headers for exactly the running kernel.
  type: dict
  returned: always
  contains:
    state:
      description:
        - V(installed), V(available) from the host's repositories, V(missing) from them, or
          V(unknown) where there is no C(apt-cache) or it has no package lists.
      type: str
      returned: always
    message:
      description: The same as a sentence.
      type: str
      returned: always
    package:
      description: The package that holds them by the naming of Debian and Ubuntu.
      type: str
      returned: always
      sample: linux-headers-6.1.0-32-amd64
    candidate:
      description: The version the repositories offer, V(null) if none.
      type: str
      returned: always
      sample: 6.1.129-1
    build_link:
      description:
        - State of C(/lib/modules/RELEASE/build), V(valid), V(broken) or V(absent).
        - Broken means that it leads nowhere or to a folder without Makefile or configuration.
      type: str
      returned: always
    path:
      description: Where the link leads, V(null) if there is none.
      type: str
      returned: always
      sample: /usr/src/linux-headers-6.1.0-32-amd64
config:
  description: The configuration of the running kernel.
  type: dict
  returned: always
  contains:
    source:
      description: The file it was read from, V(null) if none could be.
      type: str
      returned: always
      sample: /boot/config-6.1.0-32-amd64
    problems:
      description: What was wrong with files that exist and could not be used.
      type: list
      elements: str
      returned: always
    options:
      description:
        - V(present), V(module), V(absent) or V(unknown) for each option BPF needs and each
          of O(options).
      type: dict
      returned: always
      sample: {CONFIG_BPF_SYSCALL: present, CONFIG_KPROBES: absent}
installed_kernels:
  description: Releases of the kernels in C(/boot), oldest first.
  type: list
  elements: str
  returned: always
  sample: [6.1.0-31-amd64, 6.1.0-32-amd64]
reboot_pending:
  description:
    - Whether a kernel newer than the running one is installed.
    - V(null) in a container, whose own kernels are never booted.
  type: bool
  returned: always
"""

import re
from typing import Any, Callable, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.linmonitor.stack.plugins.module_utils import _kernel

MESSAGES = {
    "installed": "headers for {release} are installed in {path}",
    "available": "{package} {candidate} can be installed from the host's repositories",
    "missing": "the host's repositories have no {package}",
    "unknown": "cannot tell whether {package} exists: no apt-cache or no package lists",
}


def headers(root: str, release: str, ask_apt: Callable[[str], Optional[str]]) -> Dict[str, Any]:
    """Look for the headers; `ask_apt` gives apt's words about a package, or None."""
    link, path = _kernel.build_link(root, release)
    package = f"linux-headers-{release}"
    answer = ask_apt(package)
    candidate = _kernel.candidate(answer or "")
    if link == "valid":
        state = "installed"
    elif candidate:
        state = "available"
    else:
        state = "unknown" if answer is None else "missing"
    found = {"package": package, "candidate": candidate, "build_link": link, "path": path}
    return dict(found, state=state, message=MESSAGES[state].format(release=release, **found))


def report(
    root: str, release: str, options: List[str], ask_apt: Callable[[str], Optional[str]]
) -> Dict[str, Any]:
    """Answer everything the module is for."""
    config = _kernel.config(root, release)
    container = _kernel.container(root)
    kernels = _kernel.installed_kernels(root)
    newer = any(_kernel.version(one) > _kernel.version(release) for one in kernels)
    wanted = [*_kernel.BPF_OPTIONS, *options]
    return {
        "release": release,
        "machine": _kernel.machine(root),
        "container": container,
        "headers": headers(root, release, ask_apt),
        "config": {
            "source": config.source,
            "problems": config.problems,
            "options": {one: config.state(one) for one in wanted},
        },
        "installed_kernels": kernels,
        "reboot_pending": None if container else newer,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "options": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    root, options = module.params["root"], module.params["options"]
    for one in options:
        if not re.match(r"CONFIG_\w+$", one):
            module.fail_json(msg=f"options: '{one}' is not of the form CONFIG_NAME")

    def ask_apt(package: str) -> Optional[str]:
        apt_cache = module.get_bin_path("apt-cache")
        if root != "/" or not apt_cache or not _kernel.has_package_lists(root):
            return None
        module.run_command_environ_update = {"LC_ALL": "C"}
        code, answer, _errors = module.run_command([apt_cache, "policy", package])
        return None if code else answer

    release = _kernel.release(root)
    if release is None:
        module.fail_json(msg=f"root: {root} holds no /proc/sys/kernel/osrelease")
        return
    module.exit_json(changed=False, **report(root, release, options, ask_apt))


if __name__ == "__main__":
    main()
