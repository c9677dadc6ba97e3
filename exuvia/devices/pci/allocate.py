"""What firmware does with a PCI bus at power-on: BAR addresses and interrupt lines (PCI Firmware Specification 3.0, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

from exuvia.devices.pci.bus import PciBus
from exuvia.devices.pci.device import BAR0, COMMAND, INTERRUPT_LINE, IO_ENABLE, MEMORY_ENABLE
from exuvia.support.errors import UserError


def allocate(bus: PciBus, io: tuple[int, int], memory: tuple[int, int], routes: Sequence[int]) -> None:
    """Place every BAR in the windows [start, end), the largest first, enable decoding, and write interrupt lines.

    routes  the ISA interrupts of PIRQA..PIRQD. UserError when a window is full.
    """
    wanted = [(bar.size, place, index, bar.io) for place, device in bus.functions.items() for index, bar in device.bars.items()]
    at = {True: io[0], False: memory[0]}
    end = {True: io[1], False: memory[1]}
    for size, place, index, is_io in sorted(wanted, key=lambda entry: -entry[0]):
        start = (at[is_io] + size - 1) & -size
        if start + size > end[is_io]:
            raise UserError(f"PCI: no room for {size:#x} bytes of {bus.functions[place].name}")
        at[is_io] = start + size
        bus.functions[place].write_config(BAR0 + 4 * index, 4, start)
    for (slot, _), device in bus.functions.items():
        enable = 0
        for bar in device.bars.values():
            enable |= IO_ENABLE if bar.io else MEMORY_ENABLE
        if enable:
            device.write_config(COMMAND, 2, device.command | enable)
        if device.interrupt_pin:
            device.write_config(INTERRUPT_LINE, 1, routes[bus.line(slot, device.interrupt_pin)])
