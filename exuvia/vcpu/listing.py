"""Guest code for people: `-d in_asm` (each block when it is first met) and `-d exec` (each block that is entered)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from exuvia.codegen.layout import HEAD, SPECIAL
from exuvia.dsl.architecture import Architecture, Tables
from exuvia.dsl.record import FIELDS, RECORD
from exuvia.support import log

if TYPE_CHECKING:
    from exuvia.vcpu.software import SoftwareVcpu

LIMIT = 1 << 20  # blocks remembered as shown
_shown: set[tuple[int, int]] = set()


def fields(record: bytes) -> dict[str, int]:
    """An op record's fields by name."""
    return {name: int.from_bytes(record[at : at + w // 8], "little", signed=signed) for name, (at, w, signed) in FIELDS.items()}


class Listed(NamedTuple):
    """A block to be shown: `page` and `linear` are guest addresses, `records` its `n` instructions and a guard before them."""

    mode: int
    page: int
    linear: int
    records: bytes
    n: int


def listed(architecture: Architecture, tables: Tables, block: Listed, special: Sequence[int], base: int = 0) -> list[tuple[int, str]]:
    """The block's instructions: linear address and text. `base` is the code segment's, `special` the engine's."""
    first = int.from_bytes(block.records[:8], "little") == special[SPECIAL.index("guard")]
    text = []
    for at in range(2 * RECORD * first, RECORD * (block.n + 2 * first), RECORD):
        f = fields(block.records[at : at + RECORD])
        row, variant = tables.rows[f["slot"]]
        linear = block.page + f["off"]
        text.append((linear, architecture.disassemble(row, variant, f, block.mode, linear - base)))
    return text


def lines(cpu: SoftwareVcpu, head: int) -> list[str]:
    """The block's instructions, a line each: linear address and text."""
    body = ctypes.c_uint64.from_address(head + HEAD["body"]).value
    count = ctypes.c_uint16.from_address(head + HEAD["n"]).value
    block = Listed(cpu.mode, cpu.page, cpu.pc, ctypes.string_at(body, RECORD * (count + 2)), count)
    found = listed(cpu.engine.architecture, cpu.engine.tables[cpu.mode], block, list(cpu.engine.special), cpu.pc - cpu.offset(cpu.pc))
    return [f"{linear:#018x}: {text}" for linear, text in found]


def show_block(cpu: SoftwareVcpu) -> None:
    """Log the block at `pc`, which is about to run."""
    if log.exec.on:
        log.exec(f"cpu {cpu.index}: {cpu.pc:#x}")
    key = cpu.pc, cpu.mode
    if log.in_asm.on and key not in _shown and (head := cpu.engine.block(cpu.native.address)):
        if len(_shown) < LIMIT:
            _shown.add(key)
        log.in_asm("----------------\n" + "\n".join(lines(cpu, head)))
