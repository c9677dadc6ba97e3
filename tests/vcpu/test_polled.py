"""Registers that are polled (devices/polled.py): native code reads them, and asks the device where a read does more."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import addressof

import pytest

from exuvia.codegen.layout import REASON
from exuvia.devices.serial.pl011 import Pl011
from exuvia.devices.serial.uart16550 import Uart16550
from exuvia.isa.x86.state import DS
from exuvia.vcpu.accelerators.software import table
from tests.devices.timing import ManualClock
from tests.vcpu.test_tick import CODE, Bench

LSR, UARTFR = 0x3FD, 0x18
READS = bytes.fromhex("BA FD 03 EC 88 C3 A0 18 00 88 C7 8B 0E 18 00 66 8B 36 18 00 F4")
"""mov dx, 3FD; in al, dx; mov bl, al; mov al, [18]; mov bh, al; mov cx, [18]; mov esi, [18]; hlt"""


class Polling(Bench):
    """A processor with two serial ports, one at ports and one in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.port, self.memory = Uart16550(clock=ManualClock()), Pl011(clock=ManualClock())
        self.cpu.ports.map_device(0x3F8, 8, self.port)
        self.cpu.memory.map_device(0xD0000, 0x1000, self.memory, priority=1)
        self.engine.set_slots([(0, 0xD0000, self.ram.address, True)])
        self.tables = [table(space) for space in (self.cpu.memory, self.cpu.ports)]
        self.cpu.poll(*map(addressof, self.tables))
        self.ram.view[CODE : CODE + len(READS)] = READS

    def reads(self) -> tuple[int, int]:
        """Have the guest read; how often it left native code for ports, and for memory."""
        before = list(self.cpu.exits)
        self.cpu.__dict__["halted"] = False
        self.cpu.set_real_segment(DS, 0xD000)
        self.cpu.pc = CODE
        while not self.halted():
            self.cpu.run()
        went = [now - was for now, was in zip(self.cpu.exits, before, strict=True)]
        return went[REASON["pio_in"]], went[REASON["mmio_read"]]

    def found(self) -> tuple[int, int, int, int]:
        """What the guest read: LSR, and UARTFR as a byte, as two, as four."""
        gpr = self.cpu.gpr
        return gpr[3] & 0xFF, gpr[3] >> 8 & 0xFF, gpr[1] & 0xFFFF, gpr[6] & 0xFFFFFFFF


@pytest.fixture
def bench() -> Iterator[Polling]:
    made = Polling()
    yield made
    made.ram.close()


def test_no_exit_for_what_only_shows(bench: Polling) -> None:
    assert bench.reads() == (0, 0)
    assert bench.found() == (0x60, 0x97, 0x97, 0x97)
    bench.port.receive(b"a")
    bench.memory.receive(b"b")
    assert bench.reads() == (0, 0)
    assert bench.found() == (0x61, 0xC7, 0xC7, 0xC7), "one character is all that there is room for"
    bench.port.reset()
    bench.memory.reset()
    assert bench.reads() == (0, 0)
    assert bench.found() == (0x60, 0x97, 0x97, 0x97)


def test_an_error_is_read_once(bench: Polling) -> None:
    bench.port.receive(b"ab")
    assert bench.reads() == (1, 0)
    assert bench.found()[0] == 0x63
    assert bench.reads() == (0, 0)
    assert bench.found()[0] == 0x61


def test_a_saved_state_shows(bench: Polling) -> None:
    bench.port.receive(b"a")
    bench.memory.receive(b"b")
    saved = bench.port.save(), bench.memory.save()
    bench.port.reset()
    bench.memory.reset()
    for device, state in zip((bench.port, bench.memory), saved, strict=True):
        device.load(state)
    assert bench.reads() == (0, 0)
    assert bench.found() == (0x61, 0xC7, 0xC7, 0xC7)


def test_watched_ports_are_told(bench: Polling) -> None:
    told: list[int] = []
    bench.cpu.__dict__.update(ports_watched=True, port_accessed=lambda port, size: told.append(port))
    bench.cpu.watch_pages([], [])
    assert bench.reads()[0] == 1 and told == [LSR]
    bench.cpu.__dict__["ports_watched"] = False
    bench.cpu.watch_pages([], [])
    assert bench.reads()[0] == 0


def test_a_table_has_what_is_mapped(bench: Polling) -> None:
    def entries() -> list[int]:
        return [address for address, _, _ in bench.cpu.ports.polled_registers()]

    assert entries() == [LSR]
    assert [(address, size) for address, size, _ in bench.cpu.memory.polled_registers()] == [(0xD0000 + UARTFR, 4)]
    bench.cpu.ports.map_device(LSR, 1, bench.memory, priority=1)
    assert entries() == []
    bench.cpu.ports.unmap(LSR, 1)
    assert entries() == [LSR]
    bench.cpu.ports.unmap(0x3F8, 8)
    assert entries() == []
