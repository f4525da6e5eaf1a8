#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bpf_program_info
short_description: Tell which BPF programs of a catalogue this host's kernel runs
version_added: 1.0.0
description:
  - Names for each wanted program the variant to use, or the reasons why none works.
  - The forecast comes from the kernel's configuration, BTF, symbols, lockdown and
    perf_event_paranoid, and from the capabilities allowed.
  - The verdict comes from the exporter itself, which loads and attaches each object alone. It is
    read from the service of O(release) if that runs, or handed in as O(verdicts).
  - A verdict, where there is one, outweighs the forecast. Where they differ is in
    RV(disagreements).
extends_documentation_fragment:
  - linmonitor.stack.info
options:
  manifest:
    description:
      - A C(manifest.json) on the target, whose catalogue knows the hooks and maps of each object.
      - Default is the manifest of O(release).
    type: path
  catalogue:
    description:
      - The catalogue itself, handed in by the controller.
      - Where it is not joined with compiled objects, RV(hooks_known) is false and the forecast
        knows less.
    type: dict
  release:
    description:
      - Folder of an unpacked release on the target, whose service or trial gives verdicts.
    type: path
  configs:
    description:
      - Wanted programs, by their names or the names of sets, each once.
      - Default is what O(release) is set to, else the set V(default).
    type: list
    elements: str
  capabilities:
    description: The capabilities that the service may have.
    type: list
    elements: str
    default: [CAP_BPF, CAP_PERFMON]
  verdicts:
    description:
      - What a trial said of each program, as M(linmonitor.stack.ebpf_release) answers it in
        C(programs) with C(state=trial).
    type: dict
author:
  - The linmonitor.stack maintainers (@linmonitor)
seealso:
  - module: linmonitor.stack.btf_info
  - module: linmonitor.stack.ebpf_release
  - module: linmonitor.stack.kernel_headers_info
"""

EXAMPLES = r"""
- name: Forecast before anything is installed
  linmonitor.stack.bpf_program_info:
    catalogue: "{{ (lookup('ansible.builtin.file', 'manifest.json') | from_json).catalogue }}"
    configs:
      - biolatency
      - tcp-rtt
  register: programs

- name: Ask what runs now
  linmonitor.stack.bpf_program_info:
    release: /opt/linmonitor/current

- name: Compare a trial with the forecast
  linmonitor.stack.bpf_program_info:
    catalogue: "{{ (lookup('ansible.builtin.file', 'manifest.json') | from_json).catalogue }}"
    verdicts: "{{ trial.programs }}"

- name: See what one more capability would bring
  linmonitor.stack.bpf_program_info:
    manifest: /opt/linmonitor/current/manifest.json
    configs:
      - default
    capabilities:
      - CAP_BPF
      - CAP_PERFMON
      - CAP_SYS_ADMIN
"""

RETURN = r"""
kernel:
  description: What was looked at.
  type: dict
  returned: always
  contains:
    release:
      description: Release of the running kernel.
      type: str
      returned: always
      sample: 6.1.0-32-amd64
    machine:
      description: Its architecture.
      type: str
      returned: always
      sample: x86_64
    btf:
      description: Whether there is usable BTF.
      type: bool
      returned: always
    btf_reason:
      description: Why there is none, empty if there is.
      type: str
      returned: always
    config_source:
      description: Where its configuration was read, V(null) if nowhere.
      type: str
      returned: always
    lockdown:
      description: V(none), V(integrity), V(confidentiality), or V(null) if the kernel does not say.
      type: str
      returned: always
    perf_event_paranoid:
      description: The value of that setting, V(null) if unreadable.
      type: int
      returned: always
    unprivileged_bpf_disabled:
      description: The value of that setting, V(null) if unreadable.
      type: int
      returned: always
