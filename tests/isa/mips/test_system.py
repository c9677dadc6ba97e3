"""Exceptions, TLB, interrupts, Count and Compare: small programs on the native engine (vol. III)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exuvia.isa.mips import state as s
from exuvia.memory.space import AddressSpace
from tests.isa.mips.assembler import BREAK, NOP, li, mfc0, mtc0, word
from tests.isa.mips.machine import KSEG0, Machine

CODE = 0x1000
AT = KSEG0 + CODE
REFILL, GENERAL, VECTORED = KSEG0, KSEG0 + 0x180, KSEG0 + 0x200
USER = 0x0040_0000


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    m = Machine()
    yield m
    m.close()


@pytest.fixture
def m(machine: Machine) -> Machine:
    """In kernel mode after reset, RAM empty, exceptions handled by the guest at KSEG0."""
    machine.stops(False)
    machine.write(0, bytes(0x10000))
    machine.cpu.reset()
    machine.cpu.status = 0
    machine.cpu.ebase = KSEG0
    machine.source.ns = 0
    return machine


def begin(m: Machine, *words: int, at: int = AT) -> None:
    """A program at the pc."""
    m.put(CODE, *words)
    m.start(at)


def entry(m: Machine, index: int, page: int, lo0: int, lo1: int, mask: int = 0, asid: int = 0) -> None:
    """A TLB entry, by TLBWI."""
    cpu = m.cpu
    kept = cpu.pc, cpu.entryhi
    cpu.tlb_index, cpu.entryhi, cpu.entrylo0, cpu.entrylo1, cpu.pagemask = index, page | asid, lo0, lo1, mask
    m.put(0xF00, word("tlbwi"), NOP)
    status, cpu.status = cpu.status, 0
    m.start(KSEG0 + 0xF00)
    m.until(KSEG0 + 0xF04)
    cpu.status = status
    cpu.pc, cpu.entryhi = kept
    cpu.update_mode()


def lo(physical: int, flags: int = s.LO_V | s.LO_D) -> int:
    """EntryLo."""
    return physical >> 12 << 6 | 3 << 3 | flags


def exception(m: Machine) -> tuple[int, int, bool]:
    """ExcCode, EPC, BD."""
    return m.cpu.cause >> 2 & 31, m.cpu.epc, bool(m.cpu.cause & s.BD)


# -- exceptions
def test_a_system_call(m: Machine) -> None:
    begin(m, NOP, word("syscall"))
    m.until(GENERAL)
    assert exception(m) == (s.SYS, AT + 4, False)
    assert m.cpu.status == s.EXL


@pytest.mark.parametrize("jump", ["j", "beq", "bne", "beql", "jr"])
def test_an_exception_in_a_delay_slot(m: Machine, jump: str) -> None:
    """Also where the branch is not taken; and what is behind the slot does not run."""
    fields = {"j": dict(target=(CODE + 0x40) >> 2), "jr": dict(rs=5)}.get(jump, dict(branch=8))
    begin(m, NOP, word(jump, **fields), word("teq"), word("addiu", rt=3, imm=1))
    m.cpu.r[5] = AT + 0x40
    m.until(GENERAL)
    assert exception(m) == (s.TR, AT + 4, True)
    assert m.cpu.r[3] == 0 and m.cpu.then == 0


def test_a_jump_to_0_is_one(m: Machine) -> None:
    """Its slot is in one."""
    begin(m, word("jr", rs=0), word("teq"))
    m.until(GENERAL)
    assert exception(m) == (s.TR, AT, True)


def test_an_exception_in_a_handler_keeps_epc(m: Machine) -> None:
    begin(m, word("lw", rt=2, base=4))
    m.cpu.status, m.cpu.epc, m.cpu.r[4] = s.EXL, 0x1234, USER
    m.until(GENERAL)
    assert exception(m) == (s.TLBL, 0x1234, False)


def test_boot_vectors(m: Machine) -> None:
    begin(m, word("syscall"))
    m.cpu.status = s.BEV
    m.cpu.between()
    m.cpu.single_step()
    assert m.cpu.pc == 0xBFC0_0380


def test_alignment(m: Machine) -> None:
    for name, code in (("lh", s.ADEL), ("lw", s.ADEL), ("sh", s.ADES), ("sw", s.ADES), ("ll", s.ADEL), ("sc", s.ADES)):
        begin(m, word(name, rt=2, base=4, offset=1))
        m.cpu.status, m.cpu.r[4] = 0, KSEG0 + 0x4000
        m.until(GENERAL)
        assert (*exception(m), m.cpu.badvaddr) == (code, AT, False, KSEG0 + 0x4001), name
    begin(m, word("jr", rs=4), NOP)
    m.cpu.status, m.cpu.r[4] = 0, AT + 0x22
    m.until(GENERAL)
    assert (*exception(m), m.cpu.badvaddr) == (s.ADEL, AT + 0x22, False, AT + 0x22)


def test_users(m: Machine) -> None:
    """What belongs to the kernel: coprocessor 0, its addresses; and no coprocessor 2 for anybody."""
    entry(m, 0, USER, lo(CODE, s.LO_V | s.LO_D | s.LO_G), lo(CODE, s.LO_V | s.LO_G))
    for w, code, ce in (
        (mfc0("t0", "status"), s.CPU, 0),
        (word("eret"), s.CPU, 0),
        (word("tlbwr"), s.CPU, 0),
        (word("lw", rt=2, base=4), s.ADEL, 0),
        (word("sw", rt=2, base=4), s.ADES, 0),
        (word("lwc1", ft=2, base=4), s.CPU, 1),
        (0x4A00_0000, s.CPU, 2),
        (word("rdhwr", rt=3), s.RI, 0),
    ):
        begin(m, w, at=USER)
        m.cpu.status, m.cpu.r[4] = s.UM, KSEG0 + 0x4000
        m.cpu.update_mode()
        m.until(GENERAL)
        assert exception(m) == (code, USER, False), hex(w)
        assert m.cpu.cause >> 28 & 3 == ce
    begin(m, word("rdhwr", rt=3), BREAK, at=USER)
    m.cpu.status, m.cpu.hwrena = s.UM, 1
    m.cpu.update_mode()
    m.until(GENERAL)
    assert exception(m)[:2] == (s.BP, USER + 4)


def test_a_processor_without_floating_point() -> None:
    """Coprocessor 1 cannot be switched on; release 1 does not know more."""
    for name in ("4Kc", "24Kc"):
        m = Machine(name)
        m.stops(False)
        m.cpu.status, m.cpu.ebase = 0, KSEG0
        begin(m, mtc0("t0", "status"), mfc0("t1", "status"), mfc0("t2", "config1"), word("mtc1", rt=1))
        m.cpu.r[8] = s.CU1 | s.FR
        m.until(GENERAL)
        assert exception(m)[:2] == (s.CPU, AT + 12) and m.cpu.cause & s.CE == 1 << s.CE_SHIFT
        assert m.cpu.r[9] & (s.CU1 | s.FR) == 0 and m.cpu.r[10] & 1 == 0
        m.close()


def test_supervisor_mode(m: Machine) -> None:
    """Its own segment, not the kernel's."""
    entry(m, 0, USER, lo(CODE, s.LO_V | s.LO_G), lo(CODE, s.LO_V | s.LO_G))
    entry(m, 1, 0xC000_0000, lo(0x4000, s.LO_V | s.LO_G), lo(0x5000, s.LO_V | s.LO_G))
    for address, code in ((0xC000_1000, s.BP), (0xE000_0000, s.ADEL), (KSEG0, s.ADEL)):
        begin(m, word("lw", rt=2, base=4), BREAK, at=USER)
        m.cpu.status, m.cpu.r[4] = s.SM, address
        m.cpu.update_mode()
        m.until(GENERAL)
        assert exception(m)[0] == code, hex(address)


