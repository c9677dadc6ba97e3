"""x87 against the host's processor: unmasked exceptions, every operand class, environments and images; and what the kernel sees."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from exuvia.isa.x86 import load
from exuvia.isa.x86.forms import ROWS
from exuvia.isa.x86.state import CR0_EM, CR0_MP, CR0_NE, CR0_TS, GP, MF, NM, layout
from tests.isa.x86.cases import Space, difference, fill, put, run_reference, take
from tests.isa.x86.reference import Fault, Left, Reference
from tests.oracle import values
from tests.oracle.case import CODE, FXSAVE_DEFAULT, WINDOW, Case, Result
from tests.oracle.generate import Generator
from tests.oracle.hostcpu import HostCpu, why_not

load()
on_the_host = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
X87 = [r for r in ROWS if r.facts.get("x87") and r.map == "" and r.opcode != 0x9B]
AREAS = ("fnstenv", "fldenv", "fnsave", "frstor", "fxsave", "fxrstor")
MXCSR_MASK = 28
"""Where the mask of MXCSR's bits stands in an FXSAVE image: processors differ in it."""


@pytest.fixture(scope="module")
def host() -> Iterator[HostCpu]:
    with HostCpu() as h:
        yield h


def unmasked(image: bytes, r: random.Random) -> bytes:
    """The image with some exceptions unmasked, and none raised."""
    out = bytearray(image)
    out[0] = 0x40 | r.getrandbits(6) & r.getrandbits(6)
    out[2] = 0
    return bytes(out)


@on_the_host
def test_unmasked_exceptions(host: HostCpu) -> None:
    maker, r, found, count = Generator(7), random.Random(7), [], 0
    for row in X87:
        if row.name in AREAS:
            continue
        cases = list(maker.cases(row, 6))
        for g in cases:
            g.case.fxsave = unmasked(g.case.fxsave, r)
        for g, want in zip(cases, host.run_many([g.case for g in cases])):
            count += 1
            got = run_reference(g.case)
            if text := difference(g, want, got):
                found.append(f"{row.name} {row.text} {g.case.code.hex()} {g.case.fxsave[:5].hex()}: {text}")
    assert not found, "\n".join([f"{len(found)} of {count}", *found[:20]])
    assert count > 1000


CLASSES = [head << 64 | significand for head, significand in values.EXTENDED_EDGES]


@on_the_host
@pytest.mark.parametrize("name", ["fadd", "fmul", "fsub", "fdiv", "fscale", "fprem", "fprem1", "fcom", "fucomi", "fyl2x", "fpatan"])
def test_classes_of_operands(host: HostCpu, name: str) -> None:
    row = next(x for x in X87 if x.name == name and not x.memory and not x.text.startswith("DC"))
    generated = next(Generator(1).cases(row, 1, modes=(64,)))
    fixed = row.fixed or 0
    pairs = random.Random(name).sample([(a, b) for a in CLASSES for b in CLASSES], 250)
    cases = []
    for a, b in pairs:
        image = bytearray(FXSAVE_DEFAULT)
        image[4] = 3
        image[32:42], image[48:58] = a.to_bytes(10, "little"), b.to_bytes(10, "little")
        cases.append(Case(bytes([row.opcode, fixed + (row.fixed_count > 1)]), fxsave=bytes(image)))
    for (a, b), case, want in zip(pairs, cases, host.run_many(cases)):
        assert difference(generated, want, run_reference(case)) is None, (hex(a), hex(b), difference(generated, want, run_reference(case)))


