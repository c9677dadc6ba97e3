"""GICv2: distributor and CPU interfaces without Security Extensions (Arm IHI 0048B; identification as of a GIC-400, DDI 0471)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from exuvia.devices.device import Property, Sink, State
from exuvia.devices.irq.gic import (
    GROUP0,
    GROUP1,
    LAST_SPI,
    NONE,
    OTHER_GROUP,
    PRIVATE,
    SGIS,
    Bank,
    Candidate,
    Distributor,
    Interface,
    follower,
    ones,
)  # fmt: skip
from exuvia.devices.irq.gic_timer import LentTimer
from exuvia.devices.irq.tick import Tick
from exuvia.support import log

MOST_PROCESSORS = 8
INTERFACE = 0x10000  # where in the device's window the CPU interface is
GICD_IIDR, GICC_IIDR, PIDR2 = 0x0200143B, 0x0202143B, 0x2B
ENABLE0, ENABLE1, ACK_CTL, FIQ_EN, COMMON_BPR, EOI_MODE = 1, 2, 4, 8, 16, 1 << 9  # GICC_CTLR


class CpuInterface(Interface):
    """A processor's interface: GICC_* and its SGIs, of which each sender's are told apart."""

    control = State(0)
    senders = State([0] * SGIS)  # by SGI: the processors from which it is pending

    def groups(self) -> int:
        """Those that are signalled, as a set."""
        return int(self.control) & (ENABLE0 | ENABLE1)

    def send(self, number: int, sender: int) -> None:
        """An SGI arrives."""
        self.senders[number] |= 1 << sender
        self.bank.latched |= 1 << number

    def retract(self, number: int, senders: int) -> None:
        """It is pending from these no more."""
        self.senders[number] &= ~senders
        if not self.senders[number]:
            self.bank.latched &= ~(1 << number)


class GicV2(Distributor):
    """The distributor in the first 4 KiB, the CPU interface of the processor that asks in 8 KiB from 0x10000 on.

    `requester` tells which processor makes an access; a machine with several sets it.
    """

    name = "gic-v2"
    window = INTERFACE + 0x2000
    accesses = (1, 2, 4)
    processors = Property(int, 1, "how many processors there are, 8 at most")

    cpus: Sequence[CpuInterface] = ()
    control = State(0)  # GICD_CTLR
    targets = State([0] * MOST_PROCESSORS)  # by processor: the SPIs that it may take, bit n is INTID n

    requester: Callable[[], int] = staticmethod(lambda: 0)

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        super().__init__(clock, **properties)
        if not 1 <= self.processors <= MOST_PROCESSORS:
            raise ValueError(f"a GICv2 of {self.processors} processors")
        self.cpus = [CpuInterface(clock, always=0xFFFF, edge_fixed=0xFFFFFFFF) for _ in range(self.processors)]

    def private(self, cpu: int, number: int) -> Sink:
        """The sink of a processor's PPI `number`, which is INTID 16 + number."""
        interface = self.cpus[cpu]
        return follower(interface.bank, SGIS + number, self.update, interface.reclaim)

    def lend_timer(self, cpu: int, number: int, tick: Tick | None, base: int) -> None:
        """PPI `number` is that of processor `cpu`'s timer, which has `tick`; the device's window is at `base`."""
        interface = self.cpus[cpu]
        where = dict(ack=base + INTERFACE + 0x0C, end=base + INTERFACE + 0x10)
        interface.timer = None if tick is None else LentTimer(interface, tick, SGIS + number, self.update, **where)

    # What is pending at which processor

    def best(self, index: int, groups: int) -> Candidate | None:
        """The interrupt of these groups that processor `index` would take, whatever its priorities say."""
        groups &= self.control
        own, shared = self.cpus[index].bank.best(groups), self.spis.best(groups, self._routed(index))
        return own if shared is None or own is not None and own < shared else shared

    def update(self) -> None:
        """Drive the wires to the processors."""
        for index, cpu in enumerate(self.cpus):
            if cpu.timer is not None and self._lends(index, cpu, cpu.timer):
                continue
            found = self.best(index, cpu.groups())
            wanted = cpu.preempts(found)
            fast = wanted and found is not None and not found.group and bool(cpu.control & FIQ_EN)
            cpu.irq.set(wanted and not fast)
            cpu.fiq.set(fast)

    def _lends(self, index: int, cpu: CpuInterface, timer: LentTimer) -> bool:
        """Whether native code has the timer's interrupt: if it is the only one there is and goes the usual way."""
        groups, control = cpu.groups() & self.control, int(cpu.control)
        usual = 0 if control & EOI_MODE else (0 if control & FIQ_EN else GROUP0) | (GROUP1 if control & ACK_CTL else 0)

        def others() -> object:
            return cpu.bank.best(groups, ~timer.bit) or self.spis.best(groups, self._routed(index))

        return timer.lends(groups & usual, others)

    def _routed(self, index: int) -> int:
        """The SPIs that processor `index` may take."""
        return int(self.targets[index]) if self.processors > 1 else -1

    def _bank(self, cpu: CpuInterface, intid: int) -> Bank | None:
        if intid < PRIVATE:
            return cpu.bank
        return self.spis if intid < self.spis.end else None

    # Access

    def read(self, offset: int, size: int) -> int:
        """Distributor or CPU interface."""
        if size > 4 or offset % size:
            return self._odd("read", offset, size)
        index = self.requester() % len(self.cpus)
        lent = self.cpus[index].reclaim()
        if offset >= INTERFACE:
            value = self._read_interface(index, offset - INTERFACE) >> 8 * (offset & 3) & (1 << 8 * size) - 1
        else:
            value = self._read_distributor(index, offset, size)
        if lent:
            self.update()
        return value

    def write(self, offset: int, size: int, value: int) -> None:
        """Distributor or CPU interface; the latter takes words only."""
        if size > 4 or offset % size or (offset >= INTERFACE and size != 4):
            self._odd("write", offset, size)
            return
        index = self.requester() % len(self.cpus)
        self.cpus[index].reclaim()
        if offset >= INTERFACE:
            self._write_interface(index, offset - INTERFACE, value)
        else:
            self._write_distributor(index, offset, size, value)
        self.update()

    def _odd(self, what: str, offset: int, size: int) -> int:
        log.guest_errors(f"{self.name}: {what} of {size} at {offset:#x}")
        return 0

    # Distributor (section 4.3)

    def _part(self, cpu: CpuInterface, offset: int) -> Bank:
        """Registers of the first 32 INTIDs are the processor's own."""
        if 0x400 <= offset < 0xC00:
            return cpu.bank if offset & 0x3FF < PRIVATE else self.spis
        return cpu.bank if offset & (0xFF if offset >= 0xC00 else 0x7F) < (8 if offset >= 0xC00 else 4) else self.spis

    def _read_distributor(self, index: int, offset: int, size: int) -> int:
        cpu = self.cpus[index]
        if (shared := self._part(cpu, offset).read(offset, size)) is not None:
            return shared
        if 0x800 <= offset < 0xC00:
            return sum(self._target(index, offset - 0x800 + at) << 8 * at for at in range(size))
        if 0xF10 <= offset < 0xF30:
            return int.from_bytes(bytes(cpu.senders)[offset & 0xF :][:size], "little")
        lines = self.spis.end // 32 - 1 | len(self.cpus) - 1 << 5
        word = {0x000: int(self.control), 0x004: lines, 0x008: GICD_IIDR, 0xFE8: PIDR2}.get(offset & ~3, 0)
        return word >> 8 * (offset & 3) & (1 << 8 * size) - 1

    def _target(self, index: int, intid: int) -> int:
        if len(self.cpus) == 1:
            return 0  # in a uniprocessor implementation RAZ/WI
        if intid < PRIVATE:
            return 1 << index
        return sum((self.targets[cpu] >> intid & 1) << cpu for cpu in range(len(self.cpus)))

    def _write_distributor(self, index: int, offset: int, size: int, value: int) -> None:
        cpu = self.cpus[index]
        if 0x200 <= offset < 0x204 or 0x280 <= offset < 0x284:
            value &= ~(0xFFFF >> 8 * (offset & 3))  # SGIs have registers of their own
        if self._part(cpu, offset).write(offset, size, value):
            return
        if 0x800 <= offset < 0xC00:
            for at, byte in enumerate(value.to_bytes(size, "little"), offset - 0x800):
                if PRIVATE <= at < self.spis.end:
                    for number in range(MOST_PROCESSORS):
                        self.targets[number] = self.targets[number] & ~(1 << at) | (byte >> number & 1) << at
        elif 0xF10 <= offset < 0xF30:
            for at, byte in enumerate(value.to_bytes(size, "little"), offset & 0xF):
                if offset < 0xF20:
                    cpu.retract(at, byte)
                else:
                    for sender in ones(byte & (1 << len(self.cpus)) - 1):
                        cpu.send(at, sender)
        elif size != 4:
            self._odd("write", offset, size)
        elif offset == 0x000:
            self.control = value & (ENABLE0 | ENABLE1)
        elif offset == 0xF00:
            filter, number = value >> 24 & 3, value & 0xF
            targets = {0: value >> 16 & 0xFF, 1: ~(1 << index), 2: 1 << index}.get(filter, 0)
            for target in ones(targets & (1 << len(self.cpus)) - 1):
                self.cpus[target].send(number, index)

    # CPU interface (section 4.4)

    def _read_interface(self, index: int, offset: int) -> int:
        cpu = self.cpus[index]
        match offset & ~3:
            case 0x00:
                return int(cpu.control)
            case 0x04:
                return int(cpu.priority_mask)
            case 0x08:
                return int(cpu.binary_points[0])
            case 0x0C:
                return self._acknowledge(index, GROUP0 | (GROUP1 if cpu.control & ACK_CTL else 0))
            case 0x14:
                return cpu.running()
            case 0x18:
                return self._highest(index, GROUP0 | (GROUP1 if cpu.control & ACK_CTL else 0))
            case 0x1C:
                return int(cpu.binary_points[1])
            case 0x20:
                return self._acknowledge(index, GROUP1)
            case 0x28:
                return self._highest(index, GROUP1)
            case 0xD0:
                return int(cpu.active_priorities[0])
            case 0xE0:
                return int(cpu.active_priorities[1])
            case 0xFC:
                return GICC_IIDR
        return 0

    def _highest(self, index: int, allowed: int) -> int:
        """The INTID of what is pending, or the special one where it is of a group that is not asked for."""
        found = self.best(index, self.cpus[index].groups())
        if found is None:
            return NONE
        if not allowed >> found.group & 1:
            return OTHER_GROUP if found.group else NONE
        return self._with_sender(self.cpus[index], found.intid)

    @staticmethod
    def _with_sender(cpu: CpuInterface, intid: int) -> int:
        if intid >= SGIS or not cpu.senders[intid]:
            return intid
        return intid | next(ones(cpu.senders[intid])) << 10

    def _acknowledge(self, index: int, allowed: int) -> int:
        cpu = self.cpus[index]
        found = self.best(index, cpu.groups())
        if not cpu.preempts(found) or found is None:
            return NONE
        if not allowed >> found.group & 1:
            return OTHER_GROUP if found.group else NONE
        answer = self._with_sender(cpu, found.intid)
        bank = self._bank(cpu, found.intid)
        assert bank is not None
        bank.acknowledge(found.intid)
        if found.intid < SGIS:
            cpu.retract(found.intid, 1 << (answer >> 10 & 7))
            if cpu.senders[found.intid]:
                bank.latched |= 1 << found.intid
        cpu.activate(found)
        self.update()
        return answer

    def _write_interface(self, index: int, offset: int, value: int) -> None:
        cpu = self.cpus[index]
        match offset:
            case 0x00:
                cpu.control = value & (ENABLE0 | ENABLE1 | ACK_CTL | FIQ_EN | COMMON_BPR | EOI_MODE)
                cpu.common_binary_point = bool(value & COMMON_BPR)
            case 0x04:
                cpu.priority_mask = value & 0xF8
            case 0x08:
                cpu.set_binary_point(0, value)
            case 0x1C:
                cpu.set_binary_point(1, value)
            case 0x10 | 0x24:
                groups = GROUP1 if offset == 0x24 else GROUP0 | GROUP1
                if value & 0x3FF <= LAST_SPI and cpu.drop(groups) and not cpu.control & EOI_MODE:
                    self._deactivate(cpu, value & 0x3FF)
            case 0x1000:
                if cpu.control & EOI_MODE:
                    self._deactivate(cpu, value & 0x3FF)
            case 0xD0 | 0xE0:
                cpu.active_priorities[offset == 0xE0] = value
            case _:
                pass

    def _deactivate(self, cpu: CpuInterface, intid: int) -> None:
        bank = self._bank(cpu, intid)
        if bank is not None:
            bank.deactivate(intid)