programs:
  description: One entry per wanted program.
  type: dict
  returned: always
  contains:
    variant:
      description:
        - The variant to use, by the verdict or else by the forecast. V(null) if none works.
      type: str
      returned: always
    forecast:
      description: The variant by the forecast alone.
      type: str
      returned: always
    reason:
      description: Why no variant works, empty if one does.
      type: str
      returned: always
    variants:
      description:
        - The variants in order of preference. C(name) is the object's name.
        - C(reasons) say why the forecast refuses it, and are empty if it does not.
        - C(unknown) lists what the host does not tell.
        - C(capabilities) lists what it needs here.
        - C(verdict) is V(runs), V(refused), or V(null) if nobody tried, and C(verdict_reason)
          the exporter's words.
      type: list
      elements: dict
      returned: always
left_out:
  description: The reason for each wanted program that cannot run.
  type: dict
  returned: always
  sample: {tcp-window-clamps: "fentry: this kernel lacks CONFIG_BPF_JIT"}
capabilities:
  description: What the chosen variants need together, within O(capabilities).
  type: list
  elements: str
  returned: always
  sample: [CAP_BPF, CAP_PERFMON]
memlock:
  description: Locked memory that the chosen variants need.
  type: dict
  returned: always
  contains:
    accounted:
      description:
        - Whether the kernel counts maps against RLIMIT_MEMLOCK, as those before 5.11 do.
        - Their service needs C(LimitMEMLOCK=infinity) or C(bytes) and some more.
      type: bool
      returned: always
    bytes:
      description: Estimated memory of their maps, V(null) if the maps are unknown.
      type: int
      returned: always
hooks_known:
  description: Whether the catalogue says which hooks each object uses.
  type: bool
  returned: always
verdict_source:
  description: V(trial) for O(verdicts), V(service) for what the running service chose, or V(null).
  type: str
  returned: always
disagreements:
  description: Variants whose verdict differs from the forecast, as C(program/variant).
  type: list
  elements: str
  returned: always
"""

import json
import re
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _kernel,
    _program,
    _release,
)

SERVICE_CHOICE = "/run/ebpf_exporter/choice.json"


def read_json(path: Path) -> Dict[str, Any]:
    """Read a JSON object, or raise CatalogueError with file and remedy."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise _program.CatalogueError(f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise _program.CatalogueError(f"is not JSON ({error}); deploy the release again") from error
    if not isinstance(content, dict):
        raise _program.CatalogueError("is not a JSON object")
    return content


def service_choice(root: str, release: str, kernel_release: str) -> Dict[str, Any]:
    """Give what the running service chose, if it is this release's on this kernel."""
    choice = _release.read_json(str(_kernel.under(root, SERVICE_CHOICE)))
    ours = (Path(release).resolve().name, kernel_release)
    return choice["configs"] if (choice.get("release"), choice.get("kernel")) == ours else {}


def verdict_on(choice: Optional[Dict[str, Any]], variant: str) -> Tuple[Optional[str], str]:
    """Read what was said about one variant."""
    if choice and choice["variant"] == variant:
        return "runs", ""
    reason = (choice or {"refused": {}})["refused"].get(variant)
    if not reason:
        return None, ""
    # Leave out where the chooser's temporary folder was.
    return "refused", re.sub(r'.* for config "[^"]*": ', "", reason)


def describe(
    entry: Dict[str, Any],
    choice: Optional[Dict[str, Any]],
    kernel: _program.Kernel,
    ceiling: List[str],
) -> Dict[str, Any]:
    """Describe one program: its variants, and which one is to be used."""
    variants = []
    for variant in entry["variants"]:
        expected = _program.forecast(variant, kernel, set(ceiling))
        verdict, words = verdict_on(choice, variant["name"])
        variants.append(
            dict(expected._asdict(), name=variant["name"], verdict=verdict, verdict_reason=words)
        )
    forecast = next((one["name"] for one in variants if not one["reasons"]), None)
    chosen = choice["variant"] if choice else forecast
    # The forecast names the cause, the exporter only what it met.
    reasons = (
        f"{one['name']}: {'; '.join(one['reasons']) or one['verdict_reason']}" for one in variants
    )
    return {
        "variant": chosen,
        "forecast": forecast,
        "reason": "" if chosen else " | ".join(reasons),
        "variants": variants,
    }


