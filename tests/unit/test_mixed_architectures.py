# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each host of a mixed inventory gets the artifact of its architecture."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
INVENTORY = {
    "all": {
        "hosts": {"web1": {}, "arm1": {"ebpf_exporter_architecture": "aarch64"}},
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
    }
}
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [
            {"include_role": {"name": "linmonitor.stack.ebpf_exporter", "tasks_from": "export"}},
        ],
    }
]


@pytest.fixture(scope="module")
def missed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The artifact that the role misses for each host, with an empty cache."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, content in (("inventory.json", INVENTORY), ("play.json", PLAY)):
        (folder / name).write_text(json.dumps(content))
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "--inventory", str(folder / "inventory.json"), str(folder / "play.json"),
        ],
        env=os.environ | {
            "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".collections"),
            "XDG_CACHE_HOME": str(folder),
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.findall(r"There is no artifact\s+(\S+)\s+for\s+(\w+)", done.stdout)
    assert found, done.stdout + done.stderr
    return {host: Path(path) for path, host in found}


@pytest.mark.parametrize(("host", "architecture"), [("web1", "x86_64"), ("arm1", "aarch64")])
def test_host_gets_the_artifact_of_its_architecture(missed, host, architecture):
    assert missed[host].name == f"linmonitor-{architecture}.tar.gz"


def test_artifacts_of_two_architectures_have_two_keys(missed):
    assert missed["web1"].parent != missed["arm1"].parent
