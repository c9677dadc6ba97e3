"""Guest code for people: `-d in_asm` (each block when it is first met) and `-d exec` (each block that is entered)."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from exuvia.codegen.layout import HEAD, SPECIAL
from exuvia.dsl.record import FIELDS, RECORD
from exuvia.isa.x86.disassembler import disassemble
from exuvia.isa.x86.state import mode_facts
from exuvia.support import log

if TYPE_CHECKING:
    from exuvia.vcpu.software import SoftwareVcpu

LIMIT = 1 << 20  # blocks remembered as shown
_shown: set[tuple[int, int]] = set()


def fields(record: int) -> dict[str, int]:
    """An op record's fields by name."""
    found = {}
    for name, (offset, w, signed) in FIELDS.items():
        found[name] = int.from_bytes(ctypes.string_at(record + offset, w // 8), "little", signed=signed)
    return found


def lines(cpu: SoftwareVcpu, head: int) -> list[str]:
    """The block's instructions, a line each: linear address and text."""
    body = ctypes.c_uint64.from_address(head + HEAD["body"]).value
    count = ctypes.c_uint16.from_address(head + HEAD["n"]).value
    if ctypes.c_uint64.from_address(body).value == cpu.engine.special[SPECIAL.index("guard")]:
        body += 2 * RECORD
    tables = cpu.engine.tables[cpu.mode]
    code = int(mode_facts(cpu.mode)["code"])
    text = []
    for at in range(body, body + count * RECORD, RECORD):
        f = fields(at)
        row, variant = tables.rows[f["slot"]]
        linear = cpu.page + f["off"]
        text.append(f"{linear:#018x}: {disassemble(row, variant, f, code, cpu.offset(linear))}")
    return text


def show_block(cpu: SoftwareVcpu) -> None:
    """Log the block at `pc`, which is about to run."""
    if log.exec.on:
        log.exec(f"cpu {cpu.index}: {cpu.pc:#x}")
    key = cpu.pc, cpu.mode
    if log.in_asm.on and key not in _shown and (head := cpu.engine.block(cpu.native.address)):
        if len(_shown) < LIMIT:
            _shown.add(key)
        log.in_asm("----------------\n" + "\n".join(lines(cpu, head)))
