# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take away what is recorded, and nothing else; write down what stays."""

from __future__ import annotations

import contextlib
import copy
import grp
import os
import pwd
import shutil

from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _owned,
    _places,
    _record,
)

LOCAL = ("btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs")


def _remove_empty(folder):
    """Remove a folder; another execution may have, or may have put something into it."""
    with contextlib.suppress(OSError):
        os.rmdir(folder)


class Absent(_record.Owner):
    """A role that leaves."""

    def perform(self):
        """Take away what is recorded."""
        before = copy.deepcopy(self.stored or self.left or {})
        if not before:
            return dict(changed=False, kept=[], record={})
        if self.params["purge"]:
            self._refuse_others_data()
        units = [unit for unit in self.record["units"] if self._unit_is_ours(unit)]
        for unit in units:
            self.act(self.run, "systemctl", "disable", "--now", unit)
        for path, entry in sorted(self.record["files"].items()):
            if os.path.lexists(path) or entry["copy"]:
                self._take_away(path, entry)
        for path in self.record["trees"]:
            if os.path.isdir(path):
                self.act(shutil.rmtree, path)
        in_systemd = any(_places.within(path, _record.UNITS) for path in self.record["files"])
        if in_systemd and not self.module.check_mode:
            self._put_units_back()
        self._remove_data()
        self._remove_folders()
        self._remove_people()
        self._close()
        return dict(changed=self.changed, kept=self.kept, record=before)

    def _unit_is_ours(self, unit):
        path = _owned.resolved(os.path.join(_record.UNITS, unit))
        return path in self.record["files"] and _owned.marked(path)

    def _refuse_others_data(self):
        uids = _owned.uids_of(self.record["users"])
        for path in self.record["data"]:
            reason = ""
            if os.path.isdir(path):
                packaged = self.package(path + "/*")
                found = _places.strangers(path, uids) + ["those of " + packaged] * bool(packaged)
                if _places.too_wide(path):
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
        self.run("systemctl", "daemon-reload")
        for unit, state in self.record["units"].items():
            for verb, wanted in (("enable", "enabled"), ("start", "active")):
                if state and state[wanted] and not self._unit_is_ours(unit):
                    self.run("systemctl", verb, unit)

    def _remove_data(self):
        for path, before in self.record["data"].items():
            if not self.params["purge"] or not os.path.isdir(path):
                continue
            if before is None:
                self.act(shutil.rmtree, path)
                continue
            self.act(_places.empty, path)
            if not self.module.check_mode:
                os.chown(path, before[0], before[1])
                os.chmod(path, before[2])

    def _remove_folders(self):
        for path in sorted(self.record["folders"], key=len, reverse=True):
            if os.path.isdir(path) and not os.listdir(path):
                self.act(_remove_empty, path)

    def _remove_people(self):
        for kind, lookup, option, command in (
            ("users", pwd.getpwnam, "-uid", "userdel"),
            ("groups", grp.getgrnam, "-gid", "groupdel"),
        ):
            for name, made in self.record[kind].items():
                if not made or not _record.exists(lookup, name):
                    continue
                reason = self._in_use(lookup(name)[2], option)
                if reason:
                    self.kept.append(dict(path=name, reason=reason))
                    continue
                self.changed = True
                if not self.module.check_mode:
                    code, _out, err = self.run(command, name)
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
            _code, out, _err = self.run(*command)
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
                self.act(_owned.save, self.left_file, left)
        elif self.left:
            self.act(os.unlink, self.left_file)
        if self.stored is not None:
            self.act(os.unlink, self.record_file)
        for folder in (_owned.INSTALLED, _owned.LEFT, os.path.dirname(_owned.INSTALLED)):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
