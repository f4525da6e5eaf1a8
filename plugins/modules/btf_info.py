#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: btf_info
short_description: Read the kernel's type information (BTF) and answer questions about it
version_added: 1.0.0
description:
  - Finds and parses BTF, which CO-RE programs need to fit themselves to a kernel.
  - Answers which functions, tracepoint arguments and struct members this kernel has.
  - Needs nothing on the target but Python. A kernel with 126,000 types takes 0.2 s.
  - A file that is absent, truncated or foreign is an answer, RV(valid=false) with RV(reason),
    not a failure.
  - Valid BTF does not prove that a program loads. M(linmonitor.stack.bpf_program_info) can try.
extends_documentation_fragment:
  - linmonitor.stack.info
options:
  path:
    description:
      - A raw BTF file to read instead of the kernel's own C(/sys/kernel/btf/vmlinux).
      - Whether it describes the running kernel is in RV(fits_kernel).
    type: path
  modules:
    description:
      - Names of kernel modules whose BTF is read too, from C(/sys/kernel/btf).
    type: list
    elements: str
    default: []
  functions:
    description: Names of kernel functions to look up.
    type: list
    elements: str
    default: []
  tracepoints:
    description: Names of tracepoints to look up, without their category.
    type: list
    elements: str
    default: []
  members:
    description:
      - Struct or union members to look up, each as C(struct.member).
      - Members of anonymous structs inside count, as they do in C.
    type: list
    elements: str
    default: []
author:
  - The linmonitor.stack maintainers (@linmonitor)
seealso:
  - module: linmonitor.stack.kernel_headers_info
  - module: linmonitor.stack.bpf_program_info
"""

EXAMPLES = r"""
- name: Read the kernel's BTF
  linmonitor.stack.btf_info:
  register: btf

- name: Stop where CO-RE programs cannot work
  ansible.builtin.assert:
    that: btf.valid
    fail_msg: "{{ btf.reason }}"

- name: Ask what a program needs to know
  linmonitor.stack.btf_info:
    functions:
      - tcp_try_rmem_schedule
    tracepoints:
      - block_rq_issue
    members:
      - request.rq_disk
      - tcp_sock.srtt_us
  register: types

- name: Look into a module and check a file meant for the exporter's --btf.path
  linmonitor.stack.btf_info:
    path: /var/lib/btf/vmlinux.btf
    modules:
      - nf_conntrack
"""

RETURN = r"""
file:
  description: The file that was read.
  type: str
  returned: always
  sample: /sys/kernel/btf/vmlinux
present:
  description: Whether the file exists.
  type: bool
  returned: always
valid:
  description: Whether it is BTF this host can use.
  type: bool
  returned: always
reason:
  description: Why it is not valid, empty if it is.
  type: str
  returned: always
  sample: "truncated: string section ends past the 4096 bytes of the file"
size:
  description: Size in bytes, V(0) if nothing could be read.
  type: int
  returned: always
  sample: 5516713
version:
  description: Version of the format, V(null) if not valid.
  type: int
  returned: always
  sample: 1
byte_order:
  description: V(little) or V(big), V(null) if not valid.
  type: str
  returned: always
  sample: little
types:
  description: Number of types, V(0) if not valid.
  type: int
  returned: always
  sample: 126610
fits_kernel:
  description:
    - Whether the file describes the running kernel.
    - >-
      The kernel's own file does. Another one is compared with it, or, on a kernel without BTF,
      with the symbols of C(/proc/kallsyms). V(null) if there is nothing to compare with.
  type: bool
  returned: always
functions:
  description:
    - One entry per name in O(functions).
    - The keys are C(exists) (V(null) if there is no valid BTF) and C(parameters), a list of C(name)
      and C(type).
  type: dict
  returned: always
  sample: {tcp_ack: {exists: true, parameters: [{name: sk, type: "struct sock *"}]}}
tracepoints:
  description:
    - One entry per name in O(tracepoints).
    - The keys are C(exists) (V(null) if there is no valid BTF) and C(arguments), a list of C(name)
      and C(type).
    - Old kernels leave the names empty.
  type: dict
  returned: always
  sample: {block_rq_issue: {exists: true, arguments: [{name: "", type: "struct request *"}]}}
