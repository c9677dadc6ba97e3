"""Registers that native code reads (devices/polled.py) and writes (devices/posted.py), and asks the device where an access does more."""

from __future__ import annotations

from collections.abc import Iterator
from ctypes import addressof
from itertools import chain
from threading import Thread

import pytest

from exuvia.codegen.layout import REASON
from exuvia.devices.serial.pl011 import Pl011
from exuvia.devices.serial.uart16550 import Uart16550
from exuvia.isa.x86.state import DS
from exuvia.vcpu.accelerators.software import table, takers
from exuvia.vcpu.software import NEVER
from tests.devices.timing import ManualClock
from tests.vcpu.test_tick import CODE, Bench

LSR, UARTFR, UARTCR_LBE = 0x3FD, 0x18, 1 << 7
READS = bytes.fromhex("BA FD 03 EC 88 C3 A0 18 00 88 C7 8B 0E 18 00 66 8B 36 18 00 F4")
"""mov dx, 3FD; in al, dx; mov bl, al; mov al, [18]; mov bh, al; mov cx, [18]; mov esi, [18]; hlt"""


TO_PORT = "BA F8 03 B9 {:02X} {:02X} B0 {:02X} EE FE C0 E2 FB F4"
"""mov dx, 3F8; mov cx, COUNT; mov al, FIRST; 1: out dx, al; inc al; loop 1b; hlt"""
TO_MEMORY = "31 DB B9 {:02X} {:02X} B0 {:02X} 89 07 FE C0 E2 FA F4"
"""xor bx, bx; mov cx, COUNT; mov al, FIRST; 1: mov [bx], ax; inc al; loop 1b; hlt"""


class Terminal:
    """The other end of a serial port."""

    def __init__(self) -> None:
        self.data = b""
        self.pieces = 0

    def connect(self, *device: object) -> None:
        """Nothing arrives."""

    def write(self, data: bytes) -> None:
        """Output of the device."""
        self.data += data
        self.pieces += 1