# -- the TLB
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


# -- interrupts
def idle(m: Machine) -> None:
    """A loop that counts, with interrupts as Status has them; the handler stops the processor."""
    begin(m, word("beq", branch=-1), word("addiu", rt=3, rs=3, imm=1))
    for vector in (0x180, 0x200, 0x240, 0x2A0):
        m.put(vector, word("wait"))


def goes(m: Machine) -> int:
    """Run as a machine does until it waits; where."""
    cpu = m.cpu
    cpu.halted = False
    while not cpu.halted:
        if not cpu.resume:
            cpu.between()
            if cpu.pc in (GENERAL, VECTORED, KSEG0 + 0x240, KSEG0 + 0x2A0):
                return int(cpu.pc)
        cpu.exit_handlers[m.engine.run(m.at)]()
    return int(cpu.pc)


def test_an_interrupt(m: Machine) -> None:
    idle(m)
    m.cpu.status = s.IE | 1 << 10
    m.cpu.signal("ip3", True)
    assert m.cpu.between() and m.cpu.pc == AT, "it is masked"
    m.cpu.signal("ip2", True)
    assert goes(m) == GENERAL
    assert exception(m)[:2] == (s.INT, AT)
    assert (m.cpu.cause | m.cpu.lines) & s.IM == 3 << 10


