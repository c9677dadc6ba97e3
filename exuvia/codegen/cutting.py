"""From the text of stencils to stencils: assembly in two sections for each, then an object whose relocations are the gaps."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from exuvia.codegen.build import R_32, R_32S, R_64, R_PC32, R_PLT32, Object, target
from exuvia.codegen.division import define
from exuvia.codegen.emit import PROFILE
from exuvia.codegen.layout import HEAD, LINK_DELTA
from exuvia.codegen.native import ARGS
from exuvia.codegen.stencil import ENTERED, ENTRY_AT, EXIT, GAP, HEADER, IN_COLD, KIND, OF_ALL, Stencil, Stencils
from exuvia.dsl.record import FIELDS, LINK, RECORD
from exuvia.dsl.state import Layout

SPARE = "spare"
ALIGNMENT = 32
MOST = (1 << 31) - 1  # in a gap of 32 bits
NEXT = "\tjmp\tnext"
LEAVE = re.compile(rf"\t(j\w+)\t{EXIT}(\d)\b.*")
HOT, COLD = ".text.hot.", ".text.cold."
MOVABS_R13, LOAD_RAX = b"\x49\xbd", b"\x49\x8b\x84"  # what an entry begins with, for exits and for heads
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
    aside: list[str] = []
    for k, line in enumerate(lines):
        if line.endswith("@function"):
            name = line.split("\t")[2].split(",")[0]
            lines[k] += f'\n\t.section {HOT}{name},"ax",@progbits'
        elif line.startswith(NEXT):
            last[name] = k
        elif line.startswith("\t.size"):
            lines[k] = "\n".join([*aside, "\t.text"])
            aside = []
        elif (found := LEAVE.match(line)) and found[1] == "jmp":
            lines[k] = leave(int(found[2]))
        elif found:
            aside.append(f".L{name}.{k}:\n{leave(int(found[2]))}")
            lines[k] = f"\t{found[1]}\t.L{name}.{k}"
    for name, k in last.items():
        lines[k] = f'\t.section {COLD}{name},"ax",@progbits'
    return "\n".join(lines)


def leave(k: int) -> str:
    """An exit, and behind it the way by the link, until the exit leads there."""
    return f"\tjmp\t{EXIT}{k}\n\tmovabsq\t$record+{RECORD + LINK * k}, %rax\n\tmovq\t(%rax), %r13\n\tjmpq\t*(%r13)"


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
            elif r.symbol == "delta" and r.kind == R_32S:  # `far` is filled in from its link
                gaps.append((place, KIND["signed"], LINK_DELTA, 0, 1, r.addend))
            elif r.symbol in ("record", "handler") and r.kind == R_64 or r.symbol == "next" and r.kind in (R_PC32, R_PLT32):
                gaps.append((place, KIND[r.symbol], 0, 0, 0, r.addend))
            elif r.symbol.startswith(EXIT) and r.kind in (R_PC32, R_PLT32):
                gaps.append((place, KIND[EXIT], 0, 0, 0, RECORD + LINK * int(r.symbol[-1])))
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
    """Those of no instruction. Raises ValueError where an entry is not laid out as it has to be."""
    made = made_of(layout, [(name, s := Stencil(layout), getattr(s, name)(name)) for name in OF_ALL])
    code = code_of(made, "entry")
    if code[ENTERED : ENTERED + 2] != MOVABS_R13 or code[ENTRY_AT : ENTRY_AT + 3] != LOAD_RAX:
        raise ValueError(f"an entry that begins with {code[:24].hex(' ')}")
    return made


def code_of(made: Stencils, name: str) -> bytes:
    """The hot code of a stencil."""
    at = made.places[name]
    size, _, gaps, _ = HEADER.unpack_from(made.blob, at)
    at += HEADER.size + GAP.size * gaps
    return made.blob[at : at + size]


def made_of(layout: Layout, written: list[tuple[str, Stencil, str]]) -> Stencils:
    """Stencils of functions: name, writer, text. Where one cannot be, the way to the handler stands in its place."""
    bridge = Stencil(layout)
    written = [*written, (SPARE, bridge, bridge.bridge(SPARE))]
    symbols = sorted(set[str]().union(*(s.symbols for _, s, _ in written)))
    head = [f'@"{symbol}" = external dso_local global i8\n' for symbol in symbols]
    head += [f"declare dso_local preserve_nonecc i64 @{way}({ARGS})\n" for way in ("next", f"{EXIT}0", f"{EXIT}1")]
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
