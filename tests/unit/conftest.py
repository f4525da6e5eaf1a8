# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the collection importable in a bare checkout, and run its modules."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

import pytest
from ansible.module_utils.testing import patch_module_args

MODULE_UTILS = "ansible_collections.linmonitor.stack.plugins.module_utils"
sys.path.insert(0, str(Path(__file__).parents[2] / ".collections"))


@pytest.fixture
def run(capsys, monkeypatch, tmp_path_factory) -> Callable[..., dict[str, Any]]:
    """Run a module as Ansible does and give its result; its locks are no host's."""
    folder = tmp_path_factory.mktemp("run") / "linmonitor"
    monkeypatch.setattr(f"{MODULE_UTILS}._lock.FOLDER", str(folder))

    def call(module: ModuleType, **arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    return call
