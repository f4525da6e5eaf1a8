# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the named parts of the test suite, one after the other, with their times.

Every part runs even if an earlier one failed; the last lines say what passed,
what failed and what was not run at all.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def scenarios(*names: str) -> list[list[str]]:
    """Return the commands of molecule scenarios."""
    return [["molecule", "test", "--scenario-name", name] for name in names]


PARTS: dict[str, list[list[str]]] = {
    "lint": [
        ["yamllint", "--strict", "."],
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        # A home of its own: it installs a copy of the collection there and lints against that.
        ["env", "ANSIBLE_HOME=.ansible", "ansible-lint", "--offline", "--profile", "production"],
    ],
    "unit": [["pytest", "--numprocesses=2", "--quiet", "tests/unit"]],
    "molecule": scenarios("default"),
    # On the artifact that molecule built.
    "matrix": [["python", "-m", "tests.lab.artifact", "python", "-m", "tests.kernel.matrix"]],
    # After molecule, whose build of Prometheus brings promtool.
    "rules": [["pytest", "--numprocesses=2", "--quiet", "tests/rules", "tests/dashboards"]],
    "fleet": scenarios("fleet", "upgrade"),
    # With a stand-in for Grafana's package.
    "grafana": scenarios("grafana", "grafana-foreign"),
    "sanity": [["tests/sanity/run"]],
    "scenarios": scenarios("check-first", "import-role", "airgap", "airgap-build", "live"),
    # Alerts for faults that containers cannot have, in an emulated machine.
    "alerts": [
        ["python", "-m", "tests.lab.artifact", "python", "-m", "tests.dashboards.vm_alerts"]
    ],
    "boot": [["pytest", "--quiet", "tests/boot"]],
    "builds": [["pytest", "--quiet", "-s", "tests/builds"]],
    "compilers": [["pytest", "--quiet", "tests/compilers"]],
    "faults": [["pytest", "--quiet", "tests/faults"]],
    "fuzz": [["python", "tests/fuzz/fuzz_btf.py", "--inputs", "1000000"]],
}


def run_part(commands: list[list[str]]) -> bool:
    """Run a part's commands; say whether all of them succeeded."""
    passed = True
    for command in commands:
        print(f"$ {' '.join(command)}", flush=True)
        passed &= subprocess.run(command, cwd=CHECKOUT, check=False).returncode == 0
    return passed


def main() -> int:
    """Run the parts named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.run", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part")
    parser.add_argument("--all", action="store_true", help="every part there is")
    options = parser.parse_args()
    wanted = list(PARTS) if options.all else options.parts
    results: dict[str, tuple[bool, float]] = {}
    for part in wanted:
        print(f"\n=== {part}", flush=True)
        started = time.monotonic()
        passed = run_part(PARTS[part])
        results[part] = (passed, time.monotonic() - started)

    print("\n=== summary")
    for part, (passed, seconds) in results.items():
        print(f"{'passed' if passed else 'FAILED':8}{seconds:6.0f} s  {part}")
    for part, commands in PARTS.items():
        if part not in results:
            several = f": {', '.join(command[-1] for command in commands)}" * (len(commands) > 1)
            print(f"{'not run':18}{part}{several}")
    failed = sum(not passed for passed, _ in results.values())
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
