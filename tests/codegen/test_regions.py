"""Sequences of instructions as compiled regions: against the interpreter alone at every place where a region can be left, and against
the host's processor. What is compared is the whole state, the memory, the instruction count, and what ended the run."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import NamedTuple

import pytest

from exuvia.codegen.heads import Head
from exuvia.codegen.layout import ENTRY_SHIFT, HEAD, NO_ENTRY, REASON, REGION_BLOCK, REGION_DOOR, REGION_HEADS, SPECIAL
from exuvia.dsl.state import ISA_AT, WATCHES_AT
from exuvia.isa.x86.concrete import Processor
from exuvia.isa.x86.state import DS, ES, FS, GS, layout
from exuvia.vcpu.software import FOREVER, NEVER
from tests.codegen.native import CODE_AT, LIMIT, PLAIN, STOPPED, TABLES, WINDOW_AT, NativeMachine, beside
from tests.codegen.sequences import sequence, start
from tests.codegen.test_segmented import segments
from tests.isa.x86 import cases
from tests.oracle.case import CODE, CODE_PAGE, WINDOW, Case, Result
from tests.oracle.hostcpu import HostCpu, why_not
from tests.oracle.undefined import AF

WINDOW_TABLE = TABLES + 0x4000
PAGES = (CODE_AT, *WINDOW_AT)


class Image(NamedTuple):
    """What the architecture shows."""

    registers: bytes
    rest: bytes
    pc: int
    pages: tuple[bytes, ...]


class Ended(NamedTuple):
    """How a run ended: in which state, after how many instructions, with which event."""

    image: Image
    icount: int
    event: tuple[int, ...]


class Bench:
    """A machine on which a case is run by the interpreter or by regions."""

    def __init__(self) -> None:
        self.native = NativeMachine()
        self.cpu, self.at, self.engine, self.hot = self.native.vcpu, self.native.at, self.native.engine, self.native.engine.hot
        self.cpu.hot_after, self.cpu.first_look = NEVER, 0  # regions are made where the test wants them
        self.template: bytes | None = None
        self.special = self.engine.special[SPECIAL.index("head")]

    # -- states
    def image(self) -> Image:
        view, ram = self.native.view, self.native.ram.view
        return Image(
            bytes(view[:128]), bytes(view[ISA_AT : layout.size]), self.cpu.pc, tuple(bytes(ram[page : page + 4096]) for page in PAGES)
        )

    def restore(self, image: Image, icount: int = 0) -> None:
        """Go back to a state."""
        view, ram = self.native.view, self.native.ram.view
        view[:128], view[ISA_AT : layout.size] = image.registers, image.rest
        for page, data in zip(PAGES, image.pages, strict=True):
            if ram[page : page + 4096] != data:
                ram[page : page + 4096] = data
                if page == CODE_AT:
                    self.engine.written(self.at, self.native.ram.address + page, 4096)
        cpu = self.cpu
        cpu.pc, cpu.icount, cpu.resume, cpu.mmio_done, cpu.access_count, cpu.stopped = image.pc, icount, 0, 0, 0, False
        cpu.miss_op = 0  # runs of the same instruction after the same count are not one that goes round in circles

    def begin(self, case: Case) -> Image:
        """The state before the case."""
        self.native.put(case, self.template)
        return self.image()

    # -- runs
    def until(self, budget: int) -> bool:
        """Run until so many instructions are done, or an event; was it an event?"""
        cpu, handlers = self.cpu, self.cpu.exit_handlers
        cpu.budget_end = budget
        for _ in range(LIMIT):
            reason = self.engine.run(self.at)
            if reason == STOPPED:
                return True
            if reason == REASON["budget"]:
                return False
            handlers[reason]()
            if cpu.stopped:
                return True
        raise AssertionError(f"it does not end: {cpu.describe()}")

    def ended(self) -> Ended:
        cpu = self.cpu
        return Ended(self.image(), cpu.icount, (cpu.vector, cpu.error, cpu.event, cpu.event_ip))

    def finish(self) -> Ended:
        """Run to the event."""
        assert self.until(FOREVER)
        return self.ended()

    def trace(self) -> dict[int, Image]:
        """The states at all ends of blocks, by instruction count, and at last how it ended."""
        found = {}
        for _ in range(3000):
            found[self.cpu.icount] = self.image()
            if self.until(self.cpu.icount + 1):
                return found
        raise AssertionError("it does not end")

    # -- regions
    def heads(self) -> list[Head]:
        """All blocks of the code's page."""
        pc, self.cpu.pc = self.cpu.pc, CODE
        address = self.engine.block(self.at)
        self.cpu.pc = pc
        return beside(self.hot, self.hot.head(address)) if address else []

    def compile(self, offsets: list[int]) -> None:
        """Have regions stand for these blocks."""
        pc = self.cpu.pc
        for offset in offsets:
            self.cpu.pc = CODE_PAGE + offset
            self.engine.block(self.at)
        self.cpu.pc = pc
        seeds = sorted(self.heads(), key=lambda h: (h.offset != CODE & 0xFFF, h.offset))
        for h in seeds:
            ctypes.c_uint32.from_address(h.address + HEAD["samples"]).value = 1
        for h in seeds:
            if not self.hot.head(h.address).region:
                self.cpu.pc = CODE_PAGE + h.offset
                known = self.hot.remembered(self.native.state, self.hot.head(h.address), self.cpu.pc)
                if not known and (wanted := self.hot.grow(h.address)) is not None:
                    self.hot.make_now(wanted)
        self.cpu.pc = pc

    @contextmanager
    def interpreted(self) -> Iterator[None]:
        """Without the regions that there are."""
        aside = []
        for h in self.heads():
            if h.region and h.entry != NO_ENTRY:
                aside.append(h)
                self.enter(h, self.special if h.handler == self.hot_code(h) else h.handler, NO_ENTRY)
        yield
        for h in aside:
            if self.hot.head(h.address).region:
                self.enter(h, h.handler, h.entry)

    def hot_code(self, h: Head) -> int:
        """Where a head's region is entered."""
        return ctypes.c_uint64.from_address(h.region + REGION_HEADS + REGION_BLOCK * h.entry + REGION_DOOR).value

    def enter(self, h: Head, handler: int, entry: int) -> None:
        """Set what a head runs."""
        ctypes.c_uint64.from_address(h.address).value = handler
        ctypes.c_uint64.from_address(h.address + HEAD["region"]).value = h.region | entry << ENTRY_SHIFT

    def take_away(self, page: int, present: bool) -> None:
        """Map or unmap a page of the window."""
        entry = WINDOW_TABLE + 8 * ((WINDOW >> 12 & 511) + page)
        self.native.ram.view[entry] = self.native.ram.view[entry] & ~1 | present
        self.engine.flush(self.at, 1)

    def pend(self, on: bool) -> None:
        """Have an interrupt be pending that is not welcome: whatever may change that looks again."""
        self.cpu.interrupt_pending = int(on)

    def watch(self, page: int | None) -> None:
        """Have accesses to a page of the window be reported."""
        self.cpu.words[WATCHES_AT // 8] = (1 << 64) - 1 if page is None else WINDOW + 4096 * page
        self.cpu.watching = int(page is not None)
        self.engine.flush(self.at, 1)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    b = Bench()
    yield b
    b.native.close()


@pytest.fixture(scope="module")
def host() -> Iterator[HostCpu]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with HostCpu() as h:
        yield h


def different(want: Image, got: Image) -> str:
    """Where two states differ."""
    found = []
    for name in layout.declared:
        f = layout.files[name]
        for slot in range(f.count if f.stride > 1 else 128):
            at = f.offset + slot * f.stride
            n = f.width // 8 if f.stride > 1 else 1
            a, b = ((x.registers[at : at + n] if at < 128 else x.rest[at - ISA_AT : at - ISA_AT + n]) for x in (want, got))
            if a != b:
                found.append(f"{name}[{slot}] {a[::-1].hex()}, region {b[::-1].hex()}")
    if want.pc != got.pc:
        found.append(f"pc {want.pc:#x}, region {got.pc:#x}")
    for k, (p, q) in enumerate(zip(want.pages, got.pages, strict=True)):
        found += [f"page {k} at {i:#x}: {p[i]:02x}, region {q[i]:02x}" for i in range(4096) if p[i] != q[i]][:4]
    return "; ".join(found[:8])


class Tried:
    """A sequence, tried in many ways; `wrong` collects what differs."""

    def __init__(self, bench: Bench, random: Random, code: bytes, mode: int, many: int) -> None:
        self.bench, self.random, self.code, self.mode = bench, random, code, mode
        self.wrong: list[str] = []
        self.count = 0
        b = bench
        origin = WINDOW if mode == 64 or b.template is None else 0
        first = b.begin(start(random, code, mode, origin))
        b.trace()
        self.offsets = [h.offset for h in b.heads()]
        for _ in range(many):
            first = b.begin(start(random, code, mode, origin))
            with b.interpreted():
                self.states = b.trace()
                self.want = b.ended()
            self.first = first
            self.again()
            self.check("to the end", b.finish)
            self.budgets()
            self.chopped()
            self.unmapped()
            self.covered()
            self.watched()
            self.under("with an interrupt pending", self.bench.pend)

    def again(self) -> None:
        """Back to the start, with regions."""
        self.bench.restore(self.first)
        self.bench.compile(self.offsets)

    def complain(self, what: str, text: str) -> None:
        self.wrong.append(f"{self.code.hex()} in {self.mode}-bit code, {what}: {text}")

    def check(self, what: str, run: Callable[[], Ended], want: Ended | None = None) -> None:
        """Does a run end as it should?"""
        self.count += 1
        want, got = want or self.want, run()
        if want != got:
            text = different(want.image, got.image)
            self.complain(what, f"{want.icount} {tuple(map(hex, want.event))}, region {got.icount} {tuple(map(hex, got.event))}; {text}")

    def stopped(self, what: str) -> bool:
        """Is the state in which a region was left one that the interpreter came through?"""
        b = self.bench
        at = b.cpu.icount
        if at not in self.states:
            self.complain(what, f"left after {at} instructions, where no block ends: {sorted(self.states)[:40]}")
            return False
        if self.states[at] != (now := b.image()):
            self.complain(what, f"left after {at} instructions: {different(self.states[at], now)}")
            return False
        return True

    def budgets(self) -> None:
        """Leave after each possible number of instructions, and go on."""
        b, last = self.bench, self.want.icount
        each = range(1, max(1, last)) if last <= 40 else sorted(self.random.sample(range(1, last), 40))
        for budget in each:
            self.again()
            what = f"left after {budget}"
            if b.until(budget):
                self.check(what, b.ended)
            elif self.stopped(what):
                self.check(what + " and gone on with", b.finish)

    def chopped(self) -> None:
        """Leave again and again, with and without translations dropped."""
        b = self.bench
        for flushes in (None, 0, 1):
            self.again()
            while not b.until(b.cpu.icount + self.random.randrange(1, 30)):
                if not self.stopped(f"left again and again, flush {flushes}"):
                    return
                if flushes is not None:
                    b.engine.flush(b.at, flushes)
            self.check(f"left again and again, flush {flushes}", b.ended)

    def unmapped(self) -> None:
        """A page of the window goes away in the middle."""
        b = self.bench
        for at in self.random.sample(sorted(self.states), min(3, len(self.states))):
            page = self.random.randrange(3)
            b.restore(self.states[at], at)
            b.take_away(page, False)
            with b.interpreted():
                want = b.finish()
            b.take_away(page, True)
            b.restore(self.states[at], at)
            b.compile(self.offsets)
            b.take_away(page, False)
            self.check(f"page {page} unmapped after {at}", b.finish, want)
            b.take_away(page, True)

    def covered(self) -> None:
        """Code stands on a page of the window."""
        page = self.random.choice(WINDOW_AT)

        def cover(on: bool) -> None:
            self.bench.native.cover(page, 0xFFFFFFFF if on else 0)
            self.bench.engine.flush(self.bench.at, 1)

        self.under("code on a page of data", cover)

    def watched(self) -> None:
        """A debugger looks at a page."""
        page = self.random.randrange(3)
        self.under("with a watched page", lambda on: self.bench.watch(page if on else None))

    def under(self, what: str, condition: Callable[[bool], None]) -> None:
        """To the end under a condition, under which the interpreter counts repeated instructions otherwise."""
        b = self.bench
        b.restore(self.first)
        condition(True)
        with b.interpreted():
            want = b.finish()
        condition(False)
        self.again()
        condition(True)
        self.check(what, b.finish, want)
        condition(False)


def attempt(bench: Bench, seed: int, mode: int, *, rewrites: bool = False, many: int = 2) -> Tried:
    """One generated sequence."""
    random = Random(seed)
    return Tried(bench, random, sequence(random, mode, random.random() < 0.3, rewrites), mode, many)


def templates(bench: Bench, kind: str) -> tuple[int, bytes | None]:
    """The generator's mode and the state's template of a kind of code."""
    n = bench.native
    if kind == "64" or kind == "32":
        plain = bytearray(n.templates[int(kind)])
        for segment, base in ((FS, 0x128), (GS, WINDOW)):
            cases.put(plain, "seg_base", base, segment)
        return int(kind), bytes(plain) if kind == "64" else None
    code, stack = (int(x) for x in kind.split("/"))
    return code, n.template(32, partial(segments, code=code, stack=stack))


KINDS = {"64": 50, "32": 24, "16/16": 14, "32/32": 14}
"""Kinds of code (of the last two, code's and stack's bits in segments with bases and limits), and how many sequences a normal run tries."""


@pytest.mark.parametrize("kind", KINDS)
def test_regions_and_the_interpreter_agree(bench: Bench, kind: str) -> None:
    assert run(bench, kind, range(KINDS[kind])) > 30 * KINDS[kind]


@pytest.mark.parametrize("kind", ["64", "32"])
def test_code_that_changes_itself_as_regions(bench: Bench, kind: str) -> None:
    assert run(bench, kind, range(30), rewrites=True) > 600


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("rewrites", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_regions_and_the_interpreter_agree_at_length(bench: Bench, kind: str, rewrites: bool) -> None:
    first = Random().randrange(1 << 32)
    run(bench, kind, range(first, first + 20 * KINDS[kind]), rewrites)


def run(bench: Bench, kind: str, seeds: range, rewrites: bool = False) -> int:
    """Try sequences; how many runs were compared."""
    bench.native.become(PLAIN)
    wrong: list[str] = []
    count, before = 0, bench.hot.installed
    mode, bench.template = templates(bench, kind)
    for seed in seeds:
        t = attempt(bench, seed, mode, rewrites=rewrites)
        wrong += [f"seed {seed}: {w}" for w in t.wrong]
        count += t.count
        if len(wrong) > 40:
            break
    assert not wrong, "\n".join([f"{len(wrong)} of {count} differ", *wrong[:12]])
    assert bench.hot.installed - before > len(seeds)
    return count


# -- the host's processor
ORACLES = (1, 3)
"""Where the oracle has memory of its own (tests/oracle/hostcpu.py), in units of 256 MiB: what faults there does not on the host."""


def judged(bench: Bench, host: HostCpu, seeds: range, rewrites: bool, make: Callable[..., bytes] = sequence) -> tuple[int, int, list[str]]:
    """Sequences with several starts each as regions and on the host: (how many, of them with a fault, what differs)."""
    bench.native.become(PLAIN)
    bench.template, count, faults = None, 0, 0
    wrong: list[str] = []
    for seed in seeds:
        random = Random(seed)
        mode = 64 if random.random() < 0.7 else 32
        code = make(random, mode, True, rewrites)
        some = [start(random, code, mode) for _ in range(8)]
        bench.begin(some[0])
        bench.trace()
        offsets = [h.offset for h in bench.heads()]
        for case, want in zip(some, host.run_many(some), strict=True):
            bench.begin(case)
            bench.compile(offsets)
            ended = bench.finish()
            if ended.event[0] == 14 and bench.cpu.cr2 >> 28 in ORACLES:
                continue
            count, faults = count + 1, faults + (want.fault is not None)
            if text := disagreement(want, bench.native.result(case)):
                wrong.append(f"seed {seed}: {code.hex()} in {mode}-bit code, {list(map(hex, case.gprs))}: {text}")
    return count, faults, wrong


def disagreement(want: Result, got: Result) -> str:
    """What differs from the host, but for AF, which logic leaves undefined."""
    kinds = [r.fault and (r.fault.vector, r.fault.error & ~1, r.fault.address) for r in (want, got)]
    if kinds[0] != kinds[1] or want.rip != got.rip:
        return f"{want.fault} at {want.rip:#x}, we {got.fault} at {got.rip:#x}"
    if want.gprs != got.gprs:
        return f"{list(map(hex, want.gprs))}, we {list(map(hex, got.gprs))}"
    if (want.rflags ^ got.rflags) & cases.COMPARED & ~AF:
        return f"flags {want.rflags:#x}, we {got.rflags:#x}"
    if want.memory != got.memory:
        return "memory"
    for name, at, size in (("fcw", 0, 2), ("fsw", 2, 2), ("ftw", 4, 1), ("mxcsr", 24, 4), ("x87", 32, 128), ("xmm", 160, 256)):
        if want.fxsave[at : at + size] != got.fxsave[at : at + size]:
            return f"{name} {want.fxsave[at : at + size].hex()}, we {got.fxsave[at : at + size].hex()}"
    if want.upper != got.upper:
        return f"upper halves {want.upper.hex()}, we {got.upper.hex()}"
    return ""


def compare_with_the_host(
    bench: Bench, host: HostCpu, seeds: range, rewrites: bool, make: Callable[..., bytes] = sequence, most: float = 0.7
) -> None:
    """`most`: of the runs may end with a fault."""
    count, faults, wrong = judged(bench, host, seeds, rewrites, make)
    assert not wrong, "\n".join([f"{len(wrong)} of {count} differ", *wrong[:12]])
    assert 7 * len(seeds) < count <= 8 * len(seeds) and count / 50 < faults < count * most


@pytest.mark.parametrize("rewrites", [False, True])
def test_regions_agree_with_the_host(bench: Bench, host: HostCpu, rewrites: bool) -> None:
    compare_with_the_host(bench, host, range(60 if rewrites else 100), rewrites)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("rewrites", [False, True])
def test_regions_agree_with_the_host_at_length(bench: Bench, host: HostCpu, rewrites: bool) -> None:
    first = Random().randrange(1 << 32)
    compare_with_the_host(bench, host, range(first, first + 1500), rewrites)


# -- what once was wrong
def both(bench: Bench, case: Case, template: bytes | None = None) -> Ended:
    """Run a case by the interpreter, then as a region that its first run shows: they agree."""
    bench.native.become(PLAIN)
    bench.template = template
    first = bench.begin(case)
    bench.trace()
    offsets = [h.offset for h in bench.heads()]
    with bench.interpreted():
        bench.restore(first)
        want = bench.finish()
    bench.restore(first)
    bench.compile(offsets)
    assert any(h.region for h in bench.heads())
    got = bench.finish()
    assert want == got, different(want.image, got.image)
    return got


WINDOW_BASE = WINDOW + 0x1100


def test_flags_that_nothing_reads_where_the_clock_is_looked_at(bench: Bench) -> None:
    """Who interrupts between two rounds sees TEST's flags, though ADD comes next.

    L: add eax, ecx; dec ecx; jz out; test cl, 1; jz M; nop; jmp M; M: mov edx, eax; jmp L
    """
    bench.native.become(PLAIN)
    bench.template = None
    first = bench.begin(
        Case(bytes.fromhex("01 C8 FF C9 74 0C F6 C1 01 74 03 90 EB 00 89 C2 EB EE"), gprs=[5, 60, 0, 0, WINDOW + 4096, *[0] * 11])
    )
    states = bench.trace()
    bench.restore(first)
    bench.compile([h.offset for h in bench.heads()])
    stops = set()
    for budget in range(3, 60):
        bench.restore(first)
        assert not bench.until(budget)
        want, got = states[bench.cpu.icount], bench.image()
        assert want == got, different(want, got)
        stops.add(bench.cpu.icount)
    assert len(stops) > 5


def test_addresses_that_come_round_below_a_segments_base(bench: Bench) -> None:
    """Two offsets 8 apart, of which the second is small again: with the base they lie far from each other, without a page's end between."""
    template = bytearray(bench.native.templates[64])
    cases.put(template, "seg_base", WINDOW_BASE - 0xFFFFFFFC & (1 << 64) - 1, FS)
    case = Case(bytes.fromhex("67 64 8B 03 67 64 8B 4B 08"), gprs=[0, 0, 0, 0xFFFFFFFC, WINDOW + 64, *[0] * 11])
    got = both(bench, case, bytes(template))
    assert got.event[0] == 14 and struct.unpack_from("<Q", got.image.registers)[0] == 0


def test_offsets_of_16_bits_that_come_round(bench: Bench) -> None:
    def real(cpu: Processor, mode: int) -> None:
        segments(cpu, mode, 16, 16)
        for i in (DS, ES):
            cpu.set_segment(i, 0x2B, WINDOW_BASE - 0xFFFC, 0xFFFF, 0xF3)
        cpu.update_mode()

    case = Case(bytes.fromhex("8B 07 8B 4F 08"), 32, gprs=[0, 0, 0, 0xFFFC, 64, *[0] * 11])  # mov ax, [bx]; mov cx, [bx+8]
    assert both(bench, case, bench.native.template(32, real)).event[0] == 14


@pytest.mark.parametrize("load", ["8A 06", "66 8B 06", "8A 26", "66 0F B6 06"])
def test_a_partial_register_from_memory_read_wider(bench: Bench, load: str) -> None:
    """LLVM 22 takes what was merged with a load for zero-extended: AL or AX from memory, then EAX times memory."""
    memory = struct.pack("<QQ", 0x1122334455667788, 0x44332211) + bytes(3 * 4096 - 16)
    case = Case(bytes.fromhex(load + "F7 66 08"), gprs=[0xAAAABBBBCCCCDDDD, 0, 0, 0, WINDOW + 4096, 0, WINDOW, *[0] * 9], memory=memory)
    got = both(bench, case)
    low, high = (struct.unpack_from("<Q", got.image.registers, at)[0] for at in (0, 16))
    eax = {"8A 06": 0xCCCCDD88, "66 8B 06": 0xCCCC7788, "8A 26": 0xCCCC88DD, "66 0F B6 06": 0xCCCC0088}[load]
    assert high << 32 | low == eax * 0x44332211


def test_a_store_behind_a_read_that_was_checked(bench: Bench) -> None:
    """On a page with code what may be read may not be written: the store in the next block drops the code all the same."""
    code = bytes.fromhex("8B 43 10 31 C9 74 01 90 C7 43 10 11 22 33 44")  # mov eax, [rbx+16]; xor ecx, ecx; jz +1; nop; mov [rbx+16], ..
    for covered in (False, True):
        both(bench, case := Case(code, gprs=[0, 0, 0, WINDOW, WINDOW + 8192, *[0] * 11]))
        bench.begin(case)
        bench.compile([CODE & 0xFFF, (CODE & 0xFFF) + 7, (CODE & 0xFFF) + 8])
        bench.native.cover(WINDOW_AT[0], 0xFFFFFFFF if covered else 0)
        bench.engine.flush(bench.at, 1)
        before = bench.cpu.invalidated
        bench.finish()
        assert bench.cpu.invalidated == before + covered
        bench.native.cover(WINDOW_AT[0], 0)
        bench.engine.flush(bench.at, 1)