@on_the_host
@pytest.mark.parametrize("mode", [64, 32])
@pytest.mark.parametrize(
    "code", ["d930", "66d930", "d920", "66d920", "dd30", "66dd30", "dd20", "66dd20", "0fae00", "0fae08", "480fae00", "480fae08"]
)
def test_areas_in_memory(host: HostCpu, code: str, mode: int) -> None:
    if mode == 32 and code.startswith("48"):
        pytest.skip("REX is INC in 32-bit mode")
    r = random.Random(code)
    cases = []
    for i in range(30):
        memory = bytearray(r.randbytes(12288))
        if code.endswith("0fae08"):
            memory[:512] = values.fxsave(r)
        image = values.fxsave(r)
        cases.append(
            Case(bytes.fromhex(code), mode, [WINDOW] + [0] * 15, 0x202, unmasked(image, r) if i % 3 == 0 else image, bytes(memory))
        )
        if i % 3:
            cases[-1].fxsave = image[:2] + b"\0" + image[3:]
    for case, want in zip(cases, host.run_many(cases)):
        got = run_reference(case)
        assert want.fault is None
        assert got.fault is None
        assert blank(got.memory[:512]) == blank(want.memory[:512])
        assert registers(got) == registers(want)


def blank(area: bytes) -> bytes:
    """Without the mask of MXCSR's bits."""
    return area[:MXCSR_MASK] + bytes(4) + area[MXCSR_MASK + 4 :]


def registers(result: Result) -> list[bytes]:
    """Control, status and tag words, MXCSR, ST(0) to ST(7), xmm registers."""
    image = result.fxsave
    return [image[:5], image[24:28], *(image[32 + 16 * i : 42 + 16 * i] for i in range(8)), image[160:416]]


def processor(code: str, cr0: int, fsw: int = 0, fcw: int = 0x37F) -> tuple[bytearray, Reference]:
    """A state in 64-bit mode that is about to do `code`."""
    state, case = bytearray(layout.size), Case(bytes.fromhex(code))
    fill(state, case)
    put(state, "cr0", take(state, "cr0") & ~(CR0_NE | CR0_MP) | cr0)
    put(state, "fsw", fsw)
    put(state, "fcw", fcw)
    return state, Reference(state, Space(case))


PENDING = 0x8081


@pytest.mark.parametrize("code", ["d9e8", "d8c1", "d9d0", "9b", "d92c2500000020", "d9fe"])
def test_a_waiting_instruction_reports_what_is_pending(code: str) -> None:
    _, cpu = processor(code, CR0_NE, PENDING, 0x37E)
    with pytest.raises(Fault) as fault:
        cpu.step()
    assert fault.value.vector == MF
    state, cpu = processor(code, 0, PENDING, 0x37E)
    with pytest.raises(Left) as left:
        cpu.step()
    assert left.value.name == "ferr"
    assert take(state, "pc") == CODE  # it is done again when the interrupt has been handled


@pytest.mark.parametrize("code", ["dbe2", "dbe3", "dfe0", "dd3c2500000020", "d93c2500000020"])
def test_others_do_not_wait(code: str) -> None:
    state, cpu = processor(code, CR0_NE, PENDING, 0x37E)
    cpu.step()
    assert take(state, "pc") == CODE + len(code) // 2
    assert take(state, "fsw") == (0 if code in ("dbe2", "dbe3") else PENDING)


AVAILABLE = [("9b", CR0_TS, False), ("9b", CR0_TS | CR0_MP, True), ("9b", CR0_MP, False), ("0fae042500000020", CR0_TS, True)]


@pytest.mark.parametrize(("code", "cr0", "faults"), [("d9e8", CR0_TS, True), ("d9e8", CR0_EM, True), *AVAILABLE])
def test_not_available(code: str, cr0: int, faults: bool) -> None:
    _, cpu = processor(code, CR0_NE | cr0)
    if not faults:
        cpu.step()
        return
    with pytest.raises(Fault) as fault:
        cpu.step()
    assert fault.value.vector == NM


def test_an_instruction_leaves_its_address_and_its_operands() -> None:
    state, cpu = processor("d90500000000" + "d930", CR0_NE)
    put(state, "r", WINDOW, 0)
    cpu.memory.store(CODE + 2, 4, WINDOW + 64 - CODE - 6)
    cpu.step()
    assert (take(state, "fip"), take(state, "fdp")) == (CODE, WINDOW + 64)
    cpu.step()
    assert take(state, "fip") == CODE
    assert cpu.memory.load(WINDOW + 12, 4) == CODE
    assert cpu.memory.load(WINDOW + 20, 4) == WINDOW + 64


