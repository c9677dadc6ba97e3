"""What the manuals leave to the processor, and processors do differently: each freedom once, with the manual's section.

`settled` gives the host's result as if the host had chosen as we did, where both choices are allowed; all else stays to be compared.
What is undefined in every result, flags and destinations, is in `undefined.py`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.oracle.case import CODE, WINDOW, WINDOW_SIZE, Case, Fault, Result
from tests.oracle.undefined import AF, CF, OF, PF, SF, STATUS, ZF

APPROXIMATE = frozenset(vex + name for vex in ("", "v") for name in ("rcpps", "rcpss", "rsqrtps", "rsqrtss"))
"""Results to 12 bits, of which each processor model gives its own (SDM vol. 2, RCPPS)."""
TRANSCENDENTAL = frozenset(("fsin", "fcos", "fsincos", "fptan", "fpatan", "f2xm1", "fyl2x", "fyl2xp1"))
"""Results within one unit in the last place (SDM vol. 1, 8.3.10)."""
RCX, RSP, RSI, RDI = 1, 4, 6, 7
GENERAL_PROTECTION, PAGE_FAULT = 13, 14
FSW, MXCSR, XMM = 2, 24, 160
"""Where they stand in an FXSAVE image."""
ES, IE, EXCEPTIONS = 0x80, 1, 0x3F
"""FSW: an unmasked exception is pending; MXCSR: an operation was invalid; all that it notes."""


@dataclass(frozen=True)
class Bytes:
    """An instruction, taken apart as far as the freedoms need it."""

    prefixes: bytes
    rex: int
    opcode: bytes
    """With its escape bytes; of VEX only the first byte."""
    rest: bytes
    """ModRM and what follows."""
    vex: Vex | None = None


@dataclass(frozen=True)
class Vex:
    """Of an instruction with VEX; its opcode is not among the others (SDM vol. 2, 2.3.5)."""

    map: int
    last: int
    """W, vvvv, L and pp."""
    opcode: int

    @property
    def operand(self) -> int:
        """The register that vvvv names."""
        return ~self.last >> 3 & 15


def apart(case: Case) -> Bytes:
    """The case's first instruction (SDM vol. 2, 2.1)."""
    code, at, rex = case.code, 0, 0
    while code[at] in b"\x66\x67\xf0\xf2\xf3\x26\x2e\x36\x3e\x64\x65":
        at += 1
    prefixes = code[:at]
    if case.mode == 64 and code[at] >> 4 == 4:
        rex, at = code[at], at + 1
    if code[at] in (0xC4, 0xC5) and (case.mode == 64 or code[at + 1] >= 0xC0):
        head, body = (code[at + 1] & 31, code[at + 2 :]) if code[at] == 0xC4 else (1, bytes([code[at + 1] & 0x7F]) + code[at + 2 :])
        inverted = ~code[at + 1] >> 5 & (7 if code[at] == 0xC4 else 4)
        return Bytes(prefixes, 0x40 | inverted | body[0] >> 4 & 8, code[at : at + 1], body[2:], Vex(head, body[0], body[1]))
    length = (3 if code[at + 1] in (0x38, 0x3A) else 2) if code[at] == 0x0F else 1
    return Bytes(prefixes, rex, code[at : at + length], code[at + length :])


Freedom = Callable[[Case, Bytes, int | None, Result, Result], Result]


def settled(case: Case, want: Result, got: Result, address: int | None = None) -> Result:
    """The host's result `want` with our choices, seen in `got`, where they are allowed. `address`: of the case's operand in memory."""
    if case.code:
        for freedom in FREEDOMS:
            want = freedom(case, apart(case), address, want, got)
    return want


def pushed_selector(case: Case, code: Bytes, _: int | None, want: Result, got: Result) -> Result:
    """A segment register pushed with 32 bits: extended with zeros, or only the low half is written (SDM vol. 2, PUSH)."""
    wide = case.mode == 32 and 0x66 not in code.prefixes
    if not wide or code.opcode.hex() not in ("06", "0e", "16", "1e", "0fa0", "0fa8") or want.fault or got.fault:
        return want
    at = want.gprs[RSP] + 2 - WINDOW
    allowed = (bytes(2), case.memory[at : at + 2])
    if not {want.memory[at : at + 2], got.memory[at : at + 2]} <= set(allowed):
        return want
    return replace(want, memory=want.memory[:at] + got.memory[at : at + 2] + want.memory[at + 2 :])


@dataclass(frozen=True)
class Comparison:
    """CMPS or SCAS in the middle."""

    size: int
    step: int
    addresses: tuple[int, ...]
    """Of the elements that are next."""


