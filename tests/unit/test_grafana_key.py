# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's own tasks let this machine's apt judge repositories that gpg signed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from role_play import CHECKOUT, play

from tests.grafana import repository

TRUST = str(CHECKOUT / "roles/grafana/tasks/trust.yml")
# Repository, keys that it offers, and the key that is pinned.
CASES = {
    "pinned": ("stable", ("stable",), "stable", ""),
    "pinned among others": ("stable", ("foreign", "stable"), "stable", ""),
    "other": ("foreign", ("foreign",), "stable", "signed by the key"),
    "other, offered beside the pinned": ("foreign", ("stable", "foreign"), "stable", "signed by"),
    "no signature": ("unsigned", ("stable",), "stable", "is not signed"),
    "no key": ("stable", (), "stable", "signed by the key"),
}


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> dict[str, str]:
    """Let apt judge every case in one run; return what the role says."""
    if shutil.which("apt-get") is None:
        pytest.skip("needs apt-get")
    scratch = tmp_path_factory.mktemp("apt")
    repository.build(scratch / "repositories")
    # apt reads local repositories as another user.
    for folder in (scratch, *scratch.parents[:2]):
        folder.chmod(0o755)
    fingerprints = json.loads((scratch / "repositories/keys.json").read_text())
    tasks: list[dict] = [{"ansible.builtin.set_fact": {"said": {}}}]
    for name, (served, offered, pinned, _) in CASES.items():
        keys = (scratch / "repositories" / key / "gpg.key" for key in offered)
        given = {
            "grafana_apt_url": f"file:{scratch}/repositories/{served}",
            "grafana_apt_key_fingerprint": fingerprints[pinned].lower(),
            "__grafana_key": "".join(key.read_text() for key in keys) or "<html>",
            "__grafana_borrowed": False,
        }
        words = "{{ said | combine({case: ansible_failed_result.msg}) }}"
        remove = {"path": "{{ __grafana_draft.path }}", "state": "absent"}
        tasks.append(
            {
                "block": [{"ansible.builtin.include_tasks": TRUST}],
                "rescue": [{"ansible.builtin.set_fact": {"said": words}}],
                "always": [{"ansible.builtin.file": remove}],
                "vars": given | {"case": name},
            }
        )
    written = {"content": "{{ said | to_json }}", "dest": f"{scratch}/said.json"}
    play(scratch, ("grafana",), [*tasks, {"ansible.builtin.copy": written}])
    return json.loads(Path(scratch / "said.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_apt_accepts_what_the_pinned_key_signed_and_nothing_else(judged, case):
    expected = CASES[case][3]
    assert (case in judged) == bool(expected)
    assert expected in judged.get(case, "")
