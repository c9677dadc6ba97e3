"""The TLB: refill, what entries map, what becomes of replaced ones (vol. III, chapter 4)."""

from __future__ import annotations

import pytest

from exuvia.isa.mips import state as s
from tests.isa.mips.assembler import BREAK, NOP, mfc0, mtc0, word
from tests.isa.mips.machine import KSEG0, Machine
from tests.isa.mips.programs import AT, GENERAL, REFILL, USER, begin, entry, exception, lo


def test_refill(m: Machine) -> None:
    """No entry: a vector of its own, with everything that the handler needs."""
    begin(m, word("lw", rt=2, base=4, offset=4))
    m.cpu.context, m.cpu.entryhi, m.cpu.r[4] = 0xFF80_0000, 0x55, 0x1234_5000
    m.until(REFILL)
    cpu = m.cpu
    assert exception(m) == (s.TLBL, AT, False)
    assert (cpu.badvaddr, cpu.entryhi, cpu.context) == (0x1234_5004, 0x1234_4055, 0xFF80_0000 | 0x1234_5000 >> 13 << 4)


def test_refill_of_code(m: Machine) -> None:
    begin(m, word("jr", rs=4), NOP)
    m.cpu.r[4] = USER
    m.until(REFILL)
    assert (*exception(m), m.cpu.badvaddr) == (s.TLBL, USER, False, USER)


def test_a_delay_slot_on_a_page_that_is_not_mapped(m: Machine) -> None:
    """The branch is what is done again."""
    entry(m, 0, USER, lo(0x8000, s.LO_V | s.LO_G), lo(0, s.LO_G))
    m.put(0x8FFC, word("beq", branch=4))
    begin(m, at=USER + 0xFFC)
    m.until(GENERAL)
    assert (*exception(m), m.cpu.badvaddr) == (s.TLBL, USER + 0xFFC, True, USER + 0x1000)
    entry(m, 0, USER, lo(0x8000, s.LO_V | s.LO_G), lo(0xA000, s.LO_V | s.LO_G))
    m.put(0xA000, word("addiu", rt=3, imm=7))
    m.cpu.status = 0
    m.start(USER + 0xFFC)
    m.until(USER + 0x1010)
    assert m.cpu.r[3] == 7


def test_invalid_and_modified(m: Machine) -> None:
    entry(m, 0, USER, lo(0x4000, s.LO_V | s.LO_G), lo(0x5000, s.LO_D | s.LO_G))
    for address, name, code in ((USER, "sw", s.MOD), (USER + 0x1000, "lw", s.TLBL), (USER + 0x1000, "sw", s.TLBS)):
        begin(m, word(name, rt=2, base=4))
        m.cpu.status, m.cpu.r[4] = 0, address
        m.until(GENERAL)
        assert (*exception(m)[:2], m.cpu.badvaddr) == (code, AT, address)


def loaded(m: Machine, address: int) -> int | None:
    """The word at an address; None for an exception."""
    begin(m, word("lw", rt=2, base=4), NOP)
    m.cpu.status, m.cpu.r[4] = 0, address
    for _ in range(10):
        m.cpu.single_step()
        if m.cpu.pc == AT + 4:
            return int(m.cpu.r[2])
        if m.cpu.pc in (REFILL, GENERAL):
            return None
    raise AssertionError(m.cpu.describe())


def asid(m: Machine, number: int) -> None:
    """MTC0 EntryHi."""
    begin(m, mtc0("t0", "entryhi"), NOP)
    m.cpu.r[8] = number
    m.until(AT + 4)


def test_address_spaces(m: Machine) -> None:
    m.put(0x4000, 0x4444)
    m.put(0x5000, 0x5555)
    m.put(0x6000, 0x6666)
    entry(m, 0, USER, lo(0x4000), lo(0), asid=1)
    entry(m, 1, USER, lo(0x5000), lo(0), asid=2)
    entry(m, 2, USER + 0x2000, lo(0x6000, s.LO_V | s.LO_G), lo(0, s.LO_G), asid=9)
    for _ in range(2):
        for number, value in ((1, 0x4444), (2, 0x5555), (3, None)):
            asid(m, number)
            assert loaded(m, USER) == value
            assert loaded(m, USER + 0x2000) == 0x6666, "a global page belongs to all"


