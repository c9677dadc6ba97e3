"""GICv3 as a driver sees it: distributor, redistributors, the registers ICC_*, LPIs at a processor."""

from __future__ import annotations

import random

import pytest

from exuvia.devices.irq.gic_v3 import GicV3, affinity
from exuvia.memory.dma import Dma
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace

MIB = 1 << 20
RAM = 0x40000000
PROPERTIES, PENDING = RAM + 0x10000, RAM + 0x20000
SGI = 0x10000


class Board:
    """Two processors and 1 MiB of RAM; all is set up as Linux does: group 1."""

    def __init__(self, processors: int = 2) -> None:
        self.memory, self.ram = AddressSpace(), Ram(MIB)
        self.memory.map_ram(RAM, MIB, self.ram)
        self.gic = GicV3(processors=processors)
        self.gic.dma = Dma(self.memory, self.ram)
        self.gic.write(0, 4, 0x12)
        self.gic.write(0x84, 4, 0xFFFFFFFF)
        self.gic.write(0x104, 4, 0xFF)
        for cpu in range(processors):
            self.redistributor(cpu, 0x14, 0)
            self.redistributor(cpu, SGI + 0x80, 0xFFFFFFFF)
            self.redistributor(cpu, SGI + 0x100, 0xFFFF)
            self.set(cpu, "PMR", 0xF0)
            self.set(cpu, "IGRPEN1", 1)
        for spi in range(32):
            self.gic.write(0x420 + spi, 1, 0xA0)

    def redistributor(self, cpu: int, offset: int, value: int, size: int = 4) -> None:
        self.gic.cpus[cpu].write(offset, size, value)

    def set(self, cpu: int, name: str, value: int) -> None:
        self.gic.write_register(cpu, f"ICC_{name}_EL1", value)

    def get(self, cpu: int, name: str) -> int:
        return self.gic.read_register(cpu, f"ICC_{name}_EL1")

    def irqs(self) -> list[bool]:
        return [cpu.irq.level for cpu in self.gic.cpus]

    def enable_lpis(self, cpu: int) -> None:
        self.redistributor(cpu, 0x70, PROPERTIES | 15, 8)
        self.redistributor(cpu, 0x78, PENDING + cpu * 0x10000 | 1 << 62, 8)
        self.redistributor(cpu, 0, 1)


@pytest.fixture
def board() -> Board:
    return Board()


def test_identification(board: Board) -> None:
    gic = board.gic
    assert gic.read(0, 4) == 0x52, "one security state, affinity routing"
    assert gic.read(4, 4) & 0x1F == 8
    assert gic.read(0xFFE8, 4) >> 4 == 3
    first, last = (cpu.read(8, 8) for cpu in gic.cpus)
    assert (first, last) == (1, 1 << 32 | 1 << 8 | 1 << 4 | 1), "the last one says so"
    assert gic.cpus[1].read(12, 4) == affinity(1) == 1
    assert affinity(17) == 0x101
    assert board.get(0, "CTLR") >> 8 & 7 == 4
    assert gic.read_register(0, "ICC_SRE_EL1") == 7
    assert not GicV3(has_lpis=False).cpus[0].read(8, 8) & 1


def test_an_spi_is_routed(board: Board) -> None:
    line = board.gic.input(1)
    line(True)
    assert board.irqs() == [True, False]
    board.gic.write(0x6100 + 8, 8, affinity(1))
    assert board.gic.read(0x6108, 8) == 1
    assert board.irqs() == [False, True]
    assert board.get(1, "HPPIR1") == 33
    assert board.get(1, "IAR1") == 33
    assert board.get(1, "RPR") == 0xA0
    board.set(1, "EOIR1", 33)
    assert board.irqs() == [False, True]
    board.gic.write(0x6108, 4, 9)
    assert board.irqs() == [False, False], "nobody has this affinity"
    board.gic.write(0x6108, 4, 0)
    assert board.get(0, "IAR1") == 33
    line(False)
    board.set(0, "EOIR1", 33)
    assert board.irqs() == [False, False]


def test_two_steps(board: Board) -> None:
    board.set(0, "CTLR", 2)
    board.gic.input(1)(True)
    assert board.get(0, "IAR1") == 33
    board.set(0, "EOIR1", 33)
    assert (board.get(0, "RPR"), board.irqs()) == (0xFF, [False, False])
    board.set(0, "DIR", 33)
    assert board.irqs() == [True, False]


def test_a_timer(board: Board) -> None:
    board.redistributor(1, SGI + 0x100, 1 << 27)
    board.gic.private(1, 11)(True)
    assert board.irqs() == [False, True]
    assert board.get(1, "IAR1") == 27
    board.gic.private(1, 11)(False)
    board.set(1, "EOIR1", 27)
    assert board.get(1, "IAR1") == 1023


