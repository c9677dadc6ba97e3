"""A processor of the native engine on a megabyte of RAM, on which every exception ends the run; and Unicorn's beside it."""

from __future__ import annotations

import ctypes
import random
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

import unicorn
from unicorn import arm64_const as uc

from exuvia.codegen.build import compile_text
from exuvia.codegen.engine import Engine
from exuvia.codegen.interpreter import walk_body
from exuvia.codegen.layout import CAREFUL, INDEXED, INDEXED_SHIFT, PLAIN, REASON, REASONS, routine_at
from exuvia.codegen.native import ARGS
from exuvia.codegen.store import Store
from exuvia.isa.aarch64.architecture import architecture
from exuvia.isa.aarch64.fpcr import from_host, host_control
from exuvia.isa.aarch64.paging import FETCH
from exuvia.isa.aarch64.state import PRIVILEGED, SP, USER, layout
from exuvia.memory.ram import Ram
from tests.codegen.copying import begin, copy

RAM_SIZE = 1 << 20
CODE, DATA, DATA_SIZE = 0x8000, 0x10000, 0x4000
STOPPED = len(REASON)  # no reason of the runtime's
NEVER = (1 << 63) - 1
BRK = 0xD4200000
MASK = (1 << 64) - 1
EDGES = (
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 32, 1 << 62, MASK >> 1, 1 << 63,
    MASK - 1, MASK,
)  # fmt: skip


@dataclass
class Case:
    """Instructions, and what they find. `x` has sp as its 32nd; `flags` are NZCV as four bits."""

    code: Sequence[int]
    x: list[int] = field(default_factory=lambda: [0] * 32)
    flags: int = 0
    v: list[int] = field(default_factory=lambda: [0] * 32)
    memory: bytes = b""
    el: int = 1
    fpcr: int = 0
    fpsr: int = 0

    def __repr__(self) -> str:
        return f"{' '.join(f'{i:08x}' for i in self.code)} x={[hex(v) for v in self.x]} nzcv={self.flags:04b}"


@dataclass
class Result:
    """What is there after it; `syndrome` is ESR_EL1, 0 where no exception came."""

    x: list[int]
    flags: int
    pc: int
    v: list[int]
    memory: bytes
    fpsr: int
    syndrome: int = 0


