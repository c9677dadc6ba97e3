"""What KVM would have to emulate and cannot, the software processor does: one instruction at a time, from the same state.

KVM's emulator knows the instructions that a device's registers or odd modes need on most hosts, not all that there are (Linux,
arch/x86/kvm/emulate.c); where it gives up, others end the machine.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from exuvia.vcpu.accelerators import make
from exuvia.vcpu.kvm import api
from exuvia.vcpu.processor import MachineProcessor

if TYPE_CHECKING:
    from exuvia.vcpu.kvm.vcpu import KvmVcpu
    from exuvia.vcpu.kvm.vm import Vm
    from exuvia.vcpu.software import SoftwareVcpu


class Help:
    """For all processors of a virtual machine. Costs nothing before it is needed."""

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.instructions = 0
        self._helpers: dict[int, SoftwareVcpu] = {}

    def step(self, cpu: KvmVcpu, code: bytes) -> None:
        """Do the instruction `code` at which `cpu` stands, or deliver what it raises."""
        if not self.instructions:
            text = f"exuvia: KVM on this host cannot emulate the instruction {code.hex(' ')} at {cpu.offset(cpu.pc):#x}"
            print(f"{text}; the software processor does such instructions, slowly", file=sys.stderr)
        self.instructions += 1
        helper = self._helpers.get(cpu.index)
        if helper is None:
            helper = self._helpers[cpu.index] = make("software", self.vm.machine, cpu.index, cpu.apic)
        cpu.fetch()
        helper.resume = helper.mmio_done = helper.io_ready = 0
        pending, cpu.__dict__["events"] = cpu.undelivered(), api.Events()
        MachineProcessor.adopt(helper, cpu, pending)  # without what belongs to decoded code: a single step uses none
        helper.single_step()
        helper.settle()
        MachineProcessor.adopt(cpu, helper, None)
        self.vm.slots.lost_track()
