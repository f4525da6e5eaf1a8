# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/variables.md, and comments of defaults, from the argument specifications."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).parents[2]
PAGE = Path("docs/variables.md")
HEAD = """\
# Variables

Generated from `meta/variables.yml` and `roles/*/meta/argument_specs.yml` by `make docs`; a
test compares the latter with `roles/*/defaults/main.yml`. Set them in your inventory or with
`-e`: playbooks override none of them.

## Playbooks

Read by the playbooks, and by roles wherever they are used.
"""
SHARED = Path("meta/variables.yml")


def text(value: object) -> str:
    """Return a value as one cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|")


def table(options: dict, missing: str = "required") -> list[str]:
    """Return the rows of some options; `missing` stands where there is no default."""
    lines = ["| variable | type | default | meaning |", "|---|---|---|---|"]
    for name, option in options.items():
        default = yaml.safe_dump(option.get("default"), default_flow_style=True, width=10**6)
        shown = default.removesuffix("\n").removesuffix("\n...") if "default" in option else ""
        choices = f" One of {', '.join(option['choices'])}." if "choices" in option else ""
        code = f"`{text(shown)}`" if shown else missing
        meaning = text(option["description"]) + choices
        lines.append(f"| `{name}` | {option['type']} | {code} | {meaning} |")
    return lines


def render() -> str:
    """Return the whole page."""
    shared = yaml.safe_load((CHECKOUT / SHARED).read_text())
    lines = [HEAD, *table(shared["options"], missing="not set"), ""]
    for path in sorted((CHECKOUT / "roles").glob("*/meta/argument_specs.yml")):
        role = path.parts[-3]
        seen: dict = {}
        for entry, spec in yaml.safe_load(path.read_text())["argument_specs"].items():
            fresh = {name: o for name, o in spec["options"].items() if seen.get(name) != o}
            seen |= spec["options"]
            title = role if entry == "main" else f"{role}, entry point `{entry}`"
            lines += [f"## {title}", "", *(text(line) for line in spec["description"]), ""]
            same = "Its variables are those of the entry point above."
            lines += [*table(fresh), ""] if fresh else [same, ""]
    lines += ["## Facts", "", "What roles and playbooks leave behind, for whoever comes after.", ""]
    lines += ["| fact | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {text(meaning)} |" for name, meaning in shared["facts"].items()]
    return "\n".join(lines).rstrip("\n") + "\n"


DEFAULTS_HEAD = """\
---
# The comments are from meta/argument_specs.yml, which says more: `make docs` writes them.
"""


def commented(role: Path) -> str:
    """Return a role's defaults with the first sentence of what each variable means above it."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    options = {name: option for spec in specs.values() for name, option in spec["options"].items()}
    written = DEFAULTS_HEAD
    for line in (role / "defaults/main.yml").read_text().splitlines():
        if line.startswith(("#", "---")) or not line:
            continue
        if name := re.match(r"\w+(?=:)", line):
            sentence = re.split(r"(?<=\w\.)\s", text(options[name[0]]["description"]))[0]
            written += "\n" + textwrap.indent(textwrap.fill(sentence, 114), "# ") + "\n"
        written += line + "\n"
    return written


if __name__ == "__main__":
    (CHECKOUT / PAGE).write_text(render())
    for role in sorted((CHECKOUT / "roles").iterdir()):
        (role / "defaults/main.yml").write_text(commented(role))
