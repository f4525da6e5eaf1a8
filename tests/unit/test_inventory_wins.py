# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory says of a public variable is what a role sees: no play overrides it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir())
PLAYBOOK_FILES = sorted(CHECKOUT.glob("playbooks/**/*.yml"))
TASK_FILES = sorted(CHECKOUT.glob("roles/*/tasks/**/*.yml"))
SECTIONS = ("tasks", "pre_tasks", "post_tasks", "handlers", "roles", "block", "rescue", "always")
INCLUDES = ("include_role", "import_role", "include_tasks", "import_tasks")
ROLE_KEYWORDS = {"role", "name", "vars", "when", "tags", "become", "tasks_from"}
# A host that is measured, and one that watches both.
GROUPS = {
    "build": ["builder"],
    "targets": ["target", "monitor"],
    "node_exporter": ["target", "monitor"],
    "alertmanager": ["monitor"],
    "prometheus": ["monitor"],
    "grafana": ["monitor"],
}
# What roles make of variables that are nobody's own.
SEEN = {
    "ebpf_exporter": ["__ebpf_exporter_cache", "__ebpf_exporter_lock"],
    "prometheus": [
        "__prometheus_cache",
        "__prometheus_lock",
        "__prometheus_targets",
        "__prometheus_configs",
        "__prometheus_node_targets",
        "__prometheus_alertmanager_targets",
        "__prometheus_alertmanagers",
    ],
    "grafana": ["__grafana_cache"],
}


def options(role: str) -> dict[str, dict]:
    """The public variables of a role. What an entry point requires is an argument of its caller."""
    spec = yaml.safe_load((CHECKOUT / f"roles/{role}/meta/argument_specs.yml").read_text())
    return {
        name: option
        for entry in spec["argument_specs"].values()
        for name, option in entry["options"].items()
        if "default" in option
    }


PUBLIC = {name: option for role in ROLES for name, option in options(role).items()}
OF_PLAYBOOKS = yaml.safe_load((CHECKOUT / "meta/variables.yml").read_text())["options"]


def given(node: object) -> Iterator[str]:
    """Names that plays, roles, blocks and tasks of a file give values to, above the inventory."""
    for item in node if isinstance(node, list) else []:
        yield from item.get("vars") or {}
        yield from item.get("ansible.builtin.set_fact") or {}
        if "role" in item:
            yield from set(item) - ROLE_KEYWORDS
        for section in SECTIONS:
            yield from given(item.get(section))


@pytest.mark.parametrize(
    "path", [*PLAYBOOK_FILES, *TASK_FILES], ids=lambda path: str(path.relative_to(CHECKOUT))
)
def test_no_play_role_or_task_gives_a_value_to_a_public_variable(path):
    content = yaml.safe_load(path.read_text())
    # A file of variables is a part of the play that names it.
    names = set(content) if isinstance(content, dict) else set(given(content))
    assert names & (PUBLIC.keys() | OF_PLAYBOOKS.keys()) == set()


def other(name: str, option: dict, where: str) -> object:
    """Return a value that the option takes and that is not its default."""
    if name.endswith(("_listen_address", "_scrape_address")):
        return f"192.0.2.{len(name)}:1234"
    if "choices" in option:
        return next(choice for choice in reversed(option["choices"]) if choice != option["default"])
    kinds = {
        "str": f"{where}-{name}",
        "path": f"/{where}/{name}",
        "bool": option["default"] is False,
        "int": 7,
        "list": [{"targets": [where]}] if option.get("elements") == "dict" else [where],
        "dict": {where: name},
    }
    return kinds[option["type"]]


def skeleton(tasks: list[dict]) -> list[dict]:
    """Keep what brings in roles and task files, whatever the condition, and what it hands on."""
    kept = []
    for task in tasks:
        used = {key: value for key, value in task.items() if key.rpartition(".")[2] in INCLUDES}
        if block := skeleton(task.get("block", [])):
            used = {"block": block}
        if used:
            kept.append(
                {key: task[key] for key in ("vars", "loop", "loop_control") if key in task} | used
            )
    return kept


