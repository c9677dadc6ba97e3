"""A processor of the host's, lent by KVM. The registers stay there until somebody looks at them by name; then they are ours until `run`."""

from __future__ import annotations

import errno
import mmap
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_uint8, c_uint32
from typing import TYPE_CHECKING, Any

from exuvia.isa.x86 import processor as x86
from exuvia.isa.x86.processor import Pending
from exuvia.isa.x86.state import IF, layout
from exuvia.support import log
from exuvia.support.errors import UserError
from exuvia.vcpu.kvm import api, cpuid, state
from exuvia.vcpu.processor import MachineProcessor

if TYPE_CHECKING:
    from exuvia.vcpu.kvm.vm import Vm

KICK = signal.SIGURG  # ignored by default: one that comes late does no harm
KVMCLOCK = 0x12, 0x4B564D01  # MSRs by which a guest switches it on (Linux, Documentation/virt/kvm/x86/msr.rst)
NAMES = frozenset(layout.files) | {"gpr"}  # what stands in the state


class KvmVcpu(MachineProcessor, x86.Processor):
    """One x86 processor of KVM's; see `Vcpu` in machines/machine.py for what a machine may ask of it."""

    def __init__(self, vm: Vm, index: int, apic: Any) -> None:
        machine, d = vm.machine, self.__dict__
        d["ours"], d["files"] = True, {}
        model = vm.model.numbered(index, machine.config.smp)
        super().__init__(memoryview(bytearray(layout.size)), model, index, machine.memory, machine.ports, apic, machine)
        d["files"] = {name: d.pop(name) for name in NAMES & d.keys()}
        d["kernel_apic"], d["apic_ours"], d["cr8"] = vm.irqchip is not None, True, 0
        d["vm"], d["events"], d["exits"] = vm, api.Events(), dict.fromkeys(api.EXITS, 0)
        d["inside"], d["unfinished"], d["thread"], d["gate"] = False, False, None, threading.RLock()
        d["native_run"], d["count"] = api.run, machine.clock.count
        d["fd"] = api.ioctl(vm.fd, api.CREATE_VCPU, index)
        d["map"] = mmap.mmap(self.fd, vm.run_size)
        d["shared"] = api.Run.from_buffer(self.map)
        d["io"] = api.Io.from_buffer(self.map, api.EXIT)
        d["mmio"] = api.Mmio.from_buffer(self.map, api.EXIT)
        d["internal"] = api.InternalError.from_buffer(self.map, api.EXIT)
        d["handlers"] = {reason: getattr(self, f"on_{name.replace(' ', '_')}") for reason, name in api.EXITS.items()}
        cpuid.give(self.fd, cpuid.leaves(model, vm.host, self.kernel_apic))
        d["initial_msrs"] = state.get_msrs(self.fd, vm.msrs, vm.refused)

    vm: Vm
    fd: int
    events: api.Events  # what KVM had not delivered yet when the state was fetched
    ours: bool  # the state is newer here than in KVM
    kernel_apic: bool  # its local APIC is KVM's
    apic_ours: bool  # and the state of that is newer in the device
    cr8: int  # its task priority, while it is not
    files: dict[str, Any]
    inside: bool  # in KVM, or what it came back for is not done yet
    unfinished: bool  # the instruction that came back for a device ends when KVM is entered again
    thread: int | None  # the one in `run`
    gate: threading.RLock
    native_run: Callable[[int], int]
    count: Callable[[], int]
    shared: api.Run
    io: api.Io
    mmio: api.Mmio
    internal: api.InternalError
    map: mmap.mmap
    exits: dict[int, int]  # how often KVM came back, by reason
    handlers: dict[int, Callable[[], None]]
    initial_msrs: dict[int, int]
    y: Any

    def close(self) -> None:
        """Give it back; the page shared with KVM goes with the last who looks at it."""
        d = self.__dict__
        for name in ("shared", "io", "mmio", "internal", "map"):
            d.pop(name, None)
        if "fd" in d:
            os.close(d.pop("fd"))

    # -- the state by name
    def __getattr__(self, name: str) -> Any:
        if name not in NAMES:
            raise AttributeError(name)
        self.fetch()
        found = self.files.get(name)
        return super().__getattr__(name) if found is None else found

    def __setattr__(self, name: str, value: Any) -> None:
        if name in NAMES:
            self.fetch()
        super().__setattr__(name, value)

    def fetch(self) -> None:
        """Have the state here. For who holds the machine; while the processor is in KVM what it shows is of one moment, and not kept."""
        d = self.__dict__
        if d["ours"]:
            return
        if d["inside"]:
            with self.looked_at():
                pass
            return
        while d["unfinished"]:
            self.finish()
        d["ours"] = True
        state.load(self)

    @contextmanager
    def looked_at(self) -> Iterator[None]:
        """The state as it is while the processor waits for who looks, in the middle of KVM."""
        d = self.__dict__
        self.leave()
        d["ours"] = True
        try:
            state.load(self)
            yield
        finally:
            d["ours"] = False

    def describe(self) -> str:
        """The registers, all of one moment."""
        if self.inside and not self.ours:
            with self.looked_at():
                return super().describe()
        return super().describe()

    def finish(self) -> None:
        """Let the instruction that asked a device end, and begin no other."""
        self.shared.immediate_exit = 1
        error = api.run(self.fd)
        self.shared.immediate_exit = 0
        if error == errno.EINTR:
            self.__dict__["unfinished"] = False
        else:
            self.came_back(error)

    # -- what a machine asks
    def kick(self) -> None:
        """Leave the guest's code soon; from any thread. Remembered until the next `run`."""
        self.__dict__["kicked"] = True
        self.leave()

    def leave(self) -> None:
        """Come back from KVM, if it is there, to look at what is new."""
        with self.gate:
            if self.thread is not None and self.thread != threading.get_ident():
                signal.pthread_kill(self.thread, KICK)

    def interrupt(self, level: bool) -> None:
        """Drive the INTR line."""
        d = self.__dict__
        d["intr"] = level
        if level:
            if self.halted and not self.waiting and self.interruptible:
                d["halted"] = False
            self.leave()

    @property
    def interruptible(self) -> bool:
        """EFLAGS.IF."""
        return bool(self.eflags & IF) if self.ours else bool(self.shared.if_flag)

    def nmi(self) -> None:
        """A non-maskable interrupt, before the next instruction."""
        d = self.__dict__
        d["nmi_pending"] = True
        if self.halted and not self.waiting and not self.nmi_blocked:
            d["halted"] = False
        self.leave()

    def init(self) -> None:
        """INIT."""
        super().init()
        self.__dict__["events"] = api.Events()

    def reset(self) -> None:
        """As after power-on."""
        super().reset()
        self.__dict__["events"], self.__dict__["apic_ours"] = api.Events(), True
        if self.kernel_apic:  # whose thread KVM keeps until it is started
            self.store()

    def settle(self) -> Pending | None:
        """Nothing of the state is left in KVM."""
        d = self.__dict__
        if self.kernel_apic and not self.apic_ours:
            if self.ours:
                self.store()
            state.settle_apic(self)  # an INIT or a SIPI that waits there changes registers
            d["apic_ours"] = True
        self.fetch()
        return self.undelivered()

    def bound(self) -> str:
        """There is no kvmclock elsewhere."""
        self.settle()
        used = any(self.__dict__.get("msrs", {}).get(number, 0) & 1 for number in KVMCLOCK)
        return "the guest uses kvmclock, which only KVM has" if used else ""

    def undelivered(self) -> Pending | None:
        """What KVM had begun to deliver."""
        events, pending = self.events, None
        if events.interrupt_injected and not events.interrupt_soft:
            pending = Pending(events.interrupt_nr, None, True)
        elif (events.exception_injected or events.exception_pending) and events.exception_nr not in (3, 4):  # which begin again
            pending = Pending(events.exception_nr, events.exception_error if events.exception_has_error else None, False)
        if events.nmi_injected or events.nmi_pending:
            self.__dict__["nmi_pending"] = True
            self.nmi_blocked &= ~events.nmi_injected
        return pending

    def begin(self, pending: Pending) -> None:
        """KVM delivers it first of all."""
        events = self.events
        if pending.external:
            events.interrupt_injected, events.interrupt_nr = 1, pending.vector
        else:
            events.exception_injected, events.exception_nr = 1, pending.vector
            events.exception_has_error, events.exception_error = pending.error is not None, pending.error or 0

    def adopt(self, other: MachineProcessor, pending: Any) -> None:
        """Everything is given to KVM when it is entered."""
        d = self.__dict__
        d["ours"], d["apic_ours"], d["events"] = True, True, api.Events()
        if other.model.features != self.model.features:
            cpuid.give(self.fd, cpuid.leaves(other.model, self.vm.host, self.kernel_apic))
        super().adopt(other, pending)
        if self.kernel_apic:
            self.store()

    # -- the loop
    def run(self) -> None:
        """Until kicked or halted."""
        d, native_run, fd = self.__dict__, self.native_run, self.fd
        with self.kickable():
            while True:
                if d["kicked"]:
                    d["kicked"] = False
                    return
                if d["ours"]:
                    self.store()
                if d["halted"]:
                    return
                self.inject()
                d["inside"] = True
                error = native_run(fd)
                self.came_back(error)
                d["inside"] = False

    @contextmanager
    def kickable(self) -> Iterator[None]:
        """The kick is blocked but for where KVM_RUN takes it (Linux, api.rst, 4.21): it is never lost, and nobody else sees it."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {KICK})
        bits = sum(1 << number - 1 for number in before - {KICK})
        given = api.SignalMask(8)
        given.mask[:] = bits.to_bytes(8, "little")
        api.ioctl(self.fd, api.SET_SIGNAL_MASK, given)
        d = self.__dict__
        with self.gate:
            d["thread"] = threading.get_ident()
        try:
            yield
        finally:
            with self.gate:
                d["thread"], d["inside"] = None, False
            while signal.sigtimedwait({KICK}, 0) is not None:
                pass
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def store(self) -> None:
        """Give the state to KVM."""
        try:
            state.store(self)
        except OSError as error:
            raise UserError(f"cpu {self.index}: KVM does not take the processor's state: {error.strerror}\n{self.describe()}") from None
        d, shared = self.__dict__, self.shared
        shared.ready, shared.if_flag = 0, int(bool(self.eflags & IF))
        shared.apic_base = self.apic_base
        d["ours"], d["events"] = False, api.Events()
        if self.kernel_apic and d["apic_ours"]:
            state.store_apic(self)
            d["apic_ours"] = d["halted"] = d["waiting"] = False

    def inject(self) -> None:
        """What is pending goes in; what cannot yet makes KVM come back when it can."""
        d, shared = self.__dict__, self.shared
        if d["nmi_pending"]:
            d["nmi_pending"] = False
            api.ioctl(self.fd, api.NMI)
        if d["intr"] and shared.ready and shared.if_flag:
            vector = self.acknowledge()
            if log.interrupts.on:
                log.interrupts(f"cpu {self.index}: interrupt {vector:#x}")
            api.ioctl(self.fd, api.INTERRUPT, c_uint32(vector))
            shared.ready = 0
        shared.request_interrupt_window = int(d["intr"])
        if not self.kernel_apic:
            shared.cr8 = self.apic.task_priority

    # -- exits
    def came_back(self, error: int) -> None:
        """KVM_RUN ended."""
        shared = self.shared
        if error in (errno.EINTR, errno.EAGAIN):
            reason = api.EXIT_INTR
            while signal.sigtimedwait({KICK}, 0) is not None:
                pass
        elif error:
            raise UserError(f"cpu {self.index}: KVM does not run it: {os.strerror(error)}")
        else:
            reason = shared.exit_reason
            self.__dict__["unfinished"] = False
        if not self.kernel_apic:
            if shared.cr8 != self.apic.task_priority:
                self.apic.task_priority = shared.cr8
            if shared.apic_base != self.apic.base:
                self.apic.base = shared.apic_base
        self.exits[reason] = self.exits.get(reason, 0) + 1
        handler = self.handlers.get(reason)
        if handler is None:
            raise UserError(f"cpu {self.index}: KVM came back for a reason that is not known ({reason})")
        handler()

    def on_signal(self) -> None:
        """Somebody wants something; `run` looks at what."""

    on_interrupt_window = on_task_priority = on_signal

    def on_io(self) -> None:
        """IN, OUT, or some elements of INS, OUTS."""
        io, ports, size = self.io, self.ports, self.io.size
        port, at, out = io.port, io.data, io.direction
        self.__dict__["unfinished"] = True
        for place in range(at, at + io.count * size, size):
            if out:
                ports.write(port, size, int.from_bytes(self.map[place : place + size], "little"))
            else:
                self.map[place : place + size] = ports.read(port, size).to_bytes(size, "little")

    def on_mmio(self) -> None:
        """An access to what is no memory of KVM's: at most 8 bytes, in the largest pieces."""
        mmio, memory = self.mmio, self.memory
        address, size = mmio.address, mmio.size
        self.__dict__["unfinished"] = True
        at = 0
        while at < size:
            n = next(n for n in (8, 4, 2, 1) if n <= size - at)
            if mmio.is_write:
                memory.write(address + at, n, int.from_bytes(mmio.data[at : at + n], "little"))
            else:
                mmio.data[at : at + n] = (c_uint8 * n)(*memory.read(address + at, n).to_bytes(n, "little"))
            at += n

    def on_hlt(self) -> None:
        """HLT; KVM has gone past it."""
        d = self.__dict__
        if not d["nmi_pending"] and not (d["intr"] and self.shared.if_flag):
            d["halted"] = True

    def on_shutdown(self) -> None:
        """A triple fault."""
        d = self.__dict__
        d["inside"] = False
        log.cpu_reset(f"cpu {self.index}: triple fault\n{self.describe()}")
        d["halted"] = True
        self.machine.request_reset("triple fault")

    def on_failed_entry(self) -> None:
        """The host's processor does not take the state."""
        raise self.failure(f"the host's processor refuses its state (reason {self.internal.suberror:#x})")

    def on_unknown(self) -> None:
        """A reason that KVM does not know."""
        raise self.failure(f"the host's processor stopped for an unknown reason ({self.internal.suberror:#x})")

    def on_internal_error(self) -> None:
        """Mostly an instruction that KVM would have to emulate and cannot."""
        internal = self.internal
        if internal.suberror == 1 and internal.ndata and internal.flags & 1:
            code = bytes(internal.code[: internal.length])
            self.__dict__["inside"] = False
            self.vm.help.step(self, code)
            return
        raise self.failure(f"an error in KVM ({internal.suberror})")

    def on_system_event(self) -> None:
        """None that x86 has."""
        raise self.failure("a system event")

    def on_end_of_interrupt(self) -> None:
        """Of a level-triggered vector, which the I/O APIC waits for."""
        self.apic.bus.end_of_interrupt(self.mmio.address & 0xFF)

    def failure(self, text: str) -> UserError:
        """Why the machine cannot go on, and where."""
        d = self.__dict__
        d["inside"] = d["unfinished"] = False
        ip = self.offset(self.pc)
        log.cpu_reset(f"cpu {self.index}: {text}\n{self.describe()}")
        return UserError(f"cpu {self.index} at {ip:#x}: {text}")

    # -- what Processor asks of an engine
    def switch_tlb(self, index: int) -> None:
        """KVM's affair."""

    def flush_tlb(self, everything: bool) -> None:
        """KVM's affair."""

    def timestamp(self) -> int:
        """The TSC."""
        return self.vm.counter() + self.tsc_offset & (1 << 64) - 1

    def skip(self, ticks: int) -> None:
        """The TSC does not count what the host's did just now."""
        if self.ours:
            self.tsc_offset = self.tsc_offset - ticks & (1 << 64) - 1
        else:
            state.set_tsc_offset(self, state.get_tsc_offset(self) - ticks)

    def counters(self) -> dict[str, int]:
        """What was counted, as the monitor's `info jit` shows it."""
        helped = {"instructions in software": self.vm.help.instructions}
        return helped | {f"exits, {api.EXITS.get(reason, reason)}": count for reason, count in self.exits.items() if count}
