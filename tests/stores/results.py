# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of each engine, and its lines in docs/stores.md.

The page is the record: the lines of engines that a run leaves out stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

COLUMNS = {
    "stored": "stored as sent",
    "away": "away",
    "replicas": "two replicas",
    "rules": "our rules and alerts",
    "panels": "panels answer as locally",
}
START, END = "<!-- stores: written by make stores -->\n", "<!-- end -->"


@dataclass
class Row:
    """An engine: what held by part, what failed by part, and which panels differ by reason."""

    name: str
    version: str = ""
    not_run: str = ""
    cells: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    differ: dict[str, list[str]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Say whether every part was tried and held."""
        return not self.failed and self.cells.keys() == COLUMNS.keys()

    def lines(self, when: str) -> list[str]:
        """Return its line of the table, and those of what is to be known of it."""
        said = [
            f"**failed**: {_short(self.failed[part])}"
            if part in self.failed
            else self.cells.get(part, "not run")
            for part in COLUMNS
        ]
        if self.not_run:
            said[0] = f"not run: {_short(self.not_run)}"
        cells = [self.name, self.version or "none", when, *said]
        row = "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"
        return [row, *(self._difference(reason) for reason in self.differ)]

    def _difference(self, reason: str) -> str:
        panels = self.differ[reason]
        return f"- {self.name}: {reason}. {len(panels)} queries: {'; '.join(panels)}."


def _short(text: str) -> str:
    """Return the beginning of what was said, in one line."""
    return " ".join(text.split())[:300]


def of(line: str) -> str:
    """Return the engine that a line of the page is about, or nothing."""
    if line.startswith("- "):
        return line[2:].partition(":")[0]
    if line.startswith("| ") and not line.startswith("| engine |"):
        return line[2:].partition(" |")[0]
    return ""


def page(text: str, rows: list[Row], when: str, order: list[str]) -> str:
    """Return the page with new lines for some engines."""
    head, _start, rest = text.partition(START)
    before, _end, tail = rest.partition(END)
    if not rest or not tail:
        raise ValueError(f"the page has no part between {START.strip()} and {END}")
    lines = {name: [line for line in before.splitlines() if of(line) == name] for name in order}
    lines |= {row.name: row.lines(when) for row in rows}
    table = [line for name in order for line in lines[name] if line.startswith("|")]
    differ = [line for name in order for line in lines[name] if line.startswith("-")]
    titles = "| engine | version | when | " + " | ".join(COLUMNS.values()) + " |"
    part = [titles, "|---" * (3 + len(COLUMNS)) + "|", *table, ""]
    if differ:
        part += ["Panels that differ there, by more than rounding:", "", *differ, ""]
    return head + START + "\n" + "\n".join(part) + END + tail
