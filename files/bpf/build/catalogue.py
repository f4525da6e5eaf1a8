# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Join what people know about the programs: a folder has one folder per program.

As a script: print `<config>/<variant>` for every object that a folder asks for.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

# What a program.yml may say, and what its variants and metrics may.
PROGRAM = {"summary", "sets", "variants", "metrics"}
VARIANT = {"name", "requires", "cost"}
METRIC = {"unit", "meaning", "normal", "action", "alerts", "verify"}
# libyaml where it is there: the controller reads all programs for each host.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _mapping(place: str, value: object, words: set[str] | None = None) -> dict:
    """Return a mapping; where words are given it may say no others."""
    if not isinstance(value, dict):
        raise ValueError(f"{place} must be a mapping, not {value!r}")
    if words and (unknown := sorted(set(value) - words)):
        raise ValueError(f"{place} says {', '.join(unknown)}; valid are {', '.join(sorted(words))}")
    return value


def _list(place: str, value: object) -> list:
    """Return a list of words."""
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{place} must be a list of words, not {value!r}")
    return value


def _variants(path: Path, variants: object) -> list[dict]:
    """Return the variants in order of preference, each complete."""
    if not isinstance(variants, list) or not variants:
        raise ValueError(f"{path}: variants must list the program's objects, the best first")
    found = []
    for variant in variants:
        entry = _mapping(f"{path}: a variant", variant, VARIANT)
        if not isinstance(entry.get("name"), str):
            raise ValueError(f"{path}: a variant has no name")
        place = f"{path}: requires of {entry['name']}"
        found.append({**entry, "requires": _list(place, entry.get("requires", []))})
    if len({entry["name"] for entry in found}) < len(found):
        raise ValueError(f"{path}: two variants have one name")
    return found


def read(folder: Path) -> dict:
    """Return what a program's folder says about it."""
    path = folder / "program.yml"
    for needed in (path, folder / f"{folder.name}.bpf.c", folder / f"{folder.name}.yaml"):
        if not needed.is_file():
            raise ValueError(f"{needed} is missing: a program is a folder with these files")
    try:
        said = yaml.load(path.read_text(encoding="utf-8"), LOADER)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from error
    entry = _mapping(str(path), said, PROGRAM)
    metrics = _mapping(f"{path}: metrics", entry.get("metrics", {}))
    for name, metric in metrics.items():
        _mapping(f"{path}: {name}", metric, METRIC)
    return {
        "summary": entry.get("summary", ""),
        "sets": _list(f"{path}: sets", entry.get("sets", [])),
        "variants": _variants(path, entry.get("variants")),
        "metrics": metrics,
        # What playbooks/verify.yml must see move after a few writes and connections.
        "verify": [name for name, metric in metrics.items() if metric.get("verify")],
    }


def folders(root: Path) -> list[Path]:
    """Return the folders of the programs below a folder."""
    if not root.is_dir():
        raise ValueError(f"{root} is no folder")
    found = [path.parent for name in ("program.yml", "*.bpf.c") for path in root.glob(f"*/{name}")]
    if not found:
        raise ValueError(f"{root} holds no program: each is a folder NAME with a program.yml")
    return sorted(set(found))


def load(roots: list[Path]) -> dict:
    """Join the programs below some folders: {sets: {name: configs}, configs: {name: entry}}."""
    sets: dict[str, list[str]] = {}
    configs: dict[str, dict] = {}
    home: dict[str, Path] = {}
    for folder in [folder for root in roots for folder in folders(root)]:
        name = folder.name
        if name in home:
            raise ValueError(f"two folders hold a program {name}: {home[name]} and {folder}")
        home[name], entry = folder, read(folder)
        for named in entry.pop("sets"):
            sets.setdefault(named, []).append(name)
        configs[name] = entry
    both = sorted(set(sets) & set(configs))
    if both:
        raise ValueError(f"a set has the name of a program: {', '.join(both)}")
    return {"sets": sets, "configs": configs}


def main() -> None:
    """List the objects for the Makefile."""
    try:
        catalogue = load([Path(sys.argv[1])])
    except ValueError as error:
        sys.exit(str(error))
    for config, entry in catalogue["configs"].items():
        for variant in entry["variants"]:
            print(f"{config}/{variant['name']}")


if __name__ == "__main__":
    main()
