#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: packaged_service
short_description: Run the program of a package with a unit and files of our own
version_added: 1.0.0
description:
  - Writes O(unit) and the files, after the program's own checker has looked at them, and starts the
    service afresh where it was started from others. The package's own files stay as they are.
  - A service that does not become ready runs again with the unit and the files of before, and the
    message has the last lines of its journal.
  - What runs is compared with what lies on the disk, so a run that was cut off is finished by the
    next one.
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  check_mode:
    support: full
    description: Says what it would write and do; it may come before the package.
  diff_mode:
    support: partial
    description: Shows files as they are, and of O(secret_files) only what is known to be harmless.
options:
  title:
    description: What messages call the service, with its host.
    type: str
    required: true
  service:
    description: The unit's name; it lies in C(/etc/systemd/system), before that of the package.
    type: str
    required: true
  unit:
    description: What the unit holds.
    type: str
    required: true
  program:
    description: The program that the unit runs.
    type: path
    required: true
  files:
    description: Files to write, by path; everybody may read them.
    type: dict
    default: {}
  secret_files:
    description: Files to write, by path, that root and O(group) alone may read.
    type: dict
    default: {}
  group:
    description: The group of O(secret_files).
    type: str
    default: root
  check:
    description:
      - A command that checks the files before they are written. Words that are paths of files
        become those of drafts, which lie beside each other as the files do.
    type: list
    elements: str
    default: []
  url:
    description: Where the service answers as soon as it is ready.
    type: str
    required: true
  ready:
    description: The path below O(url) that is asked.
    type: str
    default: /-/ready
  start_seconds:
    description: How long the service may take to be ready.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Run node_exporter on loopback
  linmonitor.stack.packaged_service:
    title: node_exporter of web1
    service: prometheus-node-exporter.service
    unit: "{{ lookup('ansible.builtin.template', 'node_exporter.service.j2') }}"
    program: /usr/bin/prometheus-node-exporter
    url: http://127.0.0.1:9100
    ready: /metrics
"""

RETURN = r"""
action:
  description: What was done to the service, or would be; V(started), V(restarted), or nothing.
  returned: always
  type: str
  sample: restarted
written:
  description: Files that were written, or would be.
  returned: always
  type: list
  elements: str
  sample: [/etc/systemd/system/prometheus-node-exporter.service]
