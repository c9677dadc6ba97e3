"""Where guest time goes: samples of the machine thread, told apart by what stands at the host's program counter, and accesses to devices.

Nothing here happens in a normal run. `exuvia profile` attaches a `Profile` to a machine before it starts.
"""

from __future__ import annotations

import ctypes
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from exuvia.codegen.layout import REASON, REASONS
from exuvia.codegen.lines import Line
from exuvia.codegen.making import Made, Wanted
from exuvia.codegen.sampler import PHASE, STATE, Sample, Sampler
from exuvia.codegen.shapes import PAGE
from exuvia.dsl.record import RECORD
from exuvia.support.errors import UserError
from exuvia.vcpu.hostcode import HostLine, disassemble
from exuvia.vcpu.listing import Listed, listed
from exuvia.vcpu.sidebyside import SideBySide
from exuvia.vcpu.software import SoftwareVcpu

BATCH = 64  # samples that wait before they are looked at
OURSELVES, NATIVE, PYTHON = 0, 1, 2  # the phase word; from PYTHON on it is that and the reason of the exit
INTERPRETER, COPIES, REGIONS = "interpreter", "copied blocks", "regions"
WALKS, CAREFUL, COPYING = "page walks and the TLB", "careful handlers", "copying blocks"
EVENTS, FUNCTIONS, FINDING, ENTERING = (
    "faults and interrupts",
    "soft floats",
    "finding and decoding blocks",
    "entering and leaving native code",
)
CORE = dict.fromkeys(
    "walk translate exchange miss refill access_in_pieces slot_of phys page_of access watched flush flush_page".split(), WALKS
)
CORE |= dict.fromkeys(
    "find look new_head empty_head decode decode_block decode_one cover invalidate drop_region block copy_bytes h_redecode".split(), FINDING
)
CORE |= dict.fromkeys("finish exact".split(), CAREFUL)
CORE |= dict.fromkeys("copy copy_block stencil_of value paste copy_words chain divert".split(), COPYING)
IN_PYTHON = dict.fromkeys("pio_in pio_out mmio_read mmio_write".split(), "devices")
IN_PYTHON |= dict.fromkeys("lazy careful mode".split(), "compiling handlers")
IN_PYTHON |= dict.fromkeys("hot full".split(), "choosing regions")
IN_PYTHON |= dict.fromkeys("leave fetch step watch".split(), "instructions in Python")
IN_PYTHON |= dict.fromkeys("budget request alarm tick".split(), "timers, interrupts, terminals")
OF_THE_BLOCK = (INTERPRETER, COPIES, CAREFUL, WALKS)  # where the state's `current` says whose time it is; a region that calls does not


@dataclass
class Spent:
    """A block or a region: its guest instructions, a region's host code, and its samples, by place in the host code where it has one."""

    linear: int
    blocks: list[Listed]
    code: bytes = b""
    wanted: Wanted | None = None  # what a region was made of
    entries: tuple[int, ...] = ()
    page: int = 0  # the linear address that a region counts from
    samples: Counter[int] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """Of all samples."""
        return self.samples.total()


@dataclass
class Access:
    """A register of a device: how often it was read and written, and the nanoseconds of it."""

    reads: int = 0
    writes: int = 0
    time: int = 0


class Accounted:
    """An address space as a processor sees it, with accesses counted and timed."""

    def __init__(self, space: Any, accesses: dict[tuple[str, str], Access], name: Callable[[Any, int], tuple[str, str]]) -> None:
        self._space, self._accesses, self._name = space, accesses, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._space, name)

    def _of(self, address: int) -> Access:
        return self._accesses.setdefault(self._name(self._space, address), Access())

    def read(self, address: int, size: int) -> int:
        """As AddressSpace.read."""
        start = time.thread_time_ns()
        value: int = self._space.read(address, size)
        access = self._of(address)
        access.reads += 1
        access.time += time.thread_time_ns() - start
        return value

    def write(self, address: int, size: int, value: int) -> None:
        """As AddressSpace.write."""
        start = time.thread_time_ns()
        access = self._of(address)
        self._space.write(address, size, value)
        access.writes += 1
        access.time += time.thread_time_ns() - start


