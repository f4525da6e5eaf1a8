# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever an inventory calls a host is a label, a file and a message, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
LONG = "x" * 300
# What YAML, Jinja, shells, file systems and URLs take for something else.
HOSTS = [
    "a:b", "0x1f", "123", "1e3", "yes", "null", "~", "-x", "..", "a/b", "%41", "it's", 'say "so"',
    "a b", "a,b", "a;b", "a=b", "a@b", "a\\nb", "$HOME", "#c", "*a", "&a", "!tag", "|", "{a}",
    "{{ 7*7 }}", "{% raw %}", "b\u00fccher", "\u65e5\u672c", "e\u202eb", "fe80::1",
    LONG, LONG.replace("x", "\u65e5"),
]  # fmt: skip
ROLES = ("prometheus", "grafana")
WRITTEN = {
    "configuration": "{{ __prometheus_secret_files['prometheus.yml'] }}",
    "targets": "{{ __prometheus_files['targets/ebpf_exporter.json'] }}",
    "secrets": "{{ __grafana_secrets_dir }}",
}
TARGETS = "{{ groups['all'] | linmonitor.stack.scrape_targets(hostvars, inventory_hostname) }}"


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, dict]:
    """Return by host what the roles' variables say there, as Ansible evaluates them."""
    scratch = tmp_path_factory.mktemp("names")
    local = {"ansible_connection": "local", "ebpf_exporter_scrape_address": "192.0.2.7"}
    local["ansible_python_interpreter"] = sys.executable
    inventory = {"all": {"hosts": dict.fromkeys(HOSTS, local)}}
    (scratch / "hosts.yml").write_text(json.dumps(inventory))
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars_files": [
            str(CHECKOUT / f"roles/{role}/{part}/main.yml")
            for role in ROLES
            for part in ("defaults", "vars")
        ],
        "vars": {
            "role_path": str(CHECKOUT / "roles/prometheus"),
            "linmonitor_inventory_targets": TARGETS,
            "written": WRITTEN,
        },
        "tasks": [
            {
                "name": "Write what the variables say",
                "ansible.builtin.copy": {
                    "content": "{{ written | combine({'name': inventory_hostname}) | to_json }}",
                    "dest": f"{scratch}/{{{{ groups['all'].index(inventory_hostname) }}}}.json",
                    "mode": "0600",
                },
            }
        ],
    }
    (scratch / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        ["ansible-playbook", "-i", str(scratch / "hosts.yml"), str(scratch / "play.yml")],
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = [json.loads(path.read_text()) for path in scratch.glob("*.json")]
    return {one["name"]: one for one in found}


def test_every_host_has_its_own(written):
    assert sorted(written) == sorted(HOSTS)


def test_name_is_the_label_of_the_host_and_of_its_targets(written):
    for name, one in written.items():
        jobs = yaml.safe_load(one["configuration"])["scrape_configs"]
        own = next(job for job in jobs if job["job_name"] == "prometheus")
        assert own["static_configs"][0]["labels"] == {"instance": name}
        targets = json.loads(one["targets"])
        assert [target["labels"]["instance"] for target in targets] == HOSTS


def test_secrets_of_a_host_lie_in_a_folder_of_its_own(written, tmp_path):
    for name, one in written.items():
        folder = Path(one["secrets"])
        assert folder.parent.name == "grafana"
        (tmp_path / folder.name).mkdir()
        assert len(name) > 100 or unquote(folder.name) == name
