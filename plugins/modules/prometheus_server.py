#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prometheus_server
short_description: Run a Prometheus with exactly these files, or with those of before
version_added: 1.0.0
description:
  - One execution writes unit, configuration, rules and targets, and starts, restarts or reloads the
    server where that is needed. That is decided by what runs, not by what this execution wrote, so
    a run that was cut off is made good by the next.
  - It restarts where the process is not of the unit and the program on the disk, and reloads where
    the server says that it took its configuration before the files were written, or refused it.
  - C(promtool) of O(home) checks all files together before one of them is written.
  - Where the server does not start, or does not take its configuration, files and unit of before
    come back, and with the unit its flags and its program. The message has the journal's last
    lines.
  - Two executions at once come one after the other.
  - It is the prometheus role's own, so its messages name the role's variables.
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  check_mode:
    support: full
    description: >-
      Says what would change, also on a host that has nothing of ours. Files are checked where
      C(promtool) is there.
  diff_mode:
    support: full
    description: Shows every file.
options:
  host:
    description: What the host is called in messages.
    type: str
    required: true
  service:
    description: Name of the unit, in C(/etc/systemd/system).
    type: str
    required: true
  unit:
    description: Text of the unit. Its server runs O(home)C(/prometheus).
    type: str
    required: true
  home:
    description: Folder of the programs C(prometheus) and C(promtool).
    type: path
    required: true
  config_dir:
    description: Folder of the configuration C(prometheus.yml), which root owns.
    type: path
    required: true
  files:
    description:
      - Texts by path below O(config_dir). C(prometheus.yml) names the others by paths from there.
      - Those below C(targets/) are read by the server as soon as they are written.
    type: dict
    required: true
  data_dir:
    description: Folder of the time series, which O(user) owns.
    type: path
    required: true
  user:
    description: User that the server runs as.
    type: str
    required: true
  group:
    description: Group of the user, which may read the configuration.
    type: str
    required: true
  url:
    description: Where the server answers on the host.
    type: str
    required: true
  start_seconds:
    description:
      - How long a start may take.
      - A server that still replays its log then goes on with it, and the task fails.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Run Prometheus
  linmonitor.stack.prometheus_server:
    host: "{{ inventory_hostname }}"
    service: linmonitor-prometheus.service
    unit: "{{ lookup('ansible.builtin.template', 'prometheus.service.j2') }}"
    home: /opt/linmonitor/prometheus/2.37.8-release
    config_dir: /etc/linmonitor/prometheus
    files:
      prometheus.yml: "{{ lookup('ansible.builtin.template', 'prometheus.yml.j2') }}"
      targets/ebpf_exporter.json: "{{ prometheus_targets | to_nice_json }}"
    data_dir: /var/lib/linmonitor/prometheus
    user: linmonitor-prometheus
    group: linmonitor-prometheus
    url: http://127.0.0.1:9090
"""

RETURN = r"""
action:
  description: >-
    What was done to the server, or would be: V(started), V(restarted), V(reloaded), or nothing.
  returned: always
  type: str
  sample: reloaded
written:
  description: Files and folders that were written, or would be.
  returned: always
  type: list
  elements: str
  sample: [/etc/linmonitor/prometheus/prometheus.yml]
