"""GICv2 as a driver sees it: distributor, CPU interfaces, SGIs, and the frame for messages."""

from __future__ import annotations

import pytest

from exuvia.devices.irq.gic_v2 import INTERFACE, GicV2
from exuvia.devices.irq.gic_v2m import GicV2m

CTLR, PMR, BPR, IAR, EOIR, RPR, HPPIR, AIAR, AEOIR, DIR = 0x00, 0x04, 0x08, 0x0C, 0x10, 0x14, 0x18, 0x20, 0x24, 0x1000


class Board:
    """A GIC, set up as Linux does: all interrupts in group 0, which is signalled as IRQ."""

    def __init__(self, processors: int = 2) -> None:
        self.gic = GicV2(processors=processors)
        self.current = 0
        self.gic.requester = lambda: self.current
        self.write(0x000, 1)
        for self.current in range(processors):
            self.interface(PMR, 0xF0)
            self.interface(CTLR, 1)
        self.current = 0
        for spi in range(8):
            self.enable(32 + spi, 0xA0)

    def enable(self, intid: int, priority: int, targets: int = 1) -> None:
        self.write(0x400 + intid, priority, 1)
        self.write(0x800 + intid, targets, 1)
        self.write(0x100 + intid // 32 * 4, 1 << intid % 32)

    def read(self, offset: int, size: int = 4) -> int:
        return self.gic.read(offset, size)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        self.gic.write(offset, size, value)

    def interface(self, offset: int, value: int | None = None) -> int:
        if value is None:
            return self.gic.read(INTERFACE + offset, 4)
        self.gic.write(INTERFACE + offset, 4, value)
        return 0

    def irqs(self) -> list[bool]:
        return [cpu.irq.level for cpu in self.gic.cpus]


@pytest.fixture
def board() -> Board:
    return Board()


def test_identification(board: Board) -> None:
    assert board.read(0x004) == 8 | 1 << 5, "288 INTIDs, two processors"
    assert board.read(0xFE8) >> 4 == 2
    assert board.interface(0xFC) == 0x0202143B
    assert board.read(0x800) == 0x01010101, "a processor finds out its number"
    board.current = 1
    assert board.read(0x800) == 0x02020202
    assert Board(1).read(0x820) == 0, "a uniprocessor has no targets"


def test_a_level(board: Board) -> None:
    line = board.gic.input(1)
    line(True)
    assert board.irqs() == [True, False]
    assert board.interface(HPPIR) == 33
    assert board.interface(IAR) == 33
    assert board.irqs() == [False, False]
    assert board.interface(RPR) == 0xA0
    assert board.interface(IAR) == 1023
    board.interface(EOIR, 33)
    assert board.irqs() == [True, False], "the line is still high"
    assert board.interface(IAR) == 33
    line(False)
    board.interface(EOIR, 33)
    assert board.irqs() == [False, False]
    assert board.interface(RPR) == 0xFF


def test_priorities_nest(board: Board) -> None:
    board.enable(35, 0x40)
    board.gic.input(2)(True)
    assert board.interface(IAR) == 34
    board.gic.input(1)(True)
    assert board.irqs() == [False, False], "the same priority waits"
    board.gic.input(3)(True)
    assert board.interface(IAR) == 35
    board.interface(EOIR, 35)
    board.interface(EOIR, 34)
    board.gic.input(3)(False)
    assert board.interface(IAR) == 33, "among equals the lowest INTID"


def test_targets(board: Board) -> None:
    board.enable(36, 0xA0, 2)
    board.gic.input(4)(True)
    assert board.irqs() == [False, True]
    board.enable(36, 0xA0, 3)
    assert board.irqs() == [True, True]
    assert board.interface(IAR) == 36
    assert board.irqs() == [False, False], "one took it"
    assert board.read(0x800 + 36, 1) == 3


def test_private_interrupts(board: Board) -> None:
    board.current = 1
    board.write(0x100, 1 << 27)
    assert board.read(0x100) == 1 << 27 | 0xFFFF
    board.gic.private(0, 11)(True)
    assert board.irqs() == [False, False]
    board.gic.private(1, 11)(True)
    assert board.irqs() == [False, True]
    assert board.interface(IAR) == 27


def test_software_interrupts(board: Board) -> None:
    board.write(0xF00, 2 << 16 | 3)
    board.current = 1
    board.write(0xF00, 2 << 24 | 3)  # to itself
    assert board.irqs() == [False, True]
    assert board.interface(IAR) == 3
    board.interface(EOIR, 3)
    assert board.interface(IAR) == 1 << 10 | 3, "each sender's for itself"
    board.interface(EOIR, 1 << 10 | 3)
    assert board.interface(IAR) == 1023
    board.current = 0
    board.write(0xF00, 1 << 24 | 5)  # to all others
    assert board.irqs() == [False, True]
    board.current = 1
    assert board.read(0xF24) == 1 << 8
    board.write(0xF14, 1 << 8)
    assert board.irqs() == [False, False]


def test_end_of_interrupt_in_two_steps(board: Board) -> None:
    board.interface(CTLR, 1 | 1 << 9)
    line = board.gic.input(1)
    line(True)
    assert board.interface(IAR) == 33
    board.interface(EOIR, 33)
    assert board.interface(RPR) == 0xFF
    assert board.irqs() == [False, False], "it is active still"
    board.interface(DIR, 33)
    assert board.irqs() == [True, False]


def test_group_0_as_fiq(board: Board) -> None:
    board.write(0x000, 3)
    board.interface(CTLR, 1 | 2 | 8)
    board.write(0x084, 0b10)  # INTID 33 is of group 1
    cpu = board.gic.cpus[0]
    board.gic.input(1)(True)
    assert (cpu.irq.level, cpu.fiq.level) == (True, False)
    assert board.interface(IAR) == 1022
    board.enable(34, 0x20)
    board.gic.input(2)(True)
    assert (cpu.irq.level, cpu.fiq.level) == (False, True)
    assert board.interface(AIAR) == 1023
    assert board.interface(IAR) == 34
    board.interface(AEOIR, 34)
    assert board.interface(RPR) == 0x20, "not of group 1"
    board.interface(EOIR, 34)
    assert board.interface(RPR) == 0xFF
    board.gic.input(2)(False)
    assert board.interface(AIAR) == 33
    board.interface(AEOIR, 33)
    assert board.interface(RPR) == 0xFF


def test_save_in_the_middle(board: Board) -> None:
    board.gic.input(1)(True)
    board.write(0xF00, 1 << 16 | 7)
    assert board.interface(IAR) == 7
    other = Board()
    other.gic.load(board.gic.save())
    assert other.gic.save() == board.gic.save()
    for each in (board, other):
        each.interface(EOIR, 7)
        assert each.interface(IAR) == 33


def test_messages(board: Board) -> None:
    frame = GicV2m(base=34, count=2)
    frame.spis = [board.gic.input(2), board.gic.input(3)]
    board.write(0xC08, 0b1010 << 4)  # edges
    assert frame.read(8, 4) == 34 << 16 | 2
    for value in (33, 36, 0xFFFFFFFF, 35):
        frame.write(0x40, 4, value)
    assert board.interface(IAR) == 35
    board.interface(EOIR, 35)
    assert board.interface(IAR) == 1023
