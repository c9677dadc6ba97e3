"""The software processor: native code in `codegen`, and here what it comes back for.

Everything in this file happens in a thread that holds the machine (machines/machine.py), but for `kick` and what `native_run` enters.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from exuvia.codegen.engine import Engine
from exuvia.codegen.layout import ACCESS_SYSTEM, ACCESS_WRITE, CAREFUL, INDEXED, INDEXED_SHIFT, PLAIN, REASON, REASONS, routine_at
from exuvia.codegen.registers import leave_number
from exuvia.dsl.processor import Fault
from exuvia.dsl.state import ACCESSES, ACCESSES_AT, BOUNCES_AT, JUMPS, JUMPS_AT, MMIO_RESULTS, MMIO_RESULTS_AT, WATCHES, WATCHES_AT
from exuvia.dsl.tick import NEVER as NO_ALARM
from exuvia.support import log
from exuvia.vcpu.counters import counters
from exuvia.vcpu.listing import show_block
from exuvia.vcpu.processor import MachineProcessor
from exuvia.vcpu.tick import Tick

if TYPE_CHECKING:
    from exuvia.memory.space import AddressSpace

HOT_AFTER = 8  # samples of a block (codegen/runtime/control.py) from which Python looks at it
NEVER = 1 << 31  # likewise, where none is
FOREVER = (1 << 63) - 1
WORD_MASK = (1 << 64) - 1


class SoftwareVcpu(MachineProcessor):
    """A processor in software; see `Vcpu` in machines/machine.py for what a machine may ask of it."""

    def __init__(
        self, engine: Engine, model: Any, index: int, memory: AddressSpace, ports: AddressSpace, controller: Any, machine: Any
    ) -> None:
        d = self.__dict__
        native = engine.new_state()
        super().__init__(native.view[: len(native.view)], model, index, memory, ports, controller, machine)
        d["native"], d["engine"], d["count"], d["tables"] = native, engine, engine.counter, (0, 0)
        d["takers"], d["_posted"] = (), self.at["posted"]
        d["native_run"], d["peers"], d["wake_at"] = engine.run, [self], self.set_alarm
        a = self.at
        d["exit_handlers"] = [getattr(self, f"on_{name}") for name in REASONS]
        d["_pending"], d["_resume"], d["_request"], d["_deadline"] = (a[w] for w in ("interrupt_pending", "resume", "request", "deadline"))
        d["_alarm"], d["exits"] = a["alarm"], [0] * len(REASONS)
        d["leaves"] = {leave_number(name): name for name in self.rare}
        self.budget_end = FOREVER
        self.hot_after, self.first_look = HOT_AFTER, 1
        d["tick_wanted"] = False
        if "interrupt" in self.layout.routines and not log.interrupts.on:  # native code logs nothing
            d["tick"] = Tick(self)

    native: Any
    engine: Engine
    leaves: dict[int, str]  # numbers of plain-Python functions to their names
    count: Callable[[], int]  # the host's counter, which the machine stops with virtual time
    exit_handlers: list[Callable[[], None]]
    native_run: Callable[[int], int]
    peers: list[SoftwareVcpu]  # the processors of this engine
    tables: tuple[int, int]
    takers: Sequence[Callable[[], object]]
    exits: list[int]  # how often native code was left, by reason
    wanted_count: int
    access_count: int
    page: int
    resume: int

    # -- what a machine asks
    def kick(self) -> None:
        """Leave native code soon; from any thread. Remembered until the next `run`."""
        self.__dict__["kicked"] = True
        self.words[self._request] = 1
        self.words[self._deadline] = 0

    def set_alarm(self, at: int | None) -> None:
        """Be kicked when the host's clock shows `at` ns, None for not at all. Native code looks some thousand times a second."""
        self.words[self._alarm] = NO_ALARM if at is None else at

    def attention(self, wanted: bool) -> None:
        """Leave native code for `between`, at the next head."""
        self.words[self._pending] = int(wanted)
        if wanted:
            self.words[self._deadline] = 0

    def ask_for_tick(self) -> None:
        """Leave native code for `tick.wanted`. Nobody else's `attention` takes that back."""
        self.__dict__["tick_wanted"] = True
        self.words[self._request], self.words[self._deadline] = 1, 0

    def set_time(self) -> None:
        """Virtual time goes on: what native code takes from the host's."""
        self.time_offset = self.clock.host_time(0)

    def resume_at(self, routine: str) -> None:
        """Go on with one of `layout.routines`."""
        self.words[self._resume] = self.native.address + routine_at(self.layout, routine)

    def reset(self) -> None:
        """As after power-on."""
        super().reset()
        self.resume = 0
        self.icount = self.mmio_done = self.io_ready = 0
        if self.tick is not None:
            self.tick.reset()
        self.engine.drop_blocks()

    def run(self) -> None:
        """Until kicked or halted."""
        if self.tick is not None:
            self.tick.wake()
        self._run()
        if self.tick is not None and self.halted:  # perhaps kicked as well
            self.tick.sleep()

    def _run(self) -> None:
        d, words, native_run, address = self.__dict__, self.words, self.native_run, self.native.address
        handlers, resume, posted, exits = self.exit_handlers, self._resume, self._posted, self.exits
        while True:
            if d["tick_wanted"]:
                d["tick_wanted"] = False
                d["tick"].wanted()
            if not words[resume]:
                if d["kicked"]:
                    d["kicked"] = False
                    words[self._request] = 0
                    return
                if not self.between():
                    continue
                if d["halted"]:
                    return
                if log.exec.on or log.in_asm.on:
                    show_block(self)
                    self.budget_end = self.icount + 1  # come back at the next block
            reason = native_run(address)
            exits[reason] += 1
            if words[posted]:
                self.hand_on()
            handlers[reason]()

    # -- in another's place
    def settle(self) -> None:
        """`run` comes back between instructions; what was given to be delivered before the next, `adopt` may have left."""
        while self.words[self._resume]:
            self.words[self._request], self.words[self._deadline] = 1, 0
            reason = self.native_run(self.native.address)
            if self.words[self._posted]:
                self.hand_on()
            self.exit_handlers[reason]()

    def adopt(self, other: MachineProcessor, pending: Any) -> None:
        """Nothing that was decoded is known to be in memory still."""
        self.resume = self.mmio_done = self.io_ready = 0
        super().adopt(other, pending)
        self.drop_blocks()
        if self.tick is not None and self.halted:
            self.tick.sleep()

    # -- single steps
    def single_step(self) -> None:
        """One instruction, or one element of a repeated string instruction, whatever it takes."""
        before = self.icount
        while why := self.engine.step(self.native.address):
            if why != 1:
                self.fault(self.page_fault(self.address) if why == 2 else self.limit_fault(), self.pc)
                return
            self.exit_handlers[self.reason]()
            if self.reason == REASON["fetch"]:
                return
        while True:
            reason = self.engine.run(self.native.address)
            if self.words[self._posted]:
                self.hand_on()
            self.exit_handlers[reason]()
            if not self.words[self._resume]:
                break
        self.budget_end = FOREVER
        if self.icount == before:
            self.icount = before + 1

    def watch_pages(self, data: list[int], code: list[int]) -> None:
        """These pages are kept from the fast paths."""
        for group, first in ((data, 0), (code, WATCHES)):
            for i in range(WATCHES):
                self.words[WATCHES_AT // 8 + first + i] = group[i] if i < len(group) else WORD_MASK
        self.watching = int(bool(data or code))
        self.flush_tlb(True)
        self.know(*self.tables, self.takers)

    def know(self, memory: int, ports: int, takers: Sequence[Callable[[], object]]) -> None:
        """Where the tables of registers are that are read and written without asking their devices (codegen/runtime/devices.py), and who
        takes what is written."""
        self.__dict__["tables"], self.__dict__["takers"] = (memory, ports), takers
        self.mmio_registers, self.port_registers = memory, 0 if self.ports_watched else ports

    def hand_on(self) -> None:
        """Devices get what native code has posted to them. In time: before anything else that the guest wants is done."""
        self.words[self._posted] = 0
        for take in self.takers:
            take()

    # -- exits
    def on_budget(self) -> None:
        """The budget is spent."""

    def on_alarm(self) -> None:
        """A device's timer is due."""
        self.set_alarm(None)
        self.__dict__["kicked"] = True

    def on_tick(self) -> None:
        """The processor's own timer rings, and its interrupt is not lent."""
        assert self.tick is not None
        self.tick.look()

    def on_request(self) -> None:
        """Somebody wants something; `run` looks at what."""
        self.words[self._request] = 0
        if self.kicked:
            self.words[self._request] = 1

    def on_leave(self) -> None:
        """An instruction has a part in Python."""
        number = self.leave
        here = self.here_of_op()
        name = self.leaves[number] if number else "deliver"
        self.perform(name, (self.arg0, self.arg1, self.arg2, self.arg3)[: self.rare.arguments(name)], here)

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
            self.port_accessed(words[at["io_port"]] & 0xFFFF, words[at["io_size"]])
            words[self._request] = 1  # come back when the instruction is done

    def on_pio_out(self) -> None:
        """OUT and OUTS."""
        words, at = self.words, self.at
        self.ports.write(words[at["io_port"]] & 0xFFFF, words[at["io_size"]], words[at["io_data"]])
        if self.ports_watched:
            self.port_accessed(words[at["io_port"]] & 0xFFFF, words[at["io_size"]])

    def on_mmio_read(self) -> None:
        """A device's answer, for the instruction that is done again."""
        words, at = self.words, self.at
        done = words[at["mmio_done"]]
        words[MMIO_RESULTS_AT // 8 + done % MMIO_RESULTS] = self.memory.read(words[at["mmio_address"]], words[at["mmio_size"]])
        words[at["mmio_done"]] = done + 1

    def on_mmio_write(self) -> None:
        """What a careful handler wrote to devices."""
        words, at, first = self.words, self.at, BOUNCES_AT // 8
        for k in range(first, first + 8 * words[at["bounce_count"]], 8):
            if not words[k]:  # it was read
                continue
            data = words[k + 1]
            for piece in (k + 2, k + 5):
                size = words[piece + 1]
                if words[piece + 2] == 1:
                    self.write_device(words[piece], ctypes.string_at(data, size))
                data += size
        if words[at["access_count"]]:
            self.on_watch()

    def write_device(self, address: int, data: bytes) -> None:
        """Bytes to a device, in the largest pieces."""
        memory = self.memory
        while data:
            n = min(8, 1 << len(data).bit_length() - 1)
            memory.write(address, n, int.from_bytes(data[:n], "little"))
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
        self.fault(self.fetch_fault(self.pc), self.pc)

    def on_step(self) -> None:
        """Code on a page that is watched."""
        self.stepped()

    def on_watch(self) -> None:
        """An instruction is done that touched pages that are watched."""
        words, at = self.words, ACCESSES_AT // 8
        for k in range(min(self.access_count, ACCESSES)):
            linear, access = words[at + 2 * k : at + 2 * k + 2]
            self.accessed(linear, access >> 8 & 0xFFFF, bool(access & ACCESS_WRITE))
        self.access_count = 0

    # -- what Processor asks of an engine
    def host(self, linear: int, access: int) -> int:
        """Host address of guest memory, 1 for a device; raises `page_fault`."""
        host: int = self.engine.translate(self.native.address, linear, access)
        if host == 0:
            raise self.page_fault(linear)
        return host

    def read(self, linear: int, size: int, system: bool = False) -> int:
        """Guest memory as the current privilege level, or the supervisor, reads it."""
        if (linear & 0xFFF) + size > 4096:
            mask = self.engine.architecture.address_mask(self.mode)
            return sum(self.read(linear + i & mask, 1, system) << 8 * i for i in range(size))
        if self.watching:
            self.accessed(linear, size, False)
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
            self.accessed(linear, size, True)
        host = self.host(linear, access)
        if host == 1:
            self.memory.write(self.walk_page, size, value)
            return
        ctypes.memmove(host, value.to_bytes(size, "little"), size)
        self.engine.written(self.native.address, host, size)

    def read_bytes(self, linear: int, length: int) -> bytes:
        """Up to a page that is not there, or a device's."""
        found = b""
        for at, size in self.pieces(linear, length):
            host = self.host_or_none(at, 1 << 8)
            if not host:
                break
            found += ctypes.string_at(host, size)
        return found

    def write_bytes(self, linear: int, data: bytes) -> int:
        """Likewise; decoded code is dropped."""
        done = 0
        for at, size in self.pieces(linear, len(data)):
            host = self.host_or_none(at, 1 << 8 | ACCESS_WRITE)
            if not host:
                break
            ctypes.memmove(host, data[done : done + size], size)
            self.engine.written(self.native.address, host, size)
            done += size
        return done

    def pieces(self, linear: int, length: int) -> Iterator[tuple[int, int]]:
        """The pages that a stretch of addresses lies on: where it begins on each, and how many bytes of it there are."""
        mask, end = self.engine.architecture.address_mask(self.mode), linear + length
        while linear < end:
            size = min(end - linear, 4096 - linear % 4096)
            yield linear & mask, size
            linear += size

    def host_or_none(self, linear: int, access: int) -> int:
        """Host address of guest memory, 0 where there is none."""
        try:
            host = self.host(linear, access)
        except Fault:
            return 0
        return host if host != 1 else 0

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

    def unknown(self, text: str) -> None:
        """What the guest asked for and we do not have."""
        log.unimp.once(text, f"cpu {self.index}: {text}")

    def counters(self) -> dict[str, int]:
        """What was counted, as the monitor's `info jit` shows it."""
        return counters(self)