def test_vectored_interrupts(m: Machine) -> None:
    for cause, intctl, pc in ((s.IV, 0, VECTORED), (s.IV, 1 << 5, KSEG0 + 0x2A0)):
        idle(m)
        m.cpu.status, m.cpu.cause, m.cpu.intctl = s.IE | s.IM, cause, intctl
        m.cpu.signal("ip5", True)
        m.cpu.signal("ip2", True)
        assert goes(m) == pc
        m.cpu.signal("ip5", False)


@pytest.mark.parametrize(
    "how",
    [[mtc0("t0", "status")], [word("ei", rt=0)], [mtc0("t1", "epc"), word("eret")]],
    ids=["mtc0", "ei", "eret"],
)
def test_an_interrupt_that_waits_comes_when_it_is_let_in(m: Machine, how: list[int]) -> None:
    m.put(0x180, word("wait"))
    begin(m, *[NOP] * 20, *how, *[NOP] * 10, word("wait"))
    cpu = m.cpu
    last = AT + 4 * (20 + len(how))
    cpu.status = 1 << 10 | (s.IE | s.EXL if how[-1] == word("eret") else 0)
    cpu.r[8], cpu.r[9] = 1 << 10 | s.IE, last
    cpu.signal("ip2", True)
    assert goes(m) == GENERAL
    assert cpu.epc == last


def test_a_software_interrupt(m: Machine) -> None:
    m.put(0x180, word("wait"))
    begin(m, mtc0("t0", "cause"), NOP, word("wait"))
    m.cpu.status, m.cpu.r[8] = s.IE | s.IM, 1 << 9
    assert goes(m) == GENERAL
    assert (m.cpu.epc, m.cpu.cause & s.IM) == (AT + 4, 1 << 9)


def test_nmi(m: Machine) -> None:
    idle(m)
    m.cpu.signal("nmi", True)
    m.cpu.between()
    assert (m.cpu.pc, m.cpu.errorepc) == (0xBFC0_0000, AT)
    assert m.cpu.status & (s.BEV | s.ERL | s.NMI) == s.BEV | s.ERL | s.NMI


def test_eret_from_an_error(m: Machine) -> None:
    """kuseg is not mapped while ERL is set."""
    m.put(0x4000, 0x4444)
    begin(m, word("lw", rt=2, base=4), word("eret"), at=AT)
    m.put(CODE + 0x20, word("lw", rt=2, base=4))
    m.cpu.status, m.cpu.errorepc, m.cpu.r[4] = s.ERL, AT + 0x20, 0x4000
    m.cpu.flush_tlb(True)
    m.until(AT + 0x20)
    assert (m.cpu.r[2], m.cpu.status) == (0x4444, 0)
    m.until(REFILL)
    assert exception(m)[:2] == (s.TLBL, AT + 0x20)


def test_wait_ends_with_an_interrupt_even_if_none_is_taken(m: Machine) -> None:
    begin(m, word("wait"), NOP)
    cpu = m.cpu
    cpu.status = 1 << 10
    m.cpu.single_step()
    assert cpu.halted and cpu.pc == AT + 4
    cpu.signal("ip3", True)
    assert cpu.halted, "masked"
    cpu.signal("ip2", True)
    assert not cpu.halted


def test_count_and_compare(m: Machine) -> None:
    """Count is virtual time in ticks; Compare brings IP7 then, and takes it away when it is written."""
    cpu = m.cpu
    begin(m, mtc0("t0", "compare"), mtc0("t1", "compare"), mtc0("t2", "count"), NOP)
    cpu.r[8], cpu.r[9], cpu.r[10] = 1000, 5000, 4990
    m.until(AT + 4)
    assert m.clock.next_deadline() == 1000 * s.COUNT_NS
    m.source.ns = 1000 * s.COUNT_NS
    m.clock.run_due()
    assert cpu.lines == s.TI | 1 << 15
    m.until(AT + 8)
    assert cpu.lines == 0 and m.clock.next_deadline() == 5000 * s.COUNT_NS
    m.until(AT + 12)
    assert m.clock.next_deadline() == (1000 + 10) * s.COUNT_NS


