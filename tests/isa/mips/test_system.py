"""Exceptions, interrupts, Count and Compare: small programs on the native engine (vol. III)."""

from __future__ import annotations

import pytest

from exuvia.isa.mips import state as s
from exuvia.memory.space import AddressSpace
from tests.isa.mips.assembler import BREAK, NOP, li, mfc0, mtc0, word
from tests.isa.mips.machine import KSEG0, Machine
from tests.isa.mips.programs import AT, CODE, GENERAL, REFILL, USER, VECTORED, begin, entry, exception, lo


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


@pytest.mark.parametrize("region", [False, True], ids=["interpreter", "region"])
@pytest.mark.parametrize(
    "how",
    [[mtc0("t0", "status")], [word("ei", rt=0)], [word("beq", branch=1), word("ei", rt=0)], [mtc0("t1", "epc"), word("eret")]],
    ids=["mtc0", "ei", "ei in a slot", "eret"],
)
def test_an_interrupt_that_waits_comes_when_it_is_let_in(m: Machine, how: list[int], region: bool) -> None:
    m.put(0x180, word("wait"))
    begin(m, *[NOP] * 20, *how, *[NOP] * 10, word("wait"))
    cpu = m.cpu
    last = AT + 4 * (20 + len(how))
    cpu.status = 1 << 10 | (s.IE | s.EXL if how[-1] == word("eret") else 0)
    cpu.r[8], cpu.r[9] = 1 << 10 | s.IE, last
    cpu.signal("ip2", True)
    if region:
        m.compile_region()
    cpu.icount = 0
    assert goes(m) == GENERAL
    assert (cpu.epc, cpu.then, cpu.icount) == (last, 0, 20 + len(how))


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