"""

import os
import tempfile
import time
from typing import Any, Dict, List, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_native
from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _files,
    _hidden,
    _owned,
    _service,
)
from ansible_collections.linmonitor.stack.plugins.module_utils._service import Ended, Fault

UNITS = "/etc/systemd/system"


class File(NamedTuple):
    """A file as it is to be."""

    path: str
    text: str
    group: str
    mode: str


class Deployment:
    """What one execution does."""

    def __init__(self, module: AnsibleModule) -> None:
        """Take the module's parameters, and look at what is there."""
        self.module = module
        self.params: Dict[str, Any] = module.params
        path = os.path.join(UNITS, self.params["service"])
        self.unit = _service.Unit(self.params["service"], path, module.run_command)
        self.server = _service.Server(
            self.unit, self.params["url"], self.params["start_seconds"], ready=self.params["ready"]
        )
        self.secrets = self.params["secret_files"]
        group = self.params["group"]
        self.files = [File(name, text, group, "0640") for name, text in self.secrets.items()]
        self.files += [
            File(name, text, "root", "0644") for name, text in self.params["files"].items()
        ]
        self.files.append(File(path, self.params["unit"], "root", "0644"))
        self.changes = [file for file in self.files if not self.same(file)]
        self.before = {file.path: _files.present(file.path) for file in self.changes}
        state = self.unit.state()
        self.ran = state.get("ActiveState") in _service.RUNNING
        self.enable = state.get("UnitFileState") != "enabled"

    def same(self, file: File) -> bool:
        """Say whether a file is as it is to be."""
        return _owned.compare(file.path, file.text, "root", file.group, file.mode)[1]

    def check(self) -> None:
        """Let the checker look at drafts of the files; Fault with what it says against them."""
        words = self.params["check"]
        # A check run may come before the package.
        if not self.changes or not words or not os.path.exists(words[0]):
            return
        with tempfile.TemporaryDirectory(dir=self.module.tmpdir) as stage:
            for file in self.files:
                draft = stage + file.path
                os.makedirs(os.path.dirname(draft), exist_ok=True)
                with open(draft, "w", encoding="utf-8") as stream:
                    stream.write(file.text)
            paths = {file.path for file in self.files}
            code, out, err = self.module.run_command(
                [stage + word if word in paths else word for word in words]
            )
        if code != 0:
            said = (out + err).replace(stage, "").strip()
            raise Fault(
                "%s was left as it is, because %s refuses its files:\n%s"
                % (self.params["title"], os.path.basename(words[0]), self.clean(said))
            )

    def clean(self, words: str) -> str:
        """Return words without what only the files may say."""
        return _hidden.without_values_of(words, self.secrets.values())

    def action(self) -> str:
        """Return what has to be done to the service for it to run what is wanted."""
        if not self.ran:
            return "started"
        if self.changes or self.unit.outdated(self.params["program"], self.paths()):
            return "restarted"
        if self.module.check_mode or self.server.ask(self.params["ready"])[0] == 200:
            return ""
        return "restarted"

    def paths(self) -> List[str]:
        """Return what the service reads when it starts."""
        return [file.path for file in self.files]

    def run(self) -> Dict[str, Any]:
        """Run the service with these files, or with those of before."""
        self.check()
        began, action = time.time(), self.action()
        if not self.module.check_mode:
            try:
                self.go(action)
            except (Fault, OSError) as fault:
                raise self.told(fault, began) from fault
        return {
            "changed": bool(self.changes or action or self.enable),
            "action": action,
            "written": [file.path for file in self.changes],
            "diff": [self.difference(file) for file in self.changes],
        }

    def go(self, action: str) -> None:
        """Write what differs and do what has to be done."""
        for file in self.changes:
            _owned.write(file.path, file.text, "root", file.group, file.mode)
        if self.enable:
            self.unit.systemctl("daemon-reload")
            self.unit.systemctl("enable", self.unit.name)
        if action:
            self.server.start()

    def go_back(self) -> str:
        """Put back what was there and run it, if it ran; return what became of that."""
        for path, then in self.before.items():
            _files.put_back(path, then)
        if not self.ran:
            for verb in ("stop", "disable", "reset-failed"):
                self.unit.run(["systemctl", verb, self.unit.name])
            self.unit.run(["systemctl", "daemon-reload"])
            return "It is stopped, as it was before, and the files of before are back."
        if not self.changes:
            return "No file of it was changed."
        self.unit.run(["systemctl", "daemon-reload"])
        self.unit.run(["systemctl", "reset-failed", self.unit.name])
        code, out, err = self.unit.run(["systemctl", "restart", self.unit.name])
        if code != 0:
            return "The files of before are back, but it does not run with them: " + out + err
        return "It runs again with the unit and the files of before."

    def told(self, fault: BaseException, since: float) -> Fault:
        """Go back, and return a fault with what became of the service and what it had said."""
        journal = self.unit.journal(since, isinstance(fault, Ended))
        said = "%s (%s): %s. %s" % (self.params["title"], self.unit.name, fault, self.go_back())
        return Fault(self.clean(said + (" Its journal:\n" + journal if journal else "")))

    def difference(self, file: File) -> Dict[str, str]:
        """Return what --diff shows of a file."""
        before, secret = self.before[file.path], file.path in self.secrets
        return _files.difference(file.path, before, file.text, secret)


def main() -> None:
    """Run the module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "title": text,
            "service": text,
            "unit": text,
            "program": {"type": "path", "required": True},
            "files": {"type": "dict", "default": {}},
            "secret_files": {"type": "dict", "default": {}, "no_log": True},
            "group": {"type": "str", "default": "root"},
            "check": {"type": "list", "elements": "str", "default": []},
            "url": text,
            "ready": {"type": "str", "default": "/-/ready"},
            "start_seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        answer = Deployment(module).run()
    except (Fault, OSError) as fault:
        module.fail_json(msg=to_native(fault))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
