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
  - Before one of them is written, C(promtool) of O(home) checks all files together, and
    C(prometheus) whether it takes its O(arguments).
  - Where the server does not start, or does not take its configuration, files and unit of before
    come back, and with the unit its flags and its program. The message has the journal's last
    lines.
  - O(data_dir) keeps, in C(linmonitor-version.json), which version wrote its data in a form that
    older ones do not read. One that cannot read it is refused before anything changes.
  - Another run that is at work on the Prometheus of the host is waited for; with success this one
    lets go of the lock that M(linmonitor.stack.owned_files) took for it.
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
    description: Shows every file; of O(secret_files) only values that are known to be harmless.
options:
  host:
    description: What the host is called in messages.
    type: str
    required: true
  record:
    description: Whose files M(linmonitor.stack.owned_files) recorded and locked.
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
  version:
    description: Version of the programs.
    type: str
    required: true
  data_since:
    description: The oldest version that reads what this O(version) writes.
    type: str
    required: true
  home:
    description: Folder of the programs C(prometheus) and C(promtool).
    type: path
    required: true
  arguments:
    description: What O(unit) starts it with, C(--config.file) among it.
    type: list
    elements: str
    required: true
  config_dir:
    description: Folder of the configuration C(prometheus.yml), which root owns.
    type: path
    required: true
  files:
    description:
      - Texts by path below O(config_dir).
      - Those below C(targets/) are read by the server as soon as they are written.
    type: dict
    required: true
  secret_files:
    description:
      - The same for what can hold secrets, with one value on a line at most.
      - C(prometheus.yml) is the configuration, which names others by paths from there, and
        C(web.yml) its web configuration.
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
    description: Where the server answers on the host; O(unit) has a line C(# Answers at URL).
    type: str
    required: true
  web_users:
    description:
      - Passwords by the names of who may ask the server. C(web.yml) gets their hashes, which stay
        while the passwords do.
      - The first is who this module asks as.
    type: dict
    default: {}
  start_seconds:
    description:
      - How long a start may take.
      - A server that still replays its log then goes on with it, and the task fails.
    type: int
    default: 120
  run:
    description:
      - Which run of a playbook this is, for whoever comes at the same time. The action plugin sets
        it.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Run Prometheus
  linmonitor.stack.prometheus_server:
    host: "{{ inventory_hostname }}"
    record: prometheus
    service: linmonitor-prometheus.service
    unit: "{{ lookup('ansible.builtin.template', 'prometheus.service.j2') }}"
    version: 2.37.8
    data_since: "2.32"
    home: /opt/linmonitor/prometheus/2.37.8-release
    arguments:
      - --config.file=/etc/linmonitor/prometheus/prometheus.yml
      - --storage.tsdb.path=/var/lib/linmonitor/prometheus
    config_dir: /etc/linmonitor/prometheus
    files:
      targets/ebpf_exporter.json: "{{ prometheus_targets | to_nice_json }}"
    secret_files:
      prometheus.yml: "{{ lookup('ansible.builtin.template', 'prometheus.yml.j2') }}"
      web.yml: ""
    web_users:
      admin: "{{ vault_password }}"
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
held_by:
  description: >-
    Which other run is at work here, with C(id), C(owner), C(since) and C(ends), so that nothing was
    done. The action plugin waits for its end.
  returned: when there is one
  type: dict
  sample: {id: laptop/4711/9, owner: ada on laptop (process 4711), since: "10:31:02 UTC"}
"""

import contextlib
import grp
import json
import os
import pwd
import re
import tempfile
import time
from typing import Any, Callable, ContextManager, Dict, List, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _bcrypt,
    _files,
    _hidden,
    _lock,
    _prometheus,
    _service,
)
from ansible_collections.linmonitor.stack.plugins.module_utils._files import Entry
from ansible_collections.linmonitor.stack.plugins.module_utils._service import (
    Ended,
    Fault,
    Replaying,
)

UNITS = "/etc/systemd/system"
ANSWERS = re.compile(r"^# Answers at (\S+)$", re.MULTILINE)
FILE_VARIABLES = (
    "prometheus_config, prometheus_scrape_configs, prometheus_web_config, prometheus_rule_files, "
    "prometheus_alerts and others"
)
FLAG_VARIABLES = "prometheus_flags, prometheus_retention_time and others"
USER = re.compile(r"^  (\".+\"): (\S+)$", re.MULTILINE)
# What a program that only says what it thinks of its flags may take.
TRIAL_SECONDS = "60"


def number(lookup: Callable, name: str) -> Optional[int]:
    """Return the id of a user or group; there may be none yet where nothing is written."""
    try:
        return lookup(name)[2]
    except KeyError:
        return None


class Deployment:
    """What one execution does."""

    def __init__(self, module: AnsibleModule) -> None:
        """Take the module's parameters, and look at what is there."""
        self.module = module
        self.params: Dict[str, Any] = module.params
        path = os.path.join(UNITS, self.params["service"])
        self.unit = _service.Unit(self.params["service"], path, module.run_command)
        self.secret_files = dict(self.params["secret_files"])
        if self.params["web_users"]:
            self.secret_files["web.yml"] += self.users()
        self.files = {**self.params["files"], **self.secret_files}
        self.login = next(iter(self.params["web_users"].items()), None)
        self.server = self.server_at(self.params["url"], self.login)
        self.data_record = os.path.join(self.params["data_dir"], _prometheus.DATA_RECORD)
        self.written_by = self.read_data_record()
        self.entries = self.wanted()
        self.before = {e.path: _files.present(e.path, e.content is None) for e in self.entries}
        self.changes = [entry for entry in self.entries if entry != self.before[entry.path]]
        self.state = self.unit.state()
        self.ran = self.state.get("ActiveState") in _service.RUNNING
        self.enable = self.state.get("UnitFileState") != "enabled"
        self.written = False

    def server_at(self, url: str, login: Optional[Tuple[str, str]]) -> _prometheus.Server:
        """Return the unit's server at a URL, as somebody knows it."""
        return _prometheus.Server(self.unit, url, self.params["start_seconds"], login)

    def users(self) -> str:
        """Return the users of web.yml with their hashes; those of before stay if they are right."""
        before = _files.present(os.path.join(self.params["config_dir"], "web.yml"))
        known = dict(USER.findall(to_text(before.content)) if before else [])
        lines = ["basic_auth_users:"]
        for name, password in self.params["web_users"].items():
            key = json.dumps(name)
            lines.append("  %s: %s" % (key, _bcrypt.hashed(password, known.get(key, ""))))
        return "\n".join(lines) + "\n"

    def wanted(self) -> List[Entry]:
        """Return folders and files as they are to be."""
        params, top = self.params, self.params["config_dir"]
        user, group = number(pwd.getpwnam, params["user"]), number(grp.getgrnam, params["group"])
        files = {os.path.join(top, name): text for name, text in self.files.items()}
        folders = sorted({top} | {os.path.dirname(path) for path in files})
        data = [Entry(params["data_dir"], None, user, group, 0o750)]
        if not self.agent():
            text = json.dumps(self.to_be_written_by(), sort_keys=True) + "\n"
            data.append(Entry(self.data_record, to_bytes(text), user, group, 0o640))
        return [
            *(Entry(folder, None, 0, group, 0o750) for folder in folders),
            *data,
            *(Entry(path, to_bytes(text), 0, group, 0o640) for path, text in files.items()),
            Entry(self.unit.path, to_bytes(params["unit"]), 0, 0, 0o644),
        ]

    def read_at_a_reload(self) -> List[str]:
        """Return the files that the server reads when it is told to."""
        names = [name for name in self.files if not name.startswith("targets/")]
        return [os.path.join(self.params["config_dir"], name) for name in names]

    # --- before anything changes

    def read_data_record(self) -> Dict[str, str]:
        """Return which version wrote the data, and since which one they can be read.

        Prometheus' own files do not tell: blocks and log of 2.37 and 3.5 have the same numbers of
        their formats. Beside the data, because it goes where they go.
        """
        found = _files.present(self.data_record)
        nothing = {"version": "", "data_since": ""}
        return json.loads(to_text(found.content)) if found else nothing

    def to_be_written_by(self) -> Dict[str, str]:
        """Return the record as it is to be: the newest form that was ever written stays."""
        wanted = {name: self.params[name] for name in ("version", "data_since")}
        known = _prometheus.numbers(self.written_by["data_since"])
        return self.written_by if known >= _prometheus.numbers(wanted["data_since"]) else wanted

    def check_data(self) -> None:
        """Refuse a version that cannot read what is there."""
        since, version = self.written_by["data_since"], self.params["version"]
        if self.agent() or _prometheus.numbers(version) >= _prometheus.numbers(since):
            return
        raise Fault(
            "The data of %s in %s were written by Prometheus %s and can be read from %s on; "
            "prometheus_version is %s. Nothing was changed. Set prometheus_version to %s or newer, "
            "or prometheus_data_dir to another folder, where samples begin anew. Or put a copy of "
            "the data from before %s in their place, without %s."
            % (
                self.params["host"], self.params["data_dir"], self.written_by["version"], since,
                version, since, self.written_by["version"], _prometheus.DATA_RECORD,
            )
        )  # fmt: skip

    def check(self) -> None:
        """Let the programs say what they think of files and flags, at a place of their own."""
        # A check run may come before the programs.
        if not self.changes or not os.path.exists(os.path.join(self.params["home"], "promtool")):
            return
        with tempfile.TemporaryDirectory(dir=self.module.tmpdir) as stage:
            self.stage(stage)
            mode = ["--agent"] if self.agent() else []
            self.check_with(stage, "config", *mode, os.path.join(stage, "prometheus.yml"))
            self.check_with(stage, "web-config", os.path.join(stage, "web.yml"))
            self.check_flags(os.path.join(stage, "absent"))

    def stage(self, stage: str) -> None:
        """Write the files to be, beside whatever else lies in the folder of the configuration."""
        for name, text in self.files.items():
            path = os.path.join(stage, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as stream:
                stream.write(to_bytes(text))
        top = self.params["config_dir"]
        for name in os.listdir(top) if os.path.isdir(top) else []:
            if not os.path.exists(os.path.join(stage, name)):
                os.symlink(os.path.join(top, name), os.path.join(stage, name))

    def agent(self) -> bool:
        """Say whether it is to run as an agent."""
        return any(word.startswith("--storage.agent.path=") for word in self.params["arguments"])

    def check_with(self, stage: str, *words: str) -> None:
        """Let promtool check a file; Fault with what it says against it."""
        promtool = os.path.join(self.params["home"], "promtool")
        code, out, err = self.module.run_command([promtool, "check", *words])
        if code != 0:
            said = (err or out).replace(stage, self.params["config_dir"]).splitlines()
            told = [line for line in said if line.strip() and "SUCCESS" not in line]
            raise self.refused("promtool refuses what is to be written to", FILE_VARIABLES, told)

    def check_flags(self, absent: str) -> None:
        """Let the program read its flags; it ends at a configuration that is not there."""
        words = [w for w in self.params["arguments"] if not w.startswith("--config.file=")]
        program = os.path.join(self.params["home"], "prometheus")
        command = ["timeout", TRIAL_SECONDS, program, *words, "--config.file=" + absent]
        _code, out, err = self.module.run_command(command)
        if absent not in out + err:
            # After a wrong flag it prints all of its help, which is indented.
            said = [line for line in (err or out).splitlines() if line and line[0] not in " \t"]
            told = said[: said.index("Flags:")] if "Flags:" in said else said
            raise self.refused("prometheus does not take the flags for", FLAG_VARIABLES, told)

    def refused(self, what: str, variables: str, words: List[str]) -> Fault:
        """Return a fault with a program's words."""
        return Fault(
            "%s %s, so nothing was changed. Correct the variable that it comes from (%s):\n%s"
            % (what, self.params["host"], variables, self.clean("\n".join(words)))
        )

    def clean(self, words: str) -> str:
        """Return words without what only the files may say."""
        return _hidden.without_values_of(words, self.secret_files.values())

    def action(self) -> str:
        """Return what has to be done to the server for it to run what is wanted."""
        changed = {entry.path for entry in self.changes}
        if not self.ran:
            return "started"
        program = os.path.join(self.params["home"], "prometheus")
        if self.unit.path in changed or self.unit.outdated(program):
            return "restarted"
        read = self.read_at_a_reload()
        will_be_read = bool(changed.intersection(read))
        try:
            if not self.module.check_mode:
                # Who may ask can be what changes.
                login = None if will_be_read else self.login
                self.server_at(self.params["url"], login).wait()
        except Replaying:
            raise
        except Fault:
            return "restarted"
        if will_be_read:
            return "reloaded"
        good, taken = self.server.loaded()
        # The time of the inode: files out of a backup have older ones of their own.
        written = max(os.stat(path).st_ctime for path in read)
        return "" if good and written <= taken else "reloaded"

    # --- changing it, and back

    def run(self) -> Dict[str, Any]:
        """Run the server with these files, or with those of before."""
        began = time.time()
        self.check_data()
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
            _files.put(entry)
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
            _files.put_back(entry.path, self.before[entry.path], entry.content is None)
        try:
            if not self.written:
                return "The files of before are back; the server was left alone."
            if not self.ran:
                self.stop()
                return "It is stopped, as it was before, and the files of before are back."
            if not self.changes:
                return "No file of it was changed."
            if action == "reloaded":
                self.unit.systemctl("reload", self.unit.name)
                self.server_at(self.params["url"], None).wait()
            else:
                self.server_at(self.former_url(), None).start()
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
        then = ANSWERS.search(to_text(before.content)) if before else None
        return then.group(1) if then else self.params["url"]

    # --- words

    def told(self, fault: BaseException, since: float, way_out: Callable[[], str]) -> Fault:
        """Return a fault with what became of the server and what it said before that."""
        journal = self.unit.journal(since, isinstance(fault, Ended))
        said = "Prometheus of %s (%s): %s." % (self.params["host"], self.unit.name, fault)
        said += " " + way_out() + (" Its journal:\n" + journal if journal else "")
        return Fault(self.clean(said))

    def difference(self, entry: Entry) -> Dict[str, str]:
        """Return what --diff shows of a file."""
        secret = os.path.relpath(entry.path, self.params["config_dir"]) in self.secret_files
        before, text = self.before[entry.path], to_text(entry.content)
        return _files.difference(entry.path, before, text, secret)


def turn(module: AnsibleModule) -> ContextManager[Optional[_lock.Lock]]:
    """Return the lock to work under; looking needs none."""
    return (
        contextlib.nullcontext()
        if module.check_mode
        else _lock.Lock(module.params["record"], module.params["run"])
    )


def main() -> None:
    """Run the module."""
    text = {"type": "str", "required": True}
    path = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={
            "host": text,
            "record": text,
            "service": text,
            "unit": text,
            "version": text,
            "data_since": text,
            "home": path,
            "arguments": {"type": "list", "elements": "str", "required": True},
            "config_dir": path,
            "files": {"type": "dict", "required": True},
            "secret_files": {"type": "dict", "required": True, "no_log": True},
            "data_dir": path,
            "user": text,
            "group": text,
            "url": text,
            "web_users": {"type": "dict", "default": {}, "no_log": True},
            "start_seconds": {"type": "int", "default": 120},
            "run": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    try:
        with turn(module) as lock:
            if lock:
                # The role ends with this, well or not.
                lock.stays = False
            answer = Deployment(module).run()
    except _lock.Busy as busy:
        module.fail_json(msg=str(busy), held_by=busy.holder)
    except (Fault, OSError) as fault:
        module.fail_json(msg=to_text(fault))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
