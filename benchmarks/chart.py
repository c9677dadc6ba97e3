"""Grouped horizontal bars as SVG, for the benchmarks' results."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

COLOURS = {"exuvia": "#2b7a78", "interpreter": "#8fbcbb", "qemu": "#e08e45"}
BAR, GAP, LEFT, WIDTH = 16, 14, 150, 460
"""Pixels: a bar's height, the space between groups, the labels' width, the longest bar."""


def bars(path: Path, title: str, unit: str, values: Mapping[str, Mapping[str, float]]) -> None:
    """Writes a chart of `values`, a number per emulator per row."""
    most = max((v for row in values.values() for v in row.values()), default=1) or 1
    y, out = 44, []
    for name, row in values.items():
        out.append(f'<text x="{LEFT - 8}" y="{y + BAR * len(row) / 2 + 4}" text-anchor="end">{escape(name)}</text>')
        for emulator, value in row.items():
            width = max(1, value / most * WIDTH)
            out.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{COLOURS.get(emulator, "#777")}"/>')
            out.append(f'<text x="{LEFT + width + 5:.1f}" y="{y + BAR - 5}">{emulator} {value:,.4g}</text>')
            y += BAR
        y += GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 140}" height="{y}" font-family="sans-serif" font-size="12">'
    top = f'<rect width="100%" height="100%" fill="white"/><text x="{LEFT}" y="24" font-size="15">{escape(title)} ({escape(unit)})</text>'
    path.write_text("\n".join([head, top, *out, "</svg>"]) + "\n")
