"""The software processor: native code in `codegen`, and here what it comes back for.

Everything in this file happens in a thread that holds the machine (machines/machine.py), but for `kick` and what `native_run` enters.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from exuvia.codegen.engine import Engine
from exuvia.codegen.layout import ACCESS_SYSTEM, ACCESS_WRITE, CAREFUL, INDEXED, INDEXED_SHIFT, PLAIN, REASON, REASONS, routine_at
from exuvia.codegen.layout import NEVER as NO_ALARM
from exuvia.codegen.registers import leave_number
from exuvia.dsl.state import ACCESSES, ACCESSES_AT, BOUNCES_AT, JUMPS, JUMPS_AT, MMIO_RESULTS, MMIO_RESULTS_AT, WATCHES, WATCHES_AT
from exuvia.isa.x86.concrete import RARE, Fault, canonical
from exuvia.isa.x86.rare import debug
from exuvia.isa.x86.state import EXTERNAL, GP, IF, INHIBIT_SS, NMI, PF, RF, TF, UD, layout
from exuvia.support import log
from exuvia.vcpu.accelerators import Unavailable
from exuvia.vcpu.counters import counters
from exuvia.vcpu.listing import show_block
from exuvia.vcpu.processor import MachineProcessor, Pending

if TYPE_CHECKING:
    from exuvia.isa.x86.cpus import CpuModel
    from exuvia.memory.space import AddressSpace

HOT_AFTER = 8  # samples of a block (codegen/runtime/control.py) after which it is compiled; a power of two
NEVER = 1 << 31  # likewise, where none is
KVMCLOCK = 0x12, 0x4B564D01  # MSRs by which a guest switches it on (Linux, Documentation/virt/kvm/x86/msr.rst)
FOREVER = (1 << 63) - 1
WORD_MASK = (1 << 64) - 1
LEAVES: dict[int, str] = {}


def leaves() -> dict[int, str]:
    """Number of a plain-Python function -> its name."""
    if not LEAVES:
        LEAVES.update({leave_number(name): name for name in RARE})
    return LEAVES


class SoftwareVcpu(MachineProcessor):
    """One x86 processor in software; see `Vcpu` in machines/machine.py for what a machine may ask of it."""

    def __init__(
        self, engine: Engine, model: CpuModel, index: int, memory: AddressSpace, ports: AddressSpace, apic: Any, machine: Any
    ) -> None:
        d = self.__dict__
        native = engine.new_state()
        super().__init__(native.view[: len(native.view)], model, index, memory, ports, apic, machine)
        d["native"], d["engine"], d["count"] = native, engine, engine.counter
        d["words"], d["at"] = native.words, native.index
        d["ports_watched"], d["native_run"], d["peers"], d["wake_at"] = False, engine.run, [self], self.set_alarm
        a = native.index
        d["exit_handlers"] = [getattr(self, f"on_{name}") for name in REASONS]
        d["_pending"], d["_resume"], d["_request"], d["_deadline"] = (a[w] for w in ("interrupt_pending", "resume", "request", "deadline"))
        d["_eflags"], d["_traps"], d["_alarm"] = a["eflags"], a["pending_db"], a["alarm"]
        d["exits"], d["_deliver"] = [0] * len(REASONS), native.address + routine_at(layout, "deliver")
        self.budget_end = FOREVER
        self.hot_after, self.first_look = HOT_AFTER, 1

    native: Any
    engine: Engine
    words: Any  # the state as 64-bit words
    at: dict[str, int]  # names of words to their indices
    count: Callable[[], int]  # the host's counter, which the machine stops with virtual time
    exit_handlers: list[Callable[[], None]]
    native_run: Callable[[int], int]
    peers: list[SoftwareVcpu]  # the processors of this engine
    exits: list[int]  # how often native code was left, by reason
    wanted_count: int
    access_count: int

    # -- what a machine asks
    def kick(self) -> None:
        """Leave native code soon; from any thread. Remembered until the next `run`."""
        self.__dict__["kicked"] = True
        self.words[self._request] = 1
        self.words[self._deadline] = 0

    def set_alarm(self, at: int | None) -> None:
        """Be kicked when the host's clock shows `at` ns, None for not at all. Native code looks some thousand times a second."""
        self.words[self._alarm] = NO_ALARM if at is None else at

    def interrupt(self, level: bool) -> None:
        """Drive the INTR line."""
        self.__dict__["intr"] = level
        self._show_pending()

    def nmi(self) -> None:
        """A non-maskable interrupt, before the next instruction."""
        self.__dict__["nmi_pending"] = True
        self._show_pending()

    @property
    def nmi_welcome(self) -> bool:
        """Is there one, and none is being handled (SDM vol. 3, 6.7.1)?"""
        return self.nmi_pending and not self.nmi_blocked

    def unblock_nmi(self) -> None:
        """One that came meanwhile is next."""
        super().unblock_nmi()
        self._show_pending()

    def _show_pending(self) -> None:
        d, words = self.__dict__, self.words
        nmi = d["nmi_pending"] and self.nmi_welcome
        pending = d["intr"] or nmi
        words[self._pending] = int(pending)
        if pending:
            words[self._deadline] = 0
            if not d["waiting"] and (nmi or words[self._eflags] & IF):
                d["halted"] = False

    def init(self) -> None:
        """INIT."""
        self.initialize()
        self.resume = 0
        self.flush_tlb(True)
        self.__dict__["waiting"] = self.__dict__["halted"] = self.index != 0
        self.__dict__["nmi_pending"] = False

    def reset(self) -> None:
        """As after power-on."""
        super().reset()
        self.resume = 0
        self.icount = self.mmio_done = self.io_ready = 0
        self.tsc_offset = self.machine.vcpus[0].tsc_offset if self.index else -self.count()
        self.apic_base = self.apic.base
        self.others = int(len(self.machine.vcpus) > 1)
        d = self.__dict__
        d["intr"] = d["nmi_pending"] = False
        d["waiting"] = d["halted"] = self.index != 0
        self._show_pending()
        self.engine.drop_blocks()

    def run(self) -> None:
        """Until kicked or halted."""
        d, words, native_run, address = self.__dict__, self.words, self.native_run, self.native.address
        handlers, resume, exits = self.exit_handlers, self._resume, self.exits
        while True:
            if not words[resume]:
                if d["kicked"]:
                    d["kicked"] = False
                    words[self._request] = 0
                    return
                if words[self._traps]:
                    if self.held == INHIBIT_SS:  # held back for one instruction
                        debug.stepped(self, self.single_step)
                        continue
                    debug.trap(self)
                if (d["intr"] or d["nmi_pending"]) and not self.take_interrupt():
                    continue
                if d["halted"]:
                    return
                if not words[resume] and words[self._eflags] & (TF | RF):
                    debug.stepped(self, self.single_step)
                    continue
                if log.exec.on or log.in_asm.on:
                    show_block(self)
                    self.budget_end = self.icount + 1  # come back at the next block
            reason = native_run(address)
            exits[reason] += 1
            handlers[reason]()

    # -- interrupts
    def take_interrupt(self) -> bool:
        """Begin the delivery of what is pending, if it is welcome; False if an instruction has to run before."""
        d, words, at = self.__dict__, self.words, self.at  # some thousand times a second: words by index, not by name
        nmi = d["nmi_pending"] and self.nmi_welcome
        if not nmi and not (d["intr"] and words[self._eflags] & IF):
            return True
        if words[at["inhibit"]] and self.held and not d["halted"]:
            debug.stepped(self, self.single_step)
            return False
        words[at["inhibit"]] = 0
        d["halted"] = False
        if nmi:
            d["nmi_pending"] = False
            self.nmi_blocked = 1
            vector = NMI
        else:
            vector = self.acknowledge()
        self._show_pending()
        if log.interrupts.on:
            log.interrupts(f"cpu {self.index}: interrupt {vector:#x} at {self.pc:#x}")
        self.begin(Pending(vector, None, True))
        return True

    def begin(self, pending: Pending) -> None:
        """Deliver an interrupt or an exception next."""
        vector = pending.vector
        if not pending.external:
            self.fault(Fault(vector, pending.error), self.pc)
            return
        words, at = self.words, self.at
        words[at["vector"]], words[at["error"]], words[at["event"]], words[at["event_has_error"]] = vector, 0, EXTERNAL, 0
        words[at["event_ip"]] = words[at["event_start"]] = self.offset(words[at["pc"]])
        words[self._resume] = self._deliver

    def must_be_like(self, other: MachineProcessor) -> None:
        """There is no kvmclock here."""
        super().must_be_like(other)
        other.settle()
        if any(other.__dict__.get("msrs", {}).get(number, 0) & 1 for number in KVMCLOCK):
            raise Unavailable("the guest uses kvmclock, which only KVM has")

    def settle(self) -> None:
        """`run` comes back between instructions; what was given to be delivered before the next, `adopt` may have left."""
        while self.words[self._resume]:
            self.words[self._request], self.words[self._deadline] = 1, 0
            self.exit_handlers[self.native_run(self.native.address)]()

    def adopt(self, other: MachineProcessor, pending: Pending | None) -> None:
        """Nothing that was decoded is known to be in memory still."""
        self.resume = self.mmio_done = self.io_ready = 0
        self.others = int(len(self.machine.vcpus) > 1)
        super().adopt(other, pending)
        self.drop_blocks()
        self._show_pending()

    # -- single steps
    def single_step(self) -> None:
        """One instruction, or one element of a repeated string instruction, whatever it takes."""
        before = self.icount
        while why := self.engine.step(self.native.address):
            if why != 1:
                self.fault(self.page_fault(self.address) if why == 2 else Fault(GP, 0), self.pc)
                return
            self.exit_handlers[self.reason]()
            if self.reason == REASON["fetch"]:
                return
        while True:
            reason = self.engine.run(self.native.address)
            self.exit_handlers[reason]()
            if not self.words[self._resume]:
                break
        self.budget_end = FOREVER
        if self.icount == before:
            self.icount = before + 1

    def watch(self) -> None:
        """Pages with breakpoints are kept from the fast paths: their code is stepped through, accesses to their data are reported."""
        enabled = list(debug.breakpoints(self))
        pages: tuple[list[int], list[int]] = [], []
        for kind, linear in enabled:
            if kind != debug.IO:
                pages[kind == debug.EXECUTE].append(linear & ~0xFFF)
        self.__dict__["ports_watched"] = any(kind == debug.IO for kind, _ in enabled)
        for group, first in zip(pages, (0, WATCHES), strict=True):
            for i in range(WATCHES):
                self.words[WATCHES_AT // 8 + first + i] = group[i] if i < len(group) else WORD_MASK
        self.watching = int(any(pages))
        self.flush_tlb(True)

    # -- exits
    def on_budget(self) -> None:
        """The budget is spent."""

    def on_alarm(self) -> None:
        """A device's timer is due."""
        self.set_alarm(None)
        self.__dict__["kicked"] = True

    def on_request(self) -> None:
        """Somebody wants something; `run` looks at what."""
        self.words[self._request] = 0
        if self.kicked:
            self.words[self._request] = 1

    def on_leave(self) -> None:
        """An instruction has a part in Python."""
        number = self.leave
        here = self.here_of_op()
        if number == 0:
            name = "deliver"
        else:
            name = leaves()[number]
        self.perform(name, (self.arg0, self.arg1, self.arg2, self.arg3)[: arguments(name)], here)

    def here_of_op(self) -> int:
        """Linear address of the instruction that left."""
        op = self.op
        start = self.native.address
        if start <= op < start + 16384 or op == 0:
            return self.pc
        return self.page + ctypes.c_uint16.from_address(op + 20).value

    # these four too run thousands of times a second

    def on_pio_in(self) -> None:
        """IN and INS."""
        words, at = self.words, self.at
        words[at["io_data"]] = self.ports.read(words[at["io_port"]] & 0xFFFF, words[at["io_size"]])
        words[at["io_ready"]] = 1
        if self.ports_watched:
            debug.port_accessed(self, words[at["io_port"]] & 0xFFFF, words[at["io_size"]])
            words[self._request] = 1  # come back when the instruction is done

    def on_pio_out(self) -> None:
        """OUT and OUTS."""
        words, at = self.words, self.at
        self.ports.write(words[at["io_port"]] & 0xFFFF, words[at["io_size"]], words[at["io_data"]])
        if self.ports_watched:
            debug.port_accessed(self, words[at["io_port"]] & 0xFFFF, words[at["io_size"]])

    def on_mmio_read(self) -> None:
        """A device's answer, for the instruction that is done again."""
        words, at = self.words, self.at
        done = words[at["mmio_done"]]
        words[MMIO_RESULTS_AT // 8 + done % MMIO_RESULTS] = self.memory.read(words[at["mmio_address"]], words[at["mmio_size"]])
        words[at["mmio_done"]] = done + 1

    def on_mmio_write(self) -> None:
        """What a careful handler wrote to devices."""
        words, at = self.words, BOUNCES_AT // 8
        for k in range(at, at + 8 * words[self.at["bounce_count"]], 8):
            if not words[k]:  # it was read
                continue
            data = words[k + 1]
            for piece in (k + 2, k + 5):
                size = words[piece + 1]
                if words[piece + 2] == 1:
                    self.write_device(words[piece], ctypes.string_at(data, size))
                data += size
        if words[self.at["access_count"]]:
            self.on_watch()

    def write_device(self, address: int, data: bytes) -> None:
        """Bytes to a device, in the largest pieces."""
        while data:
            n = 8 if len(data) >= 8 else 4 if len(data) >= 4 else 2 if len(data) >= 2 else 1
            self.memory.write(address, n, int.from_bytes(data[:n], "little"))
            address, data = address + n, data[n:]

    def on_lazy(self) -> None:
        """Handlers are missing: this one, and others that were decoded since."""
        count = self.wanted_count
        wanted = {self.slot, *self.native.wanted[:count]}
        self.wanted_count = 0
        slots = self.engine.tables[self.mode].slots
        pairs = [(w & (1 << INDEXED_SHIFT) - 1, INDEXED if w >> INDEXED_SHIFT else PLAIN) for w in sorted(wanted)]
        self.engine.compile(self.mode, [(slot, kind) for slot, kind in pairs if slot < slots])

    def on_hot(self) -> None:
        """A block was seen to run: for the first time, or often enough to be compiled."""
        if self.engine.hot.full:
            self.alone(self.begin_again)
        else:
            self.engine.hot.sampled(self.native, self.words[self.at["hot"]], self.pc, self.hot_after)

    def on_careful(self) -> None:
        """A careful handler is missing."""
        self.engine.compile(self.mode, [(self.slot, CAREFUL)])

    def on_full(self) -> None:
        """The block cache is full: begin again."""
        self.alone(self.drop_blocks)

    def drop_blocks(self) -> None:
        """Forget all blocks."""
        self.engine.drop_blocks()
        for vcpu in self.peers:
            vcpu.forget_blocks()

    def begin_again(self) -> None:
        """Regions too."""
        self.drop_blocks()
        self.engine.hot.begin_again()

    def forget_blocks(self) -> None:
        """No jump leads to a block that is no more."""
        ctypes.memset(self.native.address + JUMPS_AT, 255, 16 * JUMPS)
        self.current = self.native.address + 8192  # zeros: an empty head

    def on_mode(self) -> None:
        """A mode is met for the first time."""
        self.engine.make_mode(self.mode)

    def on_fetch(self) -> None:
        """Code where no RAM is: what devices and nothing answer is no instruction."""
        log.guest_errors(f"cpu {self.index}: execution at {self.pc:#x}, which is neither RAM nor ROM")
        self.fault(Fault(UD), self.pc)

    def on_step(self) -> None:
        """Code on a page with a breakpoint."""
        debug.stepped(self, self.single_step)

    def on_watch(self) -> None:
        """An instruction is done that touched pages with breakpoints."""
        words, at = self.words, ACCESSES_AT // 8
        for k in range(min(self.access_count, ACCESSES)):
            linear, access = words[at + 2 * k : at + 2 * k + 2]
            debug.accessed(self, linear, access >> 8 & 0xFFFF, bool(access & ACCESS_WRITE))
        self.access_count = 0

    # -- what Processor asks of an engine
    def page_fault(self, linear: int) -> Fault:
        """Why there was no translation."""
        if self.long64 and not canonical(linear):
            return Fault(GP, 0)
        return Fault(PF, self.walk_error, linear)

    def host(self, linear: int, access: int) -> int:
        """Host address of guest memory, 1 for a device; Fault(14)."""
        host: int = self.engine.translate(self.native.address, linear, access)
        if host == 0:
            raise self.page_fault(linear)
        return host

    def read(self, linear: int, size: int, system: bool = False) -> int:
        """Guest memory as the current privilege level, or the supervisor, reads it."""
        if (linear & 0xFFF) + size > 4096:
            mask = WORD_MASK if self.long64 else 0xFFFFFFFF
            return sum(self.read(linear + i & mask, 1, system) << 8 * i for i in range(size))
        if self.watching:
            debug.accessed(self, linear, size, False)
        host = self.host(linear, size << 8 | (ACCESS_SYSTEM if system else 0))
        if host == 1:
            return self.memory.read(self.walk_page, size)
        return int.from_bytes(ctypes.string_at(host, size), "little")

    def write(self, linear: int, size: int, value: int, system: bool = False) -> None:
        """Write likewise; decoded code is dropped."""
        access = size << 8 | ACCESS_WRITE | (ACCESS_SYSTEM if system else 0)
        if (linear & 0xFFF) + size > 4096:
            self.host(linear + size - 1, access)  # both pages fault before anything is written
            self.host(linear, access)
            for i in range(size):
                self.write(linear + i, 1, value >> 8 * i & 0xFF, system)
            return
        if self.watching:
            debug.accessed(self, linear, size, True)
        host = self.host(linear, access)
        if host == 1:
            self.memory.write(self.walk_page, size, value)
            return
        ctypes.memmove(host, value.to_bytes(size, "little"), size)
        self.engine.written(self.native.address, host, size)

    def switch_tlb(self, index: int) -> None:
        """Choose the TLB."""
        from exuvia.codegen.layout import TLB_SIZE

        self.tlb = self.tlb_base + index * TLB_SIZE

    def flush_tlb(self, everything: bool) -> None:
        """Forget translations."""
        self.engine.flush(self.native.address, int(everything))

    def invalidate_page(self, linear: int) -> None:
        """Forget one page."""
        self.engine.flush_page(self.native.address, linear)

    def timestamp(self) -> int:
        """The TSC."""
        return self.engine.counter() + self.tsc_offset & WORD_MASK

    def skip(self, ticks: int) -> None:
        """The TSC does not count what the host's did just now."""
        self.tsc_offset = self.tsc_offset - ticks & WORD_MASK

    def halt(self) -> None:
        """Until an interrupt."""
        if not ((self.intr and self.eflags & IF) or self.nmi_welcome):
            self.__dict__["halted"] = True

    def shutdown(self) -> None:
        """A triple fault."""
        log.cpu_reset(f"cpu {self.index}: triple fault at {self.pc:#x}\n{self.describe()}")
        self.__dict__["halted"] = True
        self.machine.request_reset("triple fault")

    def task_priority(self, value: int | None = None) -> int:
        """CR8."""
        if value is not None:
            self.apic.task_priority = value
        return int(self.apic.task_priority)

    def apic_changed(self) -> None:
        """IA32_APIC_BASE was written."""
        try:
            self.apic.base = self.apic_base
        except ValueError:
            raise Fault(13, 0) from None

    def unknown(self, text: str) -> None:
        """What the guest asked for and we do not have."""
        log.unimp.once(text, f"cpu {self.index}: {text}")

    def counters(self) -> dict[str, int]:
        """What was counted, as the monitor's `info jit` shows it."""
        return counters(self)


def arguments(name: str) -> int:
    """How many values a plain-Python function takes."""
    return RARE[name].__code__.co_argcount - 1
