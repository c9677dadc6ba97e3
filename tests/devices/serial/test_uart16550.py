"""The 16550A: interrupts and their priorities, FIFOs, loopback, flow control."""

from collections.abc import Callable

import pytest

from exuvia.devices.serial.uart16550 import Uart16550
from tests.devices.timing import ManualClock, high

RDA, THRE, RLS, MODEM = 1, 2, 4, 8


class Backend:
    def __init__(self) -> None:
        self.sent = b""
        self.waiting = b""

    def connect(self, receive: Callable[[bytes], None], room: Callable[[], int], on_break: Callable[[], None]) -> None:
        self.receive, self.room, self.on_break = receive, room, on_break

    def write(self, data: bytes) -> None:
        self.sent += data

    def resume(self) -> None:
        count = self.room()
        data, self.waiting = self.waiting[:count], self.waiting[count:]
        self.receive(data)

    def type(self, data: bytes) -> None:
        self.waiting += data
        self.resume()


class Rig:
    def __init__(self) -> None:
        self.clock, self.backend = ManualClock(), Backend()
        self.uart = Uart16550(clock=self.clock, chardev=self.backend)
        self.uart.write(4, 1, 0x0B)

    def fifo(self, control: int = 0x81) -> None:
        self.uart.write(2, 1, control)

    def read(self, offset: int) -> int:
        return self.uart.read(offset, 1)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_output_and_the_transmitter_interrupt(rig: Rig) -> None:
    uart = rig.uart
    uart.write(1, 1, THRE)
    assert high(uart.irq)
    assert rig.read(2) == 0x02  # reading it takes it back
    assert not high(uart.irq)
    assert rig.read(2) == 0x01
    for byte in b"hello":
        uart.write(0, 1, byte)
    assert rig.backend.sent == b"hello"
    assert high(uart.irq)
    assert rig.read(5) == 0x60
    uart.write(1, 1, 0)
    assert not high(uart.irq)
    uart.write(1, 1, THRE)
    assert high(uart.irq)


def test_out2_gates_the_interrupt(rig: Rig) -> None:
    rig.uart.write(1, 1, THRE)
    rig.uart.write(4, 1, 0x03)
    assert not high(rig.uart.irq)
    rig.uart.write(4, 1, 0x0B)
    assert high(rig.uart.irq)


def test_input_without_fifo(rig: Rig) -> None:
    rig.uart.write(1, 1, RDA)
    rig.backend.type(b"ab")
    assert high(rig.uart.irq)
    assert rig.read(2) == 0x04
    assert rig.read(0) == ord("a")
    assert not high(rig.uart.irq)
    rig.clock.advance(1_000_000)
    assert rig.read(0) == ord("b")
    assert rig.read(5) == 0x60


def test_fifo_trigger_and_timeout(rig: Rig) -> None:
    rig.fifo()  # trigger at 8
    rig.uart.write(1, 1, RDA)
    rig.backend.type(b"1234567")
    assert not high(rig.uart.irq)
    assert rig.read(5) & 1
    rig.clock.advance(20_000_000)
    assert rig.read(2) == 0xCC
    assert rig.read(0) == ord("1")
    assert not high(rig.uart.irq)
    rig.backend.type(b"89")
    assert rig.read(2) == 0xC4


def test_flow_control_loses_nothing(rig: Rig) -> None:
    rig.fifo()
    text = bytes(range(100))
    rig.backend.type(text)
    got = b""
    for _ in range(1000):
        if rig.read(5) & 1:
            got += bytes((rig.read(0),))
        rig.clock.advance(20_000)
    assert got == text
    assert not rig.read(5) & 2


def test_overrun_has_the_highest_priority(rig: Rig) -> None:
    rig.fifo()
    rig.uart.write(1, 1, RDA | RLS | THRE)
    rig.uart.receive(bytes(17))
    assert rig.read(2) == 0xC6
    assert rig.read(5) & 2
    assert rig.read(2) == 0xC4
    assert not rig.read(5) & 2


def test_break(rig: Rig) -> None:
    rig.fifo(0x01)
    rig.uart.write(1, 1, RDA | RLS)
    rig.uart.receive(b"x")
    rig.uart.receive_break()
    assert rig.read(5) & 0x91 == 0x81  # somewhere in the FIFO, not at its head
    assert rig.read(0) == ord("x")
    assert rig.read(2) == 0xC6
    assert rig.read(5) & 0x91 == 0x91
    assert rig.read(0) == 0
    assert rig.read(5) == 0x60


def test_loopback(rig: Rig) -> None:
    rig.uart.write(4, 1, 0x1A)  # as Linux looks for a UART: OUT2 and RTS
    assert rig.read(6) & 0xF0 == 0x90
    rig.uart.write(0, 1, 0x5A)
    assert rig.read(0) == 0x5A
    assert rig.backend.sent == b""
    assert rig.backend.room() == 0
    rig.uart.write(4, 1, 0x10)
    assert rig.read(6) == 0x09
    assert rig.read(6) == 0x00
    rig.uart.write(4, 1, 0x0B)
    assert rig.read(6) & 0xF0 == 0xB0


def test_divisor_and_scratch(rig: Rig) -> None:
    rig.uart.write(3, 1, 0x83)
    rig.uart.write(0, 1, 0x01)
    rig.uart.write(1, 1, 0x02)
    assert (rig.read(0), rig.read(1)) == (0x01, 0x02)
    rig.uart.write(3, 1, 0x03)
    rig.uart.write(1, 1, 0xFF)
    assert rig.read(1) == 0x0F
    rig.uart.write(7, 1, 0xA5)
    assert rig.read(7) == 0xA5
    assert rig.backend.sent == b""


def test_fcr_clears_and_shows(rig: Rig) -> None:
    rig.fifo()
    assert rig.read(2) & 0xC0 == 0xC0
    rig.uart.receive(b"abc")
    rig.fifo(0x83)
    assert not rig.read(5) & 1
    rig.fifo(0x00)
    assert rig.read(2) & 0xC0 == 0
