#!/usr/bin/python
# Copyright: linmonitor.stack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ebpf_release
short_description: Run a release of the eBPF exporter, or the one before, or none
version_added: 1.0.0
description:
  - A release is an artifact with settings, units, chooser and health check, unpacked below
    C(releases/) of O(root). The link C(current) names the one that is on.
  - With O(state=present) one execution on the host says whether O(release) is on, whole and
    healthy. If it is not, the artifact is sent where the host lacks it, and one more execution
    refuses what cannot work before anything changes, unpacks, tries the programs in the service's
    own sandbox, switches link and unit together, restarts and checks the health. After any fault
    the release that was healthy last runs again, and the message has the journal's last lines.
  - What must not be left half done is the work of a transient unit, C(linmonitor-release.service).
    It goes on when connection and controller are gone, and begins again where it is killed. The
    next execution tells in RV(earlier) what became of it.
  - Two executions at once come one after the other.
  - It is the ebpf_exporter role's own, so its messages name the role's variables.
author:
  - The linmonitor.stack maintainers (@linmonitor)
attributes:
  check_mode:
    support: full
    description: >-
      Says what would change and refuses what would be refused, also on a host that has nothing of
      ours. The trial is left out.
  diff_mode:
    support: full
    description: Shows units and settings.
  action:
    support: full
    description: Sends the artifact, and only where the host lacks it.
options:
  state:
    description:
      - V(present) runs O(release).
      - V(previous) goes back to the release that was healthy before the one that is on.
      - V(absent) removes releases, units and state, and puts back what was adopted.
      - V(running) changes nothing and tells what is on, whatever release that is.
      - V(trial) tries the programs of O(release) and leaves nothing behind that was not there
        before. What runs goes on undisturbed.
    type: str
    default: present
    choices: [present, previous, absent, running, trial]
  root:
    description: Folder on the host that holds C(releases/) and the link C(current).
    type: path
    default: /opt/linmonitor
  release:
    description: Name of the release, which stands for all its content.
    type: str
  artifact:
    description:
      - The artifact, a file on the controller.
      - Without it, a release that the host lacks is no error but the answer
        RV(artifact_wanted), and nothing is changed.
    type: path
  artifact_sha256:
    description: SHA-256 of the artifact; what arrives with another one is refused.
    type: str
  settings:
    description:
      - What C(settings.json) of the release says. C(configs) are the wanted programs, C(strict) is
        whether each must run, C(listen_address) and C(url) say where the exporter answers,
        C(capabilities) what the service may hold, and C(current) is the link to the release that
        is on.
    type: dict
  units:
    description: >-
      Text of C(ebpf_exporter.service), of C(ebpf_exporter.socket), which is its listener, and of
      C(ebpf_exporter-trial.service), by name; C(@release@) in it is the release's folder.
    type: dict
  files:
    description:
      - Folder on the controller with C(choose.py) and C(health.py), which go into the release.
    type: path
  texts:
    description: Content of O(files). The action plugin sets it.
    type: dict
  architecture:
    description: Architecture of the artifact.
    type: str
    default: x86_64
    choices: [x86_64, aarch64]
  keep_releases:
    description: How many releases stay on the host, the one that is on included.
    type: int
    default: 3
  adopt:
    description: >-
      Replace units of our names that are somebody else's, after a copy was kept beside it as
      C(PATH.before-linmonitor).
    type: bool
    default: false
  host:
    description: What messages call the host. The action plugin sets it to the inventory's name.
    type: str
    default: this host
  run:
    description:
      - Which run of a playbook this is, for whoever comes at the same time. The action plugin sets
        it.
    type: dict
    default: {}
  manifest:
    description: The artifact's manifest, for check mode. The action plugin sets it.
    type: dict
"""

EXAMPLES = r"""
- name: Run a release
  linmonitor.stack.ebpf_release:
    release: 0123456789abcdef-0123456789abcdef
    artifact: artifacts/linmonitor-x86_64.tar.gz
    artifact_sha256: "{{ artifact_sha256 }}"
    settings: "{{ settings }}"
    units: "{{ units }}"
    files: files/release
  become: true