def comparison(case: Case, code: Bytes, result: Result) -> Comparison | None:
    """Where CMPS or SCAS stood when it faulted."""
    if code.opcode not in (b"\xa6", b"\xa7", b"\xae", b"\xaf"):
        return None
    size = 1 if not code.opcode[0] & 1 else 8 if code.rex & 8 else 2 if 0x66 in code.prefixes else 4
    registers = (RSI, RDI) if code.opcode[0] < 0xA8 else (RDI,)
    return Comparison(size, -size if case.rflags & 0x400 else size, tuple(result.gprs[r] for r in registers))


def compared_flags(case: Case, code: Bytes, _: int | None, want: Result, got: Result) -> Result:
    """Repeated CMPS or SCAS that faults: the flags of before (SDM vol. 2, REP), or as AMD's manual leaves them, of the last comparison."""
    c = comparison(case, code, want)
    if c is None or want.fault is None or got.fault is None or not {0xF2, 0xF3} & set(code.prefixes):
        return want
    allowed = {case.rflags & STATUS}
    if want.gprs[RCX] != case.gprs[RCX]:
        a, *b = (read(case, at - c.step, c.size) for at in c.addresses)
        allowed.add(subtraction(a, b[0], 8 * c.size) if b else subtraction(case.gprs[0] & (1 << 8 * c.size) - 1, a, 8 * c.size))
    if {want.rflags & STATUS, got.rflags & STATUS} <= allowed:
        return replace(want, rflags=want.rflags & ~STATUS | got.rflags & STATUS)
    return want


def read(case: Case, address: int, size: int) -> int:
    """An element in the case's window."""
    return int.from_bytes(case.memory[address - WINDOW : address - WINDOW + size], "little")


def subtraction(a: int, b: int, width: int) -> int:
    """The status flags of CMP."""
    r, sign = (a - b) % (1 << width), 1 << width - 1
    return (
        (CF if a < b else 0)
        | (PF if (r & 0xFF).bit_count() % 2 == 0 else 0)
        | (AF if a & 15 < b & 15 else 0)
        | (ZF if r == 0 else 0)
        | (SF if r & sign else 0)
        | (OF if (a ^ b) & (a ^ r) & sign else 0)
    )


def first_operand(case: Case, code: Bytes, _: int | None, want: Result, got: Result) -> Result:
    """CMPS of which both elements fault: faults of one instruction have no order among them (SDM vol. 3, 6.9)."""
    c = comparison(case, code, want)
    if c is None or want.fault is None or got.fault is None or {want.fault.vector, got.fault.vector} != {PAGE_FAULT}:
        return want
    allowed = {fault for at in c.addresses if (fault := unmapped(at, c.size)) is not None}
    if {want.fault.address, got.fault.address} <= allowed:
        return replace(want, fault=replace(want.fault, address=got.fault.address))
    return want


def unmapped(address: int, size: int) -> int | None:
    """The address that an access to the window faults with, None if it does not."""
    end = WINDOW + WINDOW_SIZE
    first = next((a for a in (address, address + size - 1) if not WINDOW <= a < end), None)
    return first if first is None or first == address else first & ~4095


SHA = frozenset(f"0f38{x:02x}" for x in range(0xC8, 0xCE)) | {"0f3acc"}


def unaligned_sha(case: Case, code: Bytes, address: int | None, want: Result, got: Result) -> Result:
    """SHA on an unaligned operand: #GP(0) (SDM vol. 2, 2.4.4, exceptions type 4); AMD's processors load it."""
    ours = got.fault is not None and (got.fault.vector, got.fault.error) == (GENERAL_PROTECTION, 0)
    theirs = want.fault is None or want.fault.vector == PAGE_FAULT
    if code.opcode.hex() not in SHA or not ours or not theirs or address is None or address % 16 == 0:
        return want
    return unchanged(case, Fault(0, GENERAL_PROTECTION, 0, 0))


def unchanged(case: Case, fault: Fault) -> Result:
    """Nothing but a fault."""
    return Result(list(case.gprs), case.rflags, CODE, case.fxsave, case.memory, fault, case.upper)