def test_an_entry_that_is_replaced_maps_nothing(m: Machine) -> None:
    m.put(0x4000, 0x4444)
    m.put(0x5000, 0x5555)
    entry(m, 3, USER, lo(0x4000, s.LO_V | s.LO_G), lo(0x4000, s.LO_V | s.LO_G))
    assert loaded(m, USER) == 0x4444
    entry(m, 3, USER, lo(0x5000, s.LO_V | s.LO_G), lo(0x4000, s.LO_V | s.LO_G))
    assert (loaded(m, USER), loaded(m, USER + 0x1000)) == (0x5555, 0x4444)
    entry(m, 3, USER + 0x2000, lo(0x5000, s.LO_V | s.LO_G), lo(0x4000, s.LO_V | s.LO_G))
    assert (loaded(m, USER), loaded(m, USER + 0x1000)) == (None, None)


@pytest.mark.parametrize("size", [0x4000, 0x10000, 0x100000])
def test_page_sizes(m: Machine, size: int) -> None:
    m.put(0x7000, 0x7777)
    mask = size * 2 - 1 & s.PAGE_MASK
    entry(m, 0, USER, lo(0x4000 if size == 0x4000 else 0, s.LO_V | s.LO_G), lo(0x4000 if size == 0x4000 else 0, s.LO_V | s.LO_G), mask)
    inside = 0x3000 if size == 0x4000 else 0x7000
    assert loaded(m, USER + inside) == loaded(m, USER + size + inside) == 0x7777
    assert loaded(m, USER + 2 * size) is None
    entry(m, 0, 0x7000_0000, lo(0), lo(0))
    assert loaded(m, USER + inside) is None


def test_index_after_a_probe_in_vain(m: Machine) -> None:
    """Linux writes Index after probes that found nothing: P stays, and is not part of the number."""
    cpu = m.cpu
    begin(m, word("tlbp"), mtc0("t0", "tlb_index"), word("tlbwi"), word("tlbr"), NOP)
    cpu.r[8], cpu.entryhi, cpu.entrylo0, cpu.entrylo1 = 5, USER | 3, lo(0x4000), lo(0x5000)
    m.until(AT + 12)
    assert (cpu.tlb_index, cpu.tlb_hi[5]) == (1 << 31 | 5, USER | 3)
    cpu.entryhi = cpu.entrylo0 = 0
    m.until(AT + 16)
    assert (cpu.entryhi, cpu.entrylo0) == (USER | 3, lo(0x4000))


def test_probe_read_and_random(m: Machine) -> None:
    cpu = m.cpu
    entry(m, 5, USER, lo(0x4000), lo(0x5000), asid=7)
    begin(m, word("tlbp"), word("tlbr"), word("tlbp"), NOP)
    cpu.entryhi = USER + 0x2000 | 7
    m.until(AT + 4)
    assert cpu.tlb_index == 1 << 31
    cpu.tlb_index = 5
    m.until(AT + 8)
    assert (cpu.entryhi, cpu.entrylo0, cpu.entrylo1, cpu.pagemask) == (USER | 7, lo(0x4000), lo(0x5000), 0)
    cpu.tlb_index = 0
    m.until(AT + 12)
    assert cpu.tlb_index == 5
    begin(m, mtc0("t0", "wired"), *[word("tlbwr")] * 80, NOP)
    cpu.r[8] = 60
    cpu.entryhi = 0x1000_0000
    m.until(AT + 4 * 81)
    assert [i for i in range(64) if cpu.tlb_hi[i] == 0x1000_0000] == [60, 61, 62, 63]


