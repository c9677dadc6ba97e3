"""`-accel software,regions=check`: interpreter and compiled regions side by side, up to the first difference.

The machine runs on the interpreter alone. Ahead of it, for some thousand instructions at a time, a second engine with regions runs from the
same state on a private copy of the RAM (copy on write, so only what it writes is copied), and stops where it would leave native code.
Then the interpreter goes the same way, and registers, what ended the run, the instruction count and all pages that either wrote are
compared. The second engine never reaches a device: its copy is dropped, and the next stretch begins from the machine's state.

In a stretch time stands still, and so does a counter that derives from the host's; they go on between stretches.
"""

from __future__ import annotations

import ctypes
import mmap
from random import Random
from types import SimpleNamespace
from typing import Any

from exuvia.codegen.engine import Engine
from exuvia.codegen.layout import JOURNAL, REASON, REASONS
from exuvia.dsl.state import ISA_AT, MMIO_RESULTS, MMIO_RESULTS_AT, PAGE_AT, WATCHES, WATCHES_AT
from exuvia.memory.ram import BEYOND, Ram
from exuvia.support import log
from exuvia.support.errors import UserError
from exuvia.vcpu.processor import combined
from exuvia.vcpu.software import FOREVER, NEVER, SoftwareVcpu

STRETCH = 100_000  # most instructions of a stretch
SAMPLES = 4  # of a block before it is compiled; a power of two
# words that an engine finds where it begins, besides the architecture's
GIVEN = """pc icount mode vector error fault_vector fault_error address access pending io_port io_size io_data io_ready
    mmio_done mmio_next watching access_count arg0 arg1 arg2 arg3 walk_page walk_rights walk_error interrupt_pending
    time_offset time_runs""".split()
BLOCK_ENDS = frozenset(REASON[name] for name in ("budget", "request"))  # the state is that before a block
SERVED = frozenset(REASON[name] for name in ("lazy", "careful", "mode", "full", "hot"))  # an engine's own affairs; it goes on
EXITS = {"leave": ["leave"], "pio_in": ["io_port", "io_size"], "pio_out": ["io_port", "io_size", "io_data"],
         "mmio_read": ["mmio_address", "mmio_size", "mmio_done"], "mmio_write": ["bounce_count"]}  # fmt: skip


