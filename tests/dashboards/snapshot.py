# Copyright: linmonitor.stack contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw every panel of every dashboard from a live Prometheus, without Grafana.

python -m tests.dashboards.snapshot --prometheus http://localhost:9090 --out DIR
"""

from __future__ import annotations

import argparse
import base64
import html
import io
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from . import reading
from .api import Prometheus, Window
from .drawing import BACK, COLUMN, INK, ROW, Answers, draw

LABEL = "Rendering without Grafana"
HEAD = 56
PAGE = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{LABEL}</title><style>
body {{ background: {BACK}; color: {INK}; font: 14px sans-serif; margin: 16px; }}
.note {{ border: 1px solid #f2cc0c; display: inline-block; padding: 6px 12px; }}
.board {{ display: grid; grid-auto-rows: {ROW}px; width: {24 * COLUMN}px;
  grid-template-columns: repeat(24, {COLUMN}px); }}
.board h3 {{ font-size: 14px; margin: 12px 4px 0; }}
.board img {{ margin: 4px; }}
</style></head><body>
"""


def answers(server: Prometheus, panel: dict, window: Window, values: dict[str, str]) -> Answers:
    """Return what each query of a panel gives: tables the last value, others all of them."""
    found = []
    for target in panel["targets"]:
        expr = reading.filled(target["expr"], values)
        series = (
            server.instant(expr, window.end)
            if target.get("instant")
            else server.range(expr, window)
        )
        found.append((target, series))
    return found


def pictures(
    server: Prometheus, document: dict, window: Window, values: dict[str, str]
) -> Iterator[tuple[dict, Image.Image]]:
    """Yield each panel with its picture."""
    for panel in reading.panels(document):
        yield panel, draw(panel, answers(server, panel, window, values), window)


def row_title(row: dict) -> str:
    """Return the title of a row, and whether Grafana shows no more of it before a click."""
    return f"{row['title']}{' (closed at first)' if row.get('collapsed') else ''}"


def sheet(document: dict, drawn: list[tuple[dict, Image.Image]], stamp: str) -> Image.Image:
    """Return one picture of a whole dashboard."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel, _ in drawn)
    whole = Image.new("RGB", (24 * COLUMN, height * ROW + HEAD), BACK)
    pen = ImageDraw.Draw(whole)
    pen.text((8, 8), document["title"], fill=INK, font=ImageFont.load_default(22))
    pen.text((8, 36), f"{LABEL}, {stamp}", fill="#f2cc0c", font=ImageFont.load_default(13))
    for panel in document["panels"]:
        if panel["type"] == "row":
            top = HEAD + panel["gridPos"]["y"] * ROW + 12
            pen.text((8, top), row_title(panel), fill=INK, font=ImageFont.load_default(16))
    for panel, picture in drawn:
        place = panel["gridPos"]
        whole.paste(picture, (place["x"] * COLUMN + 4, HEAD + place["y"] * ROW + 4))
    return whole


def _cell(place: dict, inner: str) -> str:
    where = (
        f"grid-column: {place['x'] + 1} / span {place['w']}; "
        f"grid-row: {place['y'] + 1} / span {place['h']}"
    )
    return f'<div style="{where}">{inner}</div>\n'


def section(document: dict, drawn: list[tuple[dict, Image.Image]]) -> str:
    """Return the part of the page for one dashboard, its pictures included."""
    out = [
        f"<h2>{html.escape(document['title'])}</h2><p>{html.escape(document['description'])}</p>"
    ]
    out.append('<div class="board">\n')
    for panel in document["panels"]:
        if panel["type"] == "row":
            out.append(_cell(panel["gridPos"], f"<h3>{html.escape(row_title(panel))}</h3>"))
    for panel, picture in drawn:
        buffer = io.BytesIO()
        picture.quantize(128).save(buffer, "PNG", optimize=True)
        data = base64.b64encode(buffer.getvalue()).decode()
        title, help_text = html.escape(panel["title"]), html.escape(panel["description"])
        image = f'<img alt="{title}" title="{help_text}" src="data:image/png;base64,{data}">'
        out.append(_cell(panel["gridPos"], image))
    return "".join([*out, "</div>\n"])


def main() -> None:
    """Write DIR/index.html and one PNG per dashboard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prometheus", required=True, metavar="URL")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--minutes", type=float, default=15, help="range of time (default 15)")
    parser.add_argument("--instance", default=reading.ALL, help="hosts, as a regular expression")
    options = parser.parse_args()
    server, window = Prometheus(options.prometheus), Window.last(options.minutes)
    values = {
        "instance": options.instance,
        "__rate_interval": f"{max(60, 4 * window.step):.0f}s",
        "__range": f"{60 * options.minutes:.0f}s",
    }
    stamp = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(window.end))
    options.out.mkdir(parents=True, exist_ok=True)
    page = [PAGE, f'<p class="note">{LABEL}, {stamp}. Point at a panel for its meaning.</p>\n']
    for document in map(reading.opened, reading.documents()):
        drawn = list(pictures(server, document, window, values))
        page.append(section(document, drawn))
        picture = options.out / f"{document['uid']}.png"
        sheet(document, drawn, stamp).quantize(128).save(picture, optimize=True)
        print(picture)
    index = options.out / "index.html"
    index.write_text("".join([*page, "</body></html>\n"]))
    print(index)


if __name__ == "__main__":
    main()