class Profile:
    """Of a machine with software processors. It begins when `when` first says so. Raises UserError for other machines and hosts."""

    def __init__(self, machine: Any, when: Callable[[], bool] = lambda: True) -> None:
        for cpu in machine.vcpus:
            if not isinstance(cpu, SoftwareVcpu) or isinstance(cpu, SideBySide):
                raise UserError("profile needs -accel software, and regions=on or off")
        if len(machine.vcpus) > 1:
            raise UserError("profile follows one processor: give --smp 1")
        self.machine, self.when = machine, when
        self.cpus: list[SoftwareVcpu] = machine.vcpus
        self.engine = self.cpus[0].engine
        self.sampler = Sampler(self.engine.layout)
        self.shares: Counter[str] = Counter()
        self.spent: dict[tuple[int, ...], Spent] = {}
        self.accesses: dict[tuple[str, str], Access] = {}
        self.functions: Counter[str] = Counter()  # soft floats by name
        self.started = self.ended = False
        self.cpu_seconds = self.wall_seconds = 0.0
        self.counted: dict[str, int] = {}  # the engine's counters: when it began, then how much they grew
        self.labels = {id(device): label for label, device in machine.devices.items()}
        self.names: list[str] = []
        self.addresses: list[int] = []
        self.regions: dict[int, Made] = {}
        self.starts: list[int] = []
        self.epoch = self.used = 0
        self.sampler.words[PHASE // 8] = PYTHON + REASON["request"]
        for cpu in self.cpus:
            cpu.__dict__["native_run"] = self.watched(cpu, cpu.native_run)
        machine.at_end.insert(0, self.end)

    def watched(self, cpu: SoftwareVcpu, run: Callable[[int], int]) -> Callable[[int], int]:
        """What enters native code for a processor, and says so."""
        words, sampler = self.sampler.words, self.sampler
        state, phase, full = STATE // 8, PHASE // 8, REASON["full"]

        def enter(address: int) -> int:
            if not self.started and self.when():
                self.begin()
            words[state] = address
            words[phase] = NATIVE
            reason = run(address)
            words[phase] = PYTHON + reason
            if sampler.waiting > BATCH or reason == full or self.engine.hot.full:
                self.take()
            return reason

        return enter

    def begin(self) -> None:
        """Start the clock, in the machine thread."""
        self.started = True
        for cpu in self.cpus:
            d = cpu.__dict__
            d["ports"], d["memory"] = (Accounted(space, self.accesses, self.register) for space in (cpu.ports, cpu.memory))
        self.counted = self.counters()
        self.cpu_seconds, self.wall_seconds = -time.thread_time(), -time.monotonic()
        self.sampler.start()

    def end(self) -> None:
        """Stop it."""
        if not self.started or self.ended:
            return
        self.ended = True
        self.sampler.stop()
        self.cpu_seconds += time.thread_time()
        self.wall_seconds += time.monotonic()
        self.take()
        self.counted = {name: count - self.counted[name] for name, count in self.counters().items()}

    def counters(self) -> dict[str, int]:
        """Those of `info jit`; what each processor counts for itself is summed."""
        first, *others = (cpu.counters() for cpu in self.cpus)
        own = [name for name in first if name.startswith("exits ") or name in ("instructions", "TLB misses")]
        return first | {name: first[name] + sum(c[name] for c in others) for name in own}

    # -- samples
    def take(self) -> None:
        """Tell the waiting samples apart."""
        words = self.sampler.words
        before, words[PHASE // 8] = words[PHASE // 8], OURSELVES
        self.look()
        for sample in self.sampler.take():
            if sample.phase != OURSELVES:
                self.shares[self.sort(sample)] += 1
        words[PHASE // 8] = before

    def look(self) -> None:
        """Which code stands where by now."""
        engine = self.engine
        if len(self.names) != len(engine.symbols):
            pairs = sorted((address, name) for name, address in engine.symbols.items())
            self.addresses, self.names = [a for a, _ in pairs], [n for _, n in pairs]
        if engine.region_code.used != self.used:
            self.epoch += engine.region_code.used < self.used  # room was given to new ones
            self.used = engine.region_code.used
            self.regions = dict(engine.hot.placed)
            self.starts = sorted(self.regions)

    def sort(self, sample: Sample) -> str:
        """Where a sample belongs; what block or region it hit is counted too."""
        engine, pc = self.engine, sample.pc
        if self.starts and self.starts[0] <= pc < engine.region_code.address + self.used:
            self.in_region(self.starts[bisect_right(self.starts, pc) - 1], sample)
            return REGIONS
        if engine.code.address <= pc < engine.code.address + engine.code.used:
            where, name = self.symbol(pc)
            if where == FUNCTIONS:
                self.functions[name] += 1
        elif engine.copies.has(pc):
            where = COPIES
        else:
            where = ENTERING if sample.phase == NATIVE else IN_PYTHON[REASONS[sample.phase - PYTHON]]
        if where in OF_THE_BLOCK and sample.phase == NATIVE:
            self.in_block(sample)
        return where

    def symbol(self, pc: int) -> tuple[str, str]:
        """What native code of the engine's is about, and the name of its function."""
        name = self.names[max(0, bisect_right(self.addresses, pc) - 1)]
        kind, _, rest = name.partition(".")
        if kind == "core":
            return CORE.get(rest, INTERPRETER), rest
        if kind == "h":
            return CAREFUL if rest.endswith(".1") else INTERPRETER, rest
        return (FUNCTIONS if kind == "f" else EVENTS), rest

    def in_region(self, code: int, sample: Sample) -> None:
        """Count a sample of a region."""
        key = code, sample.page, self.epoch
        if key not in self.spent:
            made, hot = self.regions[code], self.engine.hot
            after = bisect_right(self.starts, code)
            end = self.starts[after] if after < len(self.starts) else self.engine.region_code.address + self.used
            heads = [head for head in hot.standing.get(code, (0, ()))[1] if hot.head(head).mask]
            entry = made.blocks[made.entries[0]][0] if made.entries else made.blocks[0][0]
            at = code - self.engine.region_code.address
            text = self.engine.region_code.map[at : at + end - code]
            w = None
            blocks: list[Listed] = []
            if len(heads) == len(made.blocks):
                pages = [offset & -PAGE for offset, _, _ in made.blocks]
                base = sample.page if made.bound else None
                found = [hot.placed_at(hot.head(head), offset, base) for head, (offset, _, _) in zip(heads, made.blocks, strict=True)]
                w = Wanted(hot.head(heads[0]).mode, made.meaning, tuple(found), (entry,), (), 0, 0, base)
                blocks = [self.copied(head, sample.page + page) for head, page in zip(heads, pages, strict=True)]
            self.spent[key] = Spent(sample.page + entry, blocks, text, w, made.entries, sample.page)
        self.spent[key].samples[sample.pc - code] += 1

    def in_block(self, sample: Sample) -> None:
        """Count a sample of a block that is interpreted."""
        arena = self.engine.arena
        if not arena.address <= sample.head < arena.address + arena.size:
            return
        head = self.engine.hot.head(sample.head)
        if not head.mask:  # dropped meanwhile
            return
        key = sample.page + head.offset, head.mode
        if key not in self.spent:
            self.spent[key] = Spent(key[0], [self.copied(sample.head, sample.page)])
        self.spent[key].samples[0] += 1

    def copied(self, address: int, page: int) -> Listed:
        """A block's records, which may be gone when somebody wants to read them."""
        head = self.engine.hot.head(address)
        return Listed(head.mode, page, page + head.offset, ctypes.string_at(head.body, RECORD * (head.n + 2)), head.n)

    # -- reading
    def host(self, spent: Spent) -> tuple[list[HostLine], list[Line | None] | None] | None:
        """A region's host code, and what each instruction is for; None where nothing can disassemble."""
        from exuvia.codegen.lines import guest_lines

        code = disassemble(spent.code)
        if code is None or spent.wanted is None:
            return None if code is None else (code, None)
        names = [line.text.split()[0] for line in code]
        engine = self.engine
        return code, guest_lines(spent.wanted, spent.entries, engine.form, engine.architecture, spent.code, names)

    def register(self, space: Any, address: int) -> tuple[str, str]:
        """The device at an address, by its label, and its register."""
        found = space.device_at(address)
        if found is None:
            return f"{space.name}, nothing there", f"{address:#x}"
        device, offset = found
        device = getattr(device, "answering", device)  # one window for many
        label = self.labels.get(id(device)) or str(getattr(device, "name", type(device).__name__))
        registers: dict[str, Any] = getattr(device, "registers", {})
        for name, r in registers.items():
            if r.offset is not None and r.offset <= offset < r.offset + r.width // 8:
                return label, name
        return label, f"+{offset:#x}"

    def hottest(self, count: int) -> list[Spent]:
        """Blocks and regions with the most samples."""
        return sorted(self.spent.values(), key=lambda s: -s.total)[:count]

    def guest(self, spent: Spent) -> list[tuple[int, str]]:
        """Linear addresses and texts of its guest instructions; a line without an address stands between blocks that are apart."""
        lines: list[tuple[int, str]] = []
        special = list(self.engine.special)
        for block in sorted(spent.blocks, key=lambda b: b.linear):
            lines += listed(self.engine.architecture, self.engine.tables[block.mode], block, special)
        return lines