members:
  description:
    - One entry per O(members), with C(exists) (V(null) if there is no valid BTF) and C(type).
  type: dict
  returned: always
  sample: {request.rq_disk: {exists: false, type: null}}
modules:
  description:
    - One entry per name in O(modules), with C(present), C(valid), C(reason), C(size) and C(types),
      its own alone.
  type: dict
  returned: always
  sample: {nf_conntrack: {present: true, valid: true, reason: "", size: 20480, types: 501}}
"""

import re
import sys
from typing import Any, Dict, List, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.linmonitor.stack.plugins.module_utils import _btf, _kernel

OWN = "/sys/kernel/btf/vmlinux"


def load(
    root: str, path: str, base: Optional[_btf.Btf] = None
) -> Tuple[Optional[_btf.Btf], Dict[str, Any]]:
    """Read one file and describe it; the types are None where it is not valid."""
    facts: Dict[str, Any] = {"present": True, "valid": False, "reason": "", "size": 0, "types": 0}
    try:
        data = _btf.read_bytes(_kernel.under(root, path))
        facts["size"] = len(data)
        btf = _btf.Btf(data, base)
    except FileNotFoundError:
        facts.update(present=False, reason=f"{path} does not exist")
        return None, facts
    except (OSError, _btf.BtfError) as error:
        facts["reason"] = f"{path}: {error}" if isinstance(error, _btf.BtfError) else str(error)
        return None, facts
    facts.update(valid=True, types=btf.count - (base.count if base else 0))
    return btf, facts


def fits_kernel(root: str, path: str, btf: Optional[_btf.Btf]) -> Optional[bool]:
    """Say whether the types are the running kernel's."""
    if btf is None or path == OWN:
        return None if btf is None else True
    own = _kernel.under(root, OWN)
    if own.exists():
        return _btf.read_bytes(own) == _btf.read_bytes(_kernel.under(root, path))
    return _btf.fits(btf, _kernel.symbols(root))


def ask(known: List[_btf.Btf], question: str, *names: str) -> Any:
    """Put one question to the kernel and then to its modules; the first answer counts."""
    answers = (getattr(btf, question)(*names) for btf in known)
    return next((answer for answer in answers if answer is not None), None)


def report(params: Dict[str, Any]) -> Dict[str, Any]:
    """Answer everything the module was asked."""
    root, path = params["root"], params["path"] or OWN
    btf, facts = load(root, path)
    known = [btf] if btf else []
    modules = {}
    for name in params["modules"]:
        extra, modules[name] = load(root, f"/sys/kernel/btf/{name}", btf)
        known += [extra] if extra else []

    def signature(question: str, name: str, key: str) -> Dict[str, Any]:
        found = ask(known, question, name)
        return {
            "exists": None if btf is None else found is not None,
            key: [parameter._asdict() for parameter in found or ()],
        }

    members = {}
    for one in params["members"]:
        found = ask(known, "member", *one.split("."))
        members[one] = {"exists": None if btf is None else found is not None, "type": found}
    return dict(
        facts,
        file=path,
        version=1 if btf else None,
        byte_order=sys.byteorder if btf else None,
        fits_kernel=fits_kernel(root, path, btf),
        functions={one: signature("function", one, "parameters") for one in params["functions"]},
        tracepoints={
            one: signature("tracepoint", one, "arguments") for one in params["tracepoints"]
        },
        members=members,
        modules=modules,
    )


def main() -> None:
    """Run the module."""
    names = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "path": {"type": "path"},
            "modules": names,
            "functions": names,
            "tracepoints": names,
            "members": names,
        },
        supports_check_mode=True,
    )
    for one in module.params["members"]:
        if not re.match(r"\w+\.\w+$", one):
            module.fail_json(msg=f"members: '{one}' is not of the form struct.member")
    for one in module.params["modules"]:
        if not re.match(r"\w+$", one):
            module.fail_json(msg=f"modules: '{one}' is not the name of a kernel module")
    module.exit_json(changed=False, **report(module.params))


if __name__ == "__main__":
    main()