def test_compare_is_exact_while_the_hosts_clock_runs_on(m: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux waits 50 ticks for the interrupt, and the processor reads the clock more than once meanwhile."""

    def later() -> int:
        m.source.ns += 777
        return m.source.ns

    begin(m, mtc0("t0", "compare"), NOP)
    m.cpu.r[8] = 5000
    monkeypatch.setattr(m.clock, "_source", later)
    m.until(AT + 4)
    assert m.cpu.ring_at == m.clock.next_deadline() == 5000 * s.COUNT_NS


def test_count_is_read_natively_and_can_be_stopped(m: Machine) -> None:
    cpu = m.cpu
    begin(m, mfc0("t0", "count"), mtc0("t2", "cause"), mfc0("t1", "count"), mtc0("zero", "cause"), NOP)
    cpu.time_runs, cpu.time_offset = 0, -12345 * s.COUNT_NS
    m.source.ns = 12345 * s.COUNT_NS
    cpu.r[10] = s.DC
    m.until(AT + 4)
    assert cpu.r[8] == 12345
    m.until(AT + 8)
    cpu.time_offset = -99999 * s.COUNT_NS
    m.source.ns = 99999 * s.COUNT_NS
    m.until(AT + 12)
    assert cpu.r[9] == 12345
    m.until(AT + 16)
    assert cpu.ticks == 12345
    cpu.time_runs = (1 << 64) - 1


# -- the rest
def test_ll_and_sc(m: Machine) -> None:
    cpu = m.cpu
    for between, stored in (([NOP], 1), ([word("sw", rt=6, base=4)], 0)):
        m.put(0x4000, 5)
        begin(
            m, word("ll", rt=2, base=4), *between, word("addiu", rt=2, rs=2, imm=1), word("sc", rt=2, base=4), word("sc", rt=2, base=4), NOP
        )
        cpu.r[4], cpu.r[6] = KSEG0 + 0x4000, 9
        m.until(AT + 16)
        assert (cpu.r[2], m.word(0x4000)) == (stored, 6 if stored else 9)
        m.until(AT + 20)
        assert cpu.r[2] == 0, "once"


def test_registers_that_are_not_there(m: Machine) -> None:
    begin(m, word("mfc0", rt="t0", rd=27, sel=0), word("mtc0", rt="t0", rd=22, sel=5), NOP)
    m.cpu.r[8] = 1
    m.until(AT + 8)
    assert m.cpu.r[8] == 0


class Lights:
    """A device of four registers."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int, int]] = []

    def read(self, offset: int, size: int) -> int:
        self.seen.append(("r", offset, size, 0))
        return 0x11223344 & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append(("w", offset, size, value))


@pytest.mark.parametrize("big", [False, True])
def test_devices_in_delay_slots(big: bool) -> None:
    """An access that Python answers does not lose the jump; the bytes are in the order of the processor."""
    lights, space = Lights(), AddressSpace("memory")
    space.map_device(0x1F00_0000, 16, lights)
    m = Machine(big=big, devices=space)
    m.stops(False)
    cpu = m.cpu
    cpu.status = 0
    begin(m, *li("t0", 0xBF00_0000), word("beq", branch=3), word("lw", rt=2, base="t0", offset=4), BREAK, BREAK,
          word("jr", rs="t1"), word("sh", rt=2, base="t0"), BREAK)  # fmt: skip
    m.put(CODE + 0x40, word("wait"))
    cpu.r[9] = AT + 0x40
    while not cpu.halted:
        cpu.exit_handlers[m.engine.run(m.at)]()
    assert cpu.r[2] == (0x44332211 if big else 0x11223344)
    assert lights.seen == [("r", 4, 4, 0), ("w", 0, 2, 0x1122 if big else 0x3344)]
    m.close()


def test_code_that_is_written_in_a_delay_slot(m: Machine) -> None:
    """The jump leads to what was just written."""
    begin(m, word("beq", branch=15), word("sw", rt=2, base=4))
    m.put(CODE + 0x40, word("addiu", rt=3, imm=1), word("wait"))
    m.put(0x180, word("wait"))
    cpu = m.cpu
    for value in (1, 2, 3):
        m.start(AT)
        cpu.r[4], cpu.r[2] = AT + 0x40, word("addiu", rt=3, imm=value)
        cpu.halted = False
        while not cpu.halted:
            cpu.exit_handlers[m.engine.run(m.at)]()
        assert cpu.r[3] == value


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