"""

import contextlib
import fcntl
import grp
import os
import pwd
import re
import stat
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible_collections.linmonitor.stack.plugins.module_utils import _address, _prometheus
from ansible_collections.linmonitor.stack.plugins.module_utils._prometheus import (
    Ended,
    Fault,
    Replaying,
)

UNITS = "/etc/systemd/system"
LISTENS = re.compile(r"--web\.listen-address=(\S+)")


class Entry(NamedTuple):
    """A file, or a folder, which has no content."""

    path: str
    content: Optional[bytes]
    owner: Optional[int]
    group: Optional[int]
    mode: int


def number(lookup: Callable, name: str) -> Optional[int]:
    """Return the id of a user or group; there may be none yet where nothing is written."""
    try:
        return lookup(name)[2]
    except KeyError:
        return None


def present(path: str, folder: bool = False) -> Optional[Entry]:
    """Return what is at a path, or nothing."""
    try:
        found = os.stat(path)
        content = None
        if not folder:
            with open(path, "rb") as stream:
                content = stream.read()
    except FileNotFoundError:
        return None
    return Entry(path, content, found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode))


def put(entry: Entry) -> None:
    """Write a file by one rename, or make a folder."""
    if entry.owner is None or entry.group is None:
        raise LookupError(f"There is no user or group yet that {entry.path} could belong to.")
    if entry.content is None:
        os.makedirs(entry.path, exist_ok=True)
        os.chown(entry.path, entry.owner, entry.group)
        os.chmod(entry.path, entry.mode)
        return
    folder, name = os.path.split(os.path.realpath(entry.path))
    descriptor, draft = tempfile.mkstemp(prefix="." + name, dir=folder)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(entry.content)
            os.fchown(descriptor, entry.owner, entry.group)
            os.fchmod(descriptor, entry.mode)
            stream.flush()
            os.fsync(descriptor)
        os.rename(draft, os.path.join(folder, name))
    except BaseException:
        os.unlink(draft)
        raise


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Wait until no other execution is at work, and be the only one; leaves no file behind."""
    folder = os.open(UNITS, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


class Deployment:
    """What one execution does."""

    def __init__(self, module: AnsibleModule) -> None:
        """Take the module's parameters, and look at what is there."""
        self.module = module
        self.params: Dict[str, Any] = module.params
        path = os.path.join(UNITS, self.params["service"])
        self.unit = _prometheus.Unit(self.params["service"], path, module.run_command)
        self.server = self.server_at(self.params["url"])
        self.entries = self.wanted()
        self.before = {e.path: present(e.path, e.content is None) for e in self.entries}
        self.changes = [entry for entry in self.entries if entry != self.before[entry.path]]
        self.state = self.unit.state()
        self.ran = self.state.get("ActiveState") in _prometheus.RUNNING
        self.enable = self.state.get("UnitFileState") != "enabled"
        self.written = False

    def server_at(self, url: str) -> _prometheus.Server:
        """Return the unit's server at a URL."""
        return _prometheus.Server(self.unit, url, self.params["start_seconds"])

    def wanted(self) -> List[Entry]:
        """Return folders and files as they are to be."""
        params, top = self.params, self.params["config_dir"]
        user, group = number(pwd.getpwnam, params["user"]), number(grp.getgrnam, params["group"])
        files = {os.path.join(top, name): text for name, text in params["files"].items()}
        folders = sorted({top} | {os.path.dirname(path) for path in files})
        return [
            *(Entry(folder, None, 0, group, 0o750) for folder in folders),
            Entry(params["data_dir"], None, user, group, 0o750),
            *(Entry(path, to_bytes(text), 0, group, 0o640) for path, text in files.items()),
            Entry(self.unit.path, to_bytes(params["unit"]), 0, 0, 0o644),
        ]

    def read_at_a_reload(self) -> List[str]:
        """Return the files that the server reads when it is told to."""
        names = [name for name in self.params["files"] if not name.startswith("targets/")]
        return [os.path.join(self.params["config_dir"], name) for name in names]

    # --- before anything changes

    def check(self) -> None:
        """Let promtool look at all files together, at a place of their own."""
        promtool = os.path.join(self.params["home"], "promtool")
        # A check run may come before the programs.
        if not self.changes or not os.path.exists(promtool):
            return
        with tempfile.TemporaryDirectory(dir=self.module.tmpdir) as stage:
            for name, text in self.params["files"].items():
                path = os.path.join(stage, name)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as stream:
                    stream.write(to_bytes(text))
            code, out, err = self.module.run_command(
                [promtool, "check", "config", os.path.join(stage, "prometheus.yml")]
            )
        if code != 0:
            words = (err or out).replace(stage, self.params["config_dir"]).splitlines()
            told = [line for line in words if line.strip() and "SUCCESS: " not in line]
            raise Fault(
                "promtool refuses what is to be written to %s, so nothing was changed. Correct the "
                "variable that it comes from (prometheus_rule_files, prometheus_alerts, "
                "prometheus_targets and others):\n%s" % (self.params["host"], "\n".join(told))
            )

    def action(self) -> str:
        """Return what has to be done to the server for it to run what is wanted."""
        changed = {entry.path for entry in self.changes}
        if not self.ran:
            return "started"
        program = os.path.join(self.params["home"], "prometheus")
        if self.unit.path in changed or self.unit.outdated(program):
            return "restarted"
        try:
            if not self.module.check_mode:
                self.server.wait()
        except Replaying:
            raise
        except Fault:
            return "restarted"
        read = self.read_at_a_reload()
        if changed.intersection(read):
            return "reloaded"
        good, taken = self.server.loaded()
        # The time of the inode: files out of a backup have older ones of their own.
        written = max(os.stat(path).st_ctime for path in read)
        return "" if good and written <= taken else "reloaded"

    # --- changing it, and back

    def run(self) -> Dict[str, Any]:
        """Run the server with these files, or with those of before."""
        began = time.time()
        self.check()
        try:
            action = self.action()
        except Fault as fault:
            raise self.told(fault, began, lambda: "Nothing was changed.") from fault
        if not self.module.check_mode:
            try:
                self.go(action)
            except Replaying as fault:
                words = "It goes on with its log; prometheus_start_seconds waits longer."
                raise self.told(fault, began, lambda: words) from fault
            except (Fault, OSError) as fault:
                raise self.told(fault, began, lambda: self.go_back(action)) from fault
        return {
            "changed": bool(self.changes or action or self.enable),
            "action": action,
            "written": [entry.path for entry in self.changes],
            "diff": [self.difference(e) for e in self.changes if e.content is not None],
        }

    def go(self, action: str) -> None:
        """Write what differs and do what has to be done."""
        for entry in self.changes:
            put(entry)
        self.written = True
        if self.enable:
            self.unit.systemctl("daemon-reload")
            self.unit.systemctl("enable", self.unit.name)
        if action == "reloaded":
            self.server.reload()
        elif action:
            self.server.start()

    def go_back(self, action: str) -> str:
        """Put back what was there and run it, if it ran; return what became of that."""
        for entry in self.changes:
            before = self.before[entry.path]
            if present(entry.path, entry.content is None) == before:
                continue  # the disk may have no room to write it again
            if before is not None:
                put(before)
            elif entry.content is not None:
                os.unlink(entry.path)
        try:
            if not self.written:
                return "The files of before are back; the server was left alone."
            if not self.ran:
                self.stop()
                return "It is stopped, as it was before, and the files of before are back."
            if not self.changes:
                return "No file of it was changed."
            if action == "reloaded":
                self.server.reload()
            else:
                self.server_at(self.former_url()).start()
        except Fault as fault:
            return "The files of before are back, but it does not run with them: %s." % fault
        return "It runs again with the unit, the flags, the program and the files of before."

    def stop(self) -> None:
        """Stop a server that did not run before."""
        self.unit.run(["systemctl", "stop", self.unit.name])
        if self.enable:
            self.unit.run(["systemctl", "disable", self.unit.name])
        self.unit.systemctl("daemon-reload")
        self.unit.run(["systemctl", "reset-failed", self.unit.name])

    def former_url(self) -> str:
        """Return where the server answers that the unit of before runs."""
        before = self.before[self.unit.path]
        then = LISTENS.search(to_text(before.content)) if before else None
        now = LISTENS.search(self.params["unit"])
        if then is None or (now and now.group(1) == then.group(1)):
            return self.params["url"]
        return "http://" + str(_address.parse(then.group(1)).own)

    # --- words

    def told(self, fault: BaseException, since: float, way_out: Callable[[], str]) -> Fault:
        """Return a fault with what became of the server and what it said before that."""
        journal = self.unit.journal(since, isinstance(fault, Ended))
        said = "Prometheus of %s (%s): %s." % (self.params["host"], self.unit.name, fault)
        return Fault(said + " " + way_out() + (" Its journal:\n" + journal if journal else ""))

    def difference(self, entry: Entry) -> Dict[str, str]:
        """Return what --diff shows of a file."""
        before = self.before[entry.path]
        return {
            "before_header": entry.path,
            "after_header": entry.path,
            "before": to_text(before.content) if before and before.content is not None else "",
            "after": to_text(entry.content),
        }


def main() -> None:
    """Run the module."""
    text = {"type": "str", "required": True}
    path = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={
            "host": text,
            "service": text,
            "unit": text,
            "home": path,
            "config_dir": path,
            "files": {"type": "dict", "required": True},
            "data_dir": path,
            "user": text,
            "group": text,
            "url": text,
            "start_seconds": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        with only_one():
            answer = Deployment(module).run()
    except (Fault, OSError) as fault:
        module.fail_json(msg=to_text(fault))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