def test_a_refill_handler(m: Machine) -> None:
    """As operating systems have them: each page of 2 MiB is read once, by way of a table of entries."""
    table = 0x20000
    handler = [
        mfc0("k0", "context"), word("srl", rd="k0", rt="k0", sa=1), word("addu", rd="k0", rs="k0", rt="k1"),
        word("lw", rt="k0", base="k0"), mtc0("k0", "entrylo0"), mfc0("k0", "context"), word("srl", rd="k0", rt="k0", sa=1),
        word("addu", rd="k0", rs="k0", rt="k1"), word("lw", rt="k0", base="k0", offset=4), mtc0("k0", "entrylo1"),
        word("tlbwr"), word("eret"),
    ]  # fmt: skip
    m.put(0, *handler)
    for i in range(512):
        m.put(table + 4 * i, lo(0x40000 + (i & 31) * 0x1000))
    for i in range(32):
        m.put(0x40000 + i * 0x1000, i)
    begin(
        m,
        word("lw", rt=3, base="t0"),
        word("addu", rd=2, rs=2, rt=3),
        word("bne", rs="t0", rt="t1", branch=-3),
        word("addu", rd="t0", rs="t0", rt="t2"),
        BREAK,
    )
    cpu = m.cpu
    cpu.r[8], cpu.r[9], cpu.r[10], cpu.r[27] = 0, 511 << 12, 4096, KSEG0 + table
    m.put(0x180, word("wait"))
    while not cpu.halted:
        cpu.exit_handlers[m.engine.run(m.at)]()
    assert cpu.r[2] == sum(i & 31 for i in range(512))


@pytest.mark.parametrize("how", ["tlbp", "tlbwi", "asid"])
def test_a_mapping_that_is_changed_after_tlbwr_replaced_it(m: Machine, how: str) -> None:
    """What is remembered of replaced entries goes in each way in which software gets rid of a mapping."""
    cpu = m.cpu
    m.put(0x4000, 0x4444)
    m.put(0x5000, 0x5555)

    def written(page: int, physical: int, number: int = 1) -> None:
        """An entry by TLBWR."""
        begin(m, word("tlbwr"), NOP)
        cpu.status, cpu.entryhi, cpu.entrylo0, cpu.entrylo1, cpu.pagemask = 0, page | number, lo(physical), lo(physical), 0
        m.until(AT + 4)

    asid(m, 1)
    written(USER, 0x4000)
    assert loaded(m, USER) == 0x4444
    for i in range(64):
        written(0x0800_0000 + i * 0x2000, 0x4000)
    cpu.entryhi = USER | 1
    if how == "tlbp":
        begin(m, word("tlbp"), NOP)
        m.until(AT + 4)
        assert cpu.tlb_index == 1 << 31
    elif how == "tlbwi":
        for i in range(64):
            begin(m, mtc0("t0", "tlb_index"), word("tlbwi"), NOP)
            cpu.r[8], cpu.entryhi = i, KSEG0 + i * 0x2000
            m.until(AT + 8)
        cpu.entryhi = 1
    else:
        asid(m, 2)
        assert loaded(m, USER) is None
        asid(m, 1)
    assert loaded(m, USER) is None
    written(USER, 0x5000)
    assert loaded(m, USER) == 0x5555


def test_many_replaced_entries(m: Machine) -> None:
    """More than are remembered of: pages come and go, also global ones, and each leads where it was last put."""
    cpu = m.cpu
    for i in range(8):
        m.put(0x4000 + i * 0x1000, i)
    asid(m, 1)
    for i in range(300):
        begin(m, word("tlbp"), word("tlbwr"), NOP)
        flags = s.LO_V | (s.LO_G if i % 7 == 0 else 0)
        place = lo(0x4000 + (i * 5 & 7) * 0x1000, flags)
        cpu.status, cpu.entryhi, cpu.entrylo0, cpu.entrylo1 = 0, USER + (i % 100) * 0x2000 | 1, place, place
        m.until(AT + 4)
        if cpu.tlb_index >> 31:
            m.until(AT + 8)
            assert loaded(m, USER + (i % 100) * 0x2000) == i * 5 & 7