class Native:
    """The engine. `regions`: each case's block is compiled as a region first; `copies`: it is copied."""

    regions = copies = False

    def __init__(self, features: frozenset[str] | None = None, store: Store | None = None) -> None:
        self.ram = Ram(RAM_SIZE)
        self.engine = Engine(architecture(), features, self.ram.address, self.ram.size, store=store)  # type: ignore[arg-type]
        self.engine.region_store.seal("regions of tests")
        begin(self.engine)
        self.ram.view[:] = struct.pack("<I", BRK) * (RAM_SIZE // 4)
        self.engine.set_slots([(0, RAM_SIZE, self.ram.address, True)])
        self.state = self.engine.new_state()
        self.at = self.state.address
        code, symbols = compile_text(
            f"define preserve_nonecc i64 @stop({ARGS}) {{ %p = getelementptr i8, ptr %st, i64 {layout.offset('icount')} "
            f"store i64 %ic, ptr %p ret i64 {STOPPED} }}"
        )
        self.entry = routine_at(layout, "exception")
        self.taken = self.state.words[self.entry // 8]
        self.state.put(self.entry, self.engine.code.place(code) + symbols["stop"])
        self.reset()

    def close(self) -> None:
        """Gives the memory back."""
        self.ram.close()

    def __getitem__(self, name: str) -> int:
        return int(self.state.words[layout.offset(name) // 8])

    def __setitem__(self, name: str, value: int) -> None:
        self.state.words[layout.offset(name) // 8] = value & MASK

    def reset(self) -> None:
        """Everything that the architecture declares."""
        for name in layout.declared:
            f = layout.files[name]
            for i in range(f.count):
                at, size = f.offset + i * f.stride, f.width // 8
                self.state.view[at : at + size] = (f.reset & (1 << f.width) - 1).to_bytes(size, "little")
        self["tlb_system"] = self["tlb_base"]
        self["budget_end"] = NEVER

    def put(self, case: Case) -> None:
        """The state before a case."""
        view, x = self.state.view, layout.offset("x")
        struct.pack_into("<31Q", view, x, *case.x[:31])
        struct.pack_into("<Q", view, x + 8 * SP, case.x[31])
        for i, v in enumerate(case.v):
            view[layout.offset("v", i) : layout.offset("v", i) + 16] = v.to_bytes(16, "little")
        self["nz"], self["cv"] = 0 if case.flags & 4 else 1, (case.flags & 3) << 30 | case.flags >> 3
        self["el"], self["mode"] = case.el, PRIVILEGED if case.el else USER
        self["tlb"] = self["tlb_base"] + (4096 * 32 if case.el else 0)
        self["fpcr"], self["fpsr"], self["fp_host"], self["cpacr_el1"] = case.fpcr, case.fpsr, host_control(case.fpcr), 3 << 20
        self["pc"], self["resume"], self["syndrome"], self["mmio_done"], self["exclusive"] = CODE, 0, 0, 0, -1
        self["icount"], self["budget_end"] = 0, NEVER
        code = struct.pack(f"<{len(case.code) + 1}I", *case.code, BRK)
        self.ram.view[CODE : CODE + len(code)] = code
        self.ram.view[DATA : DATA + DATA_SIZE] = case.memory.ljust(DATA_SIZE, b"\0")
        self.engine.written(self.at, self.ram.address + CODE, len(code))

    def go(self) -> None:
        """Until an exception, or code where no memory is."""
        while (reason := self.engine.run(self.at)) != STOPPED:
            if reason == REASON["fetch"]:
                self["exception_return"], self["syndrome"] = self["pc"], 0
                return
            getattr(self, "on_" + REASONS[reason])()

    def let_exceptions_in(self) -> None:
        """From now on they are taken."""
        self.state.put(self.entry, self.taken)

    def step(self) -> None:
        """One instruction, or the exception that it causes."""
        while (why := self.engine.step(self.at)) == 1:
            self.on_mode()
        if why == 2:  # it cannot be fetched
            self["access"], self["op"], self["budget_end"] = FETCH | 1 << 8, 0, self["icount"]
            self["resume"] = self.at + routine_at(layout, "access_fault")
        while (reason := self.engine.run(self.at)) not in (REASON["budget"], STOPPED):
            getattr(self, "on_" + REASONS[reason])()
            if not self["resume"]:
                return

    def on_lazy(self) -> None:
        wanted = {self["slot"], *self.state.wanted[: self["wanted_count"]]}
        self["wanted_count"] = 0
        self.engine.compile(
            self["mode"], [(w & (1 << INDEXED_SHIFT) - 1, INDEXED if w >> INDEXED_SHIFT else PLAIN) for w in sorted(wanted)]
        )

    def on_careful(self) -> None:
        self.engine.compile(self["mode"], [(self["slot"], CAREFUL)])

    def on_mode(self) -> None:
        self.engine.make_mode(self["mode"])

    def on_hot(self) -> None:
        pass

    requests = copied = 0

    def on_request(self) -> None:
        self["interrupt_pending"] = 0
        self.requests += 1

    def run(self, case: Case) -> Result:
        """One case."""
        self.put(case)
        if self.regions and (head := self.engine.block(self.at)) and (wanted := self.engine.hot.grow(head)) is not None:
            self.engine.hot.make_now(wanted)
        if self.copies and (head := self.engine.block(self.at)):
            self.copied += copy(self.engine, self.at, [self.engine.hot.head(head)])
        self.go()
        view, x = self.state.view, layout.offset("x")
        registers = [*struct.unpack_from("<31Q", view, x), *struct.unpack_from("<Q", view, x + 8 * SP)]
        nz, cv = self["nz"], self["cv"]
        flags = ((nz >> 63) ^ (cv & 1)) << 3 | (nz == 0) << 2 | (cv >> 30 & 3)
        v = [int.from_bytes(view[layout.offset("v", i) : layout.offset("v", i) + 16], "little") for i in range(32)]
        syndrome, pc = self["syndrome"], self["exception_return"]
        if syndrome >> 26 in (0x20, 0x3C):  # BRK, or a jump to where nothing is has been done
            syndrome = 0
        fpsr = self["fpsr"] | from_host(self["fp_host"])
        return Result(registers, flags, pc, v, bytes(self.ram.view[DATA : DATA + DATA_SIZE]), fpsr, syndrome)

    def compile(self, cases: Iterable[Case]) -> None:
        """Handlers of all cases at once: one by one they would come when they run."""
        wanted: dict[int, set[tuple[int, int]]] = {}
        for case in cases:
            self.put(case)
            while self.engine.step(self.at) == 1:
                self.on_mode()
            mode, slot = self["mode"], ctypes.c_uint16.from_address(self["resume"] + 22).value
            trace = self.engine.form(mode, slot).trace
            kinds = [PLAIN, CAREFUL] if any(n.op == "translate" for n in walk_body(trace.body)) else [PLAIN]
            wanted.setdefault(mode, set()).update((slot, kind) for kind in kinds)
        for mode, some in wanted.items():
            self.engine.compile(mode, sorted(some))


@cache
def native() -> Native:
    """One for all tests of a process."""
    return Native()


X = [getattr(uc, f"UC_ARM64_REG_X{i}") for i in range(31)] + [uc.UC_ARM64_REG_SP]
Q = [getattr(uc, f"UC_ARM64_REG_Q{i}") for i in range(32)]


class Oracle:
    """Unicorn's processor on the same memory."""

    def __init__(self) -> None:
        self.emulator = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM, uc.UC_CPU_ARM64_MAX)
        self.emulator.mem_map(0, RAM_SIZE)
        self.emulator.mem_write(0, BRK.to_bytes(4, "little") * (RAM_SIZE // 4))
        self.emulator.reg_write(uc.UC_ARM64_REG_CPACR_EL1, 3 << 20)
        self.emulator.hook_add(unicorn.UC_HOOK_INTR, self.interrupted)

    number = 0

    def interrupted(self, emulator: unicorn.Uc, number: int, data: object) -> None:
        """An exception would be taken."""
        self.number = number
        emulator.emu_stop()

    def run(self, case: Case) -> Result:
        """One case; `syndrome` is not zero where Unicorn refused."""
        e = self.emulator
        for register, v in zip(X + Q, case.x + case.v):
            e.reg_write(register, v)
        e.reg_write(uc.UC_ARM64_REG_NZCV, case.flags << 28)
        e.reg_write(uc.UC_ARM64_REG_FPCR, case.fpcr)
        e.reg_write(uc.UC_ARM64_REG_FPSR, case.fpsr)
        code = struct.pack(f"<{len(case.code)}I", *case.code)
        e.ctl_remove_cache(CODE, CODE + 0x1000)
        e.mem_write(CODE, code)
        e.mem_write(DATA, case.memory.ljust(DATA_SIZE, b"\0"))
        syndrome = self.number = 0
        try:
            e.emu_start(CODE, CODE + len(code), count=len(case.code))
        except unicorn.UcError as e_:
            syndrome = 0 if e_.errno == unicorn.UC_ERR_FETCH_UNMAPPED else MASK  # a jump to where nothing is has been done
        syndrome = syndrome or self.number
        flags = e.reg_read(uc.UC_ARM64_REG_NZCV) >> 28
        return Result(
            [e.reg_read(r) for r in X], flags, e.reg_read(uc.UC_ARM64_REG_PC), [e.reg_read(q) for q in Q],
            bytes(e.mem_read(DATA, DATA_SIZE)), e.reg_read(uc.UC_ARM64_REG_FPSR), syndrome,
        )  # fmt: skip


@cache
def oracle() -> Oracle:
    """One for all tests of a process."""
    return Oracle()


def values(rng: random.Random, count: int) -> list[int]:
    """Registers: edges, random ones, and small differences to either."""
    return [(rng.choice(EDGES) + rng.choice((0, 0, -2, 3)) if rng.random() < 0.6 else rng.getrandbits(64)) & MASK for _ in range(count)]


def encodings(rng: random.Random, mask: int, match: int, count: int) -> list[int]:
    """Instructions with these bits, all else by chance."""
    return [match | rng.getrandbits(32) & ~mask & 0xFFFF_FFFF for _ in range(count)]


def compare(cases: Sequence[Case], keep: Callable[[Case, Result], bool] = lambda case, result: True) -> int:
    """Both engines must agree; how many cases ran without an exception. `keep`: those that count."""
    n, o = native(), oracle()
    n.compile(cases)
    compared = 0
    for case in cases:
        theirs = o.run(case)
        if not keep(case, theirs):
            continue
        ours = n.run(case)
        if theirs.syndrome:
            assert ours.syndrome, f"{case}\nno exception, Unicorn has {theirs.syndrome:#x}"
            continue
        compared += 1
        assert ours == theirs, f"{case}\n{difference(ours, theirs)}"
    return compared


def difference(ours: Result, theirs: Result) -> str:
    """What is not the same."""
    pairs = [(f"{name}{i}", a, b) for name in ("x", "v") for i, (a, b) in enumerate(zip(getattr(ours, name), getattr(theirs, name)))]
    pairs += [(name, getattr(ours, name), getattr(theirs, name)) for name in ("flags", "pc", "fpsr", "syndrome")]
    pairs += [(f"byte {i:#x}", a, b) for i, (a, b) in enumerate(zip(ours.memory, theirs.memory))]
    return "\n".join([f"{name}: ours {a:#x}, theirs {b:#x}" for name, a, b in pairs if a != b][:12])
