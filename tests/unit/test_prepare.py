# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller is prepared on each distribution, without a question."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

CHECKOUT = Path(__file__).parents[2]
INSTALL = CHECKOUT / "tests/lab/packages/install"
PACKAGES = CHECKOUT / "tests/lab/packages"
LOCKED = re.compile(r"^(\S+==\S+(?: ; [^\\]*?)?) \\$", re.M)


def system(folder: Path, installed: str, offered: str) -> dict[str, str]:
    """Put a distribution in place: what it has installed, what its archive offers."""
    programs = {
        "dpkg-query": f'for last; do :; done; case " {installed} " in *" $last "*) '
        'printf "installed " ;; *) exit 1 ;; esac',
        "apt-cache": f'case " {offered} " in *" $2 "*) echo "  Candidate: 1.0" ;; '
        '*) echo "  Candidate: (none)" ;; esac',
        "apt-get": 'echo "$DEBIAN_FRONTEND $NEEDRESTART_SUSPEND $@" >> "$LOG"',
    }
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "LOG": str(folder / "log")}


def install(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [INSTALL, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_the_first_alternative_that_is_offered_is_installed(tmp_path):
    offered = "linux-tools-generic containernetworking-plugins busybox-static cargo"
    names = {line for file in PACKAGES.glob("*.txt") for line in file.read_text().splitlines()}
    single = " ".join(line for line in names if "|" not in line and "#" not in line)
    dnsname = "golang-github-containernetworking-plugin-dnsname"
    environment = system(tmp_path, "podman", f"{offered} {single} {dnsname}")
    assert install(environment, "demo", "test").returncode == 0
    update, done = (tmp_path / "log").read_text().splitlines()
    assert update.startswith("noninteractive 1 ") and update.endswith(" update")
    wanted = done.split("--no-install-recommends ")[1].split()
    assert "linux-tools-generic" in wanted and "bpftool" not in wanted
    assert "containernetworking-plugins" in wanted and "netavark" not in wanted
    assert "podman" not in wanted


def test_a_package_that_no_alternative_offers_is_named(tmp_path):
    done = install(system(tmp_path, "", ""), "nosuch")
    assert done.returncode == 1
    assert "no package nosuch" in done.stderr


def test_what_is_there_is_left_alone(tmp_path):
    environment = system(tmp_path, "a b", "")
    assert install(environment, "a", "b").returncode == 0
    assert not (tmp_path / "log").exists()
    assert install(environment, "--missing", "a", "c").stdout == "c\n"


LOCKED_LISTS = "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 7 (apt-get)"


@pytest.mark.parametrize(
    "message, answers, updates",
    [
        (LOCKED_LISTS, 2, 3),
        # Ten minutes, in steps of five seconds.
        (LOCKED_LISTS, 1000, 121),
        ("E: The repository is not signed.", 1, 1),
    ],
)
def test_lists_that_another_one_reads_are_waited_for(tmp_path, message, answers, updates):
    environment = system(tmp_path, "", "make")
    (tmp_path / "apt-get").write_text(
        '#!/bin/sh\necho "$@" >> "$LOG"\ncase "$*" in *" update") ;; *) exit ;; esac\n'
        f'[ "$(wc -l < "$LOG")" -gt {answers} ] || {{ echo "{message}" >&2; exit 100; }}\n'
    )
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "sleep").chmod(0o755)
    done = install(environment, "make")
    log = (tmp_path / "log").read_text().splitlines()
    assert sum(line.endswith(" update") for line in log) == updates
    recovers = answers < updates
    assert (done.returncode == 0) is recovers
    assert log[-1].endswith("make" if recovers else " update")
    assert (message in done.stderr) is not recovers


PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14"]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("level", ["", "-demo", "-dev"])
def test_each_python_gets_one_core_with_its_hash(python, level):
    if level == "-dev" and python == "3.10":
        pytest.skip("the tests need Python 3.11")
    text = (CHECKOUT / f"requirements{level}.txt").read_text()
    here = {"python_version": python, "python_full_version": f"{python}.1"}
    found = [one for one in map(Requirement, LOCKED.findall(text)) if one.name == "ansible-core"]
    (core,) = [one for one in found if not one.marker or one.marker.evaluate(here)]
    minor = {"3.10": "2.17", "3.14": "2.20"}.get(python, "2.19")
    assert str(core.specifier).startswith(f"=={minor}.")


def test_every_python_that_gets_a_core_is_looked_for():
    looked = re.search(r"\$\{PYTHON:-(.*)\}", (CHECKOUT / "tests/lab/prepare").read_text())
    assert looked and set(looked[1].split()) == {"python3", *(f"python{one}" for one in PYTHONS)}


def test_the_demo_and_the_tests_run_the_operators_core():
    cores = [
        set(re.findall(r"^ansible-core==\S+", (CHECKOUT / name).read_text(), re.M))
        for name in ("requirements.txt", "requirements-demo.txt", "requirements-dev.txt")
    ]
    assert cores[0] == cores[1] >= cores[2]


@pytest.mark.parametrize("program", [INSTALL, CHECKOUT / "tests/lab/prepare"])
def test_scripts_are_bash_and_executable(program):
    assert os.access(program, os.X_OK)
    assert subprocess.run(["bash", "-n", program], check=False).returncode == 0
