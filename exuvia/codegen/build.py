"""LLVM text to machine code that runs wherever it is put: PC-relative references inside a blob are resolved here, others are refused."""

from __future__ import annotations

import struct
from typing import Any

import llvmlite.binding as llvm

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


def link(elf: bytes) -> tuple[bytes, dict[str, int]]:
    """.text with the read-only data behind it; raises ValueError for an object that refers to anything outside of itself."""
    (headers,) = struct.unpack_from("<Q", elf, 0x28)
    size, count, names_at = struct.unpack_from("<HHH", elf, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, headers + i * size) for i in range(count)]

    def string(table: tuple[int, ...], offset: int) -> str:
        start = table[4] + offset
        return elf[start : elf.index(b"\0", start)].decode()

    names = [string(sections[names_at], s[0]) for s in sections]
    place: dict[int, int] = {}
    blob = bytearray()
    for wanted in (".text", ".rodata"):
        for i, s in enumerate(sections):
            if s[2] & 2 and s[5] and names[i].startswith(wanted):  # SHF_ALLOC
                blob += b"\xcc" * (-len(blob) % max(s[8], 16))
                place[i] = len(blob)
                blob += elf[s[4] : s[4] + s[5]]
    for i, s in enumerate(sections):
        if s[2] & 2 and s[5] and i not in place and not names[i].startswith((".eh_frame", ".llvm", ".note")):
            raise ValueError(f"the object has {s[5]} bytes of {names[i]}")
    table = sections[names.index(".symtab")]
    symbols: list[tuple[int | None, str]] = []
    named: dict[str, int] = {}
    for at in range(table[4], table[4] + table[5], 24):
        label, _info, _other, section, value, _size = struct.unpack_from("<IBBHQQ", elf, at)
        where = place[section] + value if section in place else None
        symbols.append((where, string(sections[table[6]], label)))
        if where is not None and label:
            named[symbols[-1][1]] = where
    for s in sections:
        if s[1] != 4 or s[7] not in place:  # SHT_RELA that applies to something we keep
            continue
        for at in range(s[4], s[4] + s[5], 24):
            offset, info, addend = struct.unpack_from("<QQq", elf, at)
            where, label = symbols[info >> 32]
            if where is None or info & 0xFFFFFFFF not in (2, 4):  # R_X86_64_PC32, R_X86_64_PLT32
                raise ValueError(f"relocation {info & 0xFFFFFFFF} against {label or 'a section that is not kept'}")
            p = place[s[7]] + offset
            struct.pack_into("<i", blob, p, where + addend - p)
    return bytes(blob), named
