"""Segment loads, far transfers and descriptor instructions."""

from __future__ import annotations

from random import Random

import pytest

from exuvia.isa.x86.concrete import Fault
from exuvia.isa.x86.state import CS, DS, ES, FS, GS, INHIBIT_SS, LDTR, SS, TR
from tests.isa.x86.machine import Machine
from tests.isa.x86.settings import (
    ABSENT,
    CODE,
    CONFORMING,
    DOWN,
    EVERY,
    EXECUTE_ONLY,
    FRESH,
    GDT,
    K16,
    K32,
    KDATA,
    LDT,
    READ_ONLY,
    RING1,
    SMALL,
    STACKS,
    TASK,
    TSS,
    U32,
    UDATA,
    descriptor,
    load,
    long_mode,
    protected_mode,
)  # fmt: skip


def derived(m: Machine, i: int) -> tuple[int, ...]:
    return (m.seg_base[i], m.seg_limit[i], m.seg_low[i], m.seg_high[i], m.seg_write_low[i], m.seg_write_high[i])


@pytest.mark.parametrize("make", [long_mode, protected_mode])
def test_the_text_keeps_what_the_python_keeps(make: object) -> None:
    """MOV to DS and SS of every descriptor: the text's derived words are `set_segment`'s."""
    rng = Random(1)
    loaded = 0
    for selector in EVERY:
        for i in DS, SS, FS:
            m = make(rng.choice([0, 3]))  # type: ignore[operator]
            m.gpr[0] = selector | m.cpl
            _, fault = m.text(bytes([0x8E, 0xC0 | i << 3]))
            if fault is not None:
                assert fault.error is not None
                continue
            other = m.clone()
            load(other, i, selector | m.cpl)
            other.update_mode()
            assert m.compared() == other.compared()
            loaded += 1
    assert loaded >= 20


@pytest.mark.parametrize(
    ("level", "i", "selector", "fault"),
    [
        (0, DS, KDATA, None), (3, DS, KDATA | 3, (13, KDATA)), (0, DS, KDATA | 3, (13, KDATA)), (0, DS, EXECUTE_ONLY, (13, EXECUTE_ONLY)),
        (3, DS, CONFORMING | 3, None), (0, DS, ABSENT, (11, ABSENT)), (0, SS, UDATA, (13, UDATA)), (0, SS, READ_ONLY, (13, READ_ONLY)),
        (0, SS, 0, (13, 0)), (3, DS, 3, None), (0, DS, 0xFFF8, (13, 0xFFF8)), (0, DS, TASK, (13, TASK)), (0, DS, 4 | 8, (13, 12)),
        (3, SS, UDATA | 3, None), (3, SS, UDATA, (13, UDATA)), (0, ES, FRESH, None),
    ],
)  # fmt: skip
def test_checks_of_a_load(level: int, i: int, selector: int, fault: tuple[int, int] | None) -> None:
    m = protected_mode(level)
    m.gpr[0] = selector
    _, raised = m.text(bytes([0x8E, 0xC0 | i << 3]))
    assert (raised and (raised.vector, raised.error)) == fault
    if fault is None and selector & ~3:
        assert m.seg_selector[i] == selector
        assert m.ram[GDT + (selector & ~7) + 5] & 1


def test_ranges() -> None:
    m = protected_mode()
    load(m, ES, DOWN)
    assert derived(m, ES) == (0, 0x1FFFF, 0x20000, 0xFFFFFFFF, 0x20000, 0xFFFFFFFF)
    load(m, ES, READ_ONLY)
    assert derived(m, ES)[2:] == (0, 0xFFFFFFFF, 1, 0)
    assert m.unflat == 1 << ES
    load(m, ES, KDATA)
    assert m.unflat == 0
    load(m, CS, K32)
    assert derived(m, CS)[2:] == (0, 0xFFFFFFFF, 1, 0)
    m.null_segment(DS)
    assert derived(m, DS)[2:] == (1, 0, 1, 0)


def test_unreal_mode_keeps_the_limit() -> None:
    m = Machine()
    m.start(8)
    load(m, ES, KDATA)
    m.gpr[0] = 0x1234
    m.step(b"\x8e\xc0")
    assert derived(m, ES) == (0x12340, 0xFFFFFFFF, 0, 0xFFFFFFFF, 0, 0xFFFFFFFF)


def test_stack_load_holds_interrupts() -> None:
    m = protected_mode()
    m.gpr[0] = KDATA
    m.step(b"\x8e\xd8")
    assert m.inhibit == 0
    m.step(b"\x8e\xd0")
    assert m.inhibit == INHIBIT_SS


def far(selector: int, ip: int) -> bytes:
    return ip.to_bytes(4, "little") + selector.to_bytes(2, "little")


def test_far_jump_and_call_and_return() -> None:
    m = protected_mode()
    m.step(b"\xea" + far(K32, 0x600))
    assert m.pc == 0x600
    m.step(b"\x9a" + far(K16, 0x700))
    assert (m.pc, m.seg_selector[CS], m.mode) == (0x700, K16, 3)
    assert m.read(m.gpr[4], 8) == K32 << 32 | 0x607
    m.step(b"\x66\xcb")
    assert (m.pc, m.seg_selector[CS], m.gpr[4]) == (0x607, K32, STACKS + 0x800)