def not_a_number(case: Case, code: Bytes, address: int | None, want: Result, got: Result) -> Result:
    """DPPS, DPPD: which lane's NaN comes out is the processor's choice (SDM vol. 2, DPPS; each product: vol. 1, table 4-7)."""
    vex = code.vex
    opcode = (
        vex.opcode if vex is not None and (vex.map, vex.last & 3) == (3, 1) else code.opcode[2] if code.opcode[:2] == b"\x0f\x3a" else 0
    )
    if opcode not in (0x40, 0x41) or want.fault or got.fault:
        return want
    w = 4 if opcode == 0x40 else 8
    modrm, immediate = code.rest[0], code.rest[-1]
    target, source = modrm >> 3 & 7 | (code.rex & 4) << 1, modrm & 7 | (code.rex & 1) << 3
    first = target if vex is None else vex.operand & (15 if case.mode == 64 else 7)
    invalid = struct.unpack_from("<I", want.fxsave, MXCSR)[0] & IE
    results = []
    for half in range(2 if vex is not None and vex.last & 4 else 1):
        a = vector(case, first, half)
        b = vector(case, source, half) if modrm >= 0xC0 else operand(case, address, 16 * half)
        allowed = chosen_nans(a, b, w, immediate) | ({INDEFINITE_NAN[w]} if invalid else set())
        lanes = [(vector(want, target, half)[at : at + w], vector(got, target, half)[at : at + w]) for at in range(0, 16, w)]
        results.append(b"".join(ours if {theirs, ours} <= allowed else theirs for theirs, ours in lanes))
    image, upper = bytearray(want.fxsave), bytearray(want.upper)
    image[XMM + 16 * target : XMM + 16 * target + 16] = results[0]
    if len(results) > 1:
        upper[16 * target : 16 * target + 16] = results[1]
    return replace(want, fxsave=bytes(image), upper=bytes(upper))


INDEFINITE_NAN = {4: bytes.fromhex("0000c0ff"), 8: bytes.fromhex("000000000000f8ff")}


