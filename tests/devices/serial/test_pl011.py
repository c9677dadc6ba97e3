"""PL011 as Linux's driver uses it."""

from __future__ import annotations

import pytest

from exuvia.backends.chardev.chardev import Chardev
from exuvia.devices.serial.pl011 import Pl011
from tests.devices.timing import ManualClock, high

DR, RSR, FR, LCR_H, CR, IFLS, IMSC, RIS, MIS, ICR = 0x00, 0x04, 0x18, 0x2C, 0x30, 0x34, 0x38, 0x3C, 0x40, 0x44
RX, TX, TIMEOUT, BREAK, OVERRUN = 1 << 4, 1 << 5, 1 << 6, 1 << 9, 1 << 10
FULL, EMPTY = 1 << 6, 1 << 4


class Wire(Chardev):
    name = "wire"

    def __init__(self) -> None:
        super().__init__("wire")
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data


class Rig:
    def __init__(self) -> None:
        self.clock, self.wire = ManualClock(), Wire()
        self.uart = Pl011(clock=self.clock, chardev=self.wire)
        self.uart.write(LCR_H, 4, 0x70)
        self.uart.write(CR, 4, 0x301)

    def read(self, offset: int) -> int:
        return self.uart.read(offset, 4)

    def write(self, offset: int, value: int) -> None:
        self.uart.write(offset, 4, value)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_identification(rig: Rig) -> None:
    words = [rig.read(0xFE0 + 4 * n) for n in range(8)]
    assert words[4:] == [0x0D, 0xF0, 0x05, 0xB1], "a PrimeCell"
    assert words[0] | words[1] << 8 | words[2] << 16 == 0x141011


def test_output(rig: Rig) -> None:
    for byte in b"hi":
        rig.write(DR, byte)
    assert rig.wire.sent == b"hi"
    assert not high(rig.uart.irq)
    rig.write(IMSC, TX)
    assert high(rig.uart.irq)
    assert rig.read(MIS) == TX
    rig.write(ICR, TX)
    assert not high(rig.uart.irq)
    rig.write(CR, 0)
    rig.write(DR, 0x21)
    assert rig.wire.sent == b"hi!", "as if firmware had been there"


def test_input_interrupts_at_its_level(rig: Rig) -> None:
    rig.write(IMSC, RX | TIMEOUT)
    rig.write(IFLS, 0)  # an eighth
    rig.wire.deliver(b"a")
    assert not high(rig.uart.irq)
    rig.wire.deliver(b"b")
    assert rig.read(MIS) == RX
    assert rig.read(DR) == ord("a")
    assert not high(rig.uart.irq)
    rig.clock.advance(10_000_000)
    assert rig.read(MIS) == TIMEOUT
    assert not rig.read(FR) & EMPTY
    assert rig.read(DR) == ord("b")
    assert rig.read(MIS) == 0
    assert rig.read(FR) & EMPTY


def test_much_input_comes_in_portions(rig: Rig) -> None:
    data = bytes(range(100))
    rig.wire.deliver(data)
    got = b""
    for _ in range(50):
        while not rig.read(FR) & EMPTY:
            got += bytes([rig.read(DR)])
        rig.clock.advance(1_000_000)
    assert got == data
    assert rig.read(RIS) & OVERRUN == 0


def test_switching_the_fifos_lets_more_come(rig: Rig) -> None:
    rig.wire.deliver(bytes(range(40)))
    assert rig.read(FR) & FULL
    rig.write(LCR_H, 0x60)
    assert rig.read(FR) & EMPTY
    assert rig.read(RIS) & (RX | TIMEOUT) == 0
    rig.clock.advance(10_000_000)
    assert rig.read(FR) & EMPTY == 0


def test_early_input_waits(rig: Rig) -> None:
    rig.write(CR, 0)
    rig.wire.deliver(b"early")
    assert rig.read(FR) & EMPTY
    rig.write(CR, 0x301)
    rig.clock.advance(1_000_000)
    assert bytes(rig.read(DR) for _ in range(5)) == b"early"


def test_without_fifos(rig: Rig) -> None:
    rig.write(LCR_H, 0x60)
    rig.wire.deliver(b"xy")
    assert rig.read(FR) & FULL
    assert rig.read(RIS) & RX
    assert rig.read(DR) == ord("x")


def test_errors(rig: Rig) -> None:
    rig.wire.send_break()
    assert rig.read(RIS) & BREAK
    assert rig.read(DR) == 0x400
    assert rig.read(RSR) == 4
    rig.write(RSR, 0)
    assert rig.read(RSR) == 0
    rig.uart.receive(bytes(17))
    assert rig.read(RIS) & OVERRUN


def test_loopback(rig: Rig) -> None:
    rig.write(CR, 0x381)
    rig.write(DR, 0x55)
    assert rig.read(DR) == 0x55
    assert rig.wire.sent == b""
