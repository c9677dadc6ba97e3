"""Delivery and IRET: the native texts against the plain-Python versions on random tables, and both against what the manual says."""

from __future__ import annotations

from random import Random

import pytest

from exuvia.isa.x86.concrete import RARE, Fault
from exuvia.isa.x86.state import CS, DS, EXCEPTION, EXTERNAL, SOFTWARE, SS, TR
from tests.isa.x86.machine import Machine
from tests.isa.x86.settings import (
    ABSENT,
    CODE,
    CONFORMING,
    DATA16,
    DESCRIPTORS,
    EVERY,
    FRESH,
    GDT,
    IDT,
    K16,
    K32,
    K64,
    KDATA,
    LDT,
    RING1,
    STACKS,
    TABLES,
    TSS,
    U32,
    U64,
    UDATA,
    descriptor,
    load,
    long_mode,
    protected_mode,
    some_flags,
)  # fmt: skip

ERRORS = {8, 10, 11, 12, 13, 14, 17}


def gate(selector: int, offset: int, kind: int, ist: int = 0) -> int:
    """An interrupt descriptor's first eight bytes; `kind` is P, DPL, type."""
    return offset & 0xFFFF | selector << 16 | ist << 32 | kind << 40 | (offset >> 16 & 0xFFFF) << 48


def event(m: Machine, vector: int, kind: int, error: int = 0, ip: int = 0x10002) -> None:
    m.vector, m.event, m.event_ip, m.event_start = vector, kind, ip, ip - 2
    m.event_has_error = int(kind == EXCEPTION and vector in ERRORS)
    m.error = error if m.event_has_error else 0


