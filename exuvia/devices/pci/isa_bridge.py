"""What Intel's PIIX chips have in common as ISA bridges: the router of PCI interrupts (datasheets 290550, 2.2, and 290562, 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exuvia.devices.device import Sink, State
from exuvia.devices.pci.device import PciDevice

PIRQRC = 0x60
NOT_ROUTED = 0x80
ROUTABLE = frozenset({3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15})


class IsaBridge(PciDevice):
    """Function 0. PIRQA..D come in through `pirq`; `outputs` are the sinks of ISA interrupts 0 to 15."""

    plugs_into = "sysbus"
    vendor_id, class_code = 0x8086, 0x060100
    multifunction = True

    levels = State([False] * 4)

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        self.outputs: Sequence[Sink] = ()
        super().__init__(clock, **properties)
        self.writable(PIRQRC, b"\x8f" * 4)

    def initial_configuration(self) -> bytearray:
        """The four routes are off after reset."""
        space = super().initial_configuration()
        space[PIRQRC : PIRQRC + 4] = bytes([NOT_ROUTED]) * 4
        return space

    def pirq(self, number: int) -> Sink:
        """The sink of PIRQA (0) to PIRQD (3)."""

        def follow(level: bool) -> None:
            self.levels[number] = level
            self._drive_isa()

        return follow

    def reset(self) -> None:
        """Routes off: what they carried falls."""
        super().reset()
        self._drive_isa()

    def load(self, saved: dict[str, Any]) -> None:
        """Take the saved state and drive the routed interrupts."""
        super().load(saved)
        self._drive_isa()

    def config_written(self, offset: int, size: int) -> None:
        """A route may have changed."""
        if offset < PIRQRC + 4 and offset + size > PIRQRC:
            self._drive_isa()

    def _drive_isa(self) -> None:
        routes = self.configuration[PIRQRC : PIRQRC + 4]
        high = {route & 0xF for route, level in zip(routes, self.levels, strict=True) if level and not route & NOT_ROUTED}
        for number, output in enumerate(self.outputs):
            if number in ROUTABLE:
                output(number in high)
