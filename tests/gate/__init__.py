# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a program of the collection owes its readers: a truth, a panel, a page and a cost.

`missing` says what a folder of programs lacks. exclusions.yml excuses by name and reason.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from dashboards import rules
from files.bpf.build import catalogue
from tests.dashboards import reading
from tests.dashboards.promql import selectors

CHECKOUT = Path(__file__).parents[2]
PROGRAMS = CHECKOUT / "files/bpf"
EXCUSES = Path(__file__).with_name("exclusions.yml")
TEXTS = ("unit", "meaning", "normal", "action")

sys.path.insert(0, str(CHECKOUT / ".collections"))


def proved() -> set[str]:
    """Return the metrics that some case of the matrix compares with a truth."""
    from tests.kernel import guest  # noqa: PLC0415 (needs the collection's path)

    return {metric for part in guest.PARTS for case in part.VM for metric in case.proves}


def shown() -> set[str]:
    """Return the series that panels ask for; what rules record stands for what they read."""
    recorded = {
        rule["record"]: rule["expr"]
        for rule in rules.parsed(rules.RECORDING.read_text())
        if "record" in rule
    }
    names: set[str] = set()
    expressions = [
        target["expr"]
        for document in reading.documents()
        for _, target in reading.queries(document)
    ]
    while expressions:
        for name, _, _ in selectors(expressions.pop()):
            if name not in names:
                names.add(name)
                expressions += [recorded[name]] if name in recorded else []
    return names


def metrics_of(folder: Path) -> dict[str, str]:
    """Return the metrics that a program's YAML exports, each with the panels' name for it."""
    declared = yaml.safe_load((folder / f"{folder.name}.yaml").read_text()) or {}
    kinds = declared.get("metrics", {})
    return {
        metric["name"]: "ebpf_exporter_" + metric["name"] + suffix
        for kind, suffix in (("counters", ""), ("histograms", "_bucket"))
        for metric in kinds.get(kind, [])
    }


def drop_counter(config: str) -> str:
    """Return the name of the counter that every program has; its page is the one of all."""
    return config.replace("-", "_") + "_dropped_total"


def _page(folder: Path) -> str:
    path = folder / "README.md"
    return path.read_text() if path.is_file() else ""


def found(root: Path) -> list[tuple[str, str, str]]:
    """Return what the programs below a folder lack: kind, name and what is wrong with it."""
    truths, series, lacks = proved(), shown(), []
    for config, entry in catalogue.load([root])["configs"].items():
        folder, page = root / config, _page(root / config)
        declared = metrics_of(folder)
        if drop_counter(config) not in declared:
            lacks.append(("drop", config, f"counts no {drop_counter(config)}"))
        for name, wanted in declared.items():
            where = f"{config}: {name}"
            if name not in truths:
                text = "no case of the matrix compares it with a truth (tests/kernel/cases_*.py)"
                lacks.append(("case", name, f"{where}: {text}"))
            if wanted not in series and not _by_pattern(wanted, series):
                lacks.append(("panel", name, f"{where}: no panel shows it (dashboards/)"))
            if name == drop_counter(config):
                continue
            said = entry["metrics"].get(name, {})
            silent = [text for text in TEXTS if not said.get(text)]
            if silent:
                text = f"program.yml does not say its {', '.join(silent)}"
                lacks.append(("text", name, f"{where}: {text}"))
            if f"`{name}`" not in page:
                lacks.append(("page", name, f"{where}: no page names it ({config}/README.md)"))
        if "**By hand.**" not in page:
            text = f"no page says how to check it by hand ({config}/README.md)"
            lacks.append(("page", config, f"{config}: {text}"))
        for variant in entry["variants"]:
            if not {"total", "net"} <= set(variant.get("cost", {})):
                text = f"no measured cost of {variant['name']} (make bench-bpf, program.yml)"
                lacks.append(("cost", config, f"{config}: {text}"))
    return lacks


def _by_pattern(name: str, series: set[str]) -> bool:
    """Say whether panels ask for a series by a pattern of names that is not all names."""
    return name.endswith("_dropped_total") and "ebpf_exporter_.+_dropped_total" in series


def excuses() -> dict[str, dict[str, str]]:
    """Return the reasons why something need not be there, by kind and name."""
    return yaml.safe_load(EXCUSES.read_text())


def missing(root: Path = PROGRAMS) -> list[str]:
    """Return what the programs below a folder lack without an excuse, and idle excuses."""
    excused, lacks = excuses(), found(root)
    wrong = [text for kind, name, text in lacks if not excused.get(kind, {}).get(name)]
    needed = {(kind, name) for kind, name, _ in lacks}
    idle = [
        f"tests/gate/exclusions.yml: {kind} {name} excuses nothing"
        for kind, names in excused.items()
        for name in names
        if (kind, name) not in needed
    ]
    return wrong + idle
