# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with one unit, whose systemd is of words, for modules that run a service."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import _service


class Host:
    """What systemd knows, and what was done to the unit: a text with `fails` in it does not run."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, service: str
    ) -> None:
        """Stand between a module and the systemd of this machine."""
        self.folder, self.done = folder, []
        self.process, self.unit, self.enabled = 0, "", False
        (folder / "units").mkdir()
        self.file = folder / "units" / service
        monkeypatch.setattr(module, "UNITS", str(folder / "units"))
        monkeypatch.setattr(_service, "PAUSE", 0)
        monkeypatch.setattr(_service.Unit, "outdated", lambda *_: self.unit != self.loaded())
        really, host = module.AnsibleModule.run_command, self

        def run_command(module, command, *_arguments, **_options):
            if command[0] in ("systemctl", "journalctl"):
                return 0, host.systemd(*command), ""
            return really(module, command)

        monkeypatch.setattr(module.AnsibleModule, "run_command", run_command)

    def loaded(self) -> str:
        """Return the unit that systemd would start."""
        return self.file.read_text()

    def systemd(self, command: str, *words: str) -> str:
        """Do what a command asks for; return what it prints."""
        if command == "journalctl":
            return "its last words\nMain process exited, code=exited\n"
        if words[0] == "show":
            state = "active" if self.process else "inactive"
            enabled = "enabled" if self.enabled else "disabled"
            return f"ActiveState={state}\nMainPID={self.process}\nUnitFileState={enabled}\n"
        self.done.append(words[0])
        if words[0] == "restart":
            self.unit = self.loaded()
            self.process = 0 if "fails" in self.unit else self.process + 1
        elif words[0] == "stop":
            self.process = 0
        elif words[0] in ("enable", "disable"):
            self.enabled = words[0] == "enable"
        return ""
