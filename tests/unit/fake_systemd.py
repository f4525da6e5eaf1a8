# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host for ebpf_release: folders below a temporary one, and a systemd and an exporter of words.

What an artifact's exporter does is written into its file: `sound`, `refused` by the trial, `sick`
once it runs, or `nothing`, because the kernel runs no program of it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _listening,
    _owned,
    _places,
    _release,
    _release_checks,
    _release_unit,
)
from ansible_collections.linmonitor.stack.plugins.modules import ebpf_release
from catalogues import CATALOGUE
from hosts import HOSTS, put

MARKED = "# Managed by linmonitor.stack\n"
THEIRS = "[Service]\nExecStart=/usr/local/bin/their_exporter\n"
MANIFEST = {"format": 2, "catalogue": CATALOGUE}


class Killed(BaseException):
    """The process is no more: nothing after it happens, not even what cleans up."""


def address_of(socket: str) -> str:
    """Return where a socket unit listens."""
    return socket.partition("ListenStream=")[2].strip()


class Machine:
    """The host, with a running systemd."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, run_module: Callable) -> None:
        self.folder, self.patch, self.run_module = folder, monkeypatch, run_module
        self.root = root = folder / "host"
        self.opt = root / "opt/linmonitor"
        self.releases = _release.Releases(str(self.opt))
        self.active, self.enabled, self.loaded = False, False, ""
        self.loaded_socket, self.listening = "", ""
        self.countdown, self.dead, self.actions = -1, False, 0
        self.restarts_jobs = True
        self.commands: list[tuple[str, ...]] = []
        self.more_sockets = ""
        self.record = root / "var/lib/linmonitor/installed/ebpf_exporter.json"
        self.saved = (False, False, "", "", "")
        HOSTS["debian12"].write(root)
        put(root, "/etc/os-release", b'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\n')
        for place in ("etc/systemd/system", "run/systemd/system", "var/lib/private", "opt"):
            (root / place).mkdir(parents=True, exist_ok=True)
        for name in ("UNITS", "TRIAL_UNITS", "TRIAL_RUNTIME", "RUNTIME"):
            monkeypatch.setattr(_release, name, str(root) + getattr(_release, name))
        monkeypatch.setattr(_release_unit, "JOBS", str(root) + _release_unit.JOBS)
        monkeypatch.setattr(_release, "STATES", tuple(str(root) + p for p in _release.STATES))
        monkeypatch.setattr(_release, "run", self.run)
        monkeypatch.setattr(_release, "step", lambda name: None)
        monkeypatch.setattr(_owned, "INSTALLED", str(root / "var/lib/linmonitor/installed"))
        monkeypatch.setattr(_owned, "UNIT_FOLDERS", (_release.UNITS, str(root / "usr/lib/systemd")))
        monkeypatch.setattr(_listening, "listening_sockets", lambda address: set())
        # Temporary folders are no place for a service.
        monkeypatch.setattr(_places, "fault_of_tree", lambda path, uids: "")
        monkeypatch.setattr(_release_checks, "ROOT", str(root))
        monkeypatch.setattr(_release_checks, "NEEDED_BYTES", 0)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        # Nothing here outlives a power failure.
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    # --- what the module is asked for

    def artifact(
        self, exporter: str = "sound", change: Callable | None = None, **members: Any
    ) -> str:
        """Pack an artifact; `change` alters its manifest, `members` are further entries."""
        path = self.folder / f"artifact-{exporter}.tar.gz"
        files = {"bin/ebpf_exporter": exporter.encode()}
        for config, entry in CATALOGUE["configs"].items():
            names = [f"{config}.yaml", *(f"{one['name']}.bpf.o" for one in entry["variants"])]
            files |= {f"programs/{config}/{name}": name.encode() for name in names}
        listed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        manifest = json.loads(json.dumps(MANIFEST | {"files": listed}))
        if change:
            change(manifest)
        files["manifest.json"] = json.dumps(manifest).encode()
        with tarfile.open(path, "w:gz") as packed:
            for name, content in files.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size, member.mode = len(content), 0o700 if "bin/" in name else 0o600
                packed.addfile(member, io.BytesIO(content))
            for member in members.values():
                packed.addfile(member)
        return str(path)

    def arguments(self, exporter: str = "sound", address: str = "127.0.0.1:9435") -> dict[str, Any]:
        """Return what the role asks for."""
        digest = hashlib.sha256(f"{exporter} {address}".encode()).hexdigest()
        name = f"{digest[:16]}-{digest[16:32]}"
        unit = f"{MARKED}ExecStart=@release@/bin/ebpf_exporter {address}\n"
        return {
            "root": str(self.opt),
            "release": name,
            "settings": {
                "configs": ["biolatency"],
                "strict": False,
                "current": self.releases.link,
                "listen_address": address,
                "url": f"http://{address}/metrics",
                "capabilities": ["CAP_BPF", "CAP_PERFMON"],
            },
            "units": {
                _release.UNIT: unit,
                _release.SOCKET: f"{MARKED}ListenStream={address}\n",
                _release.TRIAL_UNIT: f"{MARKED}ExecStart=@release@/choose.py\n",
            },
            "files": "files/release",
            "texts": {"choose.py": "", "health.py": ""},
            "host": "box",
        }

    def deploy(self, exporter: str = "sound", address: str = "127.0.0.1:9435", **more: Any) -> dict:
        """Run the module as the action plugin does where the host lacks the release."""
        arguments = self.arguments(exporter, address) | {"artifact": self.artifact(exporter)}
        return self.run_module(ebpf_release, **(arguments | more))

    # --- systemd and the exporter

    def run(self, *command: str) -> tuple[int, str]:
        """Stand in for every command that a deployment runs."""
        self.act()
        self.commands.append(command)
        words = Path(command[0]).name, *command[1:]
        if words[0] == "systemctl":
            return self.systemctl(*words[1:])
        if words[0] == "journalctl":
            return 0, f"the journal of {words[1].partition('=')[2]}"
        if words[0] == "systemd-run":
            return self.work_at(words[-1])
        return self.health(Path(words[-1]).parent)

    def work_at(self, job: str) -> tuple[int, str]:
        """Do a job as a unit that is started again after it was killed."""
        try:
            _release.main(job)
        except Killed:
            if self.restarts_jobs:
                self.revive()
                _release.main(job)
        return 0, ""

    def systemctl(self, verb: str, *words: str) -> tuple[int, str]:
        unit = words[-1] if words else ""
        if verb == "list-sockets":
            return 0, f"{self.listening} {_release.SOCKET} {_release.UNIT}\n{self.more_sockets}"
        if verb == "show":
            ours = unit == _release.UNIT
            states = {
                "ActiveState": "active" if ours and self.active else "inactive",
                "UnitFileState": "enabled" if ours and self.enabled else "disabled",
            }
            return 0, states[words[2]]
        if verb == "daemon-reload":
            self.loaded = _release.read(f"{_release.UNITS}/{_release.UNIT}")
            self.loaded_socket = _release.read(f"{_release.UNITS}/{_release.SOCKET}")
        if verb == "start" and unit == _release.TRIAL_UNIT:
            return self.start_trial()
        if unit == _release.UNIT:
            self.enabled = {"enable": True, "disable": False}.get(verb, self.enabled)
            if verb in ("start", "restart"):
                return self.start_service()
        if unit in _release.INSTALLED and verb in ("stop", "disable"):
            self.active, self.listening = False, ""
        return 0, ""

    def start_trial(self) -> tuple[int, str]:
        text = _release.read(f"{_release.TRIAL_UNITS}/{_release.TRIAL_UNIT}")
        release = Path(text.partition("ExecStart=")[2].strip()).parent
        if (release / "bin/ebpf_exporter").read_text() == "refused":
            return 1, "failed"
        nothing = (release / "bin/ebpf_exporter").read_text() == "nothing"
        self.choose(release, Path(_release.TRIAL_RUNTIME), None if nothing else "raw_tp")
        return int(nothing), ""

    def start_service(self) -> tuple[int, str]:
        self.active = bool(self.loaded)
        # One that is open stays as it is, whatever its file says by now.
        self.listening = self.listening or address_of(self.loaded_socket)
        if self.serving:
            self.choose(self.serving, Path(_release.RUNTIME))
        return 0, ""

    def choose(self, release: Path, runtime: Path, variant: str | None = "raw_tp") -> None:
        runtime.mkdir(parents=True, exist_ok=True)
        configs = {"biolatency": {"variant": variant, "refused": {"tp_btf": "not here"}}}
        choice = {"release": release.name, "configs": configs}
        (runtime / "choice.json").write_text(json.dumps(choice))

    @property
    def serving(self) -> Path | None:
        """The release whose exporter runs."""
        binary = self.loaded.partition("ExecStart=")[2].split(" ")[0]
        ours = self.active and str(self.opt) in binary
        return Path(binary).parent.parent if ours else None

    def health(self, release: Path) -> tuple[int, str]:
        faults = []
        if Path(self.releases.link).resolve() != release.resolve():
            faults.append("the link points elsewhere")
        for unit in _release.INSTALLED:
            if _release.read(f"{_release.UNITS}/{unit}") != _release.read(str(release / unit)):
                faults.append(f"another {unit} is installed")
        if self.serving and self.listening != address_of(
            _release.read(str(release / _release.SOCKET))
        ):
            faults.append(f"it listens at {self.listening}")
        if not self.enabled or not self.serving or self.serving.resolve() != release.resolve():
            faults.append("it does not run")
        if (release / "bin/ebpf_exporter").read_text() == "sick":
            faults.append("it does not answer")
        return (1 if faults else 0), "\n".join(faults)

    @property
    def unit(self) -> str:
        """The text of the unit that is installed."""
        return _release.read(f"{_release.UNITS}/{_release.UNIT}")

    # --- being killed

    def act(self) -> None:
        """Count an action; be killed before the one that was named."""
        self.actions += 1
        if self.dead or self.actions == self.countdown:
            self.dead = True
            raise Killed

    def revive(self) -> None:
        """Begin a new process."""
        self.dead, self.countdown, self.actions = False, -1, 0

    def save(self) -> None:
        """Keep the host as it is now."""
        shutil.copytree(self.root, self.folder / "saved", symlinks=True)
        self.saved = self.state

    @property
    def state(self) -> tuple:
        """What systemd knows."""
        return self.active, self.enabled, self.loaded, self.loaded_socket, self.listening

    @state.setter
    def state(self, state: tuple) -> None:
        self.active, self.enabled, self.loaded, self.loaded_socket, self.listening = state

    def restore(self) -> None:
        """Have the host as it was."""
        self.revive()
        shutil.rmtree(self.root)
        shutil.copytree(self.folder / "saved", self.root, symlinks=True)
        self.state = self.saved
        self.revive()

    def count_actions(self) -> None:
        """Count each change to the file system too."""
        for name in ("mkdir", "rename", "replace", "symlink", "unlink", "rmdir", "chmod"):
            self.patch.setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, function: Callable) -> Callable:
        def call(*words: Any, **named: Any) -> Any:
            self.act()
            return function(*words, **named)

        return call

    # --- what one can ask of it

    def faults(self) -> list[str]:
        """Say what is wrong with what is on."""
        if not os.path.lexists(self.releases.link):
            return [] if not self.unit and not self.active else ["a unit without a release"]
        _status, said = self.health(Path(self.releases.link).resolve())
        return said.splitlines()

    def snapshot(self) -> dict[str, Any]:
        """Return every file, link and folder with content and mode."""
        found: dict[str, Any] = {}
        for path in sorted(self.root.rglob("*")):
            if path.is_symlink():
                found[str(path)] = str(path.readlink())
            elif path.is_file():
                found[str(path)] = (path.read_bytes(), path.stat().st_mode)
            else:
                found[str(path)] = path.stat().st_mode
        return found
