# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run parts of the test suite, one after the other, with their times.

Without names it runs what a change must pass. With a budget it goes on to the others in the order
of what they are worth, each only if what it took last fits. Every part runs even if an earlier one
failed; the last lines say what passed, what failed and what was not run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

from tests.lab.cache import cache

CHECKOUT = Path(__file__).resolve().parents[1]


class Part(NamedTuple):
    """Commands, and their minutes on two cores with warm caches until a run here says better."""

    minutes: float
    commands: list[list[str]]


def scenario(name: str, minutes: float) -> Part:
    """Return a molecule scenario."""
    return Part(minutes, [["molecule", "test", "--scenario-name", name]])


def on_artifact(*module: str, architecture: str = "x86_64") -> list[str]:
    """Return a command that gets the unpacked artifact of an architecture."""
    artifact = ["python", "-m", "tests.lab.artifact", "--architecture", architecture]
    return [*artifact, "python", "-m", *module]


C_FILES = [str(path) for path in sorted(CHECKOUT.glob("files/bpf/*/*.[ch]"))]
# What `make test` runs.
TEST = ("lint", "unit", "default", "short-matrix", "rules")
# In the order of what they are worth, with their minutes. Grafana is a stand-in in all of them.
SCENARIOS = {
    "default": 4,
    "fleet": 7,
    "upgrade": 7,
    "check-first": 3,
    "import-role": 3,
    "alerting": 4,
    "strangers": 8,
    "grafana": 7,
    "rename": 7,
    "grafana-foreign": 9,
}
FOLDERS = sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))
RACES = ("--kernel", "5.10", "--kernel", "6.1", "--only", "two_disks|ten_thousand|errors_taken")
# In the order of what they are worth.
PARTS: dict[str, Part] = {
    "lint": Part(
        3,
        [
            ["yamllint", "--strict", "."],
            ["ruff", "check", "."],
            ["ruff", "format", "--check", "."],
            ["clang-format", "--dry-run", "-Werror", *C_FILES],
            ["mypy"],
            ["antsibull-changelog", "lint"],
            # A home of its own: it installs a copy of the collection there and lints against that.
            ["env", "ANSIBLE_HOME=.ansible", "ansible-lint", "--offline"],
        ],
    ),
    "unit": Part(5, [["pytest", "--numprocesses=2", "--quiet", "tests/unit"]]),
    # Builds the artifact and Prometheus, which the parts below use.
    "default": scenario("default", SCENARIOS["default"]),
    "short-matrix": Part(5, [on_artifact("tests.kernel.matrix", "--short")]),
    "rules": Part(
        2,
        [["pytest", "-n2", "--quiet", "-m", "not between", "tests/rules", "tests/dashboards"]],
    ),
    "sanity": Part(4, [["tests/sanity/run"], ["tests/sanity/importer"]]),
    "matrix": Part(12, [on_artifact("tests.kernel.matrix")]),
    **{name: scenario(name, minutes) for name, minutes in SCENARIOS.items() if name not in TEST},
    **{name: scenario(name, 7) for name in FOLDERS if name not in SCENARIOS},
    "faults": Part(25, [["pytest", "--quiet", "tests/faults"]]),
    "prometheus": Part(
        13,
        [
            ["pytest", "--quiet", "tests/prometheus"],
            ["pytest", "-n2", "--quiet", "-m", "between", "tests/rules", "tests/dashboards"],
        ],
    ),
    # `make stores` takes all engines; these two need no compiler.
    "stores": Part(8, [on_artifact("tests.stores", "prometheus", "victoria-debian")]),
    # Alerts for faults that containers cannot have, in an emulated machine.
    "alerts": Part(6, [on_artifact("tests.dashboards.vm_alerts")]),
    # The oldest core on the oldest host, the newest on the newest, and an Ubuntu; what this machine
    # lacks is named.
    "compatibility": Part(15, [["python", "-m", "tests.compatibility", "--diagonal"]]),
    # What two processors do to each other, which those that take turns do not meet.
    "races": Part(8, [on_artifact("tests.kernel.matrix", "--races", *RACES)]),
    # The programs and the exporter of the other architecture, on an emulated processor.
    "arm64": Part(15, [on_artifact("tests.kernel.matrix", "--short", architecture="aarch64")]),
    # Ubuntu's kernels, and Debian's for clouds.
    "others": Part(16, [on_artifact("tests.kernel.matrix", "--others")]),
    "boot": Part(12, [["pytest", "--quiet", "tests/boot"]]),
    "builds": Part(10, [["pytest", "--quiet", "-s", "tests/builds"]]),
    "compilers": Part(12, [["pytest", "--quiet", "tests/compilers"]]),
    "fuzz": Part(8, [["python", "tests/fuzz/fuzz_btf.py", "--inputs", "1000000"]]),
}


