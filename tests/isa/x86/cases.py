"""Test cases of the oracle as states of our processor, and the comparison of what came out."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from exuvia.dsl.values import Value, const
from exuvia.isa.x86 import state as x86
from exuvia.isa.x86.concrete import RARE, Processor
from exuvia.isa.x86.concrete import Fault as Raised
from exuvia.isa.x86.cpus import model
from exuvia.isa.x86.flags import derive
from exuvia.isa.x86.forms import ROWS, Row
from exuvia.isa.x86.rare import load as load_rare
from exuvia.isa.x86.state import PF, layout
from exuvia.vcpu.evaluate import Evaluator
from tests.isa.x86.reference import Reference
from tests.oracle.case import CODE, CODE_PAGE, WINDOW, WINDOW_SIZE, Case, Fault, Result
from tests.oracle.freedoms import APPROXIMATE, TRANSCENDENTAL, settled
from tests.oracle.generate import Generated
from tests.oracle.undefined import STATUS, undefined_flags, undefined_result

FLAGS = (("CF", 0), ("PF", 2), ("AF", 4), ("ZF", 6), ("SF", 7), ("OF", 11))
COMPARED = STATUS | 0x400
"""RFLAGS bits that are compared: the status flags and DF."""


class Space:
    """The memory that a case sees, by linear address: its window, and its code's page."""

    def __init__(self, case: Case) -> None:
        self.window = bytearray(case.memory)
        page = bytearray(b"\xcc" * 4096)
        page[CODE - CODE_PAGE : CODE - CODE_PAGE + len(case.code)] = case.code
        self.areas = ((WINDOW, self.window), (CODE_PAGE, page))

    def area(self, linear: int) -> tuple[int, bytearray] | None:
        return next((a for a in self.areas if a[0] <= linear < a[0] + len(a[1])), None)

    def fetch(self, linear: int, size: int) -> bytes:
        at, data = self.areas[1]
        if not at <= linear < at + len(data):
            raise Raised(PF, 0x14, linear)
        return bytes(data[linear - at : linear - at + size])

    def translate(self, linear: int, size: int, write: bool, system: bool) -> int:
        for byte in (linear, linear + size - 1):
            if self.area(byte) is None:
                raise Raised(PF, 4 | write << 1, byte if byte == linear else byte & ~4095)
        return linear

    def load(self, pointer: int, size: int) -> int:
        at, data = self.area(pointer) or (0, b"")
        return int.from_bytes(data[pointer - at : pointer - at + size], "little")

    def store(self, pointer: int, size: int, value: int) -> None:
        at, data = self.area(pointer) or (0, bytearray())
        data[pointer - at : pointer - at + size] = value.to_bytes(size, "little")


class Rest(Processor):
    """What instructions leave to plain Python, on a case's memory; faults come out as they are."""

    def __init__(self, state: bytearray, space: Space) -> None:
        load_rare()
        super().__init__(memoryview(state), model("max"))
        self.__dict__["space"] = space

    space: Space

    def perform(self, name: str, args: tuple[int, ...], here: int) -> None:
        RARE[name](self, *args)

    def switch_tlb(self, index: int) -> None:
        """There is none."""

    def read(self, linear: int, size: int, system: bool = False) -> int:
        return self.space.load(self.space.translate(linear, size, False, system), size)

    def write(self, linear: int, size: int, value: int, system: bool = False) -> None:
        self.space.store(self.space.translate(linear, size, True, system), size, value)


def load_segments(cpu: Processor, mode: int) -> None:
    """Segment registers as Linux leaves them to user code; CPL and control registers must be set."""
    flat = 0xFFFFFFFF
    for i in (x86.ES, x86.DS, x86.FS, x86.GS):
        if mode == 64 or i in (x86.FS, x86.GS):
            cpu.null_segment(i)
        else:
            cpu.set_segment(i, 0x2B, 0, flat, 0xC0F3)
    cpu.set_segment(x86.CS, 0x33 if mode == 64 else 0x23, 0, flat, 0xA0FB if mode == 64 else 0xC0FB)
    cpu.set_segment(x86.SS, 0x2B, 0, flat, 0xC0F3)
    cpu.update_mode()


