# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks work under the reader's own settings of Ansible, and by their tags."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
PLAYBOOKS = sorted((CHECKOUT / "playbooks").glob("*.yml"))
ROLES = CHECKOUT / "roles"
TASK_FILES = sorted(ROLES.glob("*/tasks/**/*.yml"))
# What people call; the rest is imported, or contacts no host.
VERBS = sorted(
    {path.stem for path in PLAYBOOKS} - {"export", "grafana", "summary", "unpack", "variables"}
)
GROUPS = ("build", "targets", "node_exporter", "alertmanager", "prometheus", "grafana")
# Parts of site.yml, and the play that each has to itself.
PARTS = {
    "build": "linmonitor_build",
    "ebpf_exporter": "linmonitor_targets",
    "node_exporter": "linmonitor_node_exporter",
    "alertmanager": "linmonitor_alertmanager",
    "prometheus": "linmonitor_prometheus",
    "grafana": "linmonitor_grafana",
}
# What a tag of settings alone must leave out of each role, and what it must not leave out.
LEFT_OUT = {
    "ebpf_exporter": ("build",),
    "prometheus": ("archive", "archive.yml", "server/install.yml"),
    "grafana": ("package", "repository", "export.yml"),
}
TAKEN = {
    "ebpf_exporter": {"Have the release on, whole and healthy"},
    "prometheus": {"Run the server with its unit, configuration, targets and rules"},
    "grafana": {
        "Write secrets, dashboards, settings and provisioning",
        "Run the service, afresh where something changed, and at boot",
        "Refuse to configure what is not installed",
    },
}
NESTING = ("block", "import_tasks", "include_tasks", "include_role", "import_role")
# What only the linear strategy does: the word and where it is used.
LINEAR = re.compile(r"run_once|add_host|ansible_play_hosts", re.M)
FOREIGN_NAMES = re.compile(
    rf"linmonitor_({'|'.join(GROUPS)})\b|playbooks/|"
    rf"\b({'|'.join(path.stem for path in PLAYBOOKS)})\.yml"
)