class Second:
    """The engine with regions of a machine, on a private view of its RAM."""

    def __init__(self, first: Engine, ram: Ram, processors: int) -> None:
        self.map = mmap.mmap(ram.fd, ram.size + BEYOND, flags=mmap.MAP_PRIVATE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.ram, self.address = ram, address
        self.engine = Engine(first.architecture, first.features, address, ram.size, processors)
        self.machine = SimpleNamespace(vcpus=[])
        self.random = Random(1)
        self.stretches = 0
        written, also = first.written, self.engine.written

        def both(state: int, host: int, length: int) -> int:
            """What Python or a device wrote may have been code for the second engine too."""
            for vcpu in self.machine.vcpus[:1]:
                also(vcpu.native.address, host - ram.address + address, length)
            return written(state, host, length)

        first.written = both

    def set_slots(self, slots: list[tuple[int, int, int, bool]]) -> None:
        """Where RAM is, as the first engine was told."""
        self.engine.set_slots([(start, size, host - self.ram.address + self.address, writable) for start, size, host, writable in slots])


class SideBySide(SoftwareVcpu):
    """A processor that interprets, and compares."""

    def __init__(
        self, second: Second, engine: Engine, model: Any, index: int, memory: Any, ports: Any, controller: Any, machine: Any
    ) -> None:
        super().__init__(engine, model, index, memory, ports, controller, machine)
        d = self.__dict__
        d["native_run"], d["second"], d["wake_at"] = self.stretch, second, None  # a stretch ends where both engines can end it
        kind = combined(SoftwareVcpu, engine.architecture.processor)
        d["ahead"] = kind(second.engine, model, index, memory, ports, controller, second.machine)
        second.machine.vcpus.append(self.ahead)
        d["tick"] = self.ahead.__dict__["tick"] = None  # time stands in a stretch
        d["journals"] = [(ctypes.c_uint64 * JOURNAL)() for _ in range(2)]
        for cpu, journal in zip((self, self.ahead), self.journals, strict=True):
            cpu.journal = ctypes.addressof(journal)
        d["own"], d["last"] = 0, 0
        self.first_look, self.hot_after, self.ahead.hot_after = 0, NEVER, SAMPLES

    second: Second
    ahead: SoftwareVcpu
    journals: list[Any]
    own: int  # the record in our arena that we were at when both were there
    last: int  # the host's counter when the last stretch began

    # -- time
    def reset(self) -> None:
        super().reset()
        self.time_runs = 0
        self.hold_counter()

    def skip(self, ticks: int) -> None:
        """Compiling takes none: in a stretch the other is not told of another time."""
        if self.last:
            self.__dict__["last"] = self.last + ticks

    def pass_time(self) -> None:
        """What has gone by since the last stretch."""
        now = self.engine.counter()
        if self.last:
            super().skip(self.last - now)
        self.__dict__["last"] = now
        self.time_offset = -self.clock.now()

    def set_time(self) -> None:
        """Native code sees the time at which the stretch began, also where it stood meanwhile."""

    # -- a stretch
    def stretch(self, address: int) -> int:
        """Both engines from here to where native code is left; in place of `engine.run`."""
        words, ahead = self.words, self.ahead
        if not self.follow():  # in the middle of an instruction that only we are in
            before = self.budget_end
            self.budget_end = self.icount
            reason = self.engine.run(address)
            self.budget_end = before
            self.__dict__["own"] = 0
            return reason
        self.pass_time()
        self.give()
        start = f"{self.pc:#x}, {self.icount} instructions"
        budget = self.budget_end
        for cpu in (self, ahead):
            cpu.engine.flush(cpu.native.address, 1)
            cpu.journaled = 0
        self.second.map.madvise(mmap.MADV_DONTNEED)
        first = self.icount
        ahead.budget_end = min(budget, first + self.second.random.randrange(1, STRETCH))
        found = ahead.engine.run(ahead.native.address)
        while found in SERVED:
            ahead.exit_handlers[found]()
            found = ahead.engine.run(ahead.native.address)
        self.budget_end = ahead.icount + (found not in BLOCK_ENDS)
        reason = self.run_alone(0 if ahead.request else ahead.icount if found in BLOCK_ENDS else FOREVER)
        self.budget_end = budget
        self.words[self._request] = int(self.kicked)  # one that came meanwhile is for the next stretch, in which both see it
        self.second.stretches += 1
        if different := self.difference(found, reason):
            raise UserError(f"regions and the interpreter differ in what follows {start}: {different}")
        self.__dict__["own"] = words[self._resume]
        return REASON["request"] if reason == REASON["budget"] and self.icount < budget else reason

    def run_alone(self, end: int) -> int:
        """Our way through the stretch. Before so many instructions are done nothing is looked at: a region may pass the place for it."""
        reason = self.engine.run(self.native.address)
        while reason in SERVED or reason == REASON["request"] and self.icount < end:
            if reason == REASON["request"]:
                self.words[self._request] = 0
            else:
                self.exit_handlers[reason]()
            reason = self.engine.run(self.native.address)
        return reason

    def follow(self) -> bool:
        """Have the other go on where we do; False where it cannot."""
        resume, start = self.words[self._resume], self.native.address
        ahead = self.ahead
        if resume == 0:
            ahead.resume = 0
        elif start <= resume < start + 16384:
            ahead.resume = resume - start + ahead.native.address
        elif not self.own or resume != self.own:
            return False
        return True

    def give(self) -> None:
        """Our state to the other."""
        mine, its = self.native.view, self.ahead.native.view
        for at, end in (
            (0, PAGE_AT + 8),
            (ISA_AT, self.layout.size),
            (MMIO_RESULTS_AT, MMIO_RESULTS_AT + 8 * MMIO_RESULTS),
            (WATCHES_AT, WATCHES_AT + 16 * WATCHES),
        ):
            its[at:end] = mine[at:end]
        words, to, at_word = self.words, self.ahead.words, self.at
        for name in GIVEN:
            to[at_word[name]] = words[at_word[name]]
        self.ahead.tlb = self.tlb - self.tlb_base + self.ahead.tlb_base
        self.ahead.request = self.request

    # -- comparing
    def difference(self, found: int, reason: int) -> str:
        """What differs at the end of a stretch; nothing if nothing does."""
        ahead = self.ahead
        texts = []
        if found != reason and not (found in BLOCK_ENDS and reason in BLOCK_ENDS):
            texts.append(f"left for {REASONS[reason]}, with regions for {REASONS[found]}")
        names = ["icount", *EXITS.get(REASONS[found], [])]
        if found in BLOCK_ENDS or REASONS[found] == "leave":
            names += ["pc", "mode"]
        pairs = [(name, self.words[self.at[name]], ahead.words[self.at[name]]) for name in names]
        texts += [f"{name} {a:#x}, with regions {b:#x}" for name, a, b in pairs if a != b]
        texts += self.registers()
        texts += self.pages()
        if texts and log.exec.on:
            log.exec(f"with regions:\n{ahead.describe()}\nalone:\n{self.describe()}")
        return "; ".join(texts[:12])

    def registers(self) -> list[str]:
        """Those that differ."""
        mine, its, layout = self.native.view, self.ahead.native.view, self.layout
        words, at_word = self.words, self.at
        if layout.delayed is not None and not words[at_word[layout.delayed]]:  # the others of these words say nothing now
            for name in set(layout.passing) - {layout.delayed}:
                self.ahead.words[at_word[name]] = words[at_word[name]]
        for name, slot in layout.sinks:
            at = layout.offset(name, slot)
            its[at : at + 8] = mine[at : at + 8]
        if mine[:PAGE_AT] == its[:PAGE_AT] and bytes(mine[ISA_AT : layout.size]) == bytes(its[ISA_AT : layout.size]):
            return []
        texts = []
        for name in layout.declared:
            if name in layout.walked:
                continue
            f = layout.files[name]
            stride, size = (f.stride, f.width // 8) if f.stride > 1 else (8, 8)
            for k in range(f.count if f.stride > 1 else 16):
                at = f.offset + k * stride
                a, b = (bytes(v[at : at + size])[::-1].hex() for v in (mine, its))
                if a != b:
                    texts.append(f"{name}[{k}] {a}, with regions {b}")
        return texts

    def pages(self) -> list[str]:
        """What differs in the memory that either wrote."""
        second, ram, counts = self.second, self.second.ram, (self.journaled, self.ahead.journaled)
        if max(counts) > JOURNAL:
            return []
        mine, its = (
            {host - base for host in journal[:count]}
            for journal, count, base in zip(self.journals, counts, (ram.address, second.address), strict=True)
        )
        texts = [
            f"only {who} wrote to the page at {at:#x}" for who, some in (("we", mine - its), ("regions", its - mine)) for at in sorted(some)
        ]
        for at in sorted(mine & its):
            a, b = bytes(ram.view[at : at + 4096]), second.map[at : at + 4096]
            if a != b:
                k = next(k for k in range(4096) if a[k] != b[k])
                texts.append(f"memory at {at + k:#x}: {a[k : k + 16].hex()}, with regions {b[k : k + 16].hex()}")
        return texts