def put(state: bytearray | memoryview, name: str, value: int, slot: int = 0) -> None:
    """Set a register."""
    f, at = layout.files[name], layout.offset(name, slot)
    state[at : at + f.width // 8] = (value & (1 << f.width) - 1).to_bytes(f.width // 8, "little")


def take(state: bytearray | memoryview, name: str, slot: int = 0) -> int:
    """Read a register."""
    f, at = layout.files[name], layout.offset(name, slot)
    return int.from_bytes(state[at : at + f.width // 8], "little")


def fill(state: bytearray | memoryview, case: Case) -> None:
    """The state in which a user program under Linux is when the case starts."""
    for name in layout.declared:
        f = layout.files[name]
        for slot in range(0 if f.name == "r" else f.count):
            put(state, name, f.reset, slot)
    for i, v in enumerate(case.gprs):
        put(state, "r", v, 8 * i)
    for segment, selector in zip(range(4), (0, 0x33, 0x2B, 0) if case.mode == 64 else (0x2B, 0x23, 0x2B, 0x2B)):
        put(state, "seg_selector", selector, segment)
    put(state, "mode", 0 if case.mode == 64 else 4)
    put(state, "cpl", 3)
    put(state, "cr0", x86.CR0_PE | x86.CR0_MP | x86.CR0_ET | x86.CR0_NE | x86.CR0_PG)
    put(state, "cr4", x86.CR4_PAE | x86.CR4_OSFXSR | x86.CR4_OSXMMEXCPT | x86.CR4_OSXSAVE)
    put(state, "efer", x86.EFER_SCE | x86.EFER_LME | x86.EFER_LMA)
    put(state, "eflags", 0x202)
    put(state, "pc", CODE)
    put(state, "df", -1 if case.rflags & 0x400 else 1)
    bits = [Value(const(case.rflags >> at & 1, 1)) for _, at in FLAGS]
    for name, w in (("result", 64), ("aux", 32)):
        word = derive("six", bits, name).zext(64) if w == 32 else derive("six", bits, name)
        assert word.constant is not None
        put(state, name, word.constant)
    fcw, fsw, tags = struct.unpack_from("<HHB", case.fxsave)
    top = fsw >> 11 & 7
    put(state, "fcw", fcw)
    put(state, "fsw", fsw & ~0x3A00)
    put(state, "c1", fsw & 0x200)
    put(state, "top", top)
    put(state, "ftw", ~tags & 0xFF)
    put(state, "mxcsr", struct.unpack_from("<I", case.fxsave, 24)[0])
    for i in range(8):
        put(state, "st", int.from_bytes(case.fxsave[32 + 16 * i : 42 + 16 * i], "little"), top + i & 7)
    for i in range(16):
        put(state, "x", int.from_bytes(case.fxsave[160 + 16 * i : 176 + 16 * i], "little"), i)
        put(state, "y", int.from_bytes(case.upper[16 * i : 16 * i + 16], "little"), i)
    put(state, "xcr0", 7)


def status_flags(state: bytearray) -> int:
    """RFLAGS' compared bits out of the state's words."""
    words = [Value(const(take(state, "result"), 64)), Value(const(take(state, "aux"), 32))]
    flags = 0x400 if take(state, "df") >> 63 else 0
    for name, at in FLAGS:
        v = constant(derive("words", words, name))
        flags |= v << at
    return flags


def constant(v: Value) -> int:
    """The value of an expression of constants."""
    return Evaluator(None).value(v.n)  # type: ignore[arg-type]


def image(state: bytearray | memoryview) -> bytes:
    """The state's x87 and SSE registers as FXSAVE64 writes them; instruction and data pointers are left out."""
    out = bytearray(512)
    top = take(state, "top") & 7
    status = take(state, "fsw") & 0xC5FF | take(state, "c1") | top << 11
    struct.pack_into("<HHB", out, 0, take(state, "fcw") & 0xFFFF, status, ~take(state, "ftw") & 0xFF)
    struct.pack_into("<II", out, 24, take(state, "mxcsr") & 0xFFFF_FFFF, 0xFFFF)
    for i in range(8):
        out[32 + 16 * i : 42 + 16 * i] = take(state, "st", top + i & 7).to_bytes(10, "little")
    for i in range(16):
        out[160 + 16 * i : 176 + 16 * i] = take(state, "x", i).to_bytes(16, "little")
    return bytes(out)


def upper_halves(state: bytearray | memoryview) -> bytes:
    """Of the ymm registers."""
    return b"".join(take(state, "y", i).to_bytes(16, "little") for i in range(16))


def outcome(case: Case, state: bytearray, space: Space, fault: Fault | None) -> Result:
    """What a run left behind."""
    gprs = [take(state, "r", 8 * i) for i in range(16)]
    if case.mode == 32:
        gprs = [g & 0xFFFF_FFFF for g in gprs[:8]] + case.gprs[8:]
    return Result(gprs, status_flags(state), take(state, "pc"), image(state), bytes(space.window), fault, upper_halves(state))


def run_reference(case: Case, limit: int = 4000) -> Result:
    """A case on the reference engine."""
    state, space, fault = bytearray(layout.size), Space(case), None
    fill(state, case)
    rest = Rest(state, space)
    load_segments(rest, case.mode)
    engine = Reference(state, space, rare=rest)
    try:
        for _ in range(limit):
            engine.step()
            if take(state, "pc") != CODE:
                break
        target = take(state, "pc")
        if not CODE_PAGE <= target < CODE_PAGE + 4096:
            raise Raised(PF, 0x14, target)  # a branch to where nothing can be fetched
    except Raised as raised:
        fault = Fault(0, raised.vector, raised.error or 0, raised.address or 0)
    return outcome(case, state, space, fault)


def units_apart(a: bytes, b: bytes) -> int:
    """How many units in the last place two x87 registers differ."""
    x, y = (int.from_bytes(r[:8], "little") + (int.from_bytes(r[8:10], "little") << 63) for r in (a, b))
    return abs(x - y)


def difference(g: Generated, want: Result, got: Result) -> str | None:
    """What differs from the host's processor, where the manual defines it; None if nothing does."""
    want = settled(g.case, want, got, g.address)
    if (want.fault and want.fault.vector) != (got.fault and got.fault.vector):
        return f"fault {want.fault}, we {got.fault}"
    if want.fault and got.fault:
        if want.fault.error & ~1 != got.fault.error & ~1 or want.fault.vector == PF and want.fault.address != got.fault.address:
            return f"fault {want.fault}, we {got.fault}"
    elif want.rip != got.rip:
        return f"rip {want.rip:#x}, we {got.rip:#x}"
    source = None
    if g.row.name in ("bsf", "bsr"):
        source = 0 if want.rflags & 0x40 else 1
    skip = undefined_result(g.row.name, g.size, g.count, source)
    if not skip and want.gprs != got.gprs:
        return "registers " + ", ".join(f"{i}: {a:#x}, we {b:#x}" for i, (a, b) in enumerate(zip(want.gprs, got.gprs)) if a != b)
    defined = COMPARED & ~(undefined_flags(g.row.name, g.size, g.count) if not want.fault else 0)
    if (want.rflags ^ got.rflags) & defined:
        return f"flags {want.rflags & defined:#x}, we {got.rflags & defined:#x}, before {g.case.rflags & defined:#x}"
    if not skip and want.memory != got.memory:
        at = next(i for i in range(WINDOW_SIZE) if want.memory[i] != got.memory[i])
        return f"memory at {WINDOW + at:#x}: {want.memory[at : at + 16].hex()}, we {got.memory[at : at + 16].hex()}"
    return floating_difference(g, want, got)


def floating_difference(g: Generated, wanted: Result, gotten: Result) -> str | None:
    """x87, SSE and AVX state."""
    want, got = wanted.fxsave, gotten.fxsave
    for name, at, size in (("fcw", 0, 2), ("fsw", 2, 2), ("ftw", 4, 1), ("mxcsr", 24, 4)):
        a, b = (int.from_bytes(x[at : at + size], "little") for x in (want, got))
        rounded_up = 0x200 if name == "fsw" and g.row.name in TRANSCENDENTAL else 0
        if (a ^ b) & ~rounded_up:
            return f"{name} {a:#x}, we {b:#x}, before {int.from_bytes(g.case.fxsave[at : at + size], 'little'):#x}"
    for i in range(8):
        x, y = (s[32 + 16 * i : 42 + 16 * i] for s in (want, got))
        if x != y and not (g.row.name in TRANSCENDENTAL and units_apart(x, y) <= 1):
            return f"st{i} {x[::-1].hex()}, we {y[::-1].hex()}, before {g.case.fxsave[32 + 16 * i : 42 + 16 * i][::-1].hex()}"
    for i in range(16):
        x, y = (s[160 + 16 * i : 176 + 16 * i] for s in (want, got))
        if x != y and not (g.row.name in APPROXIMATE and close(x, y)):
            return f"xmm{i} {x[::-1].hex()}, we {y[::-1].hex()}"
        x, y = (r.upper[16 * i : 16 * i + 16] for r in (wanted, gotten))
        if x != y and not (g.row.name in APPROXIMATE and close(x, y)):
            return f"ymm{i}'s upper half {x[::-1].hex()}, we {y[::-1].hex()}"
    return None


TINY = 2.0**-126 * (1 + 3 / 4096)


def close(a: bytes, b: bytes) -> bool:
    """Are the singles within a relative error of 3 * 2**-12 of one another? Near 2**-126 it is the processor's choice what is flushed to
    zero (SDM vol. 2, RCPPS)."""
    pairs = zip(struct.unpack("<4f", a), struct.unpack("<4f", b))
    return all(x == y or x != x and y != y or abs(x - y) <= max(abs(x) * 3 / 4096, TINY) for x, y in pairs)


SYSTEM = frozenset(
    """
    in out ins insb outs outsb int int3 int1 into iret hlt cli sti clts invd wbinvd wbnoinvd invlpg invpcid rdmsr wrmsr rdpmc
    rdtsc rdtscp cpuid syscall sysret sysenter sysexit swapgs lgdt lidt sgdt sidt lldt sldt ltr str lmsw smsw monitor mwait xgetbv
    xsetbv rdrand rdseed pushf popf callf jmpf retf lds les lss lfs lgs lar lsl verr verw arpl rsm getsec vmcall stac clac xsave
    xsavec xsaveopt xsaves xrstor xrstors rdfsbase rdgsbase wrfsbase wrgsbase rdpid fxsave fxrstor fsave fnsave fstenv fnstenv
    fldenv frstor bound ud0 ud1 ud2 clflush clflushopt clwb salc
    """.split()
)
"""Not run: they need privileges, differ by design, or write what the oracle cannot know (instruction pointers, times)."""


def suitable(features: frozenset[str]) -> Iterator[Row]:
    """The encodings that user code can run on a host with these features."""
    for row in ROWS:
        segment = any(x[0] in "SCDA" and x not in ("ST", "AL", "CL", "DX") for x in row.operands)
        if row.name in SYSTEM or row.name.startswith(("push_", "pop_", "int")) or segment or row.facts.get("system"):
            continue
        if row.features <= features | {"pni"}:
            yield row