@pytest.mark.parametrize(
    ("selector", "vector", "error"), [(0, 13, 0), (U32, 13, U32), (KDATA, 13, KDATA), (0xF8, 13, 0xF8), (ABSENT, 13, ABSENT)]
)
def test_far_jump_faults(selector: int, vector: int, error: int) -> None:
    m = protected_mode()
    end, _ = m.text(b"\xea" + far(selector, 0x600))
    assert end is not None
    from exuvia.isa.x86.concrete import RARE

    with pytest.raises(Fault) as raised:
        RARE[end.effect.attr](m, *end.args)
    assert (raised.value.vector, raised.value.error) == (vector, error)


def test_call_gate_to_an_inner_level_copies_parameters() -> None:
    m = protected_mode(3)
    m.poke(GDT + 21 * 8, 0x5678 | K32 << 16 | 2 << 32 | 0xEC << 40)
    m.poke(m.gpr[4], 0x22222222_11111111)
    m.step(b"\x9a" + far(21 * 8 | 3, 0))
    assert (m.pc, m.cpl, m.seg_selector[SS]) == (0x5678, 0, KDATA)
    frame = [m.read(m.gpr[4] + 4 * i, 4) for i in range(6)]
    assert frame == [CODE + 7, U32 | 3, 0x11111111, 0x22222222, STACKS + 0x800, UDATA | 3]
    load(m, DS, KDATA)
    m.step(b"\xca\x08\x00")
    assert (m.pc, m.cpl, m.gpr[4], m.seg_selector[DS]) == (CODE + 7, 3, STACKS + 0x808, 0)


def test_jump_to_a_task() -> None:
    m = protected_mode()
    m.poke(GDT + 13 * 8, descriptor(LDT, 0x67, 0x89, 0))
    for at, v in ((0x20, 0x600), (0x24, 2), (0x38, STACKS), (0x4C, U32 | 3), (0x50, UDATA | 3), (0x54, UDATA)):
        m.poke(LDT + at, v, 4)
    m.step(b"\xea" + far(13 * 8, 0))
    assert (m.pc, m.cpl, m.seg_selector[TR], m.gpr[4]) == (0x600, 3, 13 * 8, STACKS)
    assert m.ram[GDT + TASK + 5] == 0x89
    assert int.from_bytes(m.ram[TSS + 0x20 : TSS + 0x24], "little") == CODE + 7


def test_real_mode_far_transfers() -> None:
    m = Machine()
    m.start(0x10)
    m.gpr[4] = 0x800
    m.step(b"\x9a\x34\x12\x00\x20")
    assert (m.pc, m.seg_base[CS], m.gpr[4]) == (0x21234, 0x20000, 0x7FC)
    m.step(b"\xcb")
    assert (m.pc, m.gpr[4]) == (0x10005, 0x800)


def test_task_and_local_table_registers() -> None:
    m = long_mode()
    m.poke(GDT + TASK + 5, 0x89, 1)
    m.poke(GDT + TASK + 8, 0xFFFF8000)
    m.gpr[0] = TASK
    m.step(b"\x0f\x00\xd8")
    assert m.seg_base[TR] == 0xFFFF8000_00004000
    assert m.ram[GDT + TASK + 5] == 0x8B
    m.gpr[0] = 0
    m.step(b"\x0f\x00\xd0")
    assert m.seg_selector[LDTR] == 0
    m.gpr[0], m.gpr[1] = 0xFFFF_FFFF_FFFF_FFFF, TASK
    m.step(b"\x0f\x00\xc8")  # STR EAX
    assert m.gpr[0] == TASK


def test_lar_lsl_verr_verw() -> None:
    m = protected_mode(3)
    for selector, readable, writable in ((KDATA, 0, 0), (UDATA, 1, 1), (U32, 1, 0), (CONFORMING, 1, 0), (0, 0, 0), (RING1, 0, 0)):
        m.gpr[0] = selector | 3
        m.step(b"\x0f\x00\xe0")
        assert m.flags >> 6 & 1 == readable
        m.step(b"\x0f\x00\xe8")
        assert m.flags >> 6 & 1 == writable
    m.gpr[0], m.gpr[1] = UDATA | 3, 0
    m.step(b"\x0f\x02\xc8")  # LAR ECX,EAX
    assert (m.gpr[1], m.flags >> 6 & 1) == (0xCFF300, 1)
    m.step(b"\x0f\x03\xc8")
    assert m.gpr[1] == 0xFFFFFFFF


def test_tables_load_and_store() -> None:
    m = protected_mode()
    m.poke(0x8000, 0x1234_5678_00FF)
    m.gpr[0] = 0x8000
    m.step(b"\x66\x0f\x01\x10")  # LGDT with 16-bit operands: 24 bits of base
    assert (m.gdt_base, m.gdt_limit) == (0x345678, 0xFF)
    m.step(b"\x0f\x01\x18")
    assert (m.idt_base, m.idt_limit) == (0x12345678, 0xFF)
    m.gpr[0] = 0x8010
    m.step(b"\x0f\x01\x08")
    assert m.read(0x8010, 8) == 0x12345678_00FF


def test_segment_registers_on_the_stack() -> None:
    m = protected_mode()
    load(m, GS, SMALL)
    m.step(b"\x0f\xa8")
    assert m.read(m.gpr[4], 4) == SMALL
    m.step(b"\x07")
    assert (m.seg_base[ES], m.unflat) == (0x300, 1)
