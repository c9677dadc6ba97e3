"""A virtual machine of KVM's: what all processors of a machine share there."""

from __future__ import annotations

import errno
import os
import platform
import sys
from ctypes import c_uint64
from typing import TYPE_CHECKING, Any

from exuvia.support.errors import UserError
from exuvia.vcpu.accelerators import Unavailable
from exuvia.vcpu.kvm import api, cpuid, routes, state, tsc
from exuvia.vcpu.kvm.help import Help
from exuvia.vcpu.kvm.irqchip import KernelIrqchip
from exuvia.vcpu.kvm.memory import Slots

if TYPE_CHECKING:
    from exuvia.vcpu.kvm.vcpu import KvmVcpu

DEVICE = "/dev/kvm"
VERSION = 12
NEEDED = {api.CAP_USER_MEMORY: "memory slots", api.CAP_XSAVE: "XSAVE", api.CAP_DEBUGREGS: "debug registers", api.CAP_VCPU_EVENTS: "events"}
NEEDED |= {api.CAP_IMMEDIATE_EXIT: "immediate exit", api.CAP_READONLY_MEM: "read-only memory"}
IDENTITY_MAP, TASK_STATE = 0xFEFFC000, 0xFEFFD000  # four pages that Intel's processors need, out of the way below firmware


def open_device(path: str = "") -> int:
    """The open device, DEVICE if nothing else is said. Raises Unavailable with the reason in one line."""
    path = path or DEVICE
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        raise Unavailable("KVM for x86 guests is part of Linux on x86-64, which this host is not")
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unavailable(f"there is no {path} ('exuvia doctor' says what to do)") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be opened: {error.strerror} ('exuvia doctor' says what to do)") from None
    try:
        version = api.ioctl(fd, api.GET_API_VERSION)
        lacking = [name for number, name in NEEDED.items() if not api.ioctl(fd, api.CHECK_EXTENSION, number)]
    except OSError as error:
        os.close(fd)
        raise Unavailable(f"{path} does not answer as KVM: {error.strerror}") from None
    if version != VERSION or lacking:
        os.close(fd)
        raise Unavailable(f"this kernel's KVM is too old: {f'version {version}' if version != VERSION else 'no ' + ', '.join(lacking)}")
    return fd


def virtual_machine(device: int) -> int:
    """A new virtual machine. Raises Unavailable where another hypervisor has the processor, or there is no memory."""
    try:
        return api.ioctl(device, api.CREATE_VM)
    except OSError as error:
        why = "another hypervisor uses the processor's virtualization" if error.errno == errno.EBUSY else error.strerror
        raise Unavailable(f"{DEVICE} gives no virtual machine: {why}") from None


class Vm:
    """The virtual machine of `machine`. Raises Unavailable where the host has none to give."""

    def __init__(self, machine: Any) -> None:
        self.machine, config = machine, machine.config
        self.device = open_device()
        self.fd = -1
        self.vcpus: list[KvmVcpu] = []
        machine.at_end.append(self.close)
        self.fd = virtual_machine(self.device)
        self.run_size = api.ioctl(self.device, api.GET_VCPU_MMAP_SIZE)
        self.msrs = state.msr_numbers(self.device)
        host = cpuid.supported(self.device)
        most = self.extension(api.CAP_MAX_VCPUS) or self.extension(api.CAP_NR_VCPUS)
        if config.smp > most:
            raise UserError(f"-smp {config.smp}: KVM on this host has at most {most} processors")
        self.host = host
        self.model, lacking = cpuid.chosen(config.cpu, list(config.cpu_features), host)
        if lacking:
            print(f"exuvia: -cpu {config.cpu}: KVM on this host lacks {', '.join(lacking)}", file=sys.stderr)
        self.refused: set[int] = set()
        self.help = Help(self)
        self.counter = tsc.reader()
        self.tsc_attribute = True
        api.ioctl(self.fd, api.SET_IDENTITY_MAP_ADDR, c_uint64(IDENTITY_MAP))
        api.ioctl(self.fd, api.SET_TSS_ADDR, TASK_STATE)
        self.routes = routes.Routes(self.fd)
        wanted = dict(config.accel_options).get("kernel-irqchip", "off")
        self.irqchip = self._kernel_irqchip(wanted) if wanted != "off" else None
        self.slots = Slots(self.fd, machine.ram, self.extension(api.CAP_NR_MEMSLOTS) or 32)
        machine.memory.on_change.append((lambda: machine.alone(self.changed)) if config.smp > 1 else self.changed)
        self.changed()

    def _kernel_irqchip(self, wanted: str) -> KernelIrqchip:
        capability = api.CAP_IRQCHIP if wanted == "on" else api.CAP_SPLIT_IRQCHIP
        if not self.extension(capability):
            raise UserError(f"kernel-irqchip={wanted}: KVM on this host has no such interrupt controllers")
        return KernelIrqchip(self, wanted == "on")

    def vcpu(self, index: int, apic: Any) -> KvmVcpu:
        """Processor `index`. KVM gives each once: one that was left for another accelerator is taken up again."""
        from exuvia.vcpu.kvm.vcpu import KvmVcpu

        if index < len(self.vcpus):
            return self.vcpus[index]
        try:
            made = KvmVcpu(self, index, apic)
        except OSError as error:
            raise Unavailable(f"KVM on this host makes no processor like -cpu {self.machine.config.cpu}: {error.strerror}") from None
        if self.machine.config.smp > 1:
            made.__dict__["native_run"], made.__dict__["alone"] = self.machine.apart(index, api.run), self.machine.alone
        self.vcpus.append(made)
        return made

    def extension(self, capability: int) -> int:
        """What KVM says of a capability."""
        return api.ioctl(self.fd, api.CHECK_EXTENSION, capability)

    def changed(self) -> None:
        """The map of memory."""
        self.slots.update(self.machine.memory.slots)

    def skip(self, ticks: int) -> None:
        """The TSCs do not count what the host's did just now, and kvmclock is virtual time."""
        api.ioctl(self.fd, api.SET_CLOCK, api.ClockData(self.machine.clock.now()))
        for vcpu in self.vcpus:
            vcpu.skip(ticks)

    def close(self) -> None:
        """Give everything back."""
        for vcpu in self.vcpus:
            vcpu.close()
        for fd in (self.fd, self.device):
            if fd >= 0:
                os.close(fd)
        self.fd = self.device = -1
