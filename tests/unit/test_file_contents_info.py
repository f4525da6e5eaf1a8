# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files are read whole, whatever their bytes; what is not there is left out."""

from __future__ import annotations

import base64

from ansible_collections.linmonitor.stack.plugins.modules import file_contents_info


def test_files_and_patterns_are_read(run, tmp_path):
    (tmp_path / "a.yml").write_bytes(b"\xff\x00a")
    (tmp_path / "b.yml").write_text("b")
    (tmp_path / "folder.yml").mkdir()
    paths = [str(tmp_path / name) for name in ("absent", "b.yml", "*.yml")]
    answer = run(file_contents_info, paths=paths)
    assert {path: base64.b64decode(text) for path, text in answer["contents"].items()} == {
        str(tmp_path / "a.yml"): b"\xff\x00a",
        str(tmp_path / "b.yml"): b"b",
    }
    assert not answer["changed"]
