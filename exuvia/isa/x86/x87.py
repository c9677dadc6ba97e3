"""x87: data transfer, basic arithmetic and comparison (SDM vol. 1, 8.3.3 to 8.3.6; vol. 2, the pages from FABS on)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.floating import IE
from exuvia.dsl.hostfloats import evenly, on_host, status
from exuvia.dsl.trace import Function, Var
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86 import extended
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.extended import BCD_INDEFINITE, C0, C1, C2, C3, FIRST_DENORMAL, INDEFINITE, SECOND_DENORMAL
from exuvia.isa.x86.forms import condition
from exuvia.isa.x86.x87_stack import (
    CODES,
    UNDERFLOW,
    drop,
    full,
    grow,
    note,
    pop,
    push,
    put,
    read,
    replace,
    settle,
    store,
    unless_empty,
    usually,
    x87,
)  # fmt: skip


# --- loads and constants
@x87("D9/0 Md | DD/0 Mq", "fld")
def load(cpu: Cpu, m: Any) -> None:
    x = m.read()

    def usual() -> None:
        value = on_host(f"fld.{x.w}", 80, x)
        grow(cpu, value)
        note(cpu)

    def otherwise() -> None:
        r = (extended.f32_to_f80 if x.w == 32 else extended.f64_to_f80)(x, cpu.fcw)
        push(cpu, r.low(80), r.bits(95, 80), unless=IE)

    usually(cpu, (full(cpu),), usual, otherwise)


def pushed(cpu: Cpu, value: Value) -> None:
    """Push what raises no exceptions."""

    def usual() -> None:
        grow(cpu, value)
        note(cpu)

    def otherwise() -> None:
        push(cpu, value)

    usually(cpu, (full(cpu),), usual, otherwise, computes=False)


@x87("DB/5 Mt", "fld")
def load_extended(cpu: Cpu, m: Any) -> None:
    pushed(cpu, m.read())


@x87("D9 =C0+i ST", "fld")
def load_register(cpu: Cpu, i: Any) -> None:
    value, empty = read(cpu, i)

    def usual() -> None:
        grow(cpu, value)
        note(cpu)

    def otherwise() -> None:
        push(cpu, empty.choose(lift(INDEFINITE, 80), value), empty.choose(lift(UNDERFLOW, 16), 0), empty)

    usually(cpu, (empty, full(cpu)), usual, otherwise, computes=False)


@x87("DF/0 Mw | DB/0 Md | DF/5 Mq", "fild")
def load_integer(cpu: Cpu, m: Any) -> None:
    x = m.read()

    def usual() -> None:
        grow(cpu, on_host(f"fild.{x.w}", 80, x))
        note(cpu)

    def otherwise() -> None:
        push(cpu, extended.i64_to_f80(x.sext(64)).low(80))

    usually(cpu, (full(cpu),), usual, otherwise)


@x87("DF/4 Mt")
def fbld(cpu: Cpu, m: Any) -> None:
    push(cpu, extended.bcd_to_f80(m.read()).low(80))


# Nearest to the constant, and what is added to the significand when rounding upward and when rounding down or to zero (SDM vol. 2, FLD1)
CONSTANTS: dict[str, tuple[str, int, int, int]] = {
    "fld1":   ("D9 =E8", 0x3FFF_8000_0000_0000_0000, 0,  0),
    "fldl2t": ("D9 =E9", 0x4000_D49A_784B_CD1B_8AFE, 1,  0),
    "fldl2e": ("D9 =EA", 0x3FFF_B8AA_3B29_5C17_F0BC, 0, -1),
    "fldpi":  ("D9 =EB", 0x4000_C90F_DAA2_2168_C235, 0, -1),
    "fldlg2": ("D9 =EC", 0x3FFD_9A20_9A84_FBCF_F799, 0, -1),
    "fldln2": ("D9 =ED", 0x3FFE_B172_17F7_D1CF_79AC, 0, -1),
    "fldz":   ("D9 =EE", 0,                          0,  0),
}  # fmt: skip


def constant(name: str, encoding: str, value: int, upward: int, down: int) -> None:
    """An instruction that loads a constant, rounded as the control word asks."""

    def text(cpu: Cpu) -> None:
        rounding = cpu.fcw.bits(11, 10)
        adjust = (rounding == 2).choose(lift(upward, 80), (rounding == 0).choose(lift(0, 80), down))
        pushed(cpu, lift(value, 80) + adjust)

    x87(encoding, name)(text)


for _name, _row in CONSTANTS.items():
    constant(_name, *_row)


# --- stores
def storing(rows: str, name: str, function: dict[int, Function], pops: bool, indefinite: dict[int, int], **facts: Any) -> None:
    """Convert ST(0) and store it; nothing is stored at an unmasked invalid operation, overflow or underflow."""

    def text(cpu: Cpu, m: Any) -> None:
        a, empty = read(cpu, 0)

        def usual() -> None:
            to = m.at(0).writable()
            value = on_host(f"{name[:5].rstrip('p')}.{m.w}", m.w, a)
            to.set(value)
            note(cpu, status(value))
            if pops:
                drop(cpu)

        def otherwise() -> None:
            value, flags = unless_empty(empty, function[m.w](a, cpu.fcw), indefinite[m.w], m.w)
            done = settle(cpu, flags) & ((flags.zext(64) & ~cpu.fcw & 0x18) == 0)
            store(cpu, m, value, done)
            if pops:
                pop(cpu, done)

        if name == "fbstp":
            otherwise()
        else:
            usually(cpu, (empty, slow(a)), usual, otherwise)

    x87(rows, name, **facts)(text)


FLOATS = {32: 0xFFC0_0000, 64: 0xFFF8 << 48}
INTEGERS = {w: 1 << (w - 1) for w in (16, 32, 64)}
storing("D9/2 Md | DD/2 Mq", "fst",  {32: extended.f80_to_f32, 64: extended.f80_to_f64}, False, FLOATS)
storing("D9/3 Md | DD/3 Mq", "fstp", {32: extended.f80_to_f32, 64: extended.f80_to_f64}, True,  FLOATS)
storing("DF/2 Mw | DB/2 Md", "fist", extended.f80_to_integer, False, INTEGERS)
storing("DF/3 Mw | DB/3 Md | DF/7 Mq", "fistp",  extended.f80_to_integer, True, INTEGERS)
storing("DF/1 Mw | DB/1 Md | DD/1 Mq", "fisttp", extended.f80_to_integer_truncate, True, INTEGERS, feature="pni")
storing("DF/6 Mt", "fbstp", {80: extended.f80_to_bcd}, True, {80: BCD_INDEFINITE})


@x87("DB/7 Mt", "fstp")
def store_extended(cpu: Cpu, m: Any) -> None:
    a, empty = read(cpu, 0)

    def usual() -> None:
        m.at(0).set(a)
        drop(cpu)
        note(cpu)

    def otherwise() -> None:
        done = settle(cpu, empty.choose(lift(UNDERFLOW, 16), 0))
        store(cpu, m, empty.choose(lift(INDEFINITE, 80), a), done)
        pop(cpu, done)

    usually(cpu, (empty,), usual, otherwise, computes=False)


def store_register(pops: bool) -> Callable[..., None]:
    def text(cpu: Cpu, i: Any) -> None:
        a, empty = read(cpu, 0)

        def usual() -> None:
            put(cpu, i, a, lift(1, 1))
            note(cpu)
            if pops:
                drop(cpu)

        def otherwise() -> None:
            done = settle(cpu, empty.choose(lift(UNDERFLOW, 16), 0))
            put(cpu, i, empty.choose(lift(INDEFINITE, 80), a), done)
            if pops:
                pop(cpu, done)

        usually(cpu, (empty,), usual, otherwise, computes=False)

    return text


x87("DD =D0+i ST", "fst")(store_register(False))
x87("DD =D8+i ST | DF =D0+i ST | DF =D8+i ST", "fstp")(store_register(True))


@x87("D9 =D8+i ST", "fstp")
def store_unchecked(cpu: Cpu, i: Any) -> None:
    """An undocumented form that lets ST(0) be empty (AMD64 APM vol. 3, appendix A.3, note on reserved x87 opcodes)."""
    a, empty = read(cpu, 0)
    done = settle(cpu, lift(0, 16))
    put(cpu, i, a, ~empty)
    pop(cpu, done)


@x87("D9 =C8+i ST | DD =C8+i ST | DF =C8+i ST")
def fxch(cpu: Cpu, i: Any) -> None:
    (a, a_empty), (b, b_empty) = read(cpu, 0), read(cpu, i)

    def usual() -> None:
        replace(cpu, 0, b)
        replace(cpu, i, a)
        note(cpu)

    def otherwise() -> None:
        done = settle(cpu, (a_empty | b_empty).choose(lift(UNDERFLOW, 16), 0))
        put(cpu, 0, b_empty.choose(lift(INDEFINITE, 80), b), done)
        put(cpu, i, a_empty.choose(lift(INDEFINITE, 80), a), done)

    usually(cpu, (a_empty, b_empty), usual, otherwise, computes=False)


def conditional_move(row: str, name: str, suffix: str) -> None:
    def text(cpu: Cpu, i: Any) -> None:
        (_, a_empty), (b, b_empty) = read(cpu, 0), read(cpu, i)
        empty = a_empty | b_empty
        done = settle(cpu, empty.choose(lift(UNDERFLOW, 16), 0), clears=0)
        cpu.c1 = empty.choose(0, cpu.c1)  # it is left alone unless the stack underflows
        put(cpu, 0, empty.choose(lift(INDEFINITE, 80), b), done & (empty | condition(cpu, suffix)))

    x87(row, name, feature="cmov")(text)


for _n, _suffix in enumerate(("b", "z", "be", "p")):
    _name = {"b": "b", "z": "e", "be": "be", "p": "u"}[_suffix]
    conditional_move(f"DA ={0xC0 + 8 * _n:X}+i ST", "fcmov" + _name, _suffix)
    conditional_move(f"DB ={0xC0 + 8 * _n:X}+i ST", "fcmovn" + _name, "n" + _suffix)


# --- arithmetic
def slow(a: Value) -> Value:
    """A denormal, an infinity or a NaN, where the host's processor takes hundreds of cycles and the functions do not."""
    return ~evenly() & (((a.bits(79, 64) + 1) & 0x7FFE) == 0) & (a.low(64) != 0)


