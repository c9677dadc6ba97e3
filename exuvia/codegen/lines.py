"""Which guest instruction each host instruction of a region was made for: the region once more, with line numbers, compared with the first.

LLVM carries a line number beside each instruction of its text (LLVM Language Reference, DILocation) and says in its assembly which line
every host instruction came from. Lines here number the guest's instructions. Debug information changes no code; that is checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, NamedTuple

import llvmlite.binding as llvm

from exuvia.codegen.build import link, target
from exuvia.codegen.division import define
from exuvia.codegen.emit import PROFILE
from exuvia.codegen.making import Wanted, region
from exuvia.codegen.region import Region
from exuvia.codegen.shapes import Record
from exuvia.dsl.architecture import Architecture, Form

MARK = "; line "
UNIT, FLAGS, FILE, SCOPE, FIRST = range(100000, 100005)  # numbers of metadata that nobody else has
HEADER = f"""
!llvm.dbg.cu = !{{!{UNIT}}}
!llvm.module.flags = !{{!{FLAGS}}}
!{UNIT} = distinct !DICompileUnit(language: DW_LANG_C, file: !{FILE}, emissionKind: LineTablesOnly)
!{FLAGS} = !{{i32 2, !"Debug Info Version", i32 3}}
!{FILE} = !DIFile(filename: "guest", directory: "/")
!{SCOPE} = distinct !DISubprogram(name: "region", file: !{FILE}, unit: !{UNIT}, spFlags: DISPFlagDefinition)
"""


class Line(NamedTuple):
    """What host code is for: the place of a guest instruction, counted as the region's blocks are; and whether it is seldom reached."""

    place: int
    cold: bool


class Marked(Region):
    """A region whose text says for which instruction its lines are: numbers from 2 on, even ones, and odd ones where cold."""

    line = 0

    @cached_property
    def places(self) -> list[int]:
        """Of the instructions, in the order of the text."""
        return []

    def instruction(self, r: Record, last: bool) -> bool:
        """One instruction, with a mark before it."""
        self.places.append(self.b.page + r.fields["off"])
        self.line = 2 * len(self.places)
        self.out.append(f"{MARK}{self.line}")
        return super().instruction(r, last)

    def aside(self, label: str, f: Callable[[], None]) -> None:
        """Into the cold part, where the mark has to be said again."""

        def marked() -> None:
            self.out.append(f"{MARK}{self.line + 1 if self.line else 0}")
            f()

        super().aside(label, marked)


def located(text: str) -> str:
    """The marked text, its first function with locations as LLVM wants them."""
    lines, line = [], 0
    used = {0}
    region, end, rest = text.partition("\n}\n")
    for words in (region + end).splitlines():
        if words.startswith(MARK):
            line = int(words[len(MARK) :])
            used.add(line)
        elif words.startswith("  "):
            lines.append(f"{words}, !dbg !{FIRST + line}")
        elif words.startswith("define ") and words.endswith("{"):
            lines.append(f"{words[:-1]}!dbg !{SCOPE} {{")
        else:
            lines.append(words)
    return "\n".join([*lines, rest, *(f"!{FIRST + n} = !DILocation(line: {n}, scope: !{SCOPE})" for n in sorted(used)), HEADER])


def lines_of(assembly: str) -> list[tuple[str, int]]:
    """The instructions of LLVM's assembly, in order: mnemonic and line, 0 where there is none."""
    found, line = [], 0
    for text in assembly.splitlines():
        if place := re.match(r"\s+\.loc\s+\d+\s+(\d+)", text):
            line = int(place[1])
        elif instruction := re.match(r"\t([a-z]\w*)", text):
            found.append((instruction[1], line))
        elif text.startswith(".Lfunc_end"):
            line = 0
    return found


def guest_lines(
    w: Wanted, entries: Iterable[int], form: Callable[[int, int], Form], a: Architecture, code: bytes, host: list[str]
) -> list[Line | None] | None:
    """For each of the host's instructions in `code` (mnemonics) what it is for.

    `entries` are the numbers of the blocks that can be entered. None where the region does not come out again as it was.
    """
    r: Any = region(w, form, a, Marked)
    for k in entries:
        r.blocks[k].entry = True
    source = located(r.text()) + define(r.declares) + PROFILE
    machine = target(1)
    module = llvm.parse_assembly(source)
    module.verify()
    again, symbols = link(machine.emit_object(module))
    if symbols[r.name] or not code.startswith(again):
        return None
    found = [line for name, line in lines_of(machine.emit_assembly(llvm.parse_assembly(source))) if not name.startswith("nop")]
    lines: list[Line | None] = []
    for name in host:
        padding = name.startswith(("nop", "data16", "int3"))
        line = 0 if padding or not found else found.pop(0)
        lines.append(Line(r.places[line // 2 - 1], bool(line % 2)) if line else None)
    return None if found else lines
