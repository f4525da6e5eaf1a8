# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what is there and not ours, record what will be written, and write it."""

from __future__ import annotations

import grp
import os
import pwd

from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _archive,
    _listening,
    _owned,
    _places,
    _record,
)

KINDS = (
    "paths", "unmarked", "files", "folders", "trees", "data", "users", "groups", "units", "notes",
)  # fmt: skip
# A person reads no longer difference.
SHOWN_LINES = 400


def short(text):
    """Return a text, or how long it is where nobody would read it."""
    lines = text.count("\n")
    return text if lines <= SHOWN_LINES else "%s lines\n" % lines


class Present(_record.Owner):
    """A role that writes."""

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
            own = os.path.join(_record.UNITS, unit)
            if _owned.resolved(own) in self.record["files"] or _owned.marked(own):
                continue
            for path in _owned.unit_files(unit):
                yield "file", path, "belongs to a unit %s that is not ours" % unit

    def _tree_faults(self):
        uids = _owned.uids_of(self.params["users"])
        for path in self.params["trees"]:
            yield "tree", path, _places.fault_of_tree(path, uids)
            recorded = os.path.realpath(path) in self.record["trees"]
            if os.path.lexists(path) and not recorded and path not in self.known:
                yield "tree", path, "is there and not ours"

    def _data_faults(self):
        uids = _owned.uids_of(self.params["users"])
        for path in self.params["data"]:
            place = os.path.realpath(path)
            yield "data", path, _places.fault_of_place(path, uids)
            for tree in map(os.path.realpath, self.params["trees"]):
                if _places.within(place, tree) or _places.within(tree, place):
                    yield "data", path, "would share a folder with %s" % tree
            if place not in self.record["data"] and path not in self.known:
                yield "data", path, _places.fault_of_data(path, uids)

    def _fault_of_port(self, address):
        sockets = _listening.listening_sockets(address)
        if not sockets:
            return ""
        holders = _listening.programs(sockets)
        words = [
            "%s (process %s%s)" % (name, process, " of " + unit if unit else "")
            for name, process, unit in holders
            if unit not in self.known and unit not in self.params["units"]
        ]
        if words:
            return "is taken by " + _owned.some(words)
        return "" if holders else "is taken by a program that cannot be seen"

    def _files(self):
        units = [os.path.join(_record.UNITS, unit) for unit in self.params["units"]]
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
            and not any(_places.within(_owned.resolved(path), tree) for tree in trees)
        ]

    def _adopt(self, foreign):
        """Save copies, and the states of units that ours will stand for."""
        files = {_owned.resolved(path) for path in self._files()}
        for entry in foreign:
            if _owned.resolved(entry["path"]) in files:
                self.act(_owned.save_copy, entry["path"])
        for unit in self.params["units"]:
            if not any(entry["path"] in _owned.unit_files(unit) for entry in foreign):
                continue
            _code, out, _err = self.run(
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
                record[kind].setdefault(name, name in known or not _record.exists(lookup, name))
        for unit in params["units"]:
            record["units"].setdefault(unit, None)
        for key, value in params["notes"].items():
            record["notes"].setdefault(key, value)

    def perform(self):
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
            self.act(_owned.save, self.record_file, self.record)
        if self.left:
            self.act(os.unlink, self.left_file)
        answer = self._answer([], self.record)
        for file in self.params["files"]:
            self._write(file)
        return dict(answer, changed=self.changed, written=self.written)

    def _write(self, file):
        """Write one file where it differs, and remember what to show of it."""
        path = file["path"]
        secret = self.params["secrets"].get(path)
        content = file["content"] if secret is None else secret
        before, same = _owned.compare(path, content, file["owner"], file["group"], file["mode"])
        if same:
            return
        self.written.append(path)
        self.act(_owned.write, path, content, file["owner"], file["group"], file["mode"])
        if secret is None and before != content:
            shown = dict(before_header=path, after_header=path)
            self.diff.append(dict(shown, before=short(before), after=short(content)))

    def _answer(self, foreign, record):
        listed = self._files() + self.params["trees"] + self.params["data"]
        listed += self.params["folders"] + record.get("folders", [])
        damaged = [path for path in self.params["unpacked"] if not _archive.whole(path)]
        absent = [path for path in listed if not os.path.lexists(path)]
        return dict(
            changed=self.changed,
            foreign=foreign,
            written=[],
            record=record,
            missing=sorted({*absent, *damaged}),
            resolved={path: os.path.realpath(path) for path in self.params["data"]},
            other_records=_owned.names_but(self.params["name"]),
        )
