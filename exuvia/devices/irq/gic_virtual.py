"""A GICv3's virtual CPU interface: interrupts that a hypervisor gives its guest in list registers (Arm IHI 0069, chapter 6, 12.3, 12.4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.devices.device import Irq, State
from exuvia.devices.irq.gic import GROUP0, GROUP1, NONE, PRIORITY_BITS, PRIORITY_MASK, Candidate, Priorities
from exuvia.devices.irq.gic_lpi import FIRST as FIRST_LPI

LISTS = 4
EN, UIE, LRENPIE, NPIE = 1, 2, 4, 8  # ICH_HCR_EL2
GROUP_ENABLE_SHIFT, EOI_COUNT_SHIFT = 4, 27
HCR_WRITABLE = 0xF8005CFF
PENDING, ACTIVE, HW, EOI = 1 << 62, 1 << 63, 1 << 61, 1 << 41  # of a list register
LR_WRITABLE = 0xF0FF03FF_FFFFFFFF
CBPR, EOI_MODE = 1, 2  # ICV_CTLR_EL1
PRIORITIES = PRIORITY_BITS - 1
VTR = LISTS - 1 | 3 << 20 | PRIORITIES << 26 | PRIORITIES << 29  # nV4, A3V; 16 bits of INTID


class VirtualInterface(Priorities):
    """`irq` and `fiq` are the processor's virtual lines. `deactivate` takes the physical INTID that an ended interrupt stands for."""

    maintenance = Irq()

    control = State(0)  # ICH_HCR_EL2
    lists = State([0] * LISTS)
    enables = State(0)  # a set of groups
    end_in_two_steps = State(False)

    def __init__(self, deactivate: Callable[[int], object], clock: Any = None) -> None:
        self._deactivate_physical = deactivate
        super().__init__(clock)

    def best(self) -> Candidate | None:
        """The list register with the pending interrupt to take, in place of an INTID."""
        found = [
            Candidate(entry >> 48 & PRIORITY_MASK, number, entry >> 60 & 1)
            for number, entry in enumerate(self.lists)
            if entry & (PENDING | ACTIVE) == PENDING and self.enables >> (entry >> 60 & 1) & 1
        ]
        return min(found, default=None)

    def update(self) -> None:
        """Drive the wires."""
        found = self.best() if self.control & EN else None
        wanted = self.preempts(found) and found is not None
        self.irq.set(wanted and found is not None and found.group == 1)
        self.fiq.set(wanted and found is not None and found.group == 0)
        self.maintenance.set(bool(self.control & EN and self._causes()))

    def _ended(self) -> int:
        """ICH_EISR_EL2: empty list registers whose end the hypervisor wants to know."""
        return sum(1 << n for n, entry in enumerate(self.lists) if not entry & (PENDING | ACTIVE | HW) and entry & EOI)

    def _empty(self) -> int:
        """ICH_ELRSR_EL2."""
        return sum(1 << n for n, e in enumerate(self.lists) if not e & (PENDING | ACTIVE) and (e & HW or not e & EOI))

    def _causes(self) -> int:
        """ICH_MISR_EL2: why there is a maintenance interrupt."""
        control = int(self.control)
        valid = sum(1 for entry in self.lists if entry & (PENDING | ACTIVE))
        pending = any(entry & (PENDING | ACTIVE) == PENDING for entry in self.lists)
        causes = bool(self._ended()) | bool(control & UIE and valid <= 1) << 1
        causes |= bool(control & LRENPIE and control >> EOI_COUNT_SHIFT) << 2 | bool(control & NPIE and not pending) << 3
        for group in range(2):
            for wanted, level in ((0, 1), (1, 0)):  # enabled, disabled
                bit = GROUP_ENABLE_SHIFT + 2 * group + wanted
                causes |= bool(control >> bit & 1 and self.enables >> group & 1 == level) << bit
        return causes

    # What the hypervisor has: ICH_*; and its guest, under the names ICC_*: ICV_*

    def read_register(self, name: str) -> int:
        """What does not exist reads as zero."""
        group = 1 if name.endswith("1_EL1") else 0
        match name:
            case "ICV_IAR0_EL1" | "ICV_IAR1_EL1":
                return self._acknowledge(group)
            case "ICV_HPPIR0_EL1" | "ICV_HPPIR1_EL1":
                found = self.best()
                return NONE if found is None or found.group != group else int(self.lists[found.intid]) & 0xFFFFFFFF
            case "ICV_BPR0_EL1":
                return int(self.binary_points[0])
            case "ICV_BPR1_EL1":
                return min(7, self.binary_points[0] + 1) if self.common_binary_point else int(self.binary_points[1])
            case "ICV_AP0R0_EL1" | "ICH_AP0R0_EL2":
                return int(self.active_priorities[0])
            case "ICV_AP1R0_EL1" | "ICH_AP1R0_EL2":
                return int(self.active_priorities[1])
            case "ICV_RPR_EL1":
                return self.running()
            case "ICV_PMR_EL1":
                return int(self.priority_mask)
            case "ICV_CTLR_EL1":
                return self.common_binary_point * CBPR | self.end_in_two_steps * EOI_MODE | PRIORITIES << 8 | 1 << 15
            case "ICV_IGRPEN0_EL1" | "ICV_IGRPEN1_EL1":
                return int(self.enables) >> group & 1
            case "ICH_HCR_EL2":
                return int(self.control)
            case "ICH_VTR_EL2":
                return VTR
            case "ICH_MISR_EL2":
                return self._causes()
            case "ICH_EISR_EL2":
                return self._ended()
            case "ICH_ELRSR_EL2":
                return self._empty()
            case "ICH_VMCR_EL2":
                points = self.binary_points[1] << 18 | self.binary_points[0] << 21
                modes = self.common_binary_point << 4 | self.end_in_two_steps << 9
                return int(self.enables) | modes | points | self.priority_mask << 24
        if name.startswith("ICH_LR") and int(name[6:-4]) < LISTS:
            return int(self.lists[int(name[6:-4])])
        return 0

    def write_register(self, name: str, value: int) -> None:
        """What cannot be written is ignored."""
        group = 1 if name.endswith("1_EL1") else 0
        match name:
            case "ICV_PMR_EL1":
                self.priority_mask = value & PRIORITY_MASK
            case "ICV_EOIR0_EL1" | "ICV_EOIR1_EL1":
                if self.drop(1 << group) and not self.end_in_two_steps:
                    self._deactivate(value & 0xFFFFFF)
            case "ICV_DIR_EL1":
                if self.end_in_two_steps:
                    self._deactivate(value & 0xFFFFFF)
            case "ICV_BPR0_EL1":
                self.set_binary_point(0, value)
            case "ICV_BPR1_EL1":
                if not self.common_binary_point:
                    self.set_binary_point(1, value)
            case "ICV_AP0R0_EL1" | "ICH_AP0R0_EL2":
                self.active_priorities[0] = value & 0xFFFFFFFF
            case "ICV_AP1R0_EL1" | "ICH_AP1R0_EL2":
                self.active_priorities[1] = value & 0xFFFFFFFF
            case "ICV_CTLR_EL1":
                self.common_binary_point, self.end_in_two_steps = bool(value & CBPR), bool(value & EOI_MODE)
            case "ICV_IGRPEN0_EL1" | "ICV_IGRPEN1_EL1":
                self.enables = int(self.enables) & ~(1 << group) | (value & 1) << group
            case "ICH_HCR_EL2":
                self.control = value & HCR_WRITABLE
            case "ICH_VMCR_EL2":
                self.enables = value & (GROUP0 | GROUP1)
                self.common_binary_point, self.end_in_two_steps = bool(value >> 4 & 1), bool(value >> 9 & 1)
                self.set_binary_point(1, value >> 18)
                self.set_binary_point(0, value >> 21)
                self.priority_mask = value >> 24 & PRIORITY_MASK
            case _:
                if not name.startswith("ICH_LR") or int(name[6:-4]) >= LISTS:
                    return
                self.lists[int(name[6:-4])] = value & LR_WRITABLE
        self.update()

    def _acknowledge(self, group: int) -> int:
        found = self.best() if self.control & EN else None
        if found is None or found.group != group or not self.preempts(found):
            return NONE
        entry = self.lists[found.intid]
        intid = int(entry & 0xFFFFFFFF)
        self.lists[found.intid] = entry & ~PENDING | (ACTIVE if intid < FIRST_LPI else 0)
        self.activate(found)
        self.update()
        return intid

    def _deactivate(self, intid: int) -> None:
        """What ends is taken out of its list register; one that has none is counted, for the hypervisor to end."""
        for number, entry in enumerate(self.lists):
            if entry & ACTIVE and entry & 0xFFFFFFFF == intid:
                self.lists[number] = entry & ~ACTIVE
                if entry & HW:
                    self._deactivate_physical(entry >> 32 & 0x3FF)
                return
        if intid < FIRST_LPI and self.control >> EOI_COUNT_SHIFT < 31:
            self.control += 1 << EOI_COUNT_SHIFT