def test_xsave_stores_what_is_asked_for_and_xrstor_brings_it_back() -> None:
    state, cpu = processor("0fae23" + "0fae2b", CR0_NE)  # at RBX
    for name, value, slot in (("r", WINDOW, 24), ("xcr0", 3, 0), ("x", 0x1234, 3), ("st", 0xABCD, 5), ("ftw", 0x5F, 0)):
        put(state, name, value, slot)
    cpu.step()  # EDX:EAX asks for nothing
    assert cpu.memory.load(WINDOW + 160 + 48, 8) == 0
    assert cpu.memory.load(WINDOW + 512, 8) == 0
    put(state, "r", 3, 0)
    put(state, "pc", CODE)
    cpu.step()
    assert cpu.memory.load(WINDOW + 512, 8) == 3
    for name, slot in (("x", 3), ("st", 5), ("ftw", 0)):
        put(state, name, 0xFF, slot)
    cpu.step()
    assert (take(state, "x", 3), take(state, "st", 5), take(state, "ftw")) == (0x1234, 0xABCD, 0x5F)
    cpu.memory.store(WINDOW + 512, 8, 0)  # the header says that neither was saved: both are as after a reset
    put(state, "pc", CODE + 3)
    cpu.step()
    assert (take(state, "x", 3), take(state, "st", 5), take(state, "ftw"), take(state, "fcw")) == (0, 0, 0xFF, 0x37F)


@pytest.mark.parametrize(("code", "skips"), [("0fae23", False), ("0fae33", True)])
def test_the_header_says_what_is_in_use(code: str, skips: bool) -> None:
    initial = dict(fcw=0x37F, fsw=0, ftw=0xFF, mxcsr=0x1F80)

    def saved(*changes: tuple[str, int, int]) -> tuple[int, bool, bool, int]:
        """The header; whether something of the x87 and of the vector registers was written; MXCSR."""
        state, cpu = processor(code, CR0_NE)
        for name, count in (("st", 8), ("x", 16)):
            for i in range(count):
                put(state, name, 0, i)
        for name, value, slot in (("r", WINDOW, 24), ("r", 3, 0), ("xcr0", 3, 0), *((n, v, 0) for n, v in initial.items()), *changes):
            put(state, name, value, slot)
        for at in range(0, 512, 8):
            cpu.memory.store(WINDOW + at, 8, 0xA5A5)
        cpu.memory.store(WINDOW + 512, 8, 7)
        cpu.step()
        x87, vectors = (bool(cpu.memory.load(WINDOW + at, 8) != 0xA5A5) for at in (0, 160))
        return cpu.memory.load(WINDOW + 512, 8) & 3, x87, vectors, cpu.memory.load(WINDOW + 24, 4)

    assert saved() == (0, not skips, not skips, 0x1F80)
    for place in (("fcw", 0x27F, 0), ("fsw", 0x20, 0), ("ftw", 0x7F, 0), ("st", 1 << 79, 6), ("fip", 1 << 40, 0), ("top", 3, 0)):
        assert saved(place) == (1, True, not skips, 0x1F80), place
    assert saved(("x", 1 << 127, 15)) == (2, not skips, True, 0x1F80)
    assert saved(("mxcsr", 0x9FC0, 0)) == (0, not skips, not skips, 0x9FC0)


@pytest.mark.parametrize(("at", "header"), [(8, 0), (0, 1 << 2), (0, 1 << 64)])
def test_xrstor_refuses_a_wrong_area(at: int, header: int) -> None:
    state, cpu = processor("0fae2b", CR0_NE)
    put(state, "r", WINDOW + at, 24)
    put(state, "xcr0", 3)
    cpu.memory.store(WINDOW + 512, 16, header)
    with pytest.raises(Fault) as fault:
        cpu.step()
    assert fault.value.vector == GP
