"""GICv3: the distributor, for one security state and affinity routing only (Arm IHI 0069, 12.9), and its redistributors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exuvia.devices.device import Property, Sink, State
from exuvia.devices.irq.gic import GROUP0, GROUP1, PRIVATE, SGIS, SPIS, Distributor, follower
from exuvia.devices.irq.gic_redistributor import IIDR, PIDR2, Redistributor
from exuvia.devices.irq.gic_timer import LentTimer
from exuvia.devices.irq.tick import Tick
from exuvia.memory.dma import Dma
from exuvia.support import log

ROUTERS = 0x6100  # GICD_IROUTER32
DS, ARE = 1 << 6, 1 << 4  # GICD_CTLR, both read as one
MOST_PROCESSORS = 123  # whose frames have room in the map of `virt`


def affinity(index: int) -> int:
    """The affinity of processor `index`: clusters of 16, which is what the target list of an SGI can name."""
    return index // 16 << 8 | index % 16


class GicV3(Distributor):
    """The distributor; `cpus` are the redistributors. Processors reach their interface through `read_register` and `write_register`."""

    name = "gic-v3"
    window = 0x10000
    processors = Property(int, 1, "how many processors there are")
    has_lpis = Property(bool, True, "whether there are message-based interrupts (LPIs)", name="lpis")

    cpus: Sequence[Redistributor] = ()
    control = State(0)  # GICD_CTLR
    routes = State([0] * SPIS)
    targets = State([0] * MOST_PROCESSORS)  # by processor: the SPIs that are routed to it, bit n is INTID n

    dma: Dma | None = None
    """RAM, where the tables of LPIs are."""

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        super().__init__(clock, **properties)
        if not 1 <= self.processors <= MOST_PROCESSORS:
            raise ValueError(f"a GICv3 of {self.processors} processors")
        self.cpus = [Redistributor(self, index, affinity(index), clock) for index in range(self.processors)]
        self._numbers = {cpu.affinity: cpu.index for cpu in self.cpus}
        self._route()

    def private(self, cpu: int, number: int) -> Sink:
        """The sink of a processor's PPI `number`, which is INTID 16 + number."""
        interface = self.cpus[cpu]
        return follower(interface.bank, SGIS + number, interface.update, interface.reclaim)

    def lend_timer(self, cpu: int, number: int, tick: Tick | None, base: int) -> None:
        """PPI `number` is that of processor `cpu`'s timer, which has `tick`. It is acknowledged by instructions, wherever `base` is."""
        interface = self.cpus[cpu]
        interface.timer = None if tick is None else LentTimer(interface, tick, SGIS + number, interface.update)

    def read_register(self, cpu: int, name: str) -> int:
        """Processor `cpu` reads its register ICC_*."""
        return self.cpus[cpu].read_register(name)

    def write_register(self, cpu: int, name: str, value: int) -> None:
        """Processor `cpu` writes its register ICC_*."""
        self.cpus[cpu].write_register(name, value)

    def send_sgi(self, sender: int, value: int, group: int) -> None:
        """ICC_SGI0R_EL1 and ICC_SGI1R_EL1: an SGI to all others, or to a list within a cluster."""
        number = value >> 24 & 0xF
        if value >> 40 & 1:
            targets = [cpu for cpu in self.cpus if cpu.index != sender]
        else:
            cluster = (value >> 48 & 0xFF) << 24 | (value >> 32 & 0xFF) << 16 | (value >> 16 & 0xFF) << 8
            first = (value >> 44 & 0xF) * 16
            found = (self._numbers.get(cluster | first + bit) for bit in range(16) if value >> bit & 1)
            targets = [self.cpus[index] for index in found if index is not None]
        for cpu in targets:
            cpu.send(number, group)
            cpu.update()

    def update(self) -> None:
        """Drive the wires to all processors."""
        for cpu in self.cpus:
            cpu.update()

    def update_for(self, index: int | None) -> None:
        """Drive the wires to one, or to all."""
        if index is None:
            self.update()
        else:
            self.cpus[index].update()

    def reset(self) -> None:
        """As after power-on."""
        super().reset()
        self._route()

    def _route(self) -> None:
        """`targets` from `routes`."""
        self.targets = [0] * MOST_PROCESSORS
        for number, route in enumerate(self.routes):
            index = self._numbers.get(route >> 32 << 24 | route & 0xFFFFFF)
            if index is not None:
                self.targets[index] |= 1 << PRIVATE + number

    # Registers

    def read(self, offset: int, size: int) -> int:
        """The first 32 INTIDs are the redistributors'."""
        if offset % size:
            return 0
        if size == 8 and not ROUTERS <= offset < ROUTERS + 8 * SPIS:
            return self.read(offset, 4) | self.read(offset + 4, 4) << 32
        found = self.spis.read(offset, size)
        if found is not None:
            return found
        if ROUTERS <= offset < ROUTERS + 8 * SPIS:
            word = self.routes[(offset - ROUTERS) // 8] >> 8 * (offset & 7)
        else:
            known = {0x0: int(self.control) | DS | ARE, 0x4: self._type(), 0x8: IIDR, 0xFFE8: PIDR2}
            word = known.get(offset & ~3, 0) >> 8 * (offset & 3)
        return word & (1 << 8 * size) - 1

    def _type(self) -> int:
        lines = self.spis.end // 32 - 1
        return lines | 15 << 19 | 1 << 24 | 1 << 25 | self.has_lpis << 17  # 16 bits of INTID, A3V, No1N

    def write(self, offset: int, size: int, value: int) -> None:
        """See read."""
        if offset % size:
            log.guest_errors(f"{self.name}: write of {size} to {offset:#x}")
            return
        if ROUTERS <= offset < ROUTERS + 8 * SPIS:
            number, shift, mask = (offset - ROUTERS) // 8, 8 * (offset & 7), (1 << 8 * size) - 1
            self.routes[number] = (self.routes[number] & ~(mask << shift) | value << shift) & 0xFF_00FF_FFFF
            self._route_one(number)
        elif size == 8:
            self.write(offset, 4, value & 0xFFFFFFFF)
            self.write(offset + 4, 4, value >> 32)
            return
        elif not self.spis.write(offset, size, value) and size == 4:
            intid = value & 0x3FF
            if offset == 0:
                self.control = value & (GROUP0 | GROUP1)
            elif offset in (0x40, 0x48) and PRIVATE <= intid < self.spis.end:  # GICD_SETSPI_NSR, GICD_CLRSPI_NSR
                bit = 1 << intid
                self.spis.latched = self.spis.latched | bit if offset == 0x40 else self.spis.latched & ~bit
        self.update()

    def _route_one(self, number: int) -> None:
        bit, route = 1 << PRIVATE + number, self.routes[number]
        index = self._numbers.get(route >> 32 << 24 | route & 0xFFFFFF)
        for cpu in range(len(self.cpus)):
            self.targets[cpu] = self.targets[cpu] | bit if cpu == index else self.targets[cpu] & ~bit
