"""From the text of stencils to stencils: assembly in two sections for each, then an object whose relocations are the gaps."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from exuvia.codegen.build import R_32, R_32S, R_64, R_PC32, R_PLT32, Object, target
from exuvia.codegen.division import define
from exuvia.codegen.emit import PROFILE
from exuvia.codegen.layout import HEAD
from exuvia.codegen.native import ARGS
from exuvia.codegen.stencil import GAP, HEADER, IN_COLD, KIND, OF_ALL, Stencil, Stencils
from exuvia.dsl.record import FIELDS
from exuvia.dsl.state import Layout

SPARE = "spare"
ALIGNMENT = 32
MOST = (1 << 31) - 1  # in a gap of 32 bits
NEXT = "\tjmp\tnext"
HOT, COLD = ".text.hot.", ".text.cold."
KNOWN = HOT, COLD, ".rodata", ".eh_frame", ".llvm", ".note"


@cache
def machine() -> Any:
    """A code generator that takes symbols for numbers of 32 bits with a sign."""
    target(1)  # initialises LLVM
    return llvm.Target.from_default_triple().create_target_machine(
        opt=1, cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), reloc="static", codemodel="kernel"
    )


def apart(assembly: str) -> str:
    """The assembly with each function in two sections: what runs on into the next instruction, and all that stands behind."""
    lines = assembly.split("\n")
    name, last = "", {}
    for k, line in enumerate(lines):
        if line.endswith("@function"):
            name = line.split("\t")[2].split(",")[0]
            lines[k] += f'\n\t.section {HOT}{name},"ax",@progbits'
        elif line.startswith(NEXT):
            last[name] = k
        elif line.startswith("\t.size"):
            lines[k] = "\t.text"
    for name, k in last.items():
        lines[k] = f'\t.section {COLD}{name},"ax",@progbits'
    return "\n".join(lines)


def assemble(assembly: str) -> Object:
    """The object of an assembly text."""
    quoted = (re.sub(r'[\\"]', lambda found: f"\\{ord(found[0]):02X}", line) for line in assembly.split("\n"))
    return Object(machine().emit_object(llvm.parse_assembly("".join(f'module asm "{line}"\n' for line in quoted))))


class Unfit(ValueError):
    """No stencil can be made of this."""


def cut(made: Object, name: str) -> bytes:
    """The stencil of one of its functions. Raises Unfit for one that needs more than stencils have."""
    found = {s.name: k for k, s in enumerate(made.sections)}
    hot, cold = found[HOT + name], found.get(COLD + name, -1)
    constants = bytearray()
    placed: dict[int, int] = {}
    gaps = []
    for section in (hot, cold):
        for r in made.relocations.get(section, ()):
            place = r.offset | (IN_COLD if section == cold else 0)
            if r.symbol.startswith("p.") and r.kind in (R_32, R_32S):
                _, field, stride, base = r.symbol.split(".")
                at, width, signed = FIELDS[field]
                most = (1 << width) * int(stride) + int(base) + r.addend
                if not signed and not -MOST <= int(base) + r.addend <= most <= MOST:
                    raise Unfit(f"{name}: {r.addend} beside {r.symbol}")
                gaps.append((place, KIND["signed" if signed else "unsigned"], at, 64 - width, int(stride), int(base) + r.addend))
            elif r.symbol == "count" and r.kind == R_32S:
                gaps.append((place, KIND["unsigned"], HEAD["n"], 48, 1, r.addend))
            elif r.symbol in ("record", "handler") and r.kind == R_64 or r.symbol == "next" and r.kind in (R_PC32, R_PLT32):
                gaps.append((place, KIND[r.symbol], 0, 0, 0, r.addend))
            elif r.section in (hot, cold) and r.kind in (R_PC32, R_PLT32):
                gaps.append((place, KIND["hot" if r.section == hot else "cold"], 0, 0, 0, r.value + r.addend))
            elif made.sections[r.section].name.startswith(".rodata") and r.kind == R_PC32:
                if made.sections[r.section].alignment > ALIGNMENT or made.relocations.get(r.section):
                    raise Unfit(f"{name}: a table of addresses, or constants that want to lie better")
                if r.section not in placed:
                    constants += bytes(-len(constants) % ALIGNMENT)
                    placed[r.section] = len(constants)
                    constants += made.sections[r.section].data
                gaps.append((place, KIND["stencil"], 0, 0, 0, placed[r.section] + r.value + r.addend))
            else:
                raise Unfit(f"{name}: relocation {r.kind} against {r.symbol or made.sections[r.section].name}")
    code = [made.sections[k].data if k >= 0 else b"" for k in (hot, cold)]
    if max(map(len, code)) >= IN_COLD:
        raise Unfit(f"{name}: {len(code[0])} and {len(code[1])} bytes")
    size = HEADER.size + GAP.size * len(gaps)
    behind = -(size + sum(map(len, code))) % ALIGNMENT
    start = size + sum(map(len, code)) + behind
    gaps = [(*g[:5], g[5] + start) if g[1] == KIND["stencil"] else g for g in gaps]
    many = sum(g[1] == KIND["signed"] for g in gaps)
    head = HEADER.pack(len(code[0]), len(code[1]), len(gaps), many)
    return b"".join([head, *(GAP.pack(*g) for g in gaps), *code, bytes(behind), constants])


def make_of_all(layout: Layout) -> Stencils:
    """Those of no instruction."""
    return made_of(layout, [(name, s := Stencil(layout), getattr(s, name)(name)) for name in OF_ALL])


def made_of(layout: Layout, written: list[tuple[str, Stencil, str]]) -> Stencils:
    """Stencils of functions: name, writer, text. Where one cannot be, the way to the handler stands in its place."""
    bridge = Stencil(layout)
    written = [*written, (SPARE, bridge, bridge.bridge(SPARE))]
    symbols = sorted(set[str]().union(*(s.symbols for _, s, _ in written)))
    head = [f'@"{symbol}" = external dso_local global i8\n' for symbol in symbols]
    head.append(f"declare dso_local preserve_nonecc i64 @next({ARGS})\n")
    declares = set[str]().union(*(s.declares for _, s, _ in written))
    module = llvm.parse_assembly("".join([*head, *(text for _, _, text in written), define(declares), PROFILE]))
    module.verify()
    made = assemble(apart(machine().emit_assembly(module)))
    if lost := [s.name for s in made.sections if s.allocated and s.data and not s.name.startswith(KNOWN)]:
        raise ValueError(f"code or data that is of no function: {', '.join(lost)}")
    spare = cut(made, SPARE)
    blob, places = bytearray(), dict[str, int]()
    for name, _, _ in written[:-1]:
        try:
            stencil = cut(made, name)
        except Unfit:
            stencil = spare
        blob += bytes(-len(blob) % ALIGNMENT)
        places[name] = len(blob)
        blob += stencil
    return Stencils(bytes(blob), places)
