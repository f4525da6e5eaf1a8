# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One role's record on a host, and what both of its directions need."""

from __future__ import annotations

import copy
import os

from ansible_collections.linmonitor.stack.plugins.module_utils import _owned

UNITS = "/etc/systemd/system"


def exists(lookup, name):
    """Say whether a user or group exists."""
    try:
        lookup(name)
    except KeyError:
        return False
    return True


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

    def run(self, *command):
        """Run a command; return its status and what it said."""
        return self.module.run_command(list(command), environ_update={"LC_ALL": "C"})

    def act(self, function, *arguments):
        """Do something unless only asked what would be done."""
        self.changed = True
        if not self.module.check_mode:
            function(*arguments)

    def package(self, path):
        """Name the package that a path belongs to, under each spelling that dpkg may know."""
        bare = path[4:] if path.startswith("/usr/") else path
        if self.module.get_bin_path("dpkg-query") is None:
            return ""
        for spelling in sorted({path, os.path.realpath(path), bare, "/usr" + bare}):
            code, out, _err = self.run("dpkg-query", "--search", "--", spelling)
            owners = [line for line in out.splitlines() if not line.startswith("diversion ")]
            if code == 0 and owners:
                return owners[0].split(":")[0]
        return ""
