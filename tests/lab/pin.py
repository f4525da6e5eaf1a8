# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the rows of versions.yml for another version of the exporter, as the Go proxy gives it.

What they say is what Go's checksum database vouches for; whether the set fits together is for the
build and the tests to show, so a person puts the rows in.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import yaml

from plugins.module_utils import _sources
from tests.lab.hosts import CHECKOUT, LabError, run

LIBBPFGO = "github.com/aquasecurity/libbpfgo"


def rows(version: str) -> dict:
    """Return the rows `exporter` and `sets` of a version; LabError where it cannot be had."""
    pins = yaml.safe_load((CHECKOUT / "versions.yml").read_text())
    known = list(pins["exporter"].values())[-1]
    found = json.loads(run("go", "mod", "download", "-json", f"{known['module']}@v{version}"))
    tree = Path(found["Dir"])
    wants = (tree / "go.mod").read_text()
    libbpfgo = re.search(rf"{LIBBPFGO} (\S+)", wants)[1]
    exporter = {
        "module": known["module"],
        "h1": found["Sum"],
        "commit": found["Origin"]["Hash"],
        "tree": _sources.tree_sha256(str(tree), known["tree_paths"]),
        "tree_paths": known["tree_paths"],
        "go": re.search(r"^go (\d+\.\d+)", wants, re.MULTILINE)[1],
    }
    # libbpfgo says in its version which libbpf it was written against.
    libbpf = libbpfgo.rpartition("libbpf-")[2]
    pair = {"exporter": version, "libbpf": libbpf, "libbpfgo": libbpfgo, "sums": []}
    if libbpf not in pins["libbpf"]:
        print(f"pin: libbpf {libbpf} has no row in versions.yml yet", file=sys.stderr)
    return {"sets": [pair], "exporter": {version: exporter}}


def main() -> int:
    """Command line: the version."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.pin", description=__doc__)
    parser.add_argument("version", help="of ebpf_exporter, without the v")
    try:
        print(yaml.safe_dump(rows(parser.parse_args().version), sort_keys=False, width=200))
    except LabError as error:
        print(f"pin: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
