# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What pages tell people to type exists: verbs, playbooks, roles, scenarios, flags."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.cli.playbook import PlaybookCLI

CHECKOUT = Path(__file__).parents[2]
PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
MAKEFILE = (CHECKOUT / "Makefile").read_text()
VERBS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.M))
VARIABLES = {"ARGS", "INVENTORY", "PYTHON", "PROMETHEUS", "GRAFANA_URL", "GRAFANA_PASSWORD"}
FILTERS = {
    name
    for path in CHECKOUT.glob("plugins/filter/*.py")
    for name in re.findall(r'"(\w+)"', path.read_text().rpartition("def filters")[2])
}
# What an installed collection and a clone have by name.
NAMED = {
    *(path.stem for path in CHECKOUT.glob("playbooks/*.yml")),
    *(path.name for path in CHECKOUT.glob("roles/*")),
    *(path.stem for path in CHECKOUT.glob("plugins/*/*.py")),
    *FILTERS,
    "*",
}

COLLECTED = {f"linmonitor.stack.{path.stem}" for path in CHECKOUT.glob("playbooks/*.yml")}


def commands(page: Path) -> list[str]:
    """Return the commands of a page: lines of its blocks, and code between backticks."""
    text = page.read_text()
    blocks = [block for language, block in BLOCK.findall(text) if language in ("", "sh")]
    prose = BLOCK.sub("", text)
    inline = re.findall(r"`([^`]+)`", prose)
    indented = re.findall(r"^    (\S.*)$", prose, re.M)
    lines = [line for block in blocks for line in block.splitlines()] + inline + indented
    return [line.strip() for line in lines]


def words(command: str) -> list[str]:
    """Split a command as a shell would, without its comment."""
    try:
        return shlex.split(command, comments=True)
    except ValueError:
        return []


def typed(page: Path, *program: str) -> list[list[str]]:
    """Return the arguments that a page gives to a program."""
    found = []
    for command in commands(page):
        split = words(command)
        while split and (split[0] == "sudo" or re.match(r"[A-Z_]+=", split[0])):
            split.pop(0)
        if split and (split[0].removeprefix(".venv/bin/"), *split[1 : len(program)]) == program:
            found.append(split[len(program) :])
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_verbs_of_make_exist(page):
    for arguments in typed(page, "make"):
        named = [word for word in arguments if re.fullmatch(r"[a-z-]+", word)]
        assert set(named) <= VERBS
        assert {word.split("=")[0] for word in arguments if "=" in word} <= VARIABLES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_playbooks_exist(page):
    text = page.read_text()
    for path in re.findall(r"\b(playbooks/[\w-]+\.yml)", text):
        assert (CHECKOUT / path).is_file(), path
    for name in re.findall(r"\blinmonitor\.stack\.(\w+|\*)", text):
        assert name in NAMED, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_of_ansible_playbook_exist(page):
    for arguments in typed(page, "ansible-playbook"):
        cli = PlaybookCLI(["ansible-playbook", *arguments])
        cli.init_parser()
        named = [word for word in arguments if word.endswith(".yml") or word in COLLECTED]
        # A mention in the middle of a sentence has no playbook behind it.
        _, unknown = cli.parser.parse_known_args(arguments if named else [*arguments, "site.yml"])
        assert unknown == []
        for playbook in named:
            assert playbook in COLLECTED or (CHECKOUT / playbook).is_file(), playbook


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scenarios_exist(page):
    for arguments in typed(page, "molecule", "test"):
        if "-s" in arguments:
            scenario = arguments[arguments.index("-s") + 1]
            assert (CHECKOUT / "molecule" / scenario / "molecule.yml").is_file(), scenario


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_of_the_tests_exist_with_their_flags(page):
    for module, *arguments in typed(page, "python", "-m"):
        if not module.startswith("tests."):
            continue
        found = importlib.util.find_spec(module)
        assert found, module
        source = Path(found.origin).read_text()
        for flag in (word for word in arguments if word.startswith("--")):
            assert f'"{flag}"' in source, flag


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_something_is_looked_at():
    readme = CHECKOUT / "README.md"
    assert typed(readme, "make") and typed(readme, "ansible-playbook")


def plays(page: Path) -> list[str]:
    """Return the examples of a page that are whole playbooks."""
    return [
        block for language, block in BLOCK.findall(page.read_text())
        if language == "yaml" and re.search(r"^- (hosts|ansible.builtin.import_playbook):", block)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "playbook",
    [
        pytest.param(one, id=f"{page.name}-{n}")
        for page in PAGES
        for n, one in enumerate(plays(page))
    ],
)
def test_example_playbooks_are_ansible(playbook, tmp_path):
    path = tmp_path / "play.yml"
    path.write_text(playbook)
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [program, "--syntax-check", "--inventory", "databases,", path],
        cwd=CHECKOUT, env={"ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg"), "HOME": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