def chosen_nans(a: bytes, b: bytes, w: int, immediate: int) -> set[bytes]:
    """The NaNs that the chosen products may give, of lanes of w bytes."""
    exponent, quiet = (0x7F80_0000, 1 << 22) if w == 4 else (0x7FF << 52, 1 << 51)

    def is_nan(x: int) -> bool:
        return x & exponent == exponent and x & quiet * 2 - 1 != 0

    allowed = set()
    for lane in range(16 // w):
        x, y = (int.from_bytes(v[lane * w : lane * w + w], "little") for v in (a, b))
        if immediate >> 4 + lane & 1 and (is_nan(x) or is_nan(y)):
            allowed.add(((x if is_nan(x) else y) | quiet).to_bytes(w, "little"))
    return allowed


def vector(state: Case | Result, number: int, half: int) -> bytes:
    """A vector register's low or high 128 bits."""
    return state.upper[16 * number : 16 * number + 16] if half else register(state.fxsave, number)


def register(image: bytes, number: int) -> bytes:
    """An xmm register."""
    return image[XMM + 16 * number : XMM + 16 * number + 16]


def operand(case: Case, address: int | None, offset: int = 0) -> bytes:
    """16 bytes of an operand in memory."""
    assert address is not None
    at = address + offset - WINDOW
    return case.memory[at : at + 16]


STORES = frozenset((0xD9, d) for d in (2, 3)) | {(x, d) for x in (0xDB, 0xDD, 0xDF) for d in (1, 2, 3)} | {(0xDB, 7), (0xDF, 6), (0xDF, 7)}
"""FST, FSTP, FIST, FISTP, FISTTP, FBSTP: the opcode and ModRM.reg."""


def forbidden_store(case: Case, code: Bytes, address: int | None, want: Result, got: Result) -> Result:
    """An x87 store that an unmasked exception forbids, where none is possible: page fault first, or the exception (SDM vol. 3, 6.9)."""
    store = bool(code.rest) and code.rest[0] < 0xC0 and (code.opcode[0], code.rest[0] >> 3 & 7) in STORES
    (status,) = struct.unpack_from("<H", got.fxsave, FSW)
    if not store or want.fault is None or want.fault.vector != PAGE_FAULT or not want.fault.error & 2 or got.fault or not status & ES:
        return want
    before = unchanged(case, want.fault)
    untouched = (want.gprs, want.memory, want.fxsave[:5], want.fxsave[32:]) == (
        before.gprs,
        before.memory,
        before.fxsave[:5],
        before.fxsave[32:],
    )
    return got if untouched and got.memory == case.memory else want


def parted_store(case: Case, code: Bytes, address: int | None, want: Result, got: Result) -> Result:
    """FSTP m80, FBSTP to where only the first quadword can be written: whether it is, when the rest faults (SDM vol. 3, 8.1.1)."""
    form = bool(code.rest) and code.rest[0] < 0xC0 and (code.opcode[0], code.rest[0] >> 3 & 7)
    if form not in ((0xDB, 7), (0xDF, 6)) or address is None or WINDOW + WINDOW_SIZE - address not in (8, 9):
        return want
    at = address - WINDOW
    written = want.memory[at : at + 8]
    if form == (0xDF, 6):
        allowed = written == INDEFINITE or all(b < 0xA0 and b & 15 < 10 for b in written)
    else:
        empty = not case.fxsave[4] >> (case.fxsave[3] >> 3 & 7) & 1
        allowed = written == (INDEFINITE if empty else case.fxsave[32:40])
    faults = [r.fault is not None and r.fault.vector == PAGE_FAULT and r.fault.error & 2 for r in (want, got)]
    if not allowed or not all(faults) or got.memory != case.memory:
        return want
    return replace(want, memory=want.memory[:at] + case.memory[at : at + 8] + want.memory[at + 8 :])


MASKED_STORES = frozenset((0x2E, 0x2F, 0x8E))


def masked_store(case: Case, code: Bytes, address: int | None, want: Result, got: Result) -> Result:
    """VMASKMOV, VPMASKMOV to where a page fault is: which byte of its lanes the fault names."""
    vex = code.vex
    if vex is None or vex.map != 2 or vex.opcode not in MASKED_STORES or want.fault is None or got.fault is None or address is None:
        return want
    if {want.fault.vector, got.fault.vector} != {PAGE_FAULT} or want.fault.error != got.fault.error:
        return want
    size = 32 if vex.last & 4 else 16
    w = 8 if vex.opcode == 0x2F or vex.opcode == 0x8E and vex.last & 0x80 else 4
    mask = register(case.fxsave, vex.operand) + case.upper[16 * vex.operand : 16 * vex.operand + 16]
    wanted = {address + k + j for k in range(0, size, w) if mask[k + w - 1] & 0x80 for j in range(w)}
    if {want.fault.address, got.fault.address} <= {a for a in wanted if not WINDOW <= a < WINDOW + WINDOW_SIZE}:
        return replace(want, fault=replace(want.fault, address=got.fault.address))
    return want


GATHERS = range(0x90, 0x94)


def gathered(case: Case, code: Bytes, _: int | None, want: Result, got: Result) -> Result:
    """VGATHER, VPGATHER that faults: whether what is not done yet of the mask's lanes is all ones or zeros by then, and what lies above a
    vector of 128 bits zero (SDM vol. 2, VPGATHERDD, says so of its operation; processors wait until the instruction is done)."""
    vex = code.vex
    if vex is None or vex.map != 2 or vex.opcode not in GATHERS or not same_fault(want, got):
        return want
    w, mask, size = 8 if vex.last & 0x80 else 4, vex.operand, 32 if vex.last & 4 else 16
    before, theirs, ours = (vector(state, mask, 0) + vector(state, mask, 1) for state in (case, want, got))
    for k in range(0, 32, w):
        if theirs[k : k + w] not in (before[k : k + w], ours[k : k + w]) or k < size and (theirs[k + w - 1] ^ ours[k + w - 1]) & 0x80:
            return want
    settled = with_vector(want, mask, ours)
    into = code.rest[0] >> 3 & 7 | (code.rex & 4) << 1
    if size == 16 and vector(want, into, 1) in (vector(case, into, 1), bytes(16)):
        settled = with_vector(settled, into, vector(want, into, 0) + vector(got, into, 1))
    return settled


def noted_exceptions(case: Case, code: Bytes, _: int | None, want: Result, got: Result) -> Result:
    """VCVTPS2PH to where a page fault is: whether the exceptions of what cannot be stored are noted (SDM vol. 2, VCVTPS2PH, is silent)."""
    vex = code.vex
    if vex is None or (vex.map, vex.opcode) != (3, 0x1D) or not same_fault(want, got):
        return want
    before, theirs, ours = (struct.unpack_from("<I", image, MXCSR)[0] for image in (case.fxsave, want.fxsave, got.fxsave))
    if theirs != before or before & ~ours or (ours ^ before) & ~EXCEPTIONS:
        return want
    return replace(want, fxsave=want.fxsave[:MXCSR] + got.fxsave[MXCSR : MXCSR + 4] + want.fxsave[MXCSR + 4 :])


def same_fault(want: Result, got: Result) -> bool:
    """Did both fault, at the same address?"""
    faults = [(r.fault.vector, r.fault.address) for r in (want, got) if r.fault is not None]
    return len(faults) == 2 and faults[0] == faults[1]


def with_vector(result: Result, number: int, value: bytes) -> Result:
    """The result with all 256 bits of a vector register."""
    low, high = XMM + 16 * number, 16 * number
    fxsave = result.fxsave[:low] + value[:16] + result.fxsave[low + 16 :]
    return replace(result, fxsave=fxsave, upper=result.upper[:high] + value[16:] + result.upper[high + 16 :])


INDEFINITE = bytes(7) + b"\xc0"
"""The first quadword of what is stored for the indefinite value, binary or decimal."""
FREEDOMS: tuple[Freedom, ...] = (
    pushed_selector, compared_flags, first_operand, unaligned_sha, not_a_number, forbidden_store, parted_store, masked_store, gathered,
    noted_exceptions,
)  # fmt: skip