# Lines of a part that failed, said again beside the summary, and how long one may be: of a long run
# its end is read, and often nothing else was kept.
LAST_WORDS = 15
LONG_LINE = 300


class Times:
    """What each part took when it last passed, kept in the user's cache."""

    def __init__(self) -> None:
        self.file = cache() / "test-times.json"
        self.seconds: dict[str, float] = {}
        if self.file.exists():
            self.seconds = json.loads(self.file.read_text())

    def expected(self, part: str) -> float:
        """Return the seconds that a part will probably take."""
        return self.seconds.get(part, PARTS[part].minutes * 60)

    def passed(self, part: str, seconds: float) -> None:
        """Remember what a part took."""
        self.seconds[part] = round(seconds)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(self.seconds, indent=1))


def run_command(command: list[str]) -> list[str]:
    """Run a command, showing what it prints; return its last words if it failed."""
    print(f"$ {' '.join(command)}", flush=True)
    words: deque[str] = deque(maxlen=LAST_WORDS)
    with subprocess.Popen(
        command,
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            if line.strip():
                words.append(line.rstrip()[:LONG_LINE])
    return [*words, f"exit code {process.returncode}"] if process.returncode else []


def run_part(commands: list[list[str]]) -> list[str]:
    """Run a part's commands, all of them; return the last words of those that failed."""
    return [line for command in commands for line in run_command(command)]


def minutes(text: str) -> float:
    """Read a budget as in 75m; return seconds."""
    if not text.endswith("m"):
        raise argparse.ArgumentTypeError("give minutes, as in 75m")
    return float(text[:-1]) * 60


def run(wanted: list[str], optional: list[str], budget: float) -> int:
    """Run the wanted parts, then those of the others that fit; print the summary."""
    times, began = Times(), time.monotonic()
    results: dict[str, tuple[list[str], float]] = {}
    for part in [*wanted, *optional]:
        spent, expected = time.monotonic() - began, times.expected(part)
        if part in optional and spent + expected > budget:
            continue
        about = f"{expected / 60:.0f} min expected, {spent / 60:.0f} min spent"
        print(f"\n=== {part}: {about}, load {os.getloadavg()[0]:.1f}", flush=True)
        started = time.monotonic()
        words = run_part(PARTS[part].commands)
        results[part] = (words, time.monotonic() - started)
        if not words:
            times.passed(part, results[part][1])

    for part, (words, _) in results.items():
        if words:
            print(f"\n=== the last words of {part}", *words, sep="\n")
    print("\n=== summary")
    for part, (words, seconds) in results.items():
        print(f"{'FAILED' if words else 'passed':8}{seconds:6.0f} s  {part}")
    print("not run:", ", ".join(part for part in PARTS if part not in results) or "nothing")
    failed = sum(bool(words) for words, _ in results.values())
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main() -> int:
    """Run the parts named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"any of: {', '.join(PARTS)}; default: {TEST}"
    )
    parser.add_argument("--all", action="store_true", help="every part there is")
    parser.add_argument(
        "--budget", type=minutes, default=0, metavar="75m",
        help="go on with the other parts as long as they fit",
    )  # fmt: skip
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    wanted = list(PARTS) if options.all else options.parts or list(TEST)
    others = [part for part in PARTS if part not in wanted] if options.budget else []
    return run(wanted, others, options.budget)


if __name__ == "__main__":
    sys.exit(main())