def random_long(rng: Random) -> Machine:
    m = long_mode(rng.choice([0, 0, 3, 3]), rng.random() < 0.2)
    for v in range(32):
        target = rng.choice([K64] * 12 + [CONFORMING, U64, K32, ABSENT, 0, 0xF8])
        kind = rng.choice([0x8E, 0x8E, 0x8F, 0xEE, 0xEE, 0x0E, 0x8C])
        m.poke(IDT + 16 * v, gate(target, 0x3000 + v, kind, rng.choice([0, 0, 0, 1, 7])))
        m.poke(IDT + 16 * v + 8, rng.choice([0xFFFF8000, 0, 0, 0x12345678]))
    if rng.random() < 0.1:
        m.poke(TABLES + 0x3000 + 8 * (STACKS // 4096), STACKS | rng.choice([0, 5]))
    m.gpr[4] = STACKS + rng.choice([0x800, 0x807, 0x20, 0x1000])
    return m


def random_protected(rng: Random) -> Machine:
    m = protected_mode(rng.choice([0, 0, 3, 3]))
    for v in range(32):
        target = rng.choice([K32] * 12 + [RING1, U32, ABSENT, K16, 0, 0xF8])
        kind = rng.choice([0x8E, 0x8E, 0x8F, 0xEE, 0xEE, 0x0E, 0x86])
        m.poke(IDT + 8 * v, gate(target, 0x3000 + v, kind))
    if rng.random() < 0.2:
        m.poke(TSS + 8, rng.choice(EVERY) | rng.choice([0, 0, 3]), 4)
    if rng.random() < 0.2:
        load(m, SS, rng.choice([DATA16, 16 * 8, 20 * 8]) if m.cpl == 0 else UDATA | 3)
        m.update_mode()
    m.gpr[4] = STACKS + rng.choice([0x800, 0x7, 0x20, 0x1000])
    return m


@pytest.mark.parametrize("make", [random_long, random_protected])
def test_delivery_text_agrees_with_python(make: object) -> None:
    rng = Random(7)
    done = 0
    for _ in range(70):
        m = make(rng)  # type: ignore[operator]
        m.set_flags(some_flags(rng))
        m.update_mode()
        kind = rng.choice([EXCEPTION, EXTERNAL, SOFTWARE])
        event(m, rng.randrange(32), kind, rng.getrandbits(16))
        other, before = m.clone(), m.compared()
        try:
            end = m.routine("deliver")
        except Fault:
            continue  # the engine hands it to Python, with everything untouched
        if end is not None:
            assert end.effect.op == "leave"
            assert m.compared() == before
            assert m.ram[:TABLES] == other.ram[:TABLES]
            continue
        RARE["deliver"](other)
        assert not other.events
        assert m.compared() == other.compared()
        assert m.ram[:TABLES] == other.ram[:TABLES]
        done += 1
    assert done > 12


def words(m: Machine, at: int, n: int, size: int) -> list[int]:
    return [int.from_bytes(m.ram[at + i * size : at + i * size + size], "little") for i in range(n)]


def test_page_fault_from_user_in_long_mode() -> None:
    m = long_mode(3)
    m.poke(IDT + 16 * 14, gate(K64, 0x81001234, 0x8E))
    m.poke(IDT + 16 * 14 + 8, 0xFFFFFFFF)
    m.set_flags(0x246)
    m.fault(Fault(14, 6, 0x7FFF0000), CODE)
    assert m.cr2 == 0x7FFF0000
    assert (m.pc, m.cpl, m.mode, m.tlb) == (0xFFFFFFFF81001234, 0, 0, 1)
    assert m.gpr[4] == STACKS + 0x1000 - 48
    assert words(m, m.gpr[4], 6, 8) == [6, CODE, U64 | 3, 0x10246, STACKS + 0x800, UDATA | 3]
    assert m.flags == 0x46
    assert (m.seg_selector[CS], m.seg_selector[SS]) == (K64, 0)


def test_fault_during_delivery_becomes_double_fault_and_then_shutdown() -> None:
    m = protected_mode()
    m.poke(IDT + 8 * 13, gate(ABSENT, 0x100, 0x8E))  # a #GP whose handler is not there: #NP, so #DF
    m.poke(IDT + 8 * 8, gate(K32, 0x200, 0x8E))
    m.fault(Fault(13, 0), CODE)
    assert m.pc == 0x200
    assert words(m, m.gpr[4], 4, 4) == [0, CODE, K32, 0x10002]
    m.poke(IDT + 8 * 8, 0)
    m.fault(Fault(13, 0), CODE)
    assert m.events == [("shutdown",)]


def test_contributory_after_benign_is_delivered_alone() -> None:
    m = protected_mode()
    m.poke(IDT + 8 * 6, gate(K32, 0x100, 0x0E))  # #UD's gate is not present: #NP with the gate's selector
    m.poke(IDT + 8 * 11, gate(K32, 0x300, 0x8F))
    m.fault(Fault(6), CODE)
    assert m.pc == 0x300
    assert words(m, m.gpr[4], 2, 4) == [6 * 8 + 3, CODE]


def test_failed_software_interrupt_points_at_the_instruction() -> None:
    m = protected_mode(3)
    m.poke(IDT + 8 * 0x80, gate(K32, 0x100, 0x8E))  # its DPL is 0
    m.poke(IDT + 8 * 13, gate(K32, 0x200, 0x8E))
    m.step(b"\xcd\x80")
    assert m.pc == 0x200
    assert words(m, m.gpr[4], 6, 4) == [0x80 * 8 + 2, CODE, U32 | 3, 0x10002, STACKS + 0x800, UDATA | 3]


def test_system_call_by_interrupt_and_back() -> None:
    m = protected_mode(3)
    m.poke(IDT + 8 * 0x80, gate(K32, 0x400, 0xEF))
    m.set_flags(0x202)
    m.step(b"\xcd\x80")
    assert (m.pc, m.cpl, m.flags) == (0x400, 0, 0x202)
    m.step(b"\xcf")
    assert (m.pc, m.cpl, m.gpr[4], m.seg_selector[CS]) == (CODE + 2, 3, STACKS + 0x800, U32 | 3)


def test_real_mode_interrupt_and_iret() -> None:
    m = Machine()
    m.start(0x10)
    m.poke(0x21 * 4, 0x20000000 | 0x55, 4)
    m.gpr[4] = 0x800
    m.set_flags(0x246)
    m.step(b"\xcd\x21")
    assert (m.pc, m.gpr[4], m.flags) == (0x20055, 0x7FA, 0x46)
    assert words(m, 0x7FA, 3, 2) == [2, 0x1000, 0x246]
    m.step(b"\xcf")
    assert (m.pc, m.gpr[4], m.flags, m.seg_selector[CS]) == (0x10002, 0x800, 0x246, 0x1000)


def test_virtual_8086_round_trip() -> None:
    m = protected_mode()
    stack = m.gpr[4] - 36
    m.gpr[4] = stack
    for i, v in enumerate((0x55, 0x1000, 0x23202, 0x700, 0x2000, 0x111, 0x222, 0x333, 0x444)):
        m.poke(stack + 4 * i, v, 4)
    m.step(b"\xcf")
    assert (m.pc, m.cpl, m.gpr[4]) == (0x10055, 3, 0x700)
    assert (m.seg_base[SS], m.seg_base[DS], m.seg_limit[DS]) == (0x20000, 0x2220, 0xFFFF)
    assert m.mode == 5
    m.poke(IDT + 8 * 13, gate(K32, 0x200, 0x8E))
    m.set_flags(0, 0x3000)
    m.step(b"\xfa")  # CLI with IOPL 0
    assert (m.pc, m.cpl, m.mode) == (0x200, 0, 8)  # not flat: DS and ES are null now
    assert words(m, m.gpr[4], 10, 4) == [0, 0x55, 0x1000, 0x30202, 0x700, 0x2000, 0x111, 0x222, 0x333, 0x444]
    assert m.gpr[4] == STACKS + 0x1000 - 40
    assert [m.seg_selector[i] for i in (DS, SS)] == [0, KDATA]


def random_return(m: Machine, rng: Random, size: int, codes: list[int]) -> None:
    level = rng.choice([m.cpl, m.cpl, 3, 3])
    code = rng.choice(codes) | rng.choice([level] * 6 + [1])
    stack = rng.choice([UDATA if level == 3 else KDATA] * 8 + [0, 0, ABSENT, FRESH, U64, 0xF8]) | rng.choice([level] * 6 + [1])
    for i, v in enumerate((rng.choice([CODE, 0, 0x3FFF]), code, some_flags(rng), STACKS + 0x100, stack)):
        m.poke(m.gpr[4] + i * size, v, size)


@pytest.mark.parametrize(("make", "size", "code"), [(long_mode, 8, b"\x48\xcf"), (protected_mode, 4, b"\xcf")])
def test_iret_text_agrees_with_python(make: object, size: int, code: bytes) -> None:
    rng = Random(3)
    done = 0
    for _ in range(70):
        m = make(rng.choice([0, 0, 0, 3]))  # type: ignore[operator]
        m.set_flags(some_flags(rng) & ~0x4000)
        if rng.random() < 0.3:
            load(m, DS, rng.choice([KDATA, 0, UDATA | 3]))
        m.update_mode()
        codes = [U64 if size == 8 else U32, U64 if size == 8 else U32, U32, K64 if size == 8 else K32, K32, *DESCRIPTORS]
        random_return(m, rng, size, codes)
        other = m.clone()
        end, fault = m.text(code)
        if fault is not None:
            with pytest.raises(Fault) as raised:
                RARE["iret"](other, size * 8)
            assert (raised.value.vector, raised.value.error) == (fault.vector, fault.error)
        elif end is None:
            RARE["iret"](other, size * 8)
            assert m.compared() == other.compared()
            assert m.ram[:TABLES] == other.ram[:TABLES]
            done += 1
    assert done > 5


def test_task_gate_and_return() -> None:
    m = protected_mode()
    m.poke(GDT + 13 * 8, descriptor(LDT, 0x67, 0x89, 0))
    for at, v in ((0x20, 0x600), (0x24, 2), (0x38, STACKS + 0x400), (0x4C, K32), (0x50, KDATA), (0x48, UDATA), (0x54, UDATA)):
        m.poke(LDT + at, v, 4)
    m.poke(IDT + 8 * 8, gate(13 * 8, 0, 0x85))
    m.gpr[0] = 0x1234
    m.fault(Fault(8, 0), CODE)
    assert (m.pc, m.seg_selector[TR], m.gpr[4]) == (0x600, 13 * 8, STACKS + 0x400 - 4)
    assert words(m, m.gpr[4], 1, 4) == [0]
    assert m.flags & 0x4000
    assert m.ram[LDT] == 12 * 8
    assert m.ram[GDT + 13 * 8 + 5] == 0x8B
    assert words(m, TSS + 0x20, 3, 4) == [CODE, 0x2, 0x1234]
    assert m.cr0 & 8
    m.step(b"\xcf")
    assert (m.pc, m.seg_selector[TR], m.gpr[0], m.gpr[4]) == (CODE, 12 * 8, 0x1234, STACKS + 0x800)
    assert m.ram[GDT + 13 * 8 + 5] == 0x89


def test_iret_ends_the_blocking_of_nmis_also_where_it_faults() -> None:
    m = protected_mode()
    m.poke(IDT + 8 * 13, gate(K32, 0x200, 0x8E))
    for i, v in enumerate((0x500, K32, 2)):
        m.poke(m.gpr[4] + 4 * i, v, 4)
    m.nmi_blocked = 1
    m.step(b"\xcf")
    assert (m.pc, m.nmi_blocked) == (0x500, 0)
    m.poke(m.gpr[4] + 4, 0xFFF8, 4)
    m.nmi_blocked = 1
    m.step(b"\xcf")
    assert (m.pc, m.nmi_blocked) == (0x200, 0)