def run(*arguments: str | Path, **environment: str) -> str:
    """Run ansible-playbook on all groups of one host that nobody contacts; return what it says."""
    groups = "".join(f"[linmonitor_{group}]\nbox\n" for group in GROUPS)
    folder = Path(environment.pop("folder"))
    (folder / "hosts").write_text(environment.pop("inventory", groups))
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", folder / "hosts", *arguments],
        env=os.environ | {"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")} | environment,
        cwd=CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def tasks(listing: str) -> dict[str, list[str]]:
    """Read --list-tasks as the tasks of each play's hosts, without those that always run."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^  play #\d+ ", listing, flags=re.M)[1:]:
        hosts = re.match(r"\(([^)]*)\)", part)[1]
        lines = re.findall(r"^      (.*?)\tTAGS: \[(.*)\]", part, re.M)
        found.setdefault(hosts, []).extend(n for n, tags in lines if "always" not in tags)
    return {hosts: names for hosts, names in found.items() if names}


@pytest.mark.parametrize("tag", PARTS)
def test_a_tag_does_its_part_of_site_and_nothing_else(tag, tmp_path):
    listed = tasks(run("site.yml", "--list-tasks", "--tags", tag, folder=str(tmp_path)))
    extra = {"linmonitor_build:linmonitor_targets"} if tag == "build" else set()
    assert set(listed) == {PARTS[tag]} | extra


def names(node: object) -> Iterator[str]:
    """Give the names of tasks that do something themselves."""
    for task in node if isinstance(node, list) else []:
        if not any(key in task or f"ansible.builtin.{key}" in task for key in NESTING):
            yield task["name"]
        for section in ("block", "rescue", "always"):
            yield from names(task.get(section))


@pytest.mark.parametrize("role", LEFT_OUT)
def test_a_tag_of_settings_applies_them_and_installs_nothing(role, tmp_path):
    listed = tasks(
        run("site.yml", "--list-tasks", "--tags", f"{role}_config", folder=str(tmp_path))
    )
    assert set(listed) == {PARTS[role]}
    shown = {name.split(" : ")[-1] for name in listed[PARTS[role]]}
    assert shown >= TAKEN[role]
    room = ROLES / role / "tasks"
    steps = {
        name
        for part in LEFT_OUT[role]
        for path in ([room / part] if part.endswith(".yml") else (room / part).glob("*.yml"))
        for name in names(yaml.safe_load(path.read_text()))
    }
    assert len(steps) > 4
    assert shown & steps == set()


def test_what_a_tag_of_settings_needs_costs_other_runs_no_task(tmp_path):
    needed = "Refuse to configure what is not installed"
    for tag, listed in (("ebpf_exporter_config", True), ("ebpf_exporter", True), ("all", False)):
        shown = run("site.yml", "--list-tasks", "--tags", tag, folder=str(tmp_path))
        assert (f"linmonitor.stack.ebpf_exporter : {needed}" in shown) == listed, tag


def test_a_skipped_tag_leaves_the_other_parts(tmp_path):
    whole, less = (
        run("site.yml", "--list-tasks", *skipped, folder=str(tmp_path))
        for skipped in ([], ["--skip-tags", "grafana"])
    )
    assert "linmonitor.stack.grafana : " in whole
    assert "linmonitor.stack.grafana : " not in less
    # The summary asks a Grafana that is there.
    assert set(tasks(less)) == set(tasks(whole)) >= set(PARTS.values())


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_plays_that_need_the_linear_strategy_say_so(playbook):
    for play in yaml.safe_load(playbook.read_text()):
        text = yaml.safe_dump(play)
        included = re.findall(r"tasks/(\w+\.yml)", text)
        text += "".join((playbook.parent / "tasks" / name).read_text() for name in included)
        if LINEAR.search(text):
            assert play.get("strategy") == "ansible.builtin.linear", play["name"]


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_an_installed_playbook_can_be_called_by_its_name(playbook):
    # linmonitor.stack.NAME has no dashes: Ansible takes such a name for a path.
    assert playbook.stem.isidentifier()


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: str(path.relative_to(ROLES)))
def test_roles_need_no_strategy_and_name_nothing_that_only_playbooks_have(path):
    text = path.read_text()
    assert not LINEAR.search(text)
    for line in text.splitlines():
        if not re.search(r"^ *#|(import|include)_tasks:|file:", line):
            assert not FOREIGN_NAMES.search(line), line


@pytest.mark.parametrize("strategy", ["free", "host_pinned"])
def test_a_misspelled_variable_ends_every_playbook_before_it_begins(strategy, tmp_path):
    said = run(
        "site.yml", "--check", "-e", "ebpf_exporter_listen_adress=::", folder=str(tmp_path),
        ANSIBLE_STRATEGY=strategy, ANSIBLE_SSH_ARGS="-F none -o ConnectTimeout=1",
    )  # fmt: skip
    said = " ".join(said.split())
    assert "did you mean ebpf_exporter_listen_address?" in said
    # Hosts and variables are looked at, nothing else.
    assert said.count("PLAY [") == 2


@pytest.mark.parametrize("inventory", ["", "[web]\nbox\n"])
@pytest.mark.parametrize("playbook", VERBS)
def test_an_inventory_without_our_groups_is_no_run_where_all_is_well(playbook, inventory, tmp_path):
    said = run(f"playbooks/{playbook}.yml", inventory=inventory, folder=str(tmp_path))
    said = " ".join(said.split())
    assert "has none of the groups linmonitor_alertmanager" in said
    assert said.count("PLAY [") == 1 and "failed=1" in said


def test_verify_says_so_where_no_prometheus_can_be_asked(tmp_path):
    said = run("playbooks/verify.yml", "-e", "prometheus_mode=agent", folder=str(tmp_path))
    assert "no host of linmonitor_prometheus answers queries" in " ".join(said.split())
