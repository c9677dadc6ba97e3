"""isa-debug-exit and isa-debugcon."""

from __future__ import annotations

from exuvia.devices.debug.isa_debug_exit import IsaDebugExit
from exuvia.devices.debug.isa_debugcon import IsaDebugcon


class Sink:
    """Collects output."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data


def test_exit_status() -> None:
    device = IsaDebugExit(**IsaDebugExit.configure({"iobase": "0xf4", "iosize": "4"}))
    seen: list[int] = []
    device.write(0, 4, 5)  # nobody listens yet
    device.on_exit = seen.append
    for value in (0, 0x10, 0xFFFFFFFF):
        device.write(0, 4, value)
    assert seen == [1, 0x21, 0xFF]
    assert (device.iobase, device.iosize, device.read(0, 1)) == (0xF4, 4, 0)


def test_debugcon() -> None:
    sink = Sink()
    device = IsaDebugcon(chardev=sink)
    for character in b"hello":
        device.write(0, 1, character)
    assert sink.data == b"hello"
    assert device.read(0, 1) == 0xE9
    IsaDebugcon().write(0, 1, 0)
