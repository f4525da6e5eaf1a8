# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of ebpf_release: what is sent, and when."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible_collections.linmonitor.stack.plugins.action import ebpf_release

MANIFEST = {"format": 2, "catalogue": {}}


@pytest.fixture
def artifact(tmp_path) -> Path:
    path = tmp_path / "artifact.tar.gz"
    content = json.dumps(MANIFEST).encode()
    with tarfile.open(path, "w:gz") as packed:
        member = tarfile.TarInfo("./manifest.json")
        member.size = len(content)
        packed.addfile(member, io.BytesIO(content))
    return path


class Controller:
    """An action whose host answers what the test says; what is asked and sent is kept."""

    def __init__(self, monkeypatch, lacking: bool, check: bool, **arguments) -> None:
        self.lacking, self.asked, self.sent, self.removed = lacking, [], [], []
        task = mock.Mock(args=arguments, check_mode=check, async_val=0)
        connection = mock.Mock()
        connection._shell.join_path = lambda *parts: "/".join(parts)
        self.action = ebpf_release.ActionModule(
            task, connection, mock.Mock(), DataLoader(), mock.Mock(), mock.Mock()
        )
        for name in ("_execute_module", "_make_tmp_path", "_transfer_file", "_remove_tmp_path"):
            monkeypatch.setattr(self.action, name, getattr(self, name.strip("_")))

    def run(self) -> dict:
        return self.action.run(task_vars={"inventory_hostname": "box"})

    def execute_module(self, name: str, module_args: dict, task_vars: dict) -> dict:
        self.asked.append(dict(module_args))
        had = "artifact" in module_args or "manifest" in module_args
        return {"changed": had, "artifact_wanted": self.lacking and not had}

    def make_tmp_path(self) -> str:
        return "/remote"

    def transfer_file(self, local: str, remote: str) -> str:
        self.sent.append(local)
        return remote

    def remove_tmp_path(self, folder: str) -> None:
        self.removed.append(folder)


def test_nothing_is_sent_where_the_host_has_the_release(monkeypatch, artifact):
    controller = Controller(monkeypatch, False, False, artifact=str(artifact))
    assert not controller.run()["changed"]
    assert len(controller.asked) == 1
    assert controller.asked[0]["host"] == "box"
    assert controller.sent == []


def test_artifact_is_sent_where_the_host_lacks_it(monkeypatch, artifact):
    digest = hashlib.sha256(artifact.read_bytes()).hexdigest()
    controller = Controller(
        monkeypatch, True, False, artifact=str(artifact), artifact_sha256=digest
    )
    assert controller.run()["changed"]
    assert controller.sent == [str(artifact)]
    assert [one.get("artifact") for one in controller.asked] == [None, "/remote/artifact.tar.gz"]
    assert controller.removed == ["/remote"]


def test_check_mode_sends_the_manifest_alone(monkeypatch, artifact):
    controller = Controller(monkeypatch, True, True, artifact=str(artifact))
    controller.run()
    assert controller.sent == []
    assert controller.asked[1]["manifest"] == MANIFEST


def test_check_mode_does_without_an_artifact(monkeypatch, tmp_path):
    controller = Controller(monkeypatch, True, True, artifact=str(tmp_path / "none"))
    controller.run()
    assert controller.asked[1]["manifest"] == {}


def test_without_an_artifact_the_answer_is_the_host_s(monkeypatch):
    controller = Controller(monkeypatch, True, False)
    assert controller.run()["artifact_wanted"]
    assert len(controller.asked) == 1


@pytest.mark.parametrize(
    ("there", "said"), [(True, "expected is 00. It was not sent."), (False, "There is no artifact")]
)
def test_missing_or_altered_artifact_is_not_sent(monkeypatch, artifact, there, said):
    path = artifact if there else artifact.with_name("none")
    controller = Controller(monkeypatch, True, False, artifact=str(path), artifact_sha256="00")
    with pytest.raises(AnsibleActionFail, match=said):
        controller.run()
    assert controller.sent == []


def test_files_of_the_release_go_as_text(monkeypatch, tmp_path):
    (tmp_path / "health.py").write_text("pass\n")
    (tmp_path / "__pycache__").mkdir()
    controller = Controller(monkeypatch, False, False, files=str(tmp_path))
    controller.run()
    assert controller.asked[0]["texts"] == {"health.py": "pass\n"}
