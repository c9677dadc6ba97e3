"""Register tables, wires, alarms and properties."""

import pytest

from exuvia.devices.device import Alarm, Backend, Choice, Device, Irq, Property, Reg, State, Wire, WiredOr
from exuvia.support.bits import bit
from exuvia.support.errors import UserError
from tests.devices.timing import ManualClock


class Example(Device):
    """A device of every kind of declaration."""

    name = "example"
    irq = Irq()
    chardev = Backend()
    size = Property(int, 1 << 20, "how large")
    order = Choice("rows", "how it goes", "columns", "off")
    fast_mode = Property(bool, False, "whether it is fast")

    control = Reg(0, reset=0x83, low=bit[1:0], on=bit[7])
    status = Reg(1, writable=0x0F, clear=0xF0)
    word = Reg(4, 32, reset=0x12345678)
    double = Reg(8, 64)
    fifo = State([1, 2])
    raw = State(bytearray(b"\x00\xff"), keep=True)

    def on_tick(self) -> None:
        self.irq.set(True)

    tick = Alarm(on_tick)

    @control.write
    def write_control(self, value: int) -> None:
        self.control = value
        self.fifo.append(int(value))


def test_fields() -> None:
    device = Example()
    assert device.control == 0x83
    assert device.control.low == 3
    assert device.control.on == 1
    device.control = device.control.replace(low=0)
    assert device.control == 0x80
    with pytest.raises(ValueError):
        device.control.replace(low=4)
    with pytest.raises(AttributeError):
        device.control.missing  # noqa: B018


def test_split_and_combined_accesses() -> None:
    device = Example()
    assert device.read(0, 2) == 0x0083
    assert device.read(4, 1) == 0x78
    assert device.read(6, 2) == 0x1234
    assert device.read(3, 2) == 0x78FF  # nothing at 3
    assert device.read(0x20, 4) == 0xFFFFFFFF
    device.write(5, 2, 0xABCD)
    assert device.word == 0x12ABCD78
    device.write(0, 2, 0x0501)
    assert device.fifo == [1, 2, 1]
    assert device.status == 5
    device.write(8, 8, 0x1122334455667788)
    assert device.read(12, 4) == 0x11223344
    device.write(13, 1, 0x1FF)
    assert device.double == 0x1122FF4455667788


def test_write_one_to_clear_and_writable() -> None:
    device = Example()
    device.status = 0xFF
    device.write(1, 1, 0x33)
    assert device.status == 0xC3


def test_declared_access_sizes() -> None:
    class Words(Device):
        """Takes 32 bits only."""

        name = "words"
        accesses = (4,)
        first, second = Reg(0, 32, reset=0x11111111), Reg(4, 32, reset=0x22222222)

    device = Words()
    assert device.read(0, 8) == 0x2222222211111111
    assert device.read(0, 1) == 0xFF
    device.write(0, 2, 0)
    assert device.first == 0x11111111


def test_overlapping_registers_are_refused() -> None:
    with pytest.raises(TypeError, match="first and second overlap at 0x3"):

        class Bad(Device):
            first, second = Reg(0, 32), Reg(3)


def test_save_load_reset() -> None:
    clock = ManualClock()
    device = Example(clock)
    device.write(0, 1, 7)
    device.raw[0] = 9
    device.tick.set(100)
    saved = device.save()
    other = Example(ManualClock())
    other.load(saved)
    assert other.save() == saved
    clock.advance(100)
    assert device.irq.level
    device.tick.set(500)
    device.reset()
    assert device.save() == Example().save() | {"raw": "09ff"}
    assert clock.next_deadline() is None


def test_wires() -> None:
    seen: list[bool] = []
    wire = Wire()
    wire.set(True)
    wire.connect(lambda level: seen.append(level))
    wire.set(True)
    wire.set(False)
    wire.pulse()
    assert seen == [True, False, True, False]


def test_wired_or() -> None:
    seen: list[bool] = []
    line = WiredOr(lambda level: seen.append(level))
    one, two = line.input(), line.input()
    one(True)
    two(True)
    one(False)
    two(False)
    assert seen == [True, False]


def test_properties_from_the_user() -> None:
    assert Example.configure({"size": "0x10K", "fast-mode": "on"}) == {"size": 0x4000, "fast_mode": True}
    with pytest.raises(UserError, match=r"unknown property of example 'sise' \(did you mean size\?\)"):
        Example.configure({"sise": "1"})
    with pytest.raises(UserError, match="'size' is a number, not 'large'"):
        Example.configure({"size": "large"})
    with pytest.raises(UserError, match="on or off"):
        Example.configure({"fast_mode": "perhaps"})
    assert Example.configure({"order": "columns"}) | Example.configure({"order": "No"}) == {"order": "off"}
    with pytest.raises(UserError, match="example: order is rows, columns or off, not 'diagonals': how it goes"):
        Example.configure({"order": "diagonals"})
    assert Example(size=5).size == 5
    with pytest.raises(TypeError):
        Example(control=5)


def test_help() -> None:
    assert Example.help() == (
        "example: A device of every kind of declaration.\n"
        "  chardev=text             the ID of the backend\n"
        "  size=number              how large (default 0x100000)\n"
        "  order=rows/columns/off   how it goes (default rows)\n"
        "  fast-mode=on/off         whether it is fast (default off)\n"
    )
