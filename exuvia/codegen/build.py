"""LLVM text to machine code that runs wherever it is put: PC-relative references inside a blob are resolved here, others are refused."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import llvmlite.binding as llvm

RELA, NOBITS = 4, 8  # types of sections
R_64, R_PC32, R_PLT32, R_32, R_32S = 1, 2, 4, 10, 11  # R_X86_64_*, psABI section 4.4
_ready: list[Any] = []
_targets: dict[int, Any] = {}


def target(level: int) -> Any:
    """The host's code generator at an optimisation level (0 to 3)."""
    if not _ready:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
        _ready.append(True)
    if level not in _targets:
        _targets[level] = llvm.Target.from_default_triple().create_target_machine(
            opt=level, cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), reloc="pic", codemodel="small"
        )
    return _targets[level]


def compile_text(source: str, level: int = 1, passes: bool = False) -> tuple[bytes, dict[str, int]]:
    """Machine code and the offsets of its functions. `passes`: variables in registers, simple clean-up (for the runtime, once)."""
    machine = target(level)
    module = llvm.parse_assembly(source)
    module.verify()
    if passes:
        builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
        manager = llvm.create_new_module_pass_manager()
        manager.add_sroa_pass()
        manager.add_instruction_combine_pass()
        manager.add_simplify_cfg_pass()
        manager.run(module, builder)
    return link(machine.emit_object(module))


class Section(NamedTuple):
    """A part of an object; `data` is empty where it is only to be zeros."""

    name: str
    alignment: int
    allocated: bool
    data: bytes


class Relocation(NamedTuple):
    """A place that refers to a symbol: by its name, and its section and value there if the object has it."""

    offset: int
    kind: int
    symbol: str
    section: int
    value: int
    addend: int


class Object:
    """An ELF object of 64 bits as LLVM emits it (ELF-64 object file format)."""

    def __init__(self, elf: bytes) -> None:
        (headers,) = struct.unpack_from("<Q", elf, 0x28)
        size, count, names_at = struct.unpack_from("<HHH", elf, 0x3A)
        raw = [struct.unpack_from("<IIQQQQIIQQ", elf, headers + i * size) for i in range(count)]

        def string(table: tuple[int, ...], offset: int) -> str:
            start = table[4] + offset
            return elf[start : elf.index(b"\0", start)].decode()

        self.sections = [
            Section(string(raw[names_at], s[0]), max(s[8], 1), bool(s[2] & 2), elf[s[4] : s[4] + s[5]] if s[1] != NOBITS else b"")
            for s in raw
        ]
        table = next(s for s, known in zip(raw, self.sections, strict=True) if known.name == ".symtab")
        self.symbols: list[tuple[str, int, int]] = []  # name, section, value
        for at in range(table[4], table[4] + table[5], 24):
            label, _info, _other, section, value, _size = struct.unpack_from("<IBBHQQ", elf, at)
            self.symbols.append((string(raw[table[6]], label), section, value))
        self.relocations: dict[int, list[Relocation]] = {}
        for s in raw:
            if s[1] == RELA:
                found = self.relocations.setdefault(s[7], [])
                for at in range(s[4], s[4] + s[5], 24):
                    offset, info, addend = struct.unpack_from("<QQq", elf, at)
                    name, section, value = self.symbols[info >> 32]
                    found.append(Relocation(offset, info & 0xFFFFFFFF, name, section, value, addend))


def link(elf: bytes) -> tuple[bytes, dict[str, int]]:
    """.text with the read-only data behind it; raises ValueError for an object that refers to anything outside of itself."""
    made = Object(elf)
    place: dict[int, int] = {}
    blob = bytearray()
    for wanted in (".text", ".rodata"):
        for i, s in enumerate(made.sections):
            if s.allocated and s.data and s.name.startswith(wanted):
                blob += b"\xcc" * (-len(blob) % max(s.alignment, 16))
                place[i] = len(blob)
                blob += s.data
    for i, s in enumerate(made.sections):
        if s.allocated and s.data and i not in place and not s.name.startswith((".eh_frame", ".llvm", ".note")):
            raise ValueError(f"the object has {len(s.data)} bytes of {s.name}")
    named = {name: place[section] + value for name, section, value in made.symbols if name and section in place}
    for i, start in place.items():
        for r in made.relocations.get(i, ()):
            if r.section not in place or r.kind not in (R_PC32, R_PLT32):
                raise ValueError(f"relocation {r.kind} against {r.symbol or 'a section that is not kept'}")
            p = start + r.offset
            struct.pack_into("<i", blob, p, place[r.section] + r.value + r.addend - p)
    return bytes(blob), named
