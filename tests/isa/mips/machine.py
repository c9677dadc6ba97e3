"""A MIPS processor on the native engine with a megabyte of RAM, which stops at every exception or lets the guest have it."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

from exuvia.codegen.build import compile_text
from exuvia.codegen.engine import Engine
from exuvia.codegen.layout import HEAD, REASON, REASONS, routine_at
from exuvia.codegen.native import ARGS
from exuvia.codegen.shapes import PAGE
from exuvia.isa.mips.architecture import architecture
from exuvia.isa.mips.concrete import Fault, Processor
from exuvia.isa.mips.cpus import model
from exuvia.isa.mips.exceptions import CODE
from exuvia.isa.mips.state import layout
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from exuvia.vcpu.clock import Clock
from exuvia.vcpu.processor import combined
from exuvia.vcpu.software import FOREVER, SoftwareVcpu
from tests.codegen.copying import copy

RAM_SIZE = 1 << 20
KSEG0 = 0x8000_0000
STOPPED = len(REASON)
BREAK = 0x0000_000D
LIMIT = 20_000
ROUTINES = ("fault", "access_fault")


class Time:
    """The host's clock as a test sets it."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


class Machine:
    """One processor. `stops`: at an exception `run` comes back, with `code` and `where`; else the guest's handlers run."""

    def __init__(self, name: str = "24Kf", big: bool = False, devices: AddressSpace | None = None) -> None:
        self.ram = Ram(RAM_SIZE)
        self.architecture = architecture()
        self.model = model(name).ordered(big)
        self.order = "big" if big else "little"
        self.engine = Engine(self.architecture, self.model.features, self.ram.address, self.ram.size)
        self.engine.region_store.seal("regions of tests")
        self.engine.set_slots([(0, RAM_SIZE, self.ram.address, True)])
        self.memory = devices or AddressSpace("memory")
        self.memory.map_ram(0, RAM_SIZE, self.ram)
        self.source = Time()
        self.clock = Clock(self.source)
        self.clock.resume()
        machine = SimpleNamespace(vcpus=[], clock=self.clock, semihosting=None)
        kind = combined(SoftwareVcpu, Stopping)
        self.cpu: Any = kind(self.engine, self.model, 0, self.memory, AddressSpace("ports"), None, machine)
        self.at = self.cpu.native.address
        code, symbols = compile_text(
            f"define preserve_nonecc i64 @stop({ARGS}) {{ %p = getelementptr i8, ptr %st, i64 {layout.offset('icount')} "
            f"store i64 %ic, ptr %p ret i64 {STOPPED} }}"
        )
        self.stop = self.engine.code.place(code) + symbols["stop"]
        self.usual = {name: self.engine.symbols[f"r.{name}.0"] for name in ROUTINES}
        self.cpu.reset()
        self.stops(True)

    def stops(self, on: bool) -> None:
        """At exceptions?"""
        self.cpu.stopping = on
        for name in ROUTINES:
            self.cpu.native.put(routine_at(layout, name), self.stop if on else self.usual[name])

    def put(self, address: int, *words: int) -> None:
        """Words at a physical address."""
        data = b"".join(w.to_bytes(4, self.order) for w in words)  # type: ignore[arg-type]
        self.write(address, data)

    def write(self, address: int, data: bytes) -> None:
        """Bytes at a physical address."""
        self.ram.view[address : address + len(data)] = data
        self.engine.written(self.at, self.ram.address + address, len(data))

    def word(self, address: int) -> int:
        """The word at a physical address."""
        return int.from_bytes(self.ram.view[address : address + 4], self.order)  # type: ignore[arg-type]

    def start(self, pc: int) -> None:
        """Kernel mode without anything pending, at an address."""
        cpu = self.cpu
        cpu.pc, cpu.then, cpu.resume, cpu.budget_end, cpu.mmio_done, cpu.fault_vector = pc, 0, 0, FOREVER, 0, 0
        cpu.update_mode()
        cpu.stopped = None

    def run(self) -> tuple[int, int]:
        """Until an exception: its code, and where."""
        cpu, run, at = self.cpu, self.engine.run, self.at
        for _ in range(LIMIT):
            reason = run(at)
            if reason == STOPPED:
                return int(cpu.walk_error & CODE if cpu.fault_vector == 0 else cpu.fault_vector), int(cpu.pc)
            cpu.exit_handlers[reason]()
            if cpu.stopped is not None:
                stopped: tuple[int, int] = cpu.stopped
                return stopped
        raise AssertionError(f"it does not end: {REASONS[reason]}\n{cpu.describe()}")

    def until(self, pc: int, most: int = 1000) -> None:
        """Single steps until the processor is there."""
        for _ in range(most):
            if self.cpu.pc == pc:
                return
            self.cpu.between()
            self.cpu.single_step()
        raise AssertionError(f"{pc:#x} is not reached\n{self.cpu.describe()}")

    copied = 0

    def copy_block(self) -> None:
        """Have the block at `pc` be a copy."""
        if address := self.engine.block(self.at):
            self.copied += copy(self.engine, self.at, [self.engine.hot.head(address)])

    def compile_region(self) -> None:
        """Have a region stand where the processor does, if one can: of all blocks of the page to which links lead from there."""
        hot, start = self.engine.hot, self.cpu.pc
        page = start & -PAGE
        todo, heads = [start - page], {}
        while todo:
            if (offset := todo.pop()) in heads or not 0 <= offset < PAGE:
                continue
            self.cpu.pc = page + offset
            while not (head := self.engine.block(self.at)):
                self.cpu.exit_handlers[self.cpu.reason]()
            heads[offset] = head
            ctypes.c_uint32.from_address(head + HEAD["samples"]).value = 1
            todo += hot.placed_at(hot.head(head), offset, page).links
        self.cpu.pc = start
        if (wanted := hot.grow(heads[start - page], None, page)) is not None:
            hot.make_now(wanted)

    def close(self) -> None:
        """Gives the memory back."""
        self.ram.close()


class Stopping(Processor):
    """Shows the faults that plain Python raises, and delivers none, while `stopping`."""

    stopping = False
    stopped: tuple[int, int] | None = None
    budget_end: int
    resume: int
    mmio_done: int

    def fault(self, fault: object, here: int) -> None:
        assert isinstance(fault, Fault)
        if self.stopping:
            self.__dict__["stopped"] = fault.code, here
        else:
            super().fault(fault, here)
