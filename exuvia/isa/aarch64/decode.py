"""The decoder: an instruction to a record and a handler's slot, written in guest values and made native by the engines.

`DECODE(code, out, tables, offset)`: `code` points to the instruction in host memory, `out` to a record (dsl/record.py; all fields are
written but `handler`), `tables` to a blob of `tables()`, `offset` is where in its page the instruction stands. The result is length |
ends << 8 | has a target << 9 | conditional << 10 | slot << 16. The record's `disp` is the instruction itself.
"""

from __future__ import annotations

from exuvia.dsl.trace import Function, Var, loop, now, when
from exuvia.dsl.values import Node, Value, lift
from exuvia.isa.aarch64 import decode_tables as t
from exuvia.isa.aarch64.decode_tables import Overlap, Tables, tables
from exuvia.isa.aarch64.forms import IMMEDIATES
from exuvia.isa.aarch64.state import NO_INDEX, SINK

LENGTH, RESULT_SLOT = 4, 16
UNDEFINED_WORD = t.ENDS >> 8 << t.FACTS
MISALIGNED_WORD = UNDEFINED_WORD | t.MISALIGNED_SLOT


def host(address: Value, w: int) -> Value:
    """Read the host's memory."""
    return now().effect("load", w, Node("ptr", 64, (address.n,)))


def write(address: Value, v: Value) -> None:
    """Write the host's memory."""
    now().effect("store", 0, Node("ptr", 64, (address.n,)), v.n)


def ror(v: Value, count: Value) -> Value:
    """64 bits rotated to the right by less than 64."""
    return (v.u >> count) | (v << ((lift(64, 64) - count) & 63))


def look_up(code: Value, tab: Value, off: Value) -> Var:
    """The word of the encoding that the instruction is: the last of the candidates that fit."""
    entry = Var(host(tab + ((code.u >> 21) << 3), 64))
    with when((entry & 255) == t.TABLE):
        entry.set(host(tab + (entry.u >> 8) + ((code.u >> 7) & 63 << 3), 64))
    word, at = Var(UNDEFINED_WORD), Var(tab + (entry.u >> 8))
    with loop(entry & 255, word, at):
        bits = host(at.read(), 64)
        word.set(((code & bits & 0xFFFF_FFFF) == (bits.u >> 32)).choose(host(at + 8, 64), word.read()))
        at.set(at + 16)
    with when((off & 3) != 0):
        word.set(MISALIGNED_WORD)
    return word


def immediate(code: Value, tab: Value, word: Var, amount: Var) -> tuple[Var, Var]:
    """The immediate as the row's kind has it; some kinds make the shift count too. And the record's index."""
    kind, scale = (word.u >> t.KIND) & 15, (word.u >> t.SCALE) & 63
    left, right = (word.u >> t.LEFT) & 63, (word.u >> t.RIGHT) & 63
    shifted = code << left
    field = ((word & t.SIGNED) != 0).choose(shifted.s >> right, shifted.u >> right) << scale
    imm = Var(field)

    def is_(name: str) -> when:
        return when(kind == IMMEDIATES.index(name))

    with is_("logical"):
        element = host(tab + t.LOGICAL + (((code.u >> 16) & 64 | (code.u >> 10) & 63) << 3), 64)
        imm.set(ror(element, (code.u >> 16) & 63))
        with when(element == 0):
            word.set(UNDEFINED_WORD)
    with is_("move"):
        imm.set(((code.u >> 5) & 0xFFFF) << ((code.u >> 17) & 0x30))
    with is_("address"):
        imm.set((((code << 40).s >> 45) << 2 | (code.u >> 29) & 3) << scale)
    with is_("bitfield"):
        width = lift(64, 64).u >> scale
        amount.set(width - 1 - ((code.u >> 10) & 63))
        imm.set((amount + ((code.u >> 16) & 63)) & (width - 1))
    with is_("bit"):
        amount.set((code.u >> 26) & 32 | (code.u >> 19) & 31)
        imm.set((((code << 45).s >> 50) << 2) - LENGTH)
    with is_("branch"):
        imm.set((field << 2) - LENGTH)
    index = Var(NO_INDEX)
    with is_("pair"):
        behind = ((code.u >> 16) & 31) + 1
        index.set((behind == 31).choose(lift(SINK, 64), behind))
        with when((code & 0x1_0001) != 0):
            word.set(UNDEFINED_WORD)
    return imm, index


def decode(code: Value, out: Value, tab: Value, off: Value) -> Value:
    insn = host(code, 32).zext(64)
    word = look_up(insn, tab, off)
    amount = Var((insn.u >> 10) & 63)
    imm, index = immediate(insn, tab, word, amount)

    def register(shift: int, kind: int) -> Value:
        number = (insn.u >> shift) & 31
        return number + (number == 31).choose((word.u >> (t.REGISTERS + 2 * kind)) & 3, lift(0, 64))

    reg, base, extra, rm, seg = (Var(register(shift, kind)) for kind, shift in enumerate((0, 5, 10, 16, 16)))
    slot = word & 0xFFFF
    with when(index != NO_INDEX):
        extra.set((insn & 31) + 1)
    with when((word & t.SEVERAL) != 0):
        first = ((word & t.SEVERAL_N) != 0).choose(insn.u >> 5, insn)
        for k, field in enumerate((extra, seg, amount), 1):
            field.set((first + k) & 31)
    rm.set(rm & ((word & t.LOWER) != 0).choose(lift(15, 64), 63))
    write(out + 8, reg | rm << 8 | base << 16 | index << 24 | extra << 32 | (amount & 63) << 40 | seg << 48 | LENGTH << 56)
    write(out + 16, insn | (off & 0xFFFF) << 32 | slot << 48)
    write(out + 24, imm.read())
    result: Value = ((word.u >> t.FACTS) & 7) << 8 | LENGTH | slot << RESULT_SLOT
    return result


DECODE = Function("decode_aarch64", decode, (64, 64, 64, 64), 64)

__all__ = ["DECODE", "Overlap", "Tables", "tables"]
