"""GICv3 at one processor: the redistributor's two frames and the CPU interface's registers ICC_* (Arm IHI 0069, 12.11 and 12.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exuvia.devices.device import State
from exuvia.devices.irq.gic import GROUP1, NONE, PRIORITY_BITS, PRIORITY_MASK, PRIVATE, Bank, Candidate, Interface
from exuvia.devices.irq.gic_lpi import FIRST as FIRST_LPI
from exuvia.devices.irq.gic_lpi import ID_BITS, Lpis
from exuvia.devices.irq.gic_timer import LentTimer
from exuvia.devices.irq.gic_virtual import VirtualInterface
from exuvia.support import log

if TYPE_CHECKING:
    from exuvia.devices.irq.gic_v3 import GicV3

FRAME = 0x10000
IIDR, PIDR2 = 0x43B, 0x3B
ISACTIVER, IPRIORITYR = 0x300, 0x400  # in SGI_base
ENABLE_LPIS, CES = 1, 2  # GICR_CTLR; it can be cleared again
ASLEEP = 6  # GICR_WAKER: ProcessorSleep, ChildrenAsleep
PTZ = 1 << 62  # GICR_PENDBASER: the table holds zeros
CBPR, EOI_MODE, PMHE = 1, 2, 1 << 6  # ICC_CTLR_EL1
CONTROL = PRIORITY_BITS - 1 << 8 | 1 << 15  # PRIbits, 16 bits of INTID, A3V
SRE = 7
ATTRIBUTES = 0x0700_0000_0000_0F80  # cacheability and shareability of a table
PROPERTY_ADDRESS, PENDING_ADDRESS = 0xF_FFFF_FFFF_F000, 0xF_FFFF_FFFF_0000
PROPERTY_WRITABLE, PENDING_WRITABLE = ATTRIBUTES | PROPERTY_ADDRESS | 0x1F, ATTRIBUTES | PENDING_ADDRESS | PTZ


class Redistributor(Interface):
    """Processor number `index`, whose affinity is `affinity` (Aff3.Aff2.Aff1.Aff0, a byte each)."""

    window = 2 * FRAME
    accesses = (1, 2, 4, 8)

    control = State(0)  # GICR_CTLR
    waker = State(ASLEEP)
    property_base = State(0)
    pending_base = State(0)
    enables = State(0)  # ICC_IGRPEN0_EL1 and ICC_IGRPEN1_EL1, as a set of groups
    interface = State(0)  # ICC_CTLR_EL1

    def __init__(self, gic: GicV3, index: int, affinity: int, clock: Any = None) -> None:
        self.gic, self.index, self.affinity = gic, index, affinity
        self.lpis = Lpis()
        super().__init__(clock)
        self.virtual = VirtualInterface(self._deactivate, clock)

    def reset(self) -> None:
        """As after power-on."""
        super().reset()
        self.lpis.clear_all()
        self.virtual.reset()

    def save(self) -> dict[str, Any]:
        """With the pending LPIs and the virtual interface."""
        return super().save() | {"lpis": sorted(self.lpis.pending), "virtual": self.virtual.save()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take what `save` gave; the LPIs' configuration is in memory."""
        super().load(saved)
        self.lpis.clear_all()
        self._configure()
        for intid in saved["lpis"]:
            self.lpis.set(intid)
        self.virtual.load(saved["virtual"])

    # What is pending here

    def best(self, groups: int) -> Candidate | None:
        """The interrupt of these groups to take, whatever the priorities say."""
        groups &= self.gic.control
        if not groups:
            return None
        own, shared = self.bank.best(groups), self.gic.spis.best(groups, self.gic.targets[self.index])
        found = own if shared is None or own is not None and own < shared else shared
        if groups & GROUP1 and self.lpis.pending and (message := self.lpis.best()) is not None and (found is None or message < found):
            return message
        return found

    def _lends(self, timer: LentTimer) -> bool:
        """Whether native code has the timer's interrupt: if it is the only one there is, and an IRQ."""
        groups = self.enables & self.gic.control
        usual = 0 if self.interface & EOI_MODE else GROUP1

        def others() -> object:
            return self.lpis.pending or self.bank.best(groups, ~timer.bit) or self.gic.spis.best(groups, self.gic.targets[self.index])

        return timer.lends(groups & usual, others)

    def update(self) -> None:
        """Drive the wires: group 0 is an FIQ, group 1 an IRQ, where there is one security state."""
        if self.timer is not None and self._lends(self.timer):
            return
        found = self.best(self.enables)
        if found is None or not self.preempts(found):
            self.irq.set(False)
            self.fiq.set(False)
        else:
            self.irq.set(found.group == 1)
            self.fiq.set(found.group == 0)

    def send(self, number: int, group: int) -> None:
        """An SGI arrives; one of the other group is not for this processor."""
        if self.bank.group >> number & 1 == group:
            self.bank.latched |= 1 << number

    def set_lpi(self, intid: int) -> None:
        """An LPI arrives; while they are off, none does."""
        if self.control & ENABLE_LPIS:
            self.lpis.set(intid)

    def take_lpis(self, other: Redistributor) -> None:
        """What is pending at `other` comes here."""
        if self.control & ENABLE_LPIS:
            self.lpis.take_all(other.lpis)
        other.lpis.clear_all()

    # System registers

    def read_register(self, name: str) -> int:
        """ICC_*, and of the virtual interface ICV_* and ICH_*. What does not exist reads as zero."""
        if name[:3] != "ICC":
            return self.virtual.read_register(name)
        lent = self.reclaim()
        value = self._read_register(name)
        if lent:
            self.update()
        return value

    def _read_register(self, name: str) -> int:
        group = 1 if name.endswith("1_EL1") else 0
        match name:
            case "ICC_IAR0_EL1" | "ICC_IAR1_EL1":
                return self._acknowledge(group)
            case "ICC_HPPIR0_EL1" | "ICC_HPPIR1_EL1":
                found = self.best(self.enables)
                return NONE if found is None or found.group != group else found.intid
            case "ICC_BPR0_EL1":
                return int(self.binary_points[0])
            case "ICC_BPR1_EL1":
                return min(7, self.binary_points[0] + 1) if self.common_binary_point else int(self.binary_points[1])
            case "ICC_AP0R0_EL1":
                return int(self.active_priorities[0])
            case "ICC_AP1R0_EL1":
                return int(self.active_priorities[1])
            case "ICC_RPR_EL1":
                return self.running()
            case "ICC_PMR_EL1":
                return int(self.priority_mask)
            case "ICC_CTLR_EL1":
                return int(self.interface) | CONTROL
            case "ICC_IGRPEN0_EL1" | "ICC_IGRPEN1_EL1":
                return int(self.enables) >> group & 1
            case "ICC_SRE_EL1":
                return SRE
            case "ICC_SRE_EL2" | "ICC_SRE_EL3":
                return SRE | 8
        return 0

    def write_register(self, name: str, value: int) -> None:
        """Likewise. What cannot be written, or does not exist, is ignored."""
        if name[:3] != "ICC":
            self.virtual.write_register(name, value)
            self.update()  # it may have ended one of ours
            return
        self.reclaim()
        group = 1 if name.endswith("1_EL1") else 0
        match name:
            case "ICC_PMR_EL1":
                self.priority_mask = value & PRIORITY_MASK
            case "ICC_EOIR0_EL1" | "ICC_EOIR1_EL1":
                if self.drop(1 << group) and not self.interface & EOI_MODE:
                    self._deactivate(value & 0xFFFFFF)
            case "ICC_DIR_EL1":
                if self.interface & EOI_MODE:
                    self._deactivate(value & 0xFFFFFF)
            case "ICC_BPR0_EL1":
                self.set_binary_point(0, value)
            case "ICC_BPR1_EL1":
                if not self.common_binary_point:
                    self.set_binary_point(1, value)
            case "ICC_AP0R0_EL1":
                self.active_priorities[0] = value & 0xFFFFFFFF
            case "ICC_AP1R0_EL1":
                self.active_priorities[1] = value & 0xFFFFFFFF
            case "ICC_CTLR_EL1":
                self.interface = value & (CBPR | EOI_MODE | PMHE)
                self.common_binary_point = bool(value & CBPR)
            case "ICC_IGRPEN0_EL1" | "ICC_IGRPEN1_EL1":
                self.enables = int(self.enables) & ~(1 << group) | (value & 1) << group
            case "ICC_SGI0R_EL1" | "ICC_SGI1R_EL1":
                self.gic.send_sgi(self.index, value, 1 if name == "ICC_SGI1R_EL1" else 0)
                return
            case "ICC_ASGI1R_EL1":
                return  # the other security state's, which there is not
            case _:
                return
        self.gic.update_for(self.index)

    def _acknowledge(self, group: int) -> int:
        found = self.best(self.enables)
        if found is None or found.group != group or not self.preempts(found):
            return NONE
        if found.intid >= FIRST_LPI:
            self.lpis.clear(found.intid)
        else:
            self._bank(found.intid).acknowledge(found.intid)
        self.activate(found)
        self.gic.update_for(self.index if found.intid < PRIVATE or found.intid >= FIRST_LPI else None)
        return found.intid

    def _bank(self, intid: int) -> Bank:
        return self.bank if intid < PRIVATE else self.gic.spis

    def _deactivate(self, intid: int) -> None:
        if intid < self.gic.spis.end:  # LPIs have no active state
            self._bank(intid).deactivate(intid)
            if intid >= PRIVATE:
                self.gic.update()

    # The frames

    def read(self, offset: int, size: int) -> int:
        """RD_base, then SGI_base."""
        if offset % size:
            return 0
        if self.reclaim():
            self.update()
        if offset >= FRAME:
            if size == 8:
                return self.read(offset, 4) | self.read(offset + 4, 4) << 32
            found = self.bank.read(offset - FRAME, size)
            return 0 if found is None else found
        word = self._word(offset & ~7)
        return word >> 8 * (offset & 7) & (1 << 8 * size) - 1

    def _word(self, offset: int) -> int:
        """64 bits of RD_base."""
        match offset:
            case 0x0000:
                return int(self.control) | CES | IIDR << 32
            case 0x0008:
                last = self.index == len(self.gic.cpus) - 1
                return self.affinity << 32 | self.index << 8 | last << 4 | self.gic.has_lpis
            case 0x0010:
                return int(self.waker) << 32
            case 0x0070:
                return int(self.property_base)
            case 0x0078:
                return int(self.pending_base) & ~PTZ
            case 0xFFE8:
                return PIDR2
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """RD_base, then SGI_base."""
        if offset % size:
            log.guest_errors(f"gic-v3: write of {size} to {offset:#x} of a redistributor")
            return
        self.reclaim()
        if offset >= FRAME:
            if size == 8:
                self.write(offset, 4, value & 0xFFFFFFFF)
                self.write(offset + 4, 4, value >> 32)
                return
            active, timer = ISACTIVER <= offset - FRAME < IPRIORITYR, self.timer
            if active and timer is not None and timer.tick.lent:  # its processor has yet to come
                timer.later.append(lambda: self.bank.write(offset - FRAME, size, value))
                return
            self.bank.write(offset - FRAME, size, value)
        elif 0x70 <= offset < 0x80 and size >= 4:
            self._write_base(offset, size, value)
        elif size >= 4:
            self._write_control(offset, value)
        self.gic.update_for(self.index)

    def _write_base(self, offset: int, size: int, value: int) -> None:
        if not self.gic.has_lpis or self.control & ENABLE_LPIS:
            return
        name, writable = ("property_base", PROPERTY_WRITABLE) if offset < 0x78 else ("pending_base", PENDING_WRITABLE)
        shift, mask = 8 * (offset & 7), (1 << 8 * size) - 1
        setattr(self, name, (getattr(self, name) & ~(mask << shift) | value << shift) & writable)

    def _write_control(self, offset: int, value: int) -> None:
        match offset:
            case 0x0000:
                self._enable_lpis(bool(value & ENABLE_LPIS) and bool(self.gic.has_lpis))
            case 0x0014:
                self.waker = ASLEEP if value & 2 else 0
            case 0x00A0:
                self.lpis.invalidate(value & 0xFFFFFFFF)
            case 0x00B0:
                self.lpis.invalidate()

    def _enable_lpis(self, wanted: bool) -> None:
        before = bool(self.control & ENABLE_LPIS)
        if wanted == before:
            return
        if wanted:
            self.control = ENABLE_LPIS
            self._configure()
            self.lpis.clear_all()
            if not self.pending_base & PTZ:
                self.lpis.load_pending(int(self.pending_base) & PENDING_ADDRESS)
        else:
            self.lpis.store_pending(int(self.pending_base) & PENDING_ADDRESS)
            self.lpis.clear_all()
            self.control = 0

    def _configure(self) -> None:
        bits = min((int(self.property_base) & 0x1F) + 1, ID_BITS)
        self.lpis.table = int(self.property_base) & PROPERTY_ADDRESS
        self.lpis.end = max(FIRST_LPI, 1 << bits)
        self.lpis.dma = self.gic.dma
