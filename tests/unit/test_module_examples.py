# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examples of every module use only arguments that the module has, and show required ones."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

COLLECTION = Path(__file__).parents[2]
MODULES = sorted((COLLECTION / "plugins/modules").glob("*.py"))


def texts(source: Path) -> dict[str, Any]:
    """Read the documentation in a source file without importing it."""
    return {
        target.id: yaml.safe_load(node.value.value)
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    }


def options(module: Path) -> dict[str, dict]:
    """Give the documented options, those of the collection's fragments included."""
    documentation = texts(module)["DOCUMENTATION"]
    found = dict(documentation.get("options", {}))
    for fragment in documentation.get("extends_documentation_fragment", []):
        name = fragment.removeprefix("linmonitor.stack.")
        source = COLLECTION / f"plugins/doc_fragments/{name}.py"
        found.update(texts(source)["DOCUMENTATION"]["options"])
    return found


def test_there_are_modules():
    assert MODULES


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_argument_of_the_examples_exists(module):
    known, name = options(module), f"linmonitor.stack.{module.stem}"
    used = [task[name] or {} for task in texts(module)["EXAMPLES"] if name in task]
    assert used, f"no example uses {name}"
    for arguments in used:
        assert set(arguments) <= set(known)
        required = {option for option, about in known.items() if about.get("required")}
        assert required <= set(arguments)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_every_return_value_is_described(module):
    for key, value in texts(module)["RETURN"].items():
        assert value["description"] and value["type"] and value["returned"], key