class Polling(Bench):
    """A processor with two serial ports, one at ports and one in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.port, self.memory = Uart16550(clock=ManualClock()), Pl011(clock=ManualClock())
        self.cpu.ports.map_device(0x3F8, 8, self.port)
        self.cpu.memory.map_device(0xD0000, 0x1000, self.memory, priority=1)
        self.engine.set_slots([(0, 0xD0000, self.ram.address, True)])
        known = [list(space.native_registers()) for space in (self.cpu.memory, self.cpu.ports)]
        self.tables = [table(registers) for registers in known]
        memory, ports = map(addressof, self.tables)
        self.cpu.know(memory, ports, takers(chain(*known)))
        self.port.chardev, self.memory.chardev = Terminal(), Terminal()

    def run(self, code: bytes) -> list[int]:
        """Have the guest run this; how often it left native code, by reason."""
        self.ram.view[CODE : CODE + len(code)] = code
        self.engine.written(self.cpu.native.address, self.ram.address + CODE, len(code))
        before = list(self.cpu.exits)
        self.cpu.__dict__["halted"] = False
        self.cpu.set_real_segment(DS, 0xD000)
        self.cpu.pc = CODE
        while not self.halted():
            self.cpu.run()
        return [now - was for now, was in zip(self.cpu.exits, before, strict=True)]

    def reads(self) -> tuple[int, int]:
        """Have the guest read; how often it left native code for ports, and for memory."""
        went = self.run(READS)
        return went[REASON["pio_in"]], went[REASON["mmio_read"]]

    def writes(self, code: str, count: int, first: int = 0) -> int:
        """Have the guest write `count` bytes, from `first` up; how often it left native code for that."""
        went = self.run(bytes.fromhex(code.format(count & 0xFF, count >> 8, first)))
        return went[REASON["pio_out"]] + went[REASON["mmio_write"]]

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
        return [address for address, _, _ in bench.cpu.ports.native_registers()]

    assert entries() == [LSR - 5, LSR]
    told = [(address, register.width // 8) for address, register, _ in bench.cpu.memory.native_registers()]
    assert told == [(0xD0000, 4), (0xD0000 + UARTFR, 4)]
    bench.cpu.ports.map_device(LSR, 1, bench.memory, priority=1)
    assert entries() == [LSR - 5]
    bench.cpu.ports.unmap(LSR, 1)
    assert entries() == [LSR - 5, LSR]
    bench.cpu.ports.unmap(0x3F8, 8)
    assert entries() == []


WAYS = pytest.mark.parametrize("code", [TO_PORT, TO_MEMORY], ids=["port", "memory"])


@WAYS
def test_what_is_written_may_wait(bench: Polling, code: str) -> None:
    """The first byte has the device interrupt; those behind it do nothing more."""
    far = (bench.port if code == TO_PORT else bench.memory).chardev
    assert bench.writes(code, 1, 7) == 1 and far.data == b"\7"
    assert bench.writes(code, 200, 8) == 0 and far.data == bytes(range(7, 208))
    assert bench.writes(code, 600) <= 3 and far.data[201:] == bytes(i & 0xFF for i in range(600))
    assert far.pieces < 10


@WAYS
def test_a_long_wait_has_an_end(bench: Polling, code: str) -> None:
    """Where nothing else makes the guest leave, the time does."""
    device = bench.port if code == TO_PORT else bench.memory
    bench.cpu.first_look, bench.cpu.hot_after = 0, NEVER
    bench.writes(code, 1)
    loop = bytes.fromhex(code.format(3, 0, 5))[:-1] + bytes.fromhex("66 B9 00 00 00 01 66 67 E2 FC F4")  # mov ecx, 1 << 24; 1: loop 1b; hlt
    bench.run(loop)  # handlers that are missing make it leave
    assert bench.run(loop)[REASON["request"]] == 1
    assert device.chardev.data == bytes([0, 5, 6, 7, 5, 6, 7])


@WAYS
def test_what_does_more_does_not_wait(bench: Polling, code: str) -> None:
    device = bench.port if code == TO_PORT else bench.memory
    bench.writes(code, 1)
    if code == TO_PORT:
        bench.port.write(4, 1, 1 << 4)
        bench.port.write(2, 1, 1)
    else:
        bench.memory.write(0x30, 4, 0x301 | UARTCR_LBE)
        bench.memory.write(0x2C, 4, 1 << 4)
    assert bench.writes(code, 2, 9) == 2 and device.chardev.data == b"\0" and list(device.fifo) == [9, 10]
    device.reset()
    assert bench.writes(code, 1, 1) == 1 and device.chardev.data == b"\0\1"
    assert bench.writes(code, 1, 2) == 0
    device.load(device.save())
    assert bench.writes(code, 1, 3) == 1 and device.chardev.data == b"\0\1\2\3"
    if code == TO_PORT:
        bench.port.write(3, 1, 1 << 7)
        assert bench.writes(code, 1, 4) == 1 and bench.port.divisor & 0xFF == 4


def test_what_goes_beyond_the_register_does_not_wait(bench: Polling) -> None:
    """OUT of two bytes writes IER too; so do eight bytes to UARTDR write UARTRSR."""
    bench.writes(TO_PORT, 1)
    went = bench.run(bytes.fromhex("BA F8 03 B8 41 05 EF F4"))  # mov dx, 3F8; mov ax, 541; out dx, ax; hlt
    assert went[REASON["pio_out"]] == 1
    assert bench.port.chardev.data == b"\0A" and bench.port.ier == 5
    bench.writes(TO_MEMORY, 1)
    bench.memory.uartrsr = 3
    went = bench.run(bytes.fromhex("31 DB DB E3 D9 EE DD 1F F4"))  # xor bx, bx; fninit; fldz; fstp qword [bx]; hlt
    assert went[REASON["mmio_write"]] == 1
    assert bench.memory.chardev.data == b"\0\0" and bench.memory.uartrsr == 0


def test_strings_of_bytes_may_wait(bench: Polling) -> None:
    bench.writes(TO_PORT, 1)
    bench.ram.view[0x3000 : 0x3000 + 100] = bytes(range(100))
    went = bench.run(bytes.fromhex("31 C0 8E D8 BA F8 03 BE 00 30 B9 64 00 F3 6E F4"))  # DS = 0; mov si, 3000; mov cx, 100; rep outsb; hlt
    assert went[REASON["pio_out"]] == 0
    assert bench.port.chardev.data == bytes([0, *range(100)])


def test_a_read_of_such_a_register_asks(bench: Polling) -> None:
    bench.writes(TO_PORT, 3)
    bench.port.receive(b"x")
    went = bench.run(bytes.fromhex("BA F8 03 EC 88 C3 F4"))  # mov dx, 3F8; in al, dx; mov bl, al; hlt
    assert went[REASON["pio_in"]] == 1 and bench.cpu.gpr[3] & 0xFF == ord("x")


def test_two_that_write_at_once() -> None:
    """Nothing is lost, and what each has written comes in its order."""
    first, second = Polling(), Polling()
    try:
        second.tables = [table(space.native_registers()) for space in (second.cpu.memory, first.cpu.ports)]
        for each in first, second:
            each.writes(TO_PORT, 1)
            each.cpu.know(addressof(each.tables[0]), addressof(each.tables[1]), ())
        for _ in range(30):
            far = first.port.chardev
            far.data = b""
            threads = [Thread(target=each.writes, args=(TO_PORT, 100, at)) for each, at in ((first, 0), (second, 128))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            Uart16550.data.take(first.port)
            assert len(far.data) == 200
            assert bytes(x for x in far.data if x < 128) == bytes(range(100))
            assert bytes(x for x in far.data if x >= 128) == bytes(range(128, 228))
    finally:
        first.ram.close()
        second.ram.close()
