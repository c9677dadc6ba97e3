"""Makes docs/demo.svg, the picture of the README, from a real session: `scripts/demo` in a terminal, some commands, power-off.

Run by scripts/docs. Boot messages in the middle are left out, which the picture says.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from html import escape
from pathlib import Path

TOP = Path(__file__).parents[1]
COMMANDS = ["uname -a", "grep -m 2 -E 'vendor|model name' /proc/cpuinfo", "free -m | head -n 2", "exit"]
COLUMNS, ROWS = 104, 50
FIRST, LAST = 5, 5  # boot messages shown of the beginning and the end
PATIENCE = 300.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LINE, LEFT, WIDTH = 17, 14, 8.0  # pixels
COLOURS = {"$ ": "#8ae234", "/ #": "#ffffff", "[  ": "#9a9a9a"}


class Session:
    """A command in a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=TOP)
        os.close(slave)
        self.text = ""
        self.typed = 0  # length of the text when the last line was typed

    def until(self, pattern: str | None) -> None:
        """Read until the last line is `pattern`, or to the end."""
        end = time.monotonic() + PATIENCE
        while pattern is None or not re.search(pattern, ESCAPES.sub("", self.text[self.typed :])):
            if time.monotonic() > end:
                sys.exit(f"{pattern} did not come: {self.text[-500:]}")
            if not select.select([self.master], [], [], 1)[0]:
                continue
            try:
                self.text += os.read(self.master, 65536).decode("utf-8", "replace")
            except OSError:  # the other side is closed
                if pattern is None:
                    return
                sys.exit(f"it ended: {self.text[-500:]}")

    def type(self, line: str) -> None:
        """A line as a user types it."""
        self.typed = len(self.text)
        os.write(self.master, line.encode() + b"\n")


def transcript() -> list[str]:
    """The session's lines."""
    session = Session("scripts/demo")
    for line in COMMANDS:
        session.until(r"\n/ # $")
        session.type(line)
    session.until(None)
    if status := session.process.wait():
        sys.exit(f"scripts/demo ended with status {status}")
    lines = re.sub(r"\r+\n", "\n", ESCAPES.sub("", session.text)).split("\n")
    return ["$ scripts/demo", *(line for line in lines if line.strip()), "$"]


def shortened(lines: list[str]) -> list[str]:
    """Without the middle of the boot messages."""
    boot = [number for number, line in enumerate(lines) if line.startswith("[")]
    prompt = next(number for number, line in enumerate(lines) if line.startswith("/ #"))
    boot = [number for number in boot if number < prompt]
    left_out = boot[FIRST:-LAST]
    note = f"          ... {len(left_out)} lines ..."
    return [note if number == left_out[0] else line for number, line in enumerate(lines) if number not in left_out[1:]]


def svg(lines: list[str]) -> str:
    """The picture of a terminal."""
    width, height = int(2 * LEFT + COLUMNS * WIDTH), LINE * len(lines) + 2 * LEFT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">']
    out.append('<rect width="100%" height="100%" rx="8" fill="#1c1c1c"/>')
    out.append('<g font-family="ui-monospace, \'DejaVu Sans Mono\', Menlo, Consolas, monospace" font-size="13" xml:space="preserve">')
    for number, line in enumerate(lines):
        colour = next((c for start, c in COLOURS.items() if line.startswith(start) or line == start.strip()), "#d3d7cf")
        line = line.expandtabs()
        shown = line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "\N{HORIZONTAL ELLIPSIS}"
        out.append(f'<text x="{LEFT}" y="{LEFT + LINE * number + 13}" fill="{colour}">{escape(shown)}</text>')
    return "\n".join([*out, "</g>", "</svg>", ""])


def main() -> None:
    """Write the picture."""
    (TOP / "docs" / "demo.svg").write_text(svg(shortened(transcript())))


if __name__ == "__main__":
    main()