def memory_operand(cpu: Cpu, m: Any, integer: bool, mark: int = SECOND_DENORMAL) -> tuple[Value, Value]:
    """The operand in 80 bits, and the control word, marked where it was a denormal."""
    if integer:
        return extended.i64_to_f80(m.read().sext(64)).low(80), cpu.fcw
    r = (extended.f32_operand if m.w == 32 else extended.f64_operand)(m.read())
    return r.low(80), cpu.fcw | r.bit(80).choose(lift(mark, 64), 0)


def arithmetic(number: int, name: str, f: Function, swap: bool) -> None:
    """An operation's encodings: ST(0) with a number or an integer in memory, with ST(i), and ST(i) with ST(0), also with a pop."""

    def with_memory(integer: bool) -> Callable[..., None]:
        def text(cpu: Cpu, m: Any) -> None:
            x = m.read()
            a, empty = read(cpu, 0)

            def usual() -> None:
                value = on_host(f"{name.replace('f', 'fi', integer)}.{x.w}", 80, a, x)
                replace(cpu, 0, value)
                note(cpu, status(value))

            def otherwise() -> None:
                b, control = memory_operand(cpu, m, integer, FIRST_DENORMAL if swap else SECOND_DENORMAL)
                value, flags = unless_empty(empty, f(b, a, control) if swap else f(a, b, control))
                put(cpu, 0, value, settle(cpu, flags))

            usually(cpu, (empty, slow(a)), usual, otherwise)

        return text

    def with_register(to_st0: bool, pops: bool) -> Callable[..., None]:
        def text(cpu: Cpu, i: Any) -> None:
            (a, a_empty), (b, b_empty) = read(cpu, 0), read(cpu, i)
            first, second = (b, a) if swap else (a, b)

            def usual() -> None:
                value = on_host(name.removesuffix("r"), 80, first, second)
                replace(cpu, 0 if to_st0 else i, value)
                note(cpu, status(value))
                if pops:
                    drop(cpu)

            def otherwise() -> None:
                value, flags = unless_empty(a_empty | b_empty, f(first, second, cpu.fcw))
                done = settle(cpu, flags)
                put(cpu, 0 if to_st0 else i, value, done)
                if pops:
                    pop(cpu, done)

            usually(cpu, (a_empty, b_empty, slow(a), slow(b)), usual, otherwise)

        return text

    # with ST(i) as the destination FSUB and FSUBR, FDIV and FDIVR have each other's names: they name the operands' order
    other = {"fsub": "fsubr", "fsubr": "fsub", "fdiv": "fdivr", "fdivr": "fdiv"}.get(name, name)
    x87(f"D8/{number} Md | DC/{number} Mq", name)(with_memory(False))
    x87(f"DA/{number} Md | DE/{number} Mw", name.replace("f", "fi", 1))(with_memory(True))
    x87(f"D8 ={0xC0 + 8 * number:X}+i ST", name)(with_register(True, False))
    x87(f"DC ={0xC0 + 8 * number:X}+i ST", other)(with_register(False, False))
    x87(f"DE ={0xC0 + 8 * number:X}+i ST", other + "p")(with_register(False, True))


