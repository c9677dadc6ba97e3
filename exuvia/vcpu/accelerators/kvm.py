"""`-accel kvm`: the host's own processor, through Linux."""

from __future__ import annotations

from typing import Any

from exuvia.vcpu.accelerators import Unavailable
from exuvia.vcpu.kvm.vcpu import KvmVcpu
from exuvia.vcpu.kvm.vm import Vm


def create(machine: Any, index: int, apic: Any) -> KvmVcpu:
    """Processor `index` of a machine. Raises Unavailable where KVM cannot be used, UserError for an unknown model or feature."""
    if machine.architecture != "x86":
        raise Unavailable(f"it lends x86 processors, which machine '{machine.name}' has none of")
    vm = machine.accelerated.get("kvm")
    if vm is None:
        vm = machine.accelerated["kvm"] = Vm(machine)
    return vm.vcpu(index, apic)  # type: ignore[no-any-return]


def take_over(machine: Any) -> None:
    """The processors' TSCs stand with virtual time, and interrupt controllers may be the kernel's."""
    vm: Vm = machine.accelerated["kvm"]
    machine.clock.beside, machine.clock.skip = vm.counter, vm.skip
    if vm.irqchip is not None:
        vm.irqchip.take_over()


def let_go(machine: Any) -> None:
    """What the kernel has of interrupt controllers comes back."""
    vm: Vm = machine.accelerated["kvm"]
    if vm.irqchip is not None:
        vm.irqchip.let_go()
