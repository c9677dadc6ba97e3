"""The timer's private interrupt while native code has it: what both GICs know afterwards."""

from __future__ import annotations

import pytest

from exuvia.devices.irq.gic_v2 import INTERFACE, GicV2
from exuvia.devices.irq.gic_v3 import GicV3
from exuvia.devices.irq.tick import Condition
from tests.devices.irq.ticks import FakeTick

PPI, SPI = 11, 1
INTID, OTHER = 16 + PPI, 32 + SPI
PRIORITY, ACTIVE = 0xA0, 1 << (0xA0 >> 3)
BASE = 0x08000000


class Board:
    """A GIC of two processors whose first one's timer is `tick`; its interrupt and an SPI are enabled."""

    def __init__(self, version: int) -> None:
        self.tick, self.turn = FakeTick(), 0
        self.gic: GicV2 | GicV3 = GicV2(processors=2) if version == 2 else GicV3(processors=2)
        self.group = int(version == 3)
        if isinstance(self.gic, GicV2):
            self.gic.requester = lambda: self.turn
        self.timer = self.gic.private(0, PPI)
        self.gic.lend_timer(0, PPI, self.tick, BASE)
        self.cpu = self.gic.cpus[0]
        self.gic.write(0, 4, 3)
        for intid in INTID, OTHER:
            self.own(0x400 + intid, PRIORITY, 1)
            self.own(0x80 + intid // 32 * 4, self.group << intid % 32)
            self.own(0x100 + intid // 32 * 4, 1 << intid % 32)
        if version == 2:
            self.gic.write(0x800 + OTHER, 1, 1)
        self.control("ICC_PMR_EL1", 0x04, 0xF0)
        self.control("ICC_IGRPEN1_EL1", 0x00, 1)

    def own(self, offset: int, value: int, size: int = 4, cpu: int = 0) -> None:
        """Write a register of the distributor, or of processor `cpu`'s part of it."""
        private = offset & 0x7F < 4 and offset < 0x400 or 0x400 <= offset < 0x420
        if isinstance(self.gic, GicV3) and private:
            self.gic.cpus[cpu].write(0x10000 + offset, size, value)
        else:
            self.gic.write(offset, size, value)

    def control(self, name: str, offset: int, value: int) -> None:
        """Write a register of the CPU interface: by its name, or its offset."""
        if isinstance(self.gic, GicV3):
            self.gic.write_register(0, name, value)
        else:
            self.gic.write(INTERFACE + offset, 4, value)

    def state(self) -> Condition | None:
        """How the interrupt is lent, if it is."""
        return self.tick.state

    def acknowledge(self) -> int:
        """IAR."""
        return self.gic.read_register(0, "ICC_IAR1_EL1") if isinstance(self.gic, GicV3) else self.gic.read(INTERFACE + 0x0C, 4)

    def end(self, intid: int) -> None:
        """EOIR."""
        self.control("ICC_EOIR1_EL1", 0x10, intid)


@pytest.fixture(params=[2, 3])
def board(request: pytest.FixtureRequest) -> Board:
    return Board(request.param)


def test_what_it_is_lent_with(board: Board) -> None:
    own = {} if isinstance(board.gic, GicV3) else dict(ack=BASE + 0x1000C, end=BASE + 0x10010)
    assert board.state() == "idle"
    assert board.tick.loan == dict(number=INTID, none=1023) | own


def test_it_is_not_lent_while_it_is_masked_or_something_else_is_pending(board: Board) -> None:
    board.own(0x180, 1 << INTID)
    assert board.state() is None
    board.own(0x100, 1 << INTID)
    assert board.state() == "idle"
    board.control("ICC_PMR_EL1", 0x04, PRIORITY)
    assert board.state() is None
    board.control("ICC_PMR_EL1", 0x04, 0xF0)
    board.gic.input(SPI)(True)
    assert board.state() is None and board.cpu.irq.level
    assert board.acknowledge() == OTHER and board.state() is None, "it is active"
    board.gic.input(SPI)(False)
    board.end(OTHER)
    assert board.state() == "idle" and not board.cpu.irq.level


def test_what_native_code_did_is_known_when_something_else_comes(board: Board) -> None:
    board.tick.rings()
    board.gic.input(SPI)(True)
    assert board.state() is None and board.cpu.irq.level
    assert board.acknowledge() == INTID, "of the same priority the lower"
    board.tick.line = False
    board.timer(False)
    board.end(INTID)
    assert board.acknowledge() == OTHER
    board.gic.input(SPI)(False)
    board.end(OTHER)
    assert board.state() == "idle"


def test_one_that_is_active_is_ended_by_either(board: Board) -> None:
    board.tick.rings()
    board.tick.becomes("active")
    board.gic.input(SPI)(True)
    assert board.cpu.active_priorities[board.group] == ACTIVE and not board.cpu.irq.level
    board.gic.input(SPI)(False)
    assert board.state() == "active", "lent again as it is"
    board.end(INTID)
    assert board.state() == "pending" and board.cpu.active_priorities == [0, 0], "the line is high still"
    board.tick.becomes("active")
    board.tick.line = False
    board.end(INTID)
    assert board.state() == "idle"


def test_a_processor_in_native_code_is_asked(board: Board) -> None:
    board.tick.elsewhere = True
    board.gic.input(SPI)(True)
    assert board.tick.asked and not board.cpu.irq.level
    board.tick.rings()
    board.tick.becomes("active")
    board.tick.leaves()
    assert board.state() is None and board.cpu.active_priorities[board.group] == ACTIVE
    board.tick.line = False
    board.timer(False)
    board.end(INTID)
    assert board.acknowledge() == OTHER


def test_processors_that_have_nothing_new_are_left_alone(board: Board) -> None:
    """Else each that is asked asks all the others, for ever."""
    second = FakeTick()
    board.gic.lend_timer(1, PPI, second, BASE)
    board.turn = 1
    board.own(0x80, board.group << INTID, cpu=1)
    board.own(0x400 + INTID, PRIORITY, 1, cpu=1)
    board.own(0x100, 1 << INTID, cpu=1)
    if isinstance(board.gic, GicV3):
        board.gic.write_register(1, "ICC_PMR_EL1", 0xF0)
        board.gic.write_register(1, "ICC_IGRPEN1_EL1", 1)
    else:
        board.gic.write(INTERFACE + 0x04, 4, 0xF0)
        board.gic.write(INTERFACE + 0x00, 4, 1)
    assert second.state == "idle"
    board.turn, board.tick.elsewhere, second.elsewhere = 0, True, True
    asked = []
    board.gic.input(SPI)(True)
    asked.append((board.tick.asked, second.asked))
    board.tick.leaves()
    asked.append((board.tick.asked, second.asked))
    board.gic.write(0, 4, 0)
    asked.append((board.tick.asked, second.asked))
    assert asked == [(True, False), (False, False), (False, True)], "the SPI is the first one's, GICD_CTLR is everybody's"
    second.leaves()
    assert not second.lent


def test_another_processor_that_changes_its_priority_leaves_no_priority_active() -> None:
    board = Board(3)
    board.tick.becomes("active")
    board.tick.elsewhere = True
    board.own(0x400 + INTID, 0x20, 1)
    board.tick.leaves()
    assert board.cpu.active_priorities == [0, ACTIVE]
    board.end(INTID)
    assert board.cpu.active_priorities == [0, 0] and board.state() == "idle"


@pytest.mark.parametrize("was", ["idle", "pending", "active"])
def test_another_processor_that_makes_it_active_or_not_comes_last(was: Condition) -> None:
    """GICR_ISACTIVER0 and GICR_ICACTIVER0 while native code has it: what it left does not take the place of what was written."""
    for offsets, active in (((0x300,), True), ((0x380,), False), ((0x380, 0x300), True), ((0x300, 0x380), False)):
        board = Board(3)
        board.tick.elsewhere = True
        for offset in offsets:
            board.own(offset, 1 << INTID)
        board.tick.becomes(was)
        board.tick.leaves()
        assert bool(board.cpu.bank.active & 1 << INTID) == active
        board.own(0x380, 1 << INTID)
        assert not board.cpu.bank.active


def test_a_machine_that_was_saved_goes_on(board: Board) -> None:
    board.tick.rings()
    saved = board.gic.save()
    assert board.state() == "pending" or board.cpu.irq.level
    board.tick.becomes("idle")
    board.gic.load(saved)
    assert board.state() == "pending" or board.cpu.irq.level
    assert board.acknowledge() == INTID


def test_a_reset_takes_it_back(board: Board) -> None:
    board.tick.becomes("active")
    board.gic.reset()
    assert board.state() is None and board.cpu.active_priorities == [0, 0] and not board.cpu.bank.active