arithmetic(0, "fadd",  extended.f80_add, False)
arithmetic(1, "fmul",  extended.f80_mul, False)
arithmetic(4, "fsub",  extended.f80_sub, False)
arithmetic(5, "fsubr", extended.f80_sub, True)
arithmetic(6, "fdiv",  extended.f80_div, False)
arithmetic(7, "fdivr", extended.f80_div, True)


# --- comparison
def any_of(conditions: tuple[Value, ...]) -> Value:
    """Does one hold?"""
    r = conditions[0]
    for c in conditions[1:]:
        r = r | c
    return r


def comparison(cpu: Cpu, pops: int, empty: tuple[Value, ...], instruction: str, operands: list[Value], result: Callable[[], Value]) -> None:
    """Set C3, C2, C0; then pop once or twice. The result is what the host's instruction says of the operands, or the function's."""

    def usual() -> None:
        cpu.fsw = (cpu.fsw & ~CODES) | (on_host(instruction, 16, *operands).zext(64) & CODES)
        note(cpu)
        for _ in range(pops):
            drop(cpu)

    def otherwise() -> None:
        done = settle(cpu, any_of(empty).choose(lift(UNDERFLOW | CODES, 16), result().low(16)), clears=CODES | C1)
        for _ in range(pops):
            pop(cpu, done)

    usually(cpu, empty, usual, otherwise)


