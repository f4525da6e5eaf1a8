# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files name whose they are and then their licence, everywhere in this order."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
HEADER = re.compile(
    r"^(#|//) Copyright: linmonitor\.stack contributors\n"
    r"(# GNU General Public License v3\.0\+ .*\n)?"
    r"\1 SPDX-License-Identifier: GPL-[23]\.0-or-later$",
    re.MULTILINE,
)
NAMED = re.compile(r"^\W*(Copyright|SPDX-License-Identifier): ", re.MULTILINE)
PROGRAMS = {".py", ".c", ".h"}


def test_every_header_has_the_same_order():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    files = [CHECKOUT / name for name in listed if Path(name).suffix not in (".md", ".png")]
    wrong = []
    for path in files:
        if not path.is_file() or path.name == "LICENSE":
            continue
        head = path.read_text()[:500]
        named = NAMED.search(head) or (head and path.suffix in PROGRAMS)
        if named and not HEADER.search(head):
            wrong.append(str(path.relative_to(CHECKOUT)))
    assert wrong == []