def needs(
    catalogue: Dict[str, Any],
    programs: Dict[str, Any],
    kernel: _program.Kernel,
    ceiling: List[str],
) -> Dict[str, Any]:
    """Sum up what the chosen variants need from the service."""
    capabilities, maps, known = set(), [], True
    for config, program in programs.items():
        variants = catalogue["configs"][config]["variants"]
        for described, variant in zip(program["variants"], variants):
            if variant["name"] == program["variant"]:
                capabilities.update(described["capabilities"])
                known = known and "maps" in variant
                maps += variant.get("maps", [])
    return {
        "capabilities": [one for one in ceiling if one in capabilities],
        "memlock": {
            "accounted": kernel.version < (5, 11),
            "bytes": _program.map_bytes(maps, kernel.possible_cpus()) if known else None,
        },
    }


def report(
    catalogue: Dict[str, Any],
    names: List[str],
    choices: Dict[str, Any],
    kernel: _program.Kernel,
    ceiling: List[str],
) -> Dict[str, Any]:
    """Answer for each wanted program and for all of them together."""
    programs = {
        name: describe(catalogue["configs"][name], choices.get(name), kernel, ceiling)
        for name in names
    }
    differing = [
        f"{name}/{one['name']}"
        for name, program in programs.items()
        for one in program["variants"]
        if one["verdict"] and (one["verdict"] == "runs") == bool(one["reasons"])
    ]
    return {
        "kernel": {
            "release": kernel.release,
            "machine": kernel.machine,
            "btf": kernel.btf is not None,
            "btf_reason": kernel.btf_reason,
            "config_source": kernel.config.source,
            "lockdown": kernel.lockdown,
            "perf_event_paranoid": kernel.paranoid,
            "unprivileged_bpf_disabled": _kernel.number(
                kernel.root, "/proc/sys/kernel/unprivileged_bpf_disabled"
            ),
        },
        "programs": programs,
        "left_out": {
            name: program["reason"] for name, program in programs.items() if not program["variant"]
        },
        "hooks_known": all(
            "hooks" in variant
            for name in programs
            for variant in catalogue["configs"][name]["variants"]
        ),
        "disagreements": differing,
        **needs(catalogue, programs, kernel, ceiling),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/"},
            "manifest": {"type": "path"},
            "catalogue": {"type": "dict"},
            "release": {"type": "path"},
            "configs": {"type": "list", "elements": "str"},
            "capabilities": {
                "type": "list",
                "elements": "str",
                "default": ["CAP_BPF", "CAP_PERFMON"],
            },
            "verdicts": {"type": "dict"},
        },
        mutually_exclusive=[("manifest", "catalogue")],
        required_one_of=[("manifest", "catalogue", "release")],
        supports_check_mode=True,
    )
    params = module.params
    root, release = params["root"], params["release"]
    kernel_release = _kernel.release(root)
    if kernel_release is None:
        module.fail_json(msg=f"root: {root} holds no /proc/sys/kernel/osrelease")
        return
    for one in params["capabilities"]:
        if not re.match(r"CAP_[A-Z_]+$", one):
            module.fail_json(msg=f"capabilities: '{one}' is not of the form CAP_NAME")

    place, names = "catalogue", params["configs"]
    try:
        catalogue = params["catalogue"]
        if catalogue is None:
            place = params["manifest"] or f"{release}/manifest.json"
            catalogue = _program.catalogue_of(read_json(Path(place)))
        _program.check(catalogue)
        if names is None and release:
            place = f"{release}/settings.json"
            names = read_json(Path(place)).get("configs")
        place = "configs"
        names = _program.wanted(catalogue, ["default"] if names is None else names)
    except _program.CatalogueError as error:
        module.fail_json(msg=f"{place}: {error}")

    kernel = _program.Kernel(root, kernel_release)
    source, choices = None, {}
    if params["verdicts"]:
        source, choices = "trial", params["verdicts"]
    elif release:
        choices = service_choice(root, release, kernel_release)
        source = "service" if choices else None
    result = report(catalogue, names, choices, kernel, params["capabilities"])
    module.exit_json(changed=False, verdict_source=source, **result)


if __name__ == "__main__":
    main()
