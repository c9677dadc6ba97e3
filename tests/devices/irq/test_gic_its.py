"""The ITS under the hand of a driver: commands in memory, messages that become LPIs, and drivers that break every rule."""

from __future__ import annotations

import random

import pytest

from exuvia.devices.irq.gic_its import VALID, Command, GicIts
from tests.devices.irq.test_gic_v3 import MIB, PROPERTIES, RAM, Board

QUEUE, DEVICES, COLLECTIONS, ITT = RAM + 0x40000, RAM + 0x50000, RAM + 0x60000, RAM + 0x70000


class Service(Board):
    """Both processors take LPIs, collection n is processor n's."""

    def __init__(self) -> None:
        super().__init__()
        self.its = GicIts()
        self.its.gic = self.gic
        self.tail = 0
        for cpu in range(2):
            self.enable_lpis(cpu)
        self.memory.write_bytes(PROPERTIES, bytes([0xA1]) * 256)
        self.its.write(0x100, 8, VALID | DEVICES)
        self.its.write(0x108, 8, VALID | COLLECTIONS)
        self.its.write(0x80, 8, VALID | QUEUE)
        self.its.write(0x0, 4, 1)
        for collection in range(2):
            self.command(Command.MAPC, 0, 0, VALID | collection << 16 | collection)
        self.command(Command.MAPD, 7 << 32, 3, VALID | ITT)

    def command(self, kind: int, word0: int = 0, word1: int = 0, word2: int = 0, word3: int = 0) -> None:
        content = b"".join(word.to_bytes(8, "little") for word in (kind | word0, word1, word2, word3))
        self.memory.write_bytes(QUEUE + self.tail, content)
        self.tail = (self.tail + 32) % 4096
        self.its.write(0x88, 8, self.tail)
        assert self.its.read(0x90, 8) == self.tail

    def map(self, event: int, intid: int, collection: int = 0) -> None:
        self.command(Command.MAPTI, 7 << 32, intid << 32 | event, collection)

    def take(self, cpu: int) -> int:
        intid = self.get(cpu, "IAR1")
        if intid != 1023:
            self.set(cpu, "EOIR1", intid)
        return intid


@pytest.fixture
def service() -> Service:
    return Service()


def test_tables_say_what_they_are(service: Service) -> None:
    assert service.its.read(0x100, 8) >> 56 & 7 == 1
    assert service.its.read(0x108, 8) >> 56 & 7 == 4
    assert service.its.read(0x100, 8) >> 48 & 0x1F == 7
    assert service.its.read(0x110, 8) == 0
    assert service.its.read(0xFFE8, 4) == 0x3B
    service.its.write(0x100, 8, 0)
    assert service.its.read(0x100, 8) & VALID, "not while it is enabled"


def test_a_message(service: Service) -> None:
    service.map(2, 8200)
    service.its.message(7, 2)
    assert service.irqs() == [True, False]
    assert service.take(0) == 8200
    service.its.message(7, 3)
    service.its.message(8, 2)
    service.its.message(7, 1 << 20)
    assert service.take(0) == 1023, "not mapped"


def test_moving(service: Service) -> None:
    service.map(2, 8200)
    service.its.message(7, 2)
    service.command(Command.MOVI, 7 << 32, 2, 1)
    assert service.irqs() == [False, True], "what is pending moves along"
    assert service.take(1) == 8200
    service.its.message(7, 2)
    service.command(Command.MOVALL, 0, 0, 1 << 16, 0 << 16)
    assert service.take(0) == 8200


def test_commands_that_raise_and_clear(service: Service) -> None:
    service.command(Command.MAPI, 7 << 32, 5, 0)
    service.map(1, 8195, 1)
    service.command(Command.INT, 7 << 32, 1)
    assert service.irqs() == [False, True]
    service.command(Command.CLEAR, 7 << 32, 1)
    assert service.irqs() == [False, False]
    service.its.message(7, 1)
    service.command(Command.DISCARD, 7 << 32, 1)
    assert service.take(1) == 1023
    service.its.message(7, 1)
    assert service.take(1) == 1023
    service.its.message(7, 5)
    assert service.take(0) == 1023, "5 is no LPI"


def test_configuration_is_read_again(service: Service) -> None:
    service.map(1, 8195)
    service.memory.write(PROPERTIES + 3, 1, 0xA0)
    service.its.message(7, 1)
    assert service.irqs() == [False, False]
    service.memory.write(PROPERTIES + 3, 1, 0xA1)
    service.command(Command.INV, 7 << 32, 1)
    assert service.take(0) == 8195
    service.memory.write(PROPERTIES + 3, 1, 0xA0)
    service.its.message(7, 1)
    service.memory.write(PROPERTIES + 3, 1, 0xA1)
    service.command(Command.INVALL, 0, 0, 0)
    service.command(Command.SYNC)
    assert service.take(0) == 8195


def test_devices_in_two_levels(service: Service) -> None:
    service.its.write(0x0, 4, 0)
    service.its.write(0x100, 8, VALID | 1 << 62 | DEVICES)
    service.memory.write(DEVICES + 8, 8, VALID | DEVICES + 0x1000)
    service.its.write(0x0, 4, 1)
    service.command(Command.MAPD, 515 << 32, 3, VALID | ITT)
    assert service.memory.read(DEVICES + 0x1000 + 3 * 8, 8) & VALID
    service.command(Command.MAPTI, 515 << 32, 8200 << 32 | 1, 1)
    service.its.message(515, 1)
    service.its.message(3, 1)
    assert service.take(1) == 8200
    service.command(Command.MAPD, 515 << 32, 3, ITT)
    service.its.message(515, 1)
    assert service.take(1) == 1023


def test_a_disabled_service_does_nothing(service: Service) -> None:
    service.map(2, 8200)
    service.its.write(0x0, 4, 0)
    service.its.message(7, 2)
    assert service.take(0) == 1023


@pytest.mark.parametrize("seed", range(3))
def test_any_command(service: Service, seed: int) -> None:
    """Commands, tables and messages at random; nothing is written outside RAM, nothing raised."""
    chance = random.Random(seed)
    for _ in range(1500):
        places = (RAM, ITT, RAM + MIB - 4, 0, 0xF_FFFF_FFFF_FF00)
        words = [
            chance.choice((0, 7 << 32, chance.getrandbits(64), VALID | chance.choice(places) | chance.getrandbits(5))) for _ in range(4)
        ]
        service.command(chance.choice([*Command, 0x99]), words[0] & ~0xFF, *words[1:])
        service.its.message(chance.choice((7, 0, 1 << 15)), chance.randrange(16))
        if chance.random() < 0.1:
            service.its.write(chance.choice((0, 0x80, 0x88, 0x100, 0x108, 0x10040)), chance.choice((4, 8)), chance.getrandbits(32))
            service.its.write(0, 4, 0)
            service.its.write(0x80, 8, VALID | QUEUE)
            service.its.write(0x100, 8, VALID | DEVICES)
            service.tail = 0
            service.its.write(0x88, 8, 0)
            service.its.write(0, 4, 1)
        service.take(chance.randrange(2))


def test_a_full_queue_comes_to_an_end(service: Service) -> None:
    service.its.write(0, 4, 0)
    service.its.write(0x80, 8, VALID | QUEUE | 0xFF)
    service.its.write(0, 4, 1)
    service.its.write(0x88, 8, 0xFFFE0)
    for _ in range(8):
        reached = service.its.read(0x90, 8)
    assert reached == 0xFFFE0
