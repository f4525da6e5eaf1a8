# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a named Prometheus has of its own on a host; without a name nothing moves."""

from __future__ import annotations

import json

import pytest
import yaml
from role_play import CHECKOUT, play

NAMES = (
    "__prometheus_record",
    "__prometheus_service",
    "__prometheus_user",
    "__prometheus_config_dir",
    "prometheus_root",
    "prometheus_data_dir",
    "__prometheus_own_job",
)
UNITS = yaml.safe_load((CHECKOUT / "playbooks/vars/units.yml").read_text())
LONGEST = "long-name1"


@pytest.fixture(scope="module")
def names(tmp_path_factory) -> dict[str, dict]:
    """Return what each instance is called, by its name."""
    scratch = tmp_path_factory.mktemp("instances")
    asked = ", ".join(f"'{name}': {name}" for name in (*NAMES, "linmonitor_units"))
    tasks = [
        {
            "ansible.builtin.copy": {
                "content": f"{{{{ {{{asked}}} | to_json }}}}",
                "dest": f"{scratch}/of-{instance}",
            },
            "vars": UNITS | {"prometheus_instance": instance},
        }
        for instance in ("", "eu", LONGEST)
    ]
    play(scratch, ("prometheus",), tasks)
    return {
        path.name.removeprefix("of-"): json.loads(path.read_text()) for path in scratch.glob("of-*")
    }


def test_without_a_name_nothing_moves(names):
    found = names[""]
    assert found["__prometheus_record"] == "prometheus"
    assert found["__prometheus_service"] == "linmonitor-prometheus.service"
    assert found["__prometheus_user"] == "linmonitor-prometheus"
    assert found["__prometheus_config_dir"] == "/etc/linmonitor/prometheus"
    assert found["prometheus_root"] == "/opt/linmonitor/prometheus"
    assert found["prometheus_data_dir"] == "/var/lib/linmonitor/prometheus"


def test_no_two_share_anything(names):
    for name in NAMES:
        assert len({json.dumps(found[name]) for found in names.values()}) == 3, name


def test_no_instance_is_one_of_the_other_records(names):
    others = {"prometheus-earlier", "prometheus-export"}
    assert not others & {found["__prometheus_record"] for found in names.values()}
    assert names["eu"]["__prometheus_record"] == "prometheus@eu"


def test_a_user_has_no_more_characters_than_linux_takes(names):
    assert len(names[LONGEST]["__prometheus_user"]) == 32


def test_start_and_stop_know_the_names_of_the_role(names):
    for found in names.values():
        unit = {"record": found["__prometheus_record"], "unit": found["__prometheus_service"]}
        assert found["linmonitor_units"]["linmonitor_prometheus"] == unit


def test_each_scrapes_itself_under_a_name_of_its_own(names):
    labels = {
        name: found["__prometheus_own_job"]["static_configs"][0]["labels"]["instance"]
        for name, found in names.items()
    }
    assert labels == {"": "localhost", "eu": "localhost-eu", LONGEST: f"localhost-{LONGEST}"}
