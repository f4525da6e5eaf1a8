# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write manifest.json of an artifact: its inputs, files and joined catalogue.

What people know comes from each program.yml; metrics and labels come from the
exporter configs, hooks and maps from the compiled objects. A config whose YAML
and objects disagree stops the build here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import yaml
from catalogue import load
from object_maps import read_object

PREFIX = "ebpf_exporter_"
# Raised when what reads a manifest has to change: chooser, modules, playbooks.
FORMAT = 2


def key_size(metric: dict) -> int:
    """Return the size of the map key that a metric's labels describe."""
    labels = metric["labels"]
    return sum(label["size"] + label.get("padding", 0) for label in labels) or 4


def slots(histogram: dict) -> int:
    """Return a histogram's number of buckets, +Inf not counted."""
    if histogram["bucket_type"] == "fixed":
        return len(histogram["bucket_keys"])
    return histogram["bucket_max"] - histogram.get("bucket_min", 0) + 1


def series(kind: str, metric: dict, max_entries: int) -> int:
    """Return the most series a metric can have, as its map bounds them."""
    if kind == "counter":
        return max_entries
    # A label set takes an entry per bucket and one for the sum in the map, and
    # is shown with +Inf, sum and count.
    return max_entries // (slots(metric) + 1) * (slots(metric) + 3)


def metrics_of(
    config: str, exporter_config: dict, variants: list[dict], known: dict[str, dict]
) -> list[dict]:
    """Join a config's metrics with the maps that all its variants must have."""
    joined = []
    declared = {metric["name"] for kind in exporter_config["metrics"].values() for metric in kind}
    if not known.keys() <= declared:
        unknown = ", ".join(sorted(known.keys() - declared))
        raise ValueError(f"{config}: its program.yml names {unknown}, its YAML does not")
    for kind in ("counter", "histogram"):
        for metric in exporter_config["metrics"].get(kind + "s", []):
            name = metric["name"]
            first, *others = [{m["name"]: m for m in v["maps"]}.get(name) for v in variants]
            if first is None or any(other != first for other in others):
                raise ValueError(f"{config}: the variants do not share one map {name}")
            if (first["key_size"], first["value_size"]) != (key_size(metric), 8):
                raise ValueError(f"{config}: labels of {name} do not fit its map {first}")
            labels = [label["name"] for label in metric["labels"]]
            joined.append(
                {
                    **known.get(name, {}),
                    "name": PREFIX + name,
                    "type": kind,
                    "labels": labels[:-1] if kind == "histogram" else labels,
                    "max_series": series(kind, metric, first["max_entries"]),
                }
            )
    return sorted(joined, key=lambda metric: metric["name"])


def join(catalogue: dict, programs: Path) -> dict:
    """Add to a catalogue what YAML and objects below `programs` say."""
    for config, entry in catalogue["configs"].items():
        folder = programs / config
        for variant in entry["variants"]:
            variant.update(read_object(folder / f"{variant['name']}.bpf.o"))
        exporter_config = yaml.safe_load((folder / f"{config}.yaml").read_text(encoding="utf-8"))
        known = entry["metrics"]
        entry["metrics"] = metrics_of(config, exporter_config, entry["variants"], known)
        entry["max_series"] = sum(metric["max_series"] for metric in entry["metrics"])
    return catalogue


def checksums(root: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder but the manifest."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and path != root / "manifest.json"
    }


def main() -> None:
    """Write `<root>/manifest.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="the artifact's folder")
    parser.add_argument(
        "--inputs",
        type=Path,
        required=True,
        help="JSON object with key, arch, inputs and observed; copied as it is",
    )
    parser.add_argument(
        "--source",
        type=Path,
        action="append",
        help="folder of the programs in the artifact; may be given again (default: ours)",
    )
    options = parser.parse_args()
    try:
        catalogue = load(options.source or [Path(__file__).parents[1]])
        join(catalogue, options.root / "programs")
    except ValueError as error:
        sys.exit(str(error))
    declared = json.loads(options.inputs.read_text(encoding="utf-8"))
    manifest = {
        "format": FORMAT,
        **{name: declared[name] for name in ("key", "arch", "inputs", "observed")},
        "files": checksums(options.root),
        "catalogue": catalogue,
    }
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    (options.root / "manifest.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
