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
        description: What it holds.
        type: str
      secret:
        description: What it holds, where nobody may see that.
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
  description: Those of the listed paths and recorded folders that do not exist yet.
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
import copy
import grp
import os
import pwd
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_native
from ansible_collections.linmonitor.stack.plugins.module_utils import _owned

UNITS = "/etc/systemd/system"
LOCAL = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs")
KINDS = (
    "paths", "unmarked", "files", "folders", "trees", "data", "users", "groups", "units", "notes",
)  # fmt: skip
# A person reads no longer difference.
SHOWN_LINES = 400


def exists(lookup, name):
    """Say whether a user or group exists."""
    try:
        lookup(name)
    except KeyError:
        return False
    return True


def short(text):
    """Return a text, or how long it is where nobody would read it."""
    lines = text.count("\n")
    return text if lines <= SHOWN_LINES else "%s lines\n" % lines


class Owner:
    """One role's record, and what is done by it."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.record_file = os.path.join(_owned.INSTALLED, self.params["name"] + ".json")
        self.left_file = os.path.join(_owned.LEFT, self.params["name"] + ".json")
        self.stored = _owned.load(self.record_file)
        self.left = _owned.load(self.left_file)
        self.record = copy.deepcopy(self.stored or self.left or _owned.new_record())
        self.known = set(self.params["known"])
        self.changed = False
        self.kept = []
        self.written = []
        self.diff = []

    def _run(self, *command):
        return self.module.run_command(list(command), environ_update={"LC_ALL": "C"})

    def _act(self, function, *arguments):
        """Do something unless only asked what would be done."""
        self.changed = True
        if not self.module.check_mode:
            function(*arguments)

    # --- present

    def package(self, path):
        """Name the package that a path belongs to, under each spelling that dpkg may know."""
        bare = path[4:] if path.startswith("/usr/") else path
        if self.module.get_bin_path("dpkg-query") is None:
            return ""
        for spelling in sorted({path, os.path.realpath(path), bare, "/usr" + bare}):
            code, out, _err = self._run("dpkg-query", "--search", "--", spelling)
            owners = [line for line in out.splitlines() if not line.startswith("diversion ")]
            if code == 0 and owners:
                return owners[0].split(":")[0]
        return ""

    def foreign(self):
        """Return what is there and not ours."""
        found = {}
        faults = [*self._file_faults(), *self._tree_faults(), *self._data_faults()]
        for address in self.params["listen"]:
            faults.append(("port", "port " + address, self._fault_of_port(address)))
        for kind, path, reason in faults:
            if not reason or path in found:
                continue
            place = path + _owned.COPY
            adoptable = kind == "file" and not (os.path.isdir(path) and not os.path.islink(path))
            entry = dict(kind=kind, path=path, reason=reason, adoptable=adoptable)
            if adoptable and os.path.lexists(place) and not _owned.same(path, place):
                entry.update(reason="is not ours, and %s is taken" % place, adoptable=False)
            found[path] = dict(entry, package="" if kind == "port" else self.package(path))
        return [found[path] for path in sorted(found)]

    def _file_faults(self):
        for path in self._files():
            if _owned.resolved(path) not in self.record["files"] and path not in self.known:
                yield "file", path, _owned.fault_of_file(path)
        for unit in self.params["units"]:
            own = os.path.join(UNITS, unit)
            if _owned.resolved(own) in self.record["files"] or _owned.marked(own):
                continue
            for path in _owned.unit_files(unit):
                yield "file", path, "belongs to a unit %s that is not ours" % unit

    def _tree_faults(self):
        uids = _owned.uids_of(self.params["users"])
        for path in self.params["trees"]:
            yield "tree", path, _owned.fault_of_tree(path, uids)
            recorded = os.path.realpath(path) in self.record["trees"]
            if os.path.lexists(path) and not recorded and path not in self.known:
                yield "tree", path, "is there and not ours"

    def _data_faults(self):
        uids = _owned.uids_of(self.params["users"])
        for path in self.params["data"]:
            place = os.path.realpath(path)
            yield "data", path, _owned.fault_of_place(path, uids)
            for tree in map(os.path.realpath, self.params["trees"]):
                if _owned.within(place, tree) or _owned.within(tree, place):
                    yield "data", path, "would share a folder with %s" % tree
            if place not in self.record["data"] and path not in self.known:
                yield "data", path, _owned.fault_of_data(path, uids)

    def _fault_of_port(self, address):
        sockets = _owned.listening_sockets(address)
        if not sockets:
            return ""
        holders = _owned.programs(sockets)
        words = [
            "%s (process %s%s)" % (name, process, " of " + unit if unit else "")
            for name, process, unit in holders
            if unit not in self.known and unit not in self.params["units"]
        ]
        if words:
            return "is taken by " + _owned.some(words)
        return "" if holders else "is taken by a program that cannot be seen"

    def _files(self):
        units = [os.path.join(UNITS, unit) for unit in self.params["units"]]
        return self.params["paths"] + units + self.params["unmarked"] + self._marked_files()

    def _marked_files(self):
        """Return those to write that are recorded one by one."""
        trees = [os.path.realpath(path) for path in self.params["trees"]] + self.record["trees"]
        listed = {_owned.resolved(path) for path in self.params["unmarked"]}
        paths = [file["path"] for file in self.params["files"]]
        return [
            path
            for path in paths
            if _owned.resolved(path) not in listed
            and not any(_owned.within(_owned.resolved(path), tree) for tree in trees)
        ]

    def _adopt(self, foreign):
        """Keep copies, and the states of units that ours will stand for."""
        files = {_owned.resolved(path) for path in self._files()}
        for entry in foreign:
            if _owned.resolved(entry["path"]) in files:
                self._act(_owned.keep_copy, entry["path"])
        for unit in self.params["units"]:
            if not any(entry["path"] in _owned.unit_files(unit) for entry in foreign):
                continue
            _code, out, _err = self._run(
                "systemctl", "show", "--property=ActiveState,UnitFileState", unit
            )
            said = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
            self.record["units"][unit] = dict(
                active=said.get("ActiveState") == "active",
                enabled=said.get("UnitFileState") == "enabled",
            )

    def _note(self, foreign):
        """Join what is listed to the record."""
        record, params, known = self.record, self.params, self.known
        theirs = {_owned.resolved(entry["path"]) for entry in foreign}
        made = {folder for other in _owned.others(params["name"]) for folder in other["folders"]}
        folders = set(record["folders"])
        listed = self._files() + params["folders"] + params["trees"] + params["data"]
        for path in listed:
            folders.update(_owned.missing_parents(_owned.resolved(path)))
            parents = os.path.dirname(_owned.resolved(path)) + "/"
            folders.update(folder for folder in made if parents.startswith(folder + "/"))
        for path in params["folders"]:
            if path in known or path in made or not os.path.exists(path):
                folders.add(os.path.realpath(path))
        record["folders"] = sorted(folders)
        for path in self._files():
            place = _owned.resolved(path)
            saved = place + _owned.COPY if place in theirs else None
            entry = dict(marked=path not in params["unmarked"], copy=saved)
            record["files"].setdefault(place, entry)
        record["trees"] = sorted(set(record["trees"]) | set(map(os.path.realpath, params["trees"])))
        for path in params["data"]:
            place = os.path.realpath(path)
            before = None
            if os.path.isdir(place) and path not in known:
                status = os.stat(place)
                if status.st_uid not in _owned.uids_of(params["users"]):
                    before = [status.st_uid, status.st_gid, status.st_mode & 0o7777]
            record["data"].setdefault(place, before)
        for kind, lookup in (("users", pwd.getpwnam), ("groups", grp.getgrnam)):
            for name in params[kind]:
                record[kind].setdefault(name, name in known or not exists(lookup, name))
        for unit in params["units"]:
            record["units"].setdefault(unit, None)
        for key, value in params["notes"].items():
            record["notes"].setdefault(key, value)

    def present(self):
        """Answer what is foreign, or record what will be written."""
        if not any(self.params[kind] for kind in KINDS):
            return self._answer([], self.stored or {})
        foreign = self.foreign()
        adopt = self.params["adopt"]
        if foreign and not (adopt and all(entry["adoptable"] for entry in foreign)):
            return self._answer(foreign, self.stored or {})
        self._adopt(foreign)
        self._note(foreign)
        if self.record != self.stored:
            self._act(_owned.save, self.record_file, self.record)
        if self.left:
            self._act(os.unlink, self.left_file)
        answer = self._answer([], self.record)
        for file in self.params["files"]:
            self._write(file)
        return dict(answer, changed=self.changed, written=self.written)

    def _write(self, file):
        """Write one file where it differs, and remember what to show of it."""
        path = file["path"]
        content = file["content"] if file["secret"] is None else file["secret"]
        before, same = _owned.compare(path, content, file["owner"], file["group"], file["mode"])
        if same:
            return
        self.written.append(path)
        self._act(_owned.write, path, content, file["owner"], file["group"], file["mode"])
        if file["secret"] is None and before != content:
            shown = dict(before_header=path, after_header=path)
            self.diff.append(dict(shown, before=short(before), after=short(content)))

    def _answer(self, foreign, record):
        listed = self._files() + self.params["trees"] + self.params["data"]
        listed += self.params["folders"] + record.get("folders", [])
        return dict(
            changed=self.changed,
            foreign=foreign,
            written=[],
            record=record,
            missing=sorted({path for path in listed if not os.path.lexists(path)}),
            resolved={path: os.path.realpath(path) for path in self.params["data"]},
            other_records=_owned.names_but(self.params["name"]),
        )

    # --- absent

    def absent(self):
        """Take away what is recorded."""
        before = copy.deepcopy(self.stored or self.left or {})
        if not before:
            return dict(changed=False, kept=[], record={})
        if self.params["purge"]:
            self._refuse_others_data()
        units = [unit for unit in self.record["units"] if self._unit_is_ours(unit)]
        for unit in units:
            self._act(self._run, "systemctl", "disable", "--now", unit)
        for path, entry in sorted(self.record["files"].items()):
            if os.path.lexists(path) or entry["copy"]:
                self._take_away(path, entry)
        for path in self.record["trees"]:
            if os.path.isdir(path):
                self._act(shutil.rmtree, path)
        in_systemd = any(_owned.within(path, UNITS) for path in self.record["files"])
        if in_systemd and not self.module.check_mode:
            self._put_units_back()
        self._remove_data()
        self._remove_folders()
        self._remove_people()
        self._close()
        return dict(changed=self.changed, kept=self.kept, record=before)

    def _unit_is_ours(self, unit):
        path = _owned.resolved(os.path.join(UNITS, unit))
        return path in self.record["files"] and _owned.marked(path)

    def _refuse_others_data(self):
        uids = _owned.uids_of(self.record["users"])
        for path in self.record["data"]:
            reason = ""
            if os.path.isdir(path):
                packaged = self.package(path + "/*")
                found = _owned.strangers(path, uids) + ["those of " + packaged] * bool(packaged)
                if _owned.too_wide(path):
                    reason = "is a folder that others use"
                elif found:
                    reason = "holds files of others: %s" % _owned.some(found)
            if reason:
                self.module.fail_json(
                    msg="%s %s. Nothing was removed; delete by hand what you do not need."
                    % (path, reason)
                )

    def _take_away(self, path, entry):
        if self.module.check_mode:
            self.changed = True
            return
        there = os.path.lexists(path)
        reason = _owned.take_away(path, entry)
        if reason:
            self.kept.append(dict(path=path, reason=reason))
        else:
            self.changed = self.changed or there

    def _put_units_back(self):
        self._run("systemctl", "daemon-reload")
        for unit, state in self.record["units"].items():
            for verb, wanted in (("enable", "enabled"), ("start", "active")):
                if state and state[wanted] and not self._unit_is_ours(unit):
                    self._run("systemctl", verb, unit)

    def _remove_data(self):
        for path, before in self.record["data"].items():
            if not self.params["purge"] or not os.path.isdir(path):
                continue
            if before is None:
                self._act(shutil.rmtree, path)
                continue
            self._act(_owned.empty, path)
            if not self.module.check_mode:
                os.chown(path, before[0], before[1])
                os.chmod(path, before[2])

    def _remove_folders(self):
        for path in sorted(self.record["folders"], key=len, reverse=True):
            if os.path.isdir(path) and not os.listdir(path):
                self._act(os.rmdir, path)

    def _remove_people(self):
        for kind, lookup, option, command in (
            ("users", pwd.getpwnam, "-uid", "userdel"),
            ("groups", grp.getgrnam, "-gid", "groupdel"),
        ):
            for name, made in self.record[kind].items():
                if not made or not exists(lookup, name):
                    continue
                reason = self._in_use(lookup(name)[2], option)
                if reason:
                    self.kept.append(dict(path=name, reason=reason))
                    continue
                self.changed = True
                if not self.module.check_mode:
                    code, _out, err = self._run(command, name)
                    # Where the last user goes, login.defs may let its group go with it.
                    if code != 0:
                        self.module.fail_json(msg="%s %s: %s" % (command, name, err.strip()))

    def _in_use(self, number, option):
        """Return what still needs a user or group, or nothing."""
        if option == "-gid":
            members = [user.pw_name for user in pwd.getpwall() if user.pw_gid == number]
            members += grp.getgrgid(number).gr_mem
            if members:
                return "is a group of %s" % _owned.some(members)
        else:
            units = _owned.units_as(pwd.getpwuid(number).pw_name)
            if units:
                return "runs %s" % _owned.some(units)
            for process in filter(str.isdigit, os.listdir("/proc")):
                try:
                    if os.stat("/proc/" + process).st_uid == number:
                        return "process %s runs as it" % process
                except OSError:
                    continue
        with open("/proc/self/mounts") as stream:
            mounts = [line.split()[1:3] for line in stream]
        tops = [place.encode().decode("unicode_escape") for place, kind in mounts if kind in LOCAL]
        # Data first: that is where it usually is.
        for top in [*self.record["data"], *tops]:
            if not os.path.isdir(top):
                continue
            command = ["find", top, "-xdev", option, str(number), "-print", "-quit"]
            _code, out, _err = self._run(*command)
            if out.strip():
                return "owns %s" % out.strip()
        return ""

    def _close(self):
        """Remove the record, after what outlasts it was written down."""
        left = _owned.new_record()
        stay = {entry["path"] for entry in self.kept}
        for path, before in self.record["data"].items():
            if os.path.isdir(path) and not self.params["purge"]:
                left["data"][path] = before
                above = [top for top in self.record["folders"] if path.startswith(top + "/")]
                left["folders"] = sorted(set(left["folders"]) | set(above))
        for kind in ("users", "groups"):
            for name, made in self.record[kind].items():
                if left["data"] or name in stay:
                    left[kind][name] = made
        if self.module.check_mode:
            self.changed = self.changed or self.stored is not None
            return
        if left["data"] or left["users"] or left["groups"]:
            if left != self.left:
                self._act(_owned.save, self.left_file, left)
        elif self.left:
            self._act(os.unlink, self.left_file)
        if self.stored is not None:
            self._act(os.unlink, self.record_file)
        for folder in (_owned.INSTALLED, _owned.LEFT, os.path.dirname(_owned.INSTALLED)):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


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
                    secret=dict(type="str", no_log=True),
                    owner=dict(type="str", default="root"),
                    group=dict(type="str", default="root"),
                    mode=dict(type="str", default="0644"),
                ),
                required_one_of=[("content", "secret")],
                mutually_exclusive=[("content", "secret")],
            ),
            folders=lists,
            trees=lists,
            data=lists,
            users=names,
            groups=names,
            units=names,
            listen=names,
            notes=dict(type="dict", default={}),
            known=names,
            adopt=dict(type="bool", default=False),
            purge=dict(type="bool", default=False),
        ),
        supports_check_mode=True,
    )
    try:
        owner = Owner(module)
        answer = owner.absent() if module.params["state"] == "absent" else owner.present()
    except (OSError, ValueError) as error:
        module.fail_json(msg="%s: %s" % (module.params["name"], to_native(error)))
    module.exit_json(diff=owner.diff, **answer)


if __name__ == "__main__":
    main()