- name: Go back to the release before
  linmonitor.stack.ebpf_release:
    state: previous
  become: true

- name: Remove everything
  linmonitor.stack.ebpf_release:
    state: absent
  become: true
"""

RETURN = r"""
release:
  description: The release that is on, or would be; empty where there is none.
  returned: always
  type: str
  sample: 0123456789abcdef-0123456789abcdef
artifact_wanted:
  description: Whether the host lacks the release and O(artifact) was not given.
  returned: when state is present
  type: bool
found:
  description: What kept the release from being on, whole and healthy; empty where it was.
  returned: when state is present
  type: str
  sample: ebpf_exporter.service is inactive (success)
programs:
  description: >-
    For each wanted program the C(variant) that runs (V(null) if none does) and C(refused), the
    reason against each variant that was tried before it.
  returned: when a release is on or was tried
  type: dict
  sample: {biolatency: {variant: raw_tp, refused: {tp_btf: not attached}}}
left_out:
  description: The wanted programs that run as no variant.
  returned: when a release is on or was tried
  type: list
  elements: str
measures:
  description: For each program that runs, the metrics that a little work on the host must move.
  returned: when a release is on
  type: dict
  sample: {biolatency: [bio_latency_seconds]}
earlier:
  description: >-
    What became of a deployment whose controller did not wait for it; C(msg) is empty if it went
    well.
  returned: when there was one
  type: dict
  sample: {release: 0123456789abcdef-0123456789abcdef, msg: ""}
held_by:
  description: >-
    Which other run is at work here, with C(id), C(owner), C(since) and C(ends), so that nothing was
    done. The action plugin waits for its end.
  returned: when there is one
  type: dict
  sample: {id: laptop/4711/9, owner: ada on laptop (process 4711), since: "10:31:02 UTC"}
kept:
  description: What was not removed, with the reason.
  returned: when state is absent
  type: list
  elements: dict
  sample: [{path: /etc/systemd/system/ebpf_exporter.service, reason: is not ours}]
