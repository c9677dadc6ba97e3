"""The oracle's cases on the native engine: a processor with four pages of memory, on which every event ends the run."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable
from types import SimpleNamespace

from exuvia.codegen.build import compile_text
from exuvia.codegen.engine import Engine
from exuvia.codegen.heads import Head
from exuvia.codegen.hot import Hot
from exuvia.codegen.interpreter import walk_body
from exuvia.codegen.layout import CACHE, PAGE_ENTRY, REASON, REASONS, routine_at
from exuvia.codegen.native import ARGS
from exuvia.codegen.store import Store
from exuvia.dsl import processor
from exuvia.dsl.state import ISA_AT
from exuvia.isa.x86.architecture import architecture
from exuvia.isa.x86.concrete import Fault as Raised
from exuvia.isa.x86.concrete import Processor
from exuvia.isa.x86.cpus import model
from exuvia.isa.x86.state import CR0_WP, EFER_NXE, EXCEPTION, layout
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from exuvia.vcpu.software import FOREVER
from tests.isa.x86 import cases
from tests.oracle.case import CODE, CODE_PAGE, FXSAVE_DEFAULT, WINDOW, Case, Fault, Result
from tests.vcpu.software_x86 import SoftwareX86

RAM_SIZE = 1 << 20
TABLES = 0x1000
"""Guest-physical addresses: four pages of page tables from here on; CODE_AT and, out of order, WINDOW_AT hold what the case sees."""
CODE_AT = 0x8000
WINDOW_AT = (0xC000, 0xA000, 0xE000)
PRESENT, WRITABLE, USER, NO_EXECUTE = 1, 2, 4, 1 << 63
PLAIN, CODED, DEVICE = "plain", "coded", "device"
"""What the window is: RAM; RAM in which the block cache thinks code stands; no RAM, so that devices answer."""
LIMIT = 5000
"""Exits after which a case is given up."""


class Window:
    """The window as a device: bytes, and which accesses there were."""

    def __init__(self, view: memoryview) -> None:
        self.view, self.writes = view, list[tuple[int, int]]()

    def read(self, offset: int, size: int) -> int:
        return int.from_bytes(self.view[offset : offset + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self.writes.append((offset, size))
        self.view[offset : offset + size] = value.to_bytes(size, "little")


STOPPED = len(REASON)  # no reason of the runtime's


class Stopping(SoftwareX86):
    """Shows the faults that plain Python raises as the native ones are shown, and delivers none."""

    stopped = False

    def fault(self, fault: processor.Fault, here: int) -> None:
        assert isinstance(fault, Raised)
        self.vector, self.error, self.event, self.event_ip = fault.vector, fault.error or 0, EXCEPTION, self.offset(here)
        self.event_has_error = int(fault.error is not None)
        if fault.address is not None:
            self.cr2 = fault.address
        self.stopped = True


class NativeMachine:
    """One processor in long mode with the page tables that the oracle's addresses need. `store` and `arena` are for tests of those."""

    def __init__(self, store: Store | None = None) -> None:
        self.ram = Ram(RAM_SIZE)
        self.architecture = architecture()
        self.model = model("max")
        self.engine = Engine(self.architecture, self.model.features, self.ram.address, self.ram.size, store=store)
        self.memory, self.ports = AddressSpace("memory"), AddressSpace("ports")
        self.machine = SimpleNamespace(vcpus=[], request_reset=self.reset_requested)
        self.vcpu = Stopping(self.engine, self.model, 0, self.memory, self.ports, SimpleNamespace(base=0, task_priority=0), self.machine)
        self.machine.vcpus.append(self.vcpu)
        self.state, self.at = self.vcpu.native, self.vcpu.native.address
        self.view: memoryview = self.vcpu.state
        self.window = Window(memoryview(bytearray(0x10000)))
        self.what = ""
        if store is None:
            self.engine.region_store.seal("regions of tests")
        # every event ends in `deliver`; what stands there comes back to Python
        code, symbols = compile_text(
            f"define preserve_nonecc i64 @stop({ARGS}) {{ %p = getelementptr i8, ptr %st, i64 {layout.offset('icount')} "
            f"store i64 %ic, ptr %p ret i64 {STOPPED} }}"
        )
        self.state.put(routine_at(layout, "deliver"), self.engine.code.place(code) + symbols["stop"])
        self.page_tables()
        self.templates = {mode: self.template(mode) for mode in (64, 32)}
        self.vcpu.reset()
        self.become(PLAIN)

    def close(self) -> None:
        """Gives the memory back."""
        self.ram.close()

    def reset_requested(self, reason: str) -> None:
        raise AssertionError(reason)

    def page_tables(self) -> None:
        """Four levels; CODE_PAGE and WINDOW are a user's."""
        pml4, pdpt, directory, code, window = (TABLES + 4096 * i for i in range(5))
        entries = [
            (pml4, 0, pdpt),
            (pdpt, 0, directory),
            (directory, CODE_PAGE >> 21 & 511, code),
            (directory, WINDOW >> 21 & 511, window),
            (code, CODE_PAGE >> 12 & 511, CODE_AT),
        ]
        entries += [(window, (WINDOW >> 12 & 511) + i, page | NO_EXECUTE) for i, page in enumerate(WINDOW_AT)]
        for at, index, to in entries:
            self.map(at, index, to)

    def map(self, table: int, index: int, to: int) -> None:
        """Write an entry of a page table."""
        struct.pack_into("<Q", self.ram.view, table + 8 * index, to | PRESENT | WRITABLE | USER)

    def template(self, mode: int, segments: Callable[[Processor, int], None] = cases.load_segments) -> bytes:
        """The state's own part before a case."""
        state = bytearray(layout.size)
        cases.fill(state, Case(b"", mode, fxsave=FXSAVE_DEFAULT))
        segments(cases.Rest(state, cases.Space(Case(b""))), mode)
        cases.put(state, "cr3", TABLES)
        cases.put(state, "cr0", cases.take(state, "cr0") | CR0_WP)
        cases.put(state, "efer", cases.take(state, "efer") | EFER_NXE)
        return bytes(state)

    def become(self, what: str) -> None:
        """Change what the window is."""
        if what == self.what:
            return
        self.what = what
        end = 0xA000 if what == DEVICE else RAM_SIZE
        self.memory = self.vcpu.__dict__["memory"] = AddressSpace("memory")
        self.memory.map_ram(0, end, self.ram, 0)
        if what == DEVICE:
            self.memory.map_device(0xA000, 0x6000, self.window, offset=0xA000)
        self.engine.set_slots([(0, end, self.ram.address, True)])
        self.engine.flush(self.at, 1)

    # -- a case
    def put(self, case: Case, template: bytes | None = None) -> None:
        """The state and memory before a case; `template` is a state that says what the case does not: mode, segments, control registers."""
        view, template = self.view, template or self.templates[case.mode]
        view[ISA_AT : layout.size] = template[ISA_AT:]
        view[0:144] = template[0:144]
        struct.pack_into("<16Q", view, 0, *case.gprs)
        cpu = self.vcpu
        cpu.set_flags(case.rflags)
        image = case.fxsave
        cpu.fcw, status, tags = struct.unpack_from("<HHB", image)
        cpu.set_status_word(status)
        cpu.ftw = ~tags & 0xFF
        (cpu.mxcsr,) = struct.unpack_from("<I", image, 24)
        st = layout.offset("st")
        for i in range(8):
            to = st + 16 * (cpu.top + i & 7)
            view[to : to + 10] = image[32 + 16 * i : 42 + 16 * i]
        for i in range(16):
            x = layout.offset("x", i)
            view[x : x + 32] = image[160 + 16 * i : 176 + 16 * i] + case.upper[16 * i : 16 * i + 16]
        cpu.pc, cpu.mode, cpu.resume, cpu.icount, cpu.budget_end = CODE, cases.take(memoryview(template), "mode"), 0, 0, FOREVER
        cpu.tlb, cpu.mmio_done, cpu.vector = cpu.tlb_base, 0, 0
        words = self.ram.view
        words[CODE_AT : CODE_AT + 4096] = b"\xcc" * 4096
        words[CODE_AT + CODE - CODE_PAGE : CODE_AT + CODE - CODE_PAGE + len(case.code)] = case.code
        self.engine.written(self.at, self.ram.address + CODE_AT, 4096)
        to_view = self.window.view if self.what == DEVICE else words
        for i, page in enumerate(WINDOW_AT):
            to_view[page : page + 4096] = case.memory[4096 * i : 4096 * i + 4096]
            self.cover(page, 0xFFFF_FFFF if self.what == CODED else 0)
        if self.what == CODED:
            self.engine.flush(self.at, 1)

    def cover(self, page: int, lines: int) -> None:
        """Have the block cache think that code stands on some lines of a page; there are no blocks that belong to them."""
        entry = self.engine.pages.address + (page >> 12) * PAGE_ENTRY
        ctypes.c_uint32.from_address(entry).value = lines
        ctypes.c_uint64.from_address(entry + 8).value = 0

    def go(self) -> None:
        """Run until an event."""
        cpu, run, at = self.vcpu, self.engine.run, self.at
        cpu.stopped = False
        for _ in range(LIMIT):
            reason = run(at)
            if reason == STOPPED:
                return
            if reason == REASON["leave"] and cpu.leave == 0:
                raise AssertionError("a fault inside of a delivery")
            cpu.exit_handlers[reason]()
            if cpu.stopped:
                return
        raise AssertionError(f"it does not end: {REASONS[reason]}, {cpu.describe()}")

    def result(self, case: Case) -> Result:
        """What a run left."""
        cpu, view = self.vcpu, self.view
        gprs = list(struct.unpack_from("<16Q", view, 0))
        if case.mode == 32:
            gprs = [g & 0xFFFF_FFFF for g in gprs[:8]] + case.gprs[8:]
        flags = cpu.flags & cases.COMPARED
        source = self.window.view if self.what == DEVICE else self.ram.view
        memory = b"".join(bytes(source[page : page + 4096]) for page in WINDOW_AT)
        fault = None
        rip = cpu.event_ip
        if cpu.event == EXCEPTION:
            fault = Fault(0, cpu.vector, cpu.error if cpu.event_has_error else 0, cpu.cr2 if cpu.vector == 14 else 0)
        else:
            rip -= 1
        return Result(gprs, flags, rip, cases.image(view), memory, fault, cases.upper_halves(view))

    def run(self, case: Case, template: bytes | None = None) -> Result:
        """One case."""
        self.put(case, template)
        if self.regions:
            self.compile_region()
        self.go()
        return self.result(case)

    regions = False  # run what the case's block is as a compiled region

    def compile_region(self) -> None:
        """Have a region stand where the case begins, if its bytes are code that one can hold."""
        if (head := self.engine.block(self.at)) and (wanted := self.engine.hot.grow(head)) is not None:
            self.engine.hot.make_now(wanted)

    # -- compiling ahead
    def slot(self, case: Case, template: bytes | None) -> tuple[int, int]:
        """The mode and handler of a case's instruction, decoded natively."""
        self.put(case, template)
        while (done := self.engine.step(self.at)) == 1:
            self.vcpu.exit_handlers[self.vcpu.reason]()
        assert done == 0
        slot = ctypes.c_uint16.from_address(self.vcpu.resume + 22).value
        return self.vcpu.mode, slot

    def compile(self, some: Iterable[Case], template: bytes | None = None) -> None:
        """Compile the handlers, fast and careful, of cases in large batches: one by one they come when they run."""
        wanted: dict[int, dict[int, None]] = {}
        for case in some:
            mode, slot = self.slot(case, template)
            wanted.setdefault(mode, {})[slot] = None
        for mode, slots in wanted.items():
            careful = [(slot, True) for slot in slots if self.touches_memory(mode, slot)]
            self.engine.compile(mode, [(slot, False) for slot in slots] + careful)

    def touches_memory(self, mode: int, slot: int) -> bool:
        """Has the text an access?"""
        trace = self.architecture.form(mode, self.engine.tables[mode], slot).trace
        return any(n.op == "translate" for n in walk_body(trace.body))


def heads(hot: Hot, page: int, mode: int) -> list[Head]:
    """Decoded blocks in a mode, by the host address of their page."""
    e, found = hot.engine, []
    at = e.pages.words[((page - e.cache[CACHE["ram"] // 8]) >> 12) * PAGE_ENTRY // 8 + 1]
    while at:
        found.append(hot.head(at))
        at = found[-1].sibling
    return [h for h in found if h.mode == mode and h.mask and h.n]


def beside(hot: Hot, head: Head) -> list[Head]:
    """Decoded blocks of a head's page and mode."""
    return heads(hot, head.key - head.offset, head.mode)