def test_software_interrupts(board: Board) -> None:
    board.set(0, "SGI1R", 4 << 24 | 0b10)
    assert board.irqs() == [False, True]
    assert board.get(1, "IAR1") == 4
    board.set(1, "EOIR1", 4)
    board.set(1, "SGI1R", 1 << 40 | 5 << 24)
    assert board.irqs() == [True, False]
    board.set(0, "SGI0R", 6 << 24 | 0b11)
    assert board.irqs() == [True, False], "6 is of group 1"
    board.set(0, "SGI1R", 1 << 16 | 6 << 24 | 0b11)
    assert board.irqs() == [True, False], "no such cluster"


def test_group_0(board: Board) -> None:
    board.gic.write(0, 4, 3)
    board.gic.write(0x84, 4, ~2 & 0xFFFFFFFF)
    board.set(0, "IGRPEN0", 1)
    board.gic.input(1)(True)
    cpu = board.gic.cpus[0]
    assert (cpu.irq.level, cpu.fiq.level) == (False, True)
    assert board.get(0, "IAR1") == 1023
    assert board.get(0, "IAR0") == 33
    board.set(0, "EOIR1", 33)
    assert board.get(0, "RPR") == 0xA0
    board.set(0, "EOIR0", 33)
    assert board.get(0, "RPR") == 0xFF


def test_binary_points(board: Board) -> None:
    board.set(0, "BPR0", 0)
    board.set(0, "BPR1", 0)
    assert (board.get(0, "BPR0"), board.get(0, "BPR1")) == (2, 3)
    board.set(0, "CTLR", 1)
    board.set(0, "BPR0", 5)
    board.set(0, "BPR1", 0)
    assert board.get(0, "BPR1") == 6


def test_lpis(board: Board) -> None:
    board.enable_lpis(0)
    cpu = board.gic.cpus[0]
    board.memory.write_bytes(PROPERTIES, bytes([0xA1, 0x81, 0x40]))
    for intid in (8192, 8193, 8194, 70000, 100):
        cpu.set_lpi(intid)
    cpu.update()
    assert board.irqs() == [True, False]
    assert board.get(0, "IAR1") == 8193
    board.set(0, "EOIR1", 8193)
    assert board.get(0, "IAR1") == 8192
    board.set(0, "EOIR1", 8192)
    assert board.get(0, "IAR1") == 1023, "8194 is disabled, the others do not exist"
    board.memory.write(PROPERTIES + 2, 1, 0x41)
    cpu.write(0xA0, 4, 8194)
    assert board.get(0, "IAR1") == 8194
    cpu.set_lpi(8195)
    board.redistributor(0, 0, 0)
    assert board.memory.read(PENDING + 1024, 1) == 8, "what is pending is in memory"
    board.memory.write(PROPERTIES + 3, 1, 1)
    board.redistributor(0, 0x78, PENDING, 8)
    board.redistributor(0, 0, 1)
    assert cpu.lpis.best() == (0, 8195, 1)


def test_tables_outside_ram(board: Board) -> None:
    board.redistributor(0, 0x70, 0xF_FFFF_FFFF_F000 | 15, 8)
    board.redistributor(0, 0x78, 0xF_FFFF_FFFF_0000, 8)
    board.redistributor(0, 0, 1)
    board.gic.cpus[0].set_lpi(8192)
    assert board.get(0, "IAR1") == 1023
    board.redistributor(0, 0, 0)


@pytest.mark.parametrize("seed", range(3))
def test_any_use(board: Board, seed: int) -> None:
    """Registers of all frames written with anything; what was saved goes on alike."""
    chance = random.Random(seed)
    names = "IAR0 IAR1 EOIR0 EOIR1 HPPIR0 HPPIR1 BPR0 BPR1 AP0R0 AP1R0 AP1R3 DIR RPR SGI0R SGI1R ASGI1R CTLR SRE IGRPEN0 IGRPEN1 PMR X"

    def use(board: Board, chance: random.Random) -> list[int]:
        seen = []
        for _ in range(2000):
            size = chance.choice((1, 2, 4, 8))
            target = chance.choice([board.gic, *board.gic.cpus])
            near = chance.choice((0, 0x80, 0x100, 0x200, 0x400, 0xC00, 0x6100, SGI, SGI + 0x80, SGI + 0x400, 0xFFE8))
            offset = (near + chance.randrange(0x100)) % target.window & -size
            value = chance.choice((0, 1, chance.getrandbits(8 * size)))
            if chance.random() < 0.5:
                target.write(offset, size, value)
            else:
                seen.append(target.read(offset, size))
                assert 0 <= seen[-1] < 1 << 8 * size
            cpu, name = chance.randrange(2), f"ICC_{chance.choice(names.split())}_EL1"
            if chance.random() < 0.5:
                board.gic.write_register(cpu, name, chance.getrandbits(64))
            else:
                seen.append(board.gic.read_register(cpu, name))
            board.gic.input(chance.randrange(256))(chance.random() < 0.5)
        return seen

    use(board, chance)
    other = Board()
    other.ram.load(0, bytes(board.ram.view))
    saved = board.gic.save()
    other.gic.load(saved)
    assert other.gic.save() == saved
    state = chance.getstate()
    seen = use(board, chance)
    chance.setstate(state)
    assert use(other, chance) == seen
    board.gic.reset()
    assert board.irqs() == [False, False]
