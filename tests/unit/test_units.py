# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter's units are what Ansible itself would make of their templates."""

from __future__ import annotations

import json

import jinja2
import pytest
from ansible_collections.linmonitor.stack.plugins.filter.units import rendered_units
from role_play import CHECKOUT, play

FOLDER = CHECKOUT / "templates/ebpf_exporter"
WORDS = {
    "managed": "#\n# Managed for Söhne: 100 %\n#",
    "stream": "10.0.0.5:9435",
    "allowed_sources": ["localhost", "10.0.0.0/8"],
    "capabilities": ["CAP_BPF", "CAP_PERFMON"],
}


def test_units_are_those_of_ansible_s_own_lookup(tmp_path):
    units = rendered_units(str(FOLDER), WORDS)
    assert set(units) == {
        "ebpf_exporter.service", "ebpf_exporter.socket", "ebpf_exporter-trial.service"
    }  # fmt: skip
    texts = {name: f"{{{{ lookup('template', '{FOLDER}/{name}.j2') }}}}" for name in units}
    content = "{{ texts | to_json }}"
    task = {"copy": {"content": content, "dest": f"{tmp_path}/units.json"}, "vars": WORDS}
    play(tmp_path, ("ebpf_exporter",), [task | {"vars": WORDS | {"texts": texts}}])
    assert json.loads((tmp_path / "units.json").read_text()) == units


@pytest.mark.parametrize("managed", ["", 'Managed for "Acme"\n[Service]\nUser=root'])
def test_what_marks_files_is_a_comment_of_the_units_too(tmp_path, managed):
    given = {
        "__ebpf_exporter_allowed": {"prefixes": ["localhost"]},
        **({"ansible_managed": managed} if managed else {}),
    }
    content = "{{ __ebpf_exporter_units | to_json }}"
    task = {"copy": {"content": content, "dest": f"{tmp_path}/units.json"}, "vars": given}
    play(tmp_path, ("ebpf_exporter",), [task])
    for text in json.loads((tmp_path / "units.json").read_text()).values():
        for line in (managed or "Ansible managed").splitlines():
            assert f"\n# {line}\n" in text


def test_a_template_cannot_leave_out_what_nobody_said(tmp_path):
    (tmp_path / "a.service.j2").write_text("User={{ user }}\n")
    with pytest.raises(jinja2.UndefinedError, match="user"):
        rendered_units(str(tmp_path), {})