def compares(f: Function) -> str:
    """The host's instruction for a function."""
    return "fucom" if f is extended.f80_compare_quiet else "fcom"


def compare_memory(f: Function, pops: int, integer: bool) -> Callable[..., None]:
    def text(cpu: Cpu, m: Any) -> None:
        x = m.read()
        a, empty = read(cpu, 0)

        def result() -> Value:
            b, control = memory_operand(cpu, m, integer)
            return f(a, b, control)

        comparison(cpu, pops, (empty,), f"{'ficom' if integer else 'fcom'}.{x.w}", [a, x], result)

    return text


def compare_register(f: Function, pops: int) -> Callable[..., None]:
    def text(cpu: Cpu, i: Any = 1) -> None:
        (a, a_empty), (b, b_empty) = read(cpu, 0), read(cpu, i)
        comparison(cpu, pops, (a_empty, b_empty), compares(f), [a, b], lambda: f(a, b, cpu.fcw))

    return text


x87("D8/2 Md | DC/2 Mq", "fcom")(compare_memory(extended.f80_compare, 0, False))
x87("D8/3 Md | DC/3 Mq", "fcomp")(compare_memory(extended.f80_compare, 1, False))
x87("DA/2 Md | DE/2 Mw", "ficom")(compare_memory(extended.f80_compare, 0, True))
x87("DA/3 Md | DE/3 Mw", "ficomp")(compare_memory(extended.f80_compare, 1, True))
x87("D8 =D0+i ST | DC =D0+i ST", "fcom")(compare_register(extended.f80_compare, 0))
x87("D8 =D8+i ST | DC =D8+i ST | DE =D0+i ST", "fcomp")(compare_register(extended.f80_compare, 1))
x87("DE =D9", "fcompp")(compare_register(extended.f80_compare, 2))
x87("DD =E0+i ST", "fucom")(compare_register(extended.f80_compare_quiet, 0))
x87("DD =E8+i ST", "fucomp")(compare_register(extended.f80_compare_quiet, 1))
x87("DA =E9", "fucompp")(compare_register(extended.f80_compare_quiet, 2))


