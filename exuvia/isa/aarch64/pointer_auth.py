"""Pointer authentication, with an algorithm of our own (FEAT_PACIMP; DDI 0487, D8.10, C6.2: PACIA and its kin)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.trace import function, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.aarch64.bti import call, jump
from exuvia.isa.aarch64.cpu import EC_PAC, TO_EL2, Cpu, enter, raise_, undefined
from exuvia.isa.aarch64.exceptions import branch_to
from exuvia.isa.aarch64.forms import op
from exuvia.isa.aarch64.paging import pick, yes
from exuvia.isa.aarch64.state import LR, SP, ZR

ENABLES = dict(ia=1 << 31, ib=1 << 30, da=1 << 27, db=1 << 13)  # in SCTLR_ELx
HCR_API = 1 << 41
ODD = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
A, B = 0, 1  # which of a kind's two keys: the error that a pointer shows says it
FACTS: dict[str, str] = {"feature": "paca"}


@function(64, 64, 64, 64, returns=64)
def pointer_code(pointer: Value, modifier: Value, low: Value, high: Value) -> Value:
    """ComputePAC(), as an implementation may define it: every bit depends on all of the arguments."""
    x = (pointer ^ low) * ODD[0]
    x = (x ^ (x.u >> 32)) + (modifier ^ high)
    for odd in ODD[1:]:
        x = (x ^ (x.u >> 30)) * odd
    x = (x ^ (x.u >> 31)) ^ high
    return (x * ODD[0]) ^ (x.u >> 27)


class Pointer:
    """Where in a pointer its code stands: CalculateBottomPACBit() and the top byte (by TCR_ELx)."""

    def __init__(self, cpu: Cpu, v: Value, instruction: bool) -> None:
        self.v = v
        el2 = cpu.el == 2
        upper = (v.bit(55) == 1) & ~el2
        tcr = pick(el2, cpu.tcr_el2, cpu.tcr_el1)
        ignored = pick(el2, tcr.u >> 20, pick(upper, tcr.u >> 38, tcr.u >> 37)).low(1) == 1
        if instruction:
            ignored = ignored & (pick(el2, tcr.u >> 29, pick(upper, tcr.u >> 52, tcr.u >> 51)).low(1) == 0)
        size = pick(upper, tcr.u >> 16, tcr) & 63
        size = pick(size.u < 16, 16, pick(size.u > 39, 39, size))
        below = (lift(1, 64) << (lift(64, 64) - size)) - 1
        self.ignored = ignored
        self.field = ~below & pick(ignored, (1 << 55) - 1, ~(1 << 55) & (1 << 64) - 1)  # the code; bit 55 says which half it is of
        self.extension = ~below & pick(ignored, (1 << 56) - 1, (1 << 64) - 1)

    def extended(self, sign: Value) -> Value:
        """With copies of a bit in the place of the code."""
        return (self.v & ~self.extension) | pick(sign, self.extension, 0)


def key(cpu: Cpu, name: str) -> tuple[Value, Value]:
    """The two halves of a key."""
    return cpu.get((f"ap{name}keylo_el1", 0, 64)), cpu.get((f"ap{name}keyhi_el1", 0, 64))


def enabled(cpu: Cpu, name: str) -> Value:
    """Is the key in use? EL2 may want to know of it."""
    sctlr = pick(cpu.el == 2, cpu.sctlr_el2, cpu.sctlr_el1)
    on = (sctlr & ENABLES[name]) != 0
    with when(on & (cpu.has_el2 != 0) & (cpu.el != 2) & ((cpu.hcr_el2 & HCR_API) == 0)):
        raise_(EC_PAC | TO_EL2)
    return on


def sign(cpu: Cpu, v: Value, modifier: Value, name: str) -> Value:
    """AddPAC()."""
    p = Pointer(cpu, v, name[0] == "i")
    half = pick(p.ignored, v.u >> 55, v.u >> 63).low(1) == 1
    code = pointer_code(p.extended(half), modifier, *key(cpu, name))
    above = v & p.extension
    spoilt = (above != 0) & (above != p.extension)
    code = code ^ yes(spoilt, 1) * pick(p.ignored, 1 << 54, 1 << 62)
    signed = (v & ~p.extension) | (code & p.field) | yes(half, 1 << 55)
    return pick(enabled(cpu, name), signed, v)


def authenticate(cpu: Cpu, v: Value, modifier: Value, name: str) -> Value:
    """Auth(): the pointer, or one that no translation has."""
    p = Pointer(cpu, v, name[0] == "i")
    original = p.extended(v.bit(55) == 1)
    code = pointer_code(original, modifier, *key(cpu, name))
    error = 1 + (name[1] == "b")
    wrong = pick(p.ignored, (original & ~(3 << 53)) | error << 53, (original & ~(3 << 61)) | error << 61)
    return pick(enabled(cpu, name), pick(((code ^ v) & p.field) == 0, original, wrong), v)


def strip(cpu: Cpu, v: Value, instruction: bool) -> Value:
    """Strip()."""
    return Pointer(cpu, v, instruction).extended(v.bit(55) == 1)


Operation = Callable[[Cpu, Value, Value, str], Value]


def of_registers(code: int, mnemonic: str, name: str, f: Operation) -> None:
    """A pointer in Rd with a modifier in Rn, and with zero."""

    @op(f"1 1 0 11010110 00001 {code:06b} Rn|SP Rd", mnemonic + name, asm="{Rd}, {Rn}", **FACTS)
    def register(cpu: Cpu) -> None:
        cpu.Rd = f(cpu, cpu.Rd, cpu.Rn, name)

    @op(f"1 1 0 11010110 00001 {code | 8:06b} 11111 Rd", f"{mnemonic}{name[0]}z{name[1]}", asm="{Rd}", **FACTS)
    def zero(cpu: Cpu) -> None:
        cpu.Rd = f(cpu, cpu.Rd, lift(0, 64), name)


def of_hint(number: int, mnemonic: str, name: str, f: Operation, target: int, modifier: int) -> None:
    """In the space of hints: x17 by x16, x30 by zero or the stack pointer."""

    @op(f"11010101000000110010 {number >> 3:04b} {number & 7:03b} 11111", mnemonic, **FACTS)
    def run(cpu: Cpu) -> None:
        cpu.set_X(target, f(cpu, cpu.X(target), cpu.X(modifier), name))


for _k, _name in enumerate(ENABLES):
    of_registers(_k, "pac", _name, sign)
    of_registers(_k + 4, "aut", _name, authenticate)
for _k, _name in enumerate(("ia", "ib")):
    for _offset, _mnemonic, _f in ((0, "pac", sign), (4, "aut", authenticate)):
        of_hint(8 + _offset + 2 * _k, f"{_mnemonic}{_name}1716", _name, _f, 17, 16)
        of_hint(24 + _offset + 2 * _k, f"{_mnemonic}{_name}z", _name, _f, LR, ZR)
        of_hint(25 + _offset + 2 * _k, f"{_mnemonic}{_name}sp", _name, _f, LR, SP)


@op("11010101000000110010 0000 111 11111", **FACTS)
def xpaclri(cpu: Cpu) -> None:
    cpu.set_X(LR, strip(cpu, cpu.X(LR), True))


@op("1 1 0 11010110 00001 010000 11111 Rd", asm="{Rd}", **FACTS)
def xpaci(cpu: Cpu) -> None:
    cpu.Rd = strip(cpu, cpu.Rd, True)


@op("1 1 0 11010110 00001 010001 11111 Rd", asm="{Rd}", **FACTS)
def xpacd(cpu: Cpu) -> None:
    cpu.Rd = strip(cpu, cpu.Rd, False)


@op("1 0 0 11010110 Rm|SP 001100 Rn Rd", feature="pacg", asm="{Rd}, {Rn}, {Rm}")
def pacga(cpu: Cpu) -> None:
    """A code of any 64 bits, in the upper half."""
    with when((cpu.has_el2 != 0) & (cpu.el != 2) & ((cpu.hcr_el2 & HCR_API) == 0)):
        raise_(EC_PAC | TO_EL2)
    cpu.Rd = pointer_code(cpu.Rn, cpu.Rm, *key(cpu, "ga")) & 0xFFFFFFFF_00000000


# branches and loads by authenticated pointers
def branches(m: int, name: str) -> None:
    """By key A or B of instructions: BRAA, BLRAA with a modifier and without, RETAA, ERETAA."""
    letter = name[1]
    for link in (0, 1):
        mnemonic = ("blr" if link else "br") + "a" + letter

        def go(cpu: Cpu, modifier: Value, link: int) -> None:
            (call if link else jump)(cpu, authenticate(cpu, cpu.Rn, modifier, name))

        @op(f"1101011 1 0 0{link} 11111 0000 1 {m} Rn Rd|SP", mnemonic, ends=True, reads="Rd", asm="{Rn}, {Rd}", **FACTS)
        def modified(cpu: Cpu, link: int = link) -> None:
            go(cpu, cpu.Rd, link)

        @op(f"1101011 0 0 0{link} 11111 0000 1 {m} Rn 11111", mnemonic + "z", ends=True, asm="{Rn}", **FACTS)
        def zero(cpu: Cpu, link: int = link) -> None:
            go(cpu, lift(0, 64), link)

    @op(f"1101011 0 0 10 11111 0000 1 {m} 11111 11111", "reta" + letter, ends=True, **FACTS)
    def ret(cpu: Cpu) -> None:
        branch_to(cpu, authenticate(cpu, cpu.X(LR), cpu.X(SP), name))

    @op(f"1101011 0 1 00 11111 0000 1 {m} 11111 11111", "ereta" + letter, ends=True, **FACTS)
    def eret(cpu: Cpu) -> None:
        if cpu.el0:
            return undefined()
        el2 = cpu.el == 2
        target = authenticate(cpu, pick(el2, cpu.elr_el2, cpu.elr_el1), cpu.X(SP), name)
        cpu.elr_el1, cpu.elr_el2 = pick(el2, cpu.elr_el1, target), pick(el2, target, cpu.elr_el2)
        enter("eret")

    @op(
        f"11 111 0 00 {m} S 1 imm9 W:1 1 Rn|SP Rt", "ldra" + letter, scale=3, feature="paca",
        asm="{Rt}, [{Xn}{signed_offset}]{writes_back}",
    )  # fmt: skip
    def load(cpu: Cpu) -> None:
        address = authenticate(cpu, cpu.X("Rn"), lift(0, 64), "d" + letter) + cpu.imm - (4096 if cpu.S else 0)
        if cpu.W:
            cpu.set_X("Rn", address)
        cpu.set_X("Rt", cpu.memory(address, 64).read())


branches(0, "ia")
branches(1, "ib")