"""

import contextlib
import json
import os
import tempfile
import uuid
from typing import Any, Dict, List, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_native
from ansible_collections.linmonitor.stack.plugins.module_utils import (
    _archive,
    _lock,
    _owned,
    _release,
    _release_artifact,
    _release_checks,
    _release_unit,
)
from ansible_collections.linmonitor.stack.plugins.module_utils._release import Fault

RECORD = "ebpf_exporter"


class Deployment:
    """What one execution of the module does."""

    def __init__(self, module: AnsibleModule) -> None:
        """Take the module's parameters."""
        self.module = module
        self.params = module.params
        self.host = self.params["host"]
        self.name: str = self.params["release"] or ""
        self.settings: Dict[str, Any] = self.params["settings"] or {}
        self.releases = _release.Releases(self.params["root"])
        self.record_file = os.path.join(_owned.INSTALLED, RECORD + ".json")
        self.record = _owned.load(self.record_file)
        self.units = {
            unit: _owned.resolved(os.path.join(_release.UNITS, unit)) for unit in _release.INSTALLED
        }
        self.answer: Dict[str, Any] = {"changed": False}

    # --- what is wanted

    def texts(self) -> Dict[str, str]:
        """Return the release's files that do not come from the artifact."""
        settings = json.dumps(self.settings, indent=4, sort_keys=True) + "\n"
        folder = self.releases.path(self.name)
        units = self.params["units"].items()
        return {
            "settings.json": settings,
            **{unit: text.replace("@release@", folder) for unit, text in units},
            **(self.params["texts"] or {}),
        }

    def _whole(self, texts: Dict[str, str]) -> bool:
        """Say whether the release is there as it was unpacked, with these texts."""
        folder = self.releases.path(self.name)
        return _archive.whole(folder) and all(
            _release.meaning(_release.read(os.path.join(folder, path))) == _release.meaning(text)
            for path, text in texts.items()
        )

    def diff(self, texts: Dict[str, str]) -> List[Dict[str, str]]:
        """Show what changes of units and settings."""
        pairs = {os.path.join(_release.UNITS, unit): texts[unit] for unit in _release.INSTALLED}
        pairs[os.path.join(self.releases.link, "settings.json")] = texts["settings.json"]
        return [
            dict(before=_release.read(path), after=after, before_header=path, after_header=path)
            for path, after in pairs.items()
            if _release.read(path) != after
        ]

    # --- present

    def present(self) -> None:
        """Have the release on, whole and healthy."""
        texts = self.texts()
        whole = self._whole(texts)
        found = self.releases.faults(self.name) if whole else self._absence()
        lacking = not whole and self.params["artifact"] is None and self.params["manifest"] is None
        self.answer.update(release=self.name, artifact_wanted=lacking, found=found)
        foreign = self._refuse(whole) if found else {}
        if lacking:
            return
        for name in self.releases.unfinished():
            self._act(_release.remove, self.releases.path(name))
        if found:
            self._switch(texts, whole, foreign)
        elif self.name not in self.releases.healthy():
            self._act(self.releases.remember, self.name)
        self._tell()

    def _absence(self) -> str:
        there = os.path.lexists(self.releases.path(self.name))
        return f"{self.name} is {'damaged' if there else 'not'} on the host"

    def _refuse(self, whole: bool) -> Dict[str, List[str]]:
        """Refuse what cannot work; return what is adopted."""
        _release_checks.refuse_host(self.host, self.params["architecture"])
        _release_checks.refuse_place(self.host, self.releases)
        _release_checks.refuse_port(self.host, self.settings["listen_address"])
        foreign = self._foreign_units()
        if not whole:
            _release_checks.refuse_full_disk(self.host, self.releases)
        return foreign

    def _switch(self, texts: Dict[str, str], whole: bool, foreign: Dict[str, List[str]]) -> None:
        self.answer["changed"] = True
        self.answer["diff"] = self.diff(texts)
        if self.module.check_mode:
            if self.params["manifest"]:
                self._refuse_kernel(self.params["manifest"])
            return
        self._perform("switch", None if whole else texts, trial=True, foreign=foreign)

    def _refuse_kernel(self, manifest: Dict[str, Any]) -> None:
        _release_checks.refuse_kernel(self.host, manifest, self.settings)

    def _foreign_units(self) -> Dict[str, List[str]]:
        """Return the files of units of our names that are somebody else's, if they may go."""
        foreign = {}
        for unit in _release.INSTALLED:
            ours = _release_checks.unit_is_ours(self.releases, unit)
            foreign[unit] = [] if ours else _owned.unit_files(unit)
            if foreign[unit]:
                _release_checks.refuse_unit(self.host, unit, foreign[unit], self.params["adopt"])
        return foreign

    def _act(self, function: Any, *arguments: Any) -> None:
        """Do something unless only asked what would be done."""
        self.answer["changed"] = True
        if not self.module.check_mode:
            function(*arguments)

    def _perform(self, kind: str, texts: Optional[Dict[str, str]], **more: Any) -> Dict[str, Any]:
        """Unpack where that is needed, hand the rest to a unit, and wait for what becomes of it."""
        draft = None
        inside = os.path.join(self.releases.folder, "x")
        job = dict(
            more,
            id=uuid.uuid4().hex,
            kind=kind,
            host=self.host,
            root=self.releases.root,
            release=self.name,
            keep_releases=self.params["keep_releases"],
            record=self.record_file,
            made=_owned.missing_parents(inside),
            states=[path for path in _release.STATES if not os.path.lexists(path)],
        )
        try:
            draft = job["draft"] = self._unpack(texts) if texts else None
            if kind == "switch":
                job["adopted"] = self._own_units(job.pop("foreign"), job["made"])
            _release_unit.start(job)
        except BaseException:
            if draft:
                _release.remove(draft)
            _release.remove_empty(job["made"])
            raise
        result = _release_unit.wait()
        if result.get("id") != job["id"]:
            raise Fault(
                f"The deployment to {self.host} ended without a result: "
                f"{_release.journal(_release_unit.JOB_UNIT)}"
            )
        _release.remove(os.path.join(_release_unit.JOBS, "job"))
        if result["msg"]:
            raise Fault(result["msg"])
        return result

    def _unpack(self, texts: Dict[str, str]) -> str:
        """Make a draft of the release and return its folder."""
        artifact, expected = self.params["artifact"], self.params["artifact_sha256"]
        arrived = _archive.file_sha256(artifact)
        if expected and arrived != expected:
            raise Fault(
                f"The artifact arrived on {self.host} with the SHA-256 {arrived}, expected is "
                f"{expected}. Run this again."
            )
        _release.make_folders(self.releases.folder)
        draft = tempfile.mkdtemp(prefix=_release.DRAFT, dir=self.releases.folder)
        try:
            manifest = _release_artifact.unpack(artifact, draft)
            for path, text in texts.items():
                _release.write(os.path.join(draft, path), text)
            os.chmod(draft, 0o755)
            self._refuse_kernel(manifest)
        except BaseException:
            _release.remove(draft)
            raise
        return draft

    def _own_units(self, foreign: Dict[str, List[str]], made: List[str]) -> Dict[str, Any]:
        """Record that units and folders are ours before they are; save copies of what was there."""
        record = self.record or _owned.new_record()
        before = json.dumps(record)
        for unit, path in self.units.items():
            if path not in record["files"] or foreign[unit]:
                state = dict(
                    active=_release.unit_property(unit, "ActiveState") == "active",
                    enabled=_release.unit_property(unit, "UnitFileState") == "enabled",
                )
                record["units"][unit] = state if foreign[unit] else None
                theirs = path in map(_owned.resolved, foreign[unit])
                saved = _owned.save_copy(path) if theirs else None
                record["files"][path] = dict(marked=True, copy=saved)
                record["folders"] = sorted({*record["folders"], *made, self.releases.folder})
        if json.dumps(record) != before:
            _owned.save(self.record_file, record)
        self.record = record
        return self._adopted()

    def _adopted(self) -> Dict[str, Any]:
        """Return what is known of the units that ours replaced, by name."""
        record = self.record or _owned.new_record()
        return {
            unit: dict(state, copy=record["files"][self.units[unit]]["copy"] or "")
            for unit, state in record["units"].items()
            if state
        }

    def _tell(self) -> None:
        """Say what runs, so that nothing else needs to be fetched from the host."""
        chosen = _release.choice(_release.RUNTIME)
        if chosen.get("release") != self.name:
            return
        programs = chosen["configs"]
        manifest = _release.read_json(os.path.join(self.releases.path(self.name), "manifest.json"))
        configs = manifest.get("catalogue", {}).get("configs", {})
        self._tell_programs(programs)
        self.answer["measures"] = {
            name: configs.get(name, {}).get("verify", [])
            for name, entry in programs.items()
            if entry["variant"]
        }

    def _tell_programs(self, programs: Dict[str, Any]) -> None:
        left = [name for name, entry in programs.items() if not entry["variant"]]
        self.answer.update(programs=programs, left_out=left)

    # --- running, previous, trial, absent

    def running(self) -> None:
        """Tell what is on."""
        self.name = self.releases.current()
        self.answer.update(release=self.name)
        self._tell()

    def previous(self) -> None:
        """Go back to the release that was healthy before the one that is on."""
        self.name = self.releases.before(self.releases.current())
        if not self.name:
            raise Fault(
                f"There is no release on {self.host} to go back to: below {self.releases.folder} "
                "none but the present one was ever healthy."
            )
        folder = self.releases.path(self.name)
        if not _archive.whole(folder):
            raise Fault(
                f"The release to go back to on {self.host} is damaged: {folder} has not the files "
                "that were unpacked. Nothing was changed. Deploy it with the settings that it had, "
                "or remove the folder to go back to the one before it."
            )
        foreign = self._foreign_units()
        parts = (*_release.INSTALLED, "settings.json")
        texts = {part: _release.read(os.path.join(folder, part)) for part in parts}
        self.answer.update(release=self.name, changed=True, diff=self.diff(texts))
        if not self.module.check_mode:
            self._perform("switch", None, trial=False, foreign=foreign)
            self._tell()

    def trial(self) -> None:
        """Try the release from a folder that is gone afterwards."""
        _release_checks.refuse_host(self.host, self.params["architecture"])
        _release_checks.refuse_place(self.host, self.releases)
        _release_checks.refuse_full_disk(self.host, self.releases)
        self.answer.update(release=self.name)
        texts = self.texts()
        whole = self._whole(texts)
        self.answer["artifact_wanted"] = not whole and self.params["artifact"] is None
        if self.module.check_mode or self.answer["artifact_wanted"]:
            return
        if not whole and os.path.lexists(self.releases.path(self.name)):
            raise Fault(
                f"Release {self.name} of {self.host} is damaged: deploy it, and it is tried."
            )
        result = self._perform("trial", None if whole else texts)
        self._tell_programs(result["choice"].get("configs", {}))

    def absent(self) -> None:
        """Remove what is ours and nothing else."""
        adopted = self._adopted()
        self.answer.update(release="", kept=[])
        ours = []
        for unit, path in self.units.items():
            copy = adopted.get(unit, {}).get("copy", "")
            if os.path.lexists(path) and not _release_checks.unit_is_ours(self.releases, unit):
                beside = f"; what ours replaced is {copy}" if os.path.lexists(copy) else ""
                self.answer["kept"].append(dict(path=path, reason=f"is not ours{beside}"))
            elif os.path.lexists(path) or os.path.lexists(copy):
                ours.append(unit)
        if ours:
            self._act(_release.withdraw, self.releases, adopted, ours)
        names = [name for name in self.releases.names() if _release.NAME.match(name)]
        paths = [self.releases.path(name) for name in names + self.releases.unfinished()]
        if os.path.islink(self.releases.link):
            paths.append(self.releases.link)
        if not self.answer["kept"]:
            paths += _release.STATES
        for path in paths:
            if os.path.lexists(path):
                self._act(_release.remove, path)
        if not self.module.check_mode:
            # A deployment of before there were records has none.
            folders = [self.releases.folder, self.releases.root]
            _release.remove_empty(self.record["folders"] if self.record else folders)
            _release.forget(self.record_file)
            _release.remove(_release_unit.JOBS)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=dict(
            state=dict(
                type="str",
                default="present",
                choices=["present", "previous", "absent", "running", "trial"],
            ),
            root=dict(type="path", default="/opt/linmonitor"),
            release=dict(type="str"),
            artifact=dict(type="path"),
            artifact_sha256=dict(type="str"),
            settings=dict(type="dict"),
            units=dict(type="dict"),
            files=dict(type="path"),
            texts=dict(type="dict"),
            architecture=dict(type="str", default="x86_64", choices=["x86_64", "aarch64"]),
            keep_releases=dict(type="int", default=3),
            adopt=dict(type="bool", default=False),
            host=dict(type="str", default="this host"),
            run=dict(type="dict", default={}),
            manifest=dict(type="dict"),
        ),
        required_if=[
            ("state", "present", ("release", "settings", "units", "files")),
            ("state", "trial", ("release", "settings", "units", "files")),
        ],
        supports_check_mode=True,
    )
    wanted = module.params["state"]
    if wanted in ("present", "trial"):
        for fault in _release_checks.faults_of_arguments(module.params):
            module.fail_json(msg=fault)
    host = module.params["host"]
    earlier: Dict[str, Any] = {}
    try:
        _release_checks.refuse_user(host)
        with contextlib.ExitStack() as stack:
            if not module.check_mode and wanted != "running":
                stack.enter_context(_lock.Lock(RECORD, module.params["run"]))
                earlier = _release_unit.wait()
            deployment = Deployment(module)
            if earlier:
                deployment.answer["earlier"] = {key: earlier[key] for key in ("release", "msg")}
                _release.remove(os.path.join(_release_unit.JOBS, "job"))
            getattr(deployment, wanted)()
    except _lock.Busy as busy:
        module.fail_json(msg=str(busy), held_by=busy.holder)
    except Fault as fault:
        module.fail_json(msg=str(fault), **({"earlier": earlier} if earlier else {}))
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{module.params['host']}: {to_native(error)}")
    module.exit_json(**deployment.answer)


if __name__ == "__main__":
    main()