def compare_to_eflags(f: Function, pops: bool) -> Callable[..., None]:
    def text(cpu: Cpu, i: Any) -> None:
        (a, a_empty), (b, b_empty) = read(cpu, 0), read(cpu, i)
        empty, codes = a_empty | b_empty, Var(lift(0, 16), 16)

        def usual() -> None:
            codes.set(on_host(compares(f), 16, a, b))
            if pops:
                drop(cpu)

        def otherwise() -> None:
            codes.set(empty.choose(lift(UNDERFLOW | CODES, 16), f(a, b, cpu.fcw).low(16)))
            done = settle(cpu, codes & 0x47, clears=0)
            cpu.c1 = empty.choose(0, cpu.c1)  # as FCMOVcc; Intel's manual has it cleared always
            if pops:
                pop(cpu, done)

        usually(cpu, (a_empty, b_empty), usual, otherwise)
        no = lift(0, 1)
        cpu.set_flags("six", codes.bit(8), codes.bit(10), no, codes.bit(14), no, no)

    return text


x87("DB =F0+i ST", "fcomi", feature="cmov")(compare_to_eflags(extended.f80_compare, False))
x87("DF =F0+i ST", "fcomip", feature="cmov")(compare_to_eflags(extended.f80_compare, True))
x87("DB =E8+i ST", "fucomi", feature="cmov")(compare_to_eflags(extended.f80_compare_quiet, False))
x87("DF =E8+i ST", "fucomip", feature="cmov")(compare_to_eflags(extended.f80_compare_quiet, True))


@x87("D9 =E4")
def ftst(cpu: Cpu) -> None:
    a, empty = read(cpu, 0)
    comparison(cpu, 0, (empty,), "ftst", [a], lambda: extended.f80_compare(a, lift(0, 80), cpu.fcw))


@x87("D9 =E5")
def fxam(cpu: Cpu) -> None:
    """C3 C2 C0 say the class, C1 the sign (SDM vol. 2, FXAM)."""
    a, empty = read(cpu, 0)
    exponent, significand = a.bits(78, 64), a.low(64)
    special = significand.top.choose((significand << 1 == 0).choose(lift(C2 | C0, 64), C0), 0)
    finite = significand.top.choose(lift(C2, 64), 0)
    small = (significand == 0).choose(lift(C3, 64), C3 | C2)
    codes = (exponent == 0x7FFF).choose(special, (exponent == 0).choose(small, finite))
    cpu.fsw = (cpu.fsw & ~CODES) | empty.choose(C3 | C0, codes)
    cpu.c1 = a.top.choose(lift(C1, 64), 0)
