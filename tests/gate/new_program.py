# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the folder of a new BPF program from the template, and say what is still missing.

python -m tests.gate.new_program NAME
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from tests.gate import PROGRAMS, missing

TEMPLATE = Path(__file__).with_name("template")
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write(root: Path, name: str) -> Path:
    """Write the folder of a program called `name` below `root`."""
    if not NAME.fullmatch(name):
        raise ValueError(f"a program's name is lower-case words joined by -, not '{name}'")
    folder = root / name
    if folder.exists():
        raise ValueError(f"{folder} is there already")
    folder.mkdir()
    for source in sorted(TEMPLATE.iterdir()):
        own = source.name in ("program.yml", "README.md")
        target = folder / (source.name if own else source.name.replace("program", name))
        text = source.read_text().replace("METRIC", name.replace("-", "_")).replace("NAME", name)
        target.write_text(text)
    return folder


def main() -> None:
    """Write the folder and list what the gate asks for."""
    parser = argparse.ArgumentParser(prog="make new-program NAME=…", description=__doc__)
    parser.add_argument("name", help="such as tcp-rtt")
    options = parser.parse_args()
    try:
        folder = write(PROGRAMS, options.name)
    except ValueError as error:
        sys.exit(str(error))
    print(f"{folder.relative_to(PROGRAMS.parents[1])} is written; still missing:")
    print(*(f"- {text}" for text in missing()), sep="\n")
    print("How: files/bpf/README.md. Look again: pytest tests/unit/test_gate.py")


if __name__ == "__main__":
    main()
