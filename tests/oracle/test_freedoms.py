"""Each freedom: what another processor does is taken for ours, and a third thing is not."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from exuvia.isa.x86 import load
from tests.isa.x86.cases import COMPARED, run_reference
from tests.oracle.case import CODE, FXSAVE_DEFAULT, WINDOW, WINDOW_SIZE, Case, Fault, Result
from tests.oracle.freedoms import MXCSR, RCX, RDI, RSI, XMM, apart, settled

load()
END = WINDOW + WINDOW_SIZE


def registers(**values: int) -> list[int]:
    names = "rax rcx rdx rbx rsp rbp rsi rdi".split()
    return [values.get(name, 0) for name in names] + [0] * 8


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


@pytest.mark.parametrize(
    ("code", "mode", "opcode"),
    [("f2480fa0", 64, "0fa0"), ("66f3a7", 32, "a7"), ("40", 32, "40"), ("66410f3a40d1f4", 64, "0f3a40"), ("67440f38c90b", 64, "0f38c9")],
)
def test_instructions_are_taken_apart(code: str, mode: int, opcode: str) -> None:
    assert apart(Case(bytes.fromhex(code), mode)).opcode.hex() == opcode


@pytest.mark.parametrize("code", ["06", "0e", "16", "1e", "0fa0", "0fa8"])
def test_pushed_selector(code: str) -> None:
    case = Case(bytes.fromhex(code), 32, registers(rsp=WINDOW + 64), memory=b"\xa5" * WINDOW_SIZE)
    ours = run_reference(case)
    assert ours.memory[62:64] == bytes(2)
    other = replace(ours, memory=patched(ours.memory, 62, b"\xa5\xa5"))
    assert settled(case, other, ours) == ours
    for wrong in (patched(ours.memory, 62, b"\xa5\0"), patched(other.memory, 60, b"\xff"), patched(other.memory, 64, b"\0")):
        assert settled(case, replace(ours, memory=wrong), ours) != ours
    short = replace(case, code=b"\x66" + case.code)
    assert settled(short, other, ours) == other


STRINGS = [("f3a6", 1), ("f366a7", 2), ("f3a7", 4), ("f348a7", 8), ("f2a6", 1), ("f3ae", 1), ("f3af", 4), ("f2af", 4)]


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize(("code", "size"), STRINGS)
def test_compared_flags(code: str, size: int, down: bool) -> None:
    """Three comparisons, then a page that is not there; the last comparison's flags come from the same instruction without REP."""
    equal = code.startswith("f3")
    step = -size if down else size
    edge, middle = WINDOW + 2 * size if down else END - 3 * size, WINDOW + 4096
    source, target = (middle, edge) if code[-2] == "a" and code[-1] in "ef" else (edge, middle)
    memory = bytes(WINDOW_SIZE) if equal else bytes(range(1, 17)) * (WINDOW_SIZE // 16)
    gprs = registers(rax=0 if equal else 0x8000_0000_8000_80F0, rcx=9, rsi=source, rdi=target)
    if not equal:
        gprs[RDI if source == edge else RSI] += 1
    case = Case(bytes.fromhex(code), 64, gprs, 0xCC7 if down else 0x8C7, memory=memory)
    ours = run_reference(case)
    before = case.rflags & COMPARED
    assert ours.fault and ours.gprs[RCX] == 6 and ours.rflags == before
    once = replace(case, code=case.code[1:], gprs=list(ours.gprs))
    once.gprs[RSI] -= step
    once.gprs[RDI] -= step
    last = run_reference(once).rflags
    assert last != before
    assert settled(case, replace(ours, rflags=last), ours) == ours
    assert settled(case, replace(ours, rflags=last ^ 1), ours) != ours
    assert settled(case, replace(ours, rflags=last, fault=None), ours).rflags == last, "without a fault they are the last comparison's"


def test_first_operand() -> None:
    case = Case(b"\xa7", 64, registers(rsi=END - 2, rdi=WINDOW - 100))
    ours = run_reference(case)
    assert ours.fault
    addresses = {END, WINDOW - 100}
    assert ours.fault.address in addresses
    for address in (END, WINDOW - 100, WINDOW - 101, END - 2):
        other = replace(ours, fault=Fault(11, 14, 4, address))
        seen = settled(case, other, ours).fault
        assert seen is not None and (seen.address == ours.fault.address) == (address in addresses)


@pytest.mark.parametrize("code", ["0f38c808", "0f38cd08", "0f3acc0801"])
def test_unaligned_sha(code: str) -> None:
    case = Case(bytes.fromhex(code), 64, registers(rax=WINDOW + 8), 0)
    ours = run_reference(case)
    assert ours.fault == Fault(0, 13, 0, 0)
    done = replace(ours, fault=None, rip=CODE + len(case.code))
    for other in (done, replace(ours, fault=Fault(11, 14, 4, END))):
        assert settled(case, other, ours, WINDOW + 8) == ours
        assert settled(case, other, ours, WINDOW + 16) == other
    invalid = replace(ours, fault=Fault(4, 6, 0, 0))
    assert settled(case, invalid, ours, WINDOW + 8) == invalid
    assert settled(case, ours, done, WINDOW + 8) == ours


def test_not_a_number() -> None:
    """DPPS of NaNs in lanes 1 to 3 of the first operand, lane 2 not chosen; lane 1 is signalling."""
    image = bytearray(FXSAVE_DEFAULT)
    image[XMM : XMM + 32] = struct.pack("<8I", 0, 0x7F80_0111, 0x7FC0_0222, 0x7FC0_0333, 0, 0x7FC0_0444, 0, 0x7FC0_0555)
    case = Case(bytes.fromhex("660f3a40c1b1"), fxsave=bytes(image))
    ours = run_reference(case)
    for value in (0x7FC0_0111, 0x7FC0_0333, 0xFFC0_0000):
        other = replace(ours, fxsave=patched(ours.fxsave, XMM, struct.pack("<I", value)))
        assert settled(case, other, ours).fxsave == ours.fxsave
    for value in (0x7F80_0111, 0x7FC0_0222, 0x7FC0_0444, 0x7FC0_0555, 0, 0x7FC0_0000):
        other = replace(ours, fxsave=patched(ours.fxsave, XMM, struct.pack("<I", value)))
        assert settled(case, other, ours).fxsave != ours.fxsave
    zeroed = replace(ours, fxsave=patched(ours.fxsave, XMM + 4, struct.pack("<I", 0x7FC0_0111)))
    assert settled(case, zeroed, ours).fxsave != ours.fxsave, "a lane that is not wanted is zero"
    quiet = replace(ours, fxsave=patched(ours.fxsave, MXCSR, struct.pack("<I", 0x1F80)))
    default = replace(quiet, fxsave=patched(quiet.fxsave, XMM, struct.pack("<I", 0xFFC0_0000)))
    assert settled(case, default, quiet).fxsave != quiet.fxsave, "the default NaN comes with an invalid operation"


@pytest.mark.parametrize("code", ["d910", "dd18", "db10", "df38", "dd08", "db38", "df30"])
def test_forbidden_store(code: str) -> None:
    """ST(0) is empty, and the invalid operation unmasked."""
    image = bytearray(FXSAVE_DEFAULT)
    image[0] = 0x7E
    case = Case(bytes.fromhex(code), gprs=registers(rax=END - 1), fxsave=bytes(image))
    ours = run_reference(case)
    assert ours.fault is None and ours.fxsave[2] & 0x80
    other = Result(case.gprs, case.rflags, CODE, case.fxsave, case.memory, Fault(11, 14, 6, END))
    assert settled(case, other, ours) == ours
    for wrong in (
        replace(other, fault=Fault(11, 14, 4, END)),
        replace(other, fxsave=patched(case.fxsave, 2, b"\x41")),
        replace(other, memory=patched(case.memory, WINDOW_SIZE - 1, b"\1")),
    ):
        assert settled(case, wrong, ours) == wrong
    masked = replace(ours, fxsave=patched(ours.fxsave, 2, b"\x41"))
    assert settled(case, other, masked) == other
    load_from = replace(case, code=bytes.fromhex("d900"))
    assert settled(load_from, other, ours) == other


@pytest.mark.parametrize("before", [8, 9])
@pytest.mark.parametrize(("code", "first"), [("db38", "1122334455667788"), ("df30", "1234567890123456")])
def test_parted_store(code: str, first: str, before: int) -> None:
    image = bytearray(FXSAVE_DEFAULT)
    image[4] = 1
    image[32:42] = bytes.fromhex("11223344556677883f40")
    case = Case(bytes.fromhex(code), gprs=registers(rax=END - before), fxsave=bytes(image), memory=b"\xee" * WINDOW_SIZE)
    ours = run_reference(case)
    assert ours.fault and ours.fault.error == 6 and ours.memory == case.memory
    other = replace(ours, memory=patched(case.memory, WINDOW_SIZE - before, bytes.fromhex(first)))
    assert settled(case, other, ours, END - before) == ours
    assert settled(case, other, ours, END - 7) == other
    for at, new in ((before, "112233445566ee99"), (before + 1, first), (before, "1f")):
        wrong = replace(ours, memory=patched(case.memory, WINDOW_SIZE - at, bytes.fromhex(new)))
        assert settled(case, wrong, ours, END - before) != ours
    assert settled(case, replace(other, fault=None), ours, END - before) == replace(other, fault=None)
    emptied = replace(case, fxsave=FXSAVE_DEFAULT)
    indefinite = replace(ours, fxsave=run_reference(emptied).fxsave, memory=patched(case.memory, WINDOW_SIZE - before, bytes(7) + b"\xc0"))
    assert settled(emptied, indefinite, ours, END - before).memory == ours.memory


def test_gathered() -> None:
    """VPGATHERDD xmm1, [rax + xmm2 * 1], xmm3: lane 0 is loaded, lane 1 not wanted, lane 2 faults; what the mask's lanes are meanwhile."""
    image = bytearray(FXSAVE_DEFAULT)
    image[XMM + 16 : XMM + 64] = bytes(16) + struct.pack("<8I", 0, 0, 8, 0, 0xBF800000, 0x3F800000, 0xBF800000, 0xBF800000)
    before = bytes(image)
    case = Case(bytes.fromhex("c4e261900c10"), gprs=registers(rax=END - 4), fxsave=before, upper=b"\x77" * 256)
    fault = Fault(11, 14, 4, END + 4)
    lanes = struct.pack("<4I", 0, 0, 0xFFFFFFFF, 0xFFFFFFFF)
    upper = case.upper[:16] + bytes(16) + case.upper[32:48] + bytes(16) + case.upper[64:]
    ours = Result(case.gprs, case.rflags, CODE, patched(before, XMM + 48, lanes), case.memory, fault, upper)
    as_it_was = struct.pack("<4I", 0, 0x3F800000, 0xBF800000, 0xBF800000)
    other = replace(ours, fxsave=patched(before, XMM + 48, as_it_was), upper=case.upper)
    assert settled(case, other, ours) == ours
    for wrong in (
        replace(other, fault=Fault(11, 14, 4, END)),
        replace(other, fxsave=patched(other.fxsave, XMM + 56, struct.pack("<I", 0))),
        replace(other, fxsave=patched(other.fxsave, XMM + 48, struct.pack("<I", 0xBF800000))),
        replace(other, upper=patched(other.upper, 16, b"\x76")),
        replace(other, upper=patched(other.upper, 48, b"\x76")),
    ):
        assert settled(case, wrong, ours) != ours
    assert settled(replace(case, code=bytes.fromhex("c4e2618c0c10")), other, ours) == other


def test_noted_exceptions() -> None:
    """VCVTPS2PH [rax], xmm1, 2"""
    case = Case(bytes.fromhex("c4e3791d0802"), gprs=registers(rax=END), fxsave=FXSAVE_DEFAULT)
    silent = Result(case.gprs, case.rflags, CODE, case.fxsave, case.memory, Fault(11, 14, 6, END))
    ours = replace(silent, fxsave=patched(case.fxsave, MXCSR, struct.pack("<I", 0x1FA8)))
    assert settled(case, silent, ours) == ours
    other = replace(silent, fxsave=patched(case.fxsave, MXCSR, struct.pack("<I", 0x1F81)))
    assert settled(case, other, ours) == other
    done = replace(silent, fault=None)
    assert settled(case, done, ours) == done
    rounding = replace(silent, fxsave=patched(case.fxsave, MXCSR, struct.pack("<I", 0x3FA8)))
    assert settled(case, silent, rounding) == silent
