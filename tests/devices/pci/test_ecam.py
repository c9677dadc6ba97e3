"""Configuration space in memory, ports in a window, messages with their requester."""

from exuvia.devices.pci.bus import PciBus
from exuvia.devices.pci.device import Msi
from exuvia.devices.pci.ecam import Ecam, GenericHost
from exuvia.memory.space import AddressSpace
from exuvia.memory.wiring import Window
from tests.devices.pci.test_bus import Card

ECAM, IO = 0x3F000000, 0x3EFF0000


class Board:
    def __init__(self) -> None:
        self.memory, self.ports = AddressSpace(), AddressSpace("ports")
        self.messages: list[tuple[int, int, int]] = []
        self.bus = PciBus(
            self.memory, self.ports, [lambda level: None] * 4, lambda *message: self.messages.append(message), first=1, inta=0
        )
        self.bus.attach(GenericHost(), 0)
        ecam = Ecam()
        ecam.pci = self.bus
        self.memory.map_device(ECAM, 16 << 20, ecam)
        self.memory.map_device(IO, 0x10000, Window(self.ports))


def test_configuration_in_memory() -> None:
    board = Board()
    card = Card()
    board.bus.attach(card)
    assert board.bus.functions[1, 0] is card, "slot 0 is the bridge's"
    memory = board.memory
    assert memory.read(ECAM, 4) == 0x00081B36
    assert memory.read(ECAM + 0x8000, 8) & 0xFFFFFFFF == 0x56781234
    assert memory.read(ECAM + 0x8002, 2) == 0x5678
    assert memory.read(ECAM + 0x8100, 4) == 0, "no extended capabilities"
    assert memory.read(ECAM + 0x10100, 4) == memory.read(ECAM + 0x10000, 4) == memory.read(ECAM + 0x108000, 4) == 0xFFFFFFFF
    memory.write(ECAM + 0x8010, 8, 0x0000C001_10000000)
    memory.write(ECAM + 0x8004, 2, 3)
    memory.write(0x10000000, 4, 0x12345678)
    assert memory.read(IO + 0xC000, 4) == 0x12345678
    memory.write(IO + 0xC000, 1, 0)
    assert memory.read(0x10000000, 4) == 0x12345600


def test_a_message_says_who_sent_it() -> None:
    board = Board()
    card = Card()
    msi = Msi(card, 0x50)
    board.bus.attach(card, 5, 2)
    for offset, value in ((0x54, 0x8020040), (0x5C, 80), (0x52, 1), (4, 4)):
        board.memory.write(ECAM + 0x2A000 + offset, 2 if offset in (4, 0x52) else 4, value)
    msi.send()
    assert board.messages == [(5 << 3 | 2, 0x8020040, 80)]