def look(role: str, entry: str) -> dict:
    """Return a task that writes down what a role sees where it is entered."""
    return {
        "ansible.builtin.copy": {
            "content": {
                name: f"{{{{ {name} }}}}" for name in [*options(role), *SEEN.get(role, [])]
            },
            "dest": f"{{{{ answers }}}}/{role}.{entry}.{{{{ inventory_hostname }}}}.json",
            "mode": "0600",
        },
        "delegate_to": "localhost",
        "become": False,
    }


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the collection whose playbooks are real and whose roles only look."""
    root = tmp_path_factory.mktemp("collections")
    copy = root / "ansible_collections/linmonitor/stack"
    for folder in ("playbooks", "plugins", "meta", "files"):
        shutil.copytree(CHECKOUT / folder, copy / folder)
    shutil.copy(CHECKOUT / "versions.yml", copy)
    for role in ROLES:
        for folder in ("defaults", "vars", "meta"):
            shutil.copytree(CHECKOUT / f"roles/{role}/{folder}", copy / f"roles/{role}/{folder}")
        spec = yaml.safe_load((CHECKOUT / f"roles/{role}/meta/argument_specs.yml").read_text())
        for path in (CHECKOUT / f"roles/{role}/tasks").rglob("*.yml"):
            left = copy / path.relative_to(CHECKOUT)
            left.parent.mkdir(parents=True, exist_ok=True)
            tasks = skeleton(yaml.safe_load(path.read_text()))
            entered = path.stem in spec["argument_specs"]
            left.write_text(yaml.safe_dump([*([look(role, path.stem)] if entered else []), *tasks]))
    return root


@pytest.fixture
def deploy(stand_in, tmp_path):
    """Return a function that runs site.yml: what roles saw by entry and host, what Ansible said."""

    def run(where: str, variables: dict) -> tuple[dict[str, dict], str]:
        every: dict[str, dict] = {"builder": {}, "target": {}, "monitor": {}}
        common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory: dict[str, dict] = {
            "all": {
                "hosts": every,
                "vars": common | {"answers": str(tmp_path / "answers")},
                "children": {
                    f"linmonitor_{group}": {"hosts": dict.fromkeys(hosts)}
                    for group, hosts in GROUPS.items()
                },
            }
        }
        for name in {"all": ["all"], "host": every, "group": inventory["all"]["children"]}[where]:
            folder = tmp_path / ("host_vars" if where == "host" else "group_vars")
            folder.mkdir(exist_ok=True)
            (folder / f"{name}.yml").write_text(yaml.safe_dump(variables))
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
        (tmp_path / "answers").mkdir()
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                "--inventory", str(tmp_path / "hosts.yml"), "linmonitor.stack.site",
            ],
            env=os.environ | {
                "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(stand_in),
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        files = (tmp_path / "answers").iterdir()
        seen = {file.name.removesuffix(".json"): json.loads(file.read_text()) for file in files}
        return seen, done.stdout

    return run


@pytest.mark.parametrize("where", ["group", "host"])
def test_every_public_variable_of_an_inventory_reaches_its_role(deploy, where):
    wanted = {name: other(name, option, where) for name, option in PUBLIC.items()}
    wanted["ebpf_exporter_build_method"] = "host"
    wanted["libbpf_version"] = "of the libbpf role"
    seen, _ = deploy(where, wanted)
    assert {answer.split(".")[0] for answer in seen} == set(ROLES)
    for answer, variables in seen.items():
        named = {name: wanted[name] for name in variables if name in wanted}
        assert {name: variables[name] for name in named} == named, answer


def test_what_playbooks_compute_stands_where_the_inventory_is_silent(deploy):
    seen, said = deploy(
        "all",
        {
            "ebpf_exporter_listen_address": "192.0.2.9:9500",
            "prometheus_listen_address": "192.0.2.8:9091",
            "prometheus_scrape_interval": "7s",
            "node_exporter_listen_address": "192.0.2.9:9100",
            "alertmanager_listen_address": "192.0.2.8:9093",
            "alertmanager_external_url": "https://metrics.example.com/alerts/",
            "prometheus_alertmanagers": [{"static_configs": [{"targets": ["192.0.2.5:9093"]}]}],
            "prometheus_external_url": "https://metrics.example.com/prom",
            "prometheus_target_labels": {"rack": "r7"},
            "prometheus_web_config": {
                "tls_server_config": {"cert_file": "/a"},
                "basic_auth_users": {"alice": "secret", "bob": "other"},
            },
            "prometheus_targets": [{"targets": ["192.0.2.7:9100"]}],
            "linmonitor_scrape_sources": ["192.0.2.6"],
            "linmonitor_cache": "/kept",
            "linmonitor_lock": "/kept.lock",
            "linmonitor_serial": [1],
            "bpf_programs_enabled": ["biolatency", "of-our-own"],
        },
    )
    target, prometheus, grafana = (
        seen[answer]
        for answer in (
            "ebpf_exporter.main.target",
            "prometheus.main.monitor",
            "grafana.main.monitor",
        )
    )
    assert target["ebpf_exporter_allowed_sources"] == ["localhost", "192.0.2.6"]
    found = [entry["targets"] for entry in prometheus["__prometheus_targets"]]
    assert found == [["192.0.2.9:9500"], ["192.0.2.9:9500"], ["192.0.2.7:9100"]]
    nodes = [entry["targets"] for entry in prometheus["__prometheus_node_targets"]]
    assert nodes == [["192.0.2.9:9100"], ["192.0.2.9:9100"]]
    assert seen["node_exporter.main.target"]["node_exporter_allowed_sources"] == [
        "localhost",
        "192.0.2.6",
    ]
    assert prometheus["__prometheus_alertmanagers"] == [
        {"path_prefix": "/alerts", "static_configs": [{"targets": ["192.0.2.8:9093"]}]},
        {"static_configs": [{"targets": ["192.0.2.5:9093"]}]},
    ]
    (watched,) = prometheus["__prometheus_alertmanager_targets"]
    assert watched["targets"] == ["192.0.2.8:9093"]
    assert watched["labels"]["__metrics_path__"] == "/alerts/metrics"
    racks = [entry.get("labels", {}).get("rack") for entry in prometheus["__prometheus_targets"]]
    assert racks == ["r7", "r7", None]
    assert {"of-our-own", "tcp-rtt"} < set(prometheus["__prometheus_configs"])
    assert said.count("PLAY [Run the exporter on the targets]") == len(GROUPS["targets"])
    assert grafana["grafana_prometheus_url"] == "https://192.0.2.8:9091/prom"
    assert grafana["grafana_prometheus_user"] == "alice"
    assert grafana["grafana_prometheus_password"] == "secret"
    assert grafana["grafana_scrape_interval"] == "7s"
    for variables in (target, prometheus, grafana, seen["ebpf_exporter.build.builder"]):
        assert {value for name, value in variables.items() if name.endswith("_cache")} == {"/kept"}
    assert target["__ebpf_exporter_lock"] == prometheus["__prometheus_lock"] == "/kept.lock"
