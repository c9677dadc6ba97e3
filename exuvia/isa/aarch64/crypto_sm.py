"""SM3 and SM4's instructions (Arm ARM, C7.2, SM3PARTW1 to SM4EKEY; GB/T 32905, GB/T 32907)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.ciphers import left
from exuvia.dsl.lanes import every, pick_bytes_128
from exuvia.dsl.trace import function
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.crypto import WORDS, three, two, words
from exuvia.isa.aarch64.vectors import simd

POLYNOMIAL, AFFINE, CONSTANT = 0x1F5, 0xA7, 0xD3
"""Of SM4's substitution: the field; the first row of a matrix whose other rows are turned; what is added."""


# -- SM3
def mixed_words(v: Value) -> Value:
    return v ^ left(v, 15) ^ left(v, 23)


def sm3partw1(d: Value, n: Value, m: Value) -> Value:
    x, later = words(d ^ n), words(m)
    r = [mixed_words(x[i] ^ left(later[i + 1], 15)) for i in range(3)]
    return concat(*r, mixed_words(x[3] ^ left(r[0], 15)))


def sm3partw2(d: Value, n: Value, m: Value) -> Value:
    t = [a ^ left(b, 7) for a, b in zip(words(n), words(m))]
    r = [a ^ b for a, b in zip(words(d), t)]
    return concat(*r[:3], r[3] ^ mixed_words(left(t[0], 15)))


def sm3ss1(cpu: Cpu) -> None:
    n, m, a = (cpu.V(x).lane(3, 32) for x in ("Vn", "Vm", "Va"))
    cpu.set_V("Vd", lift(0, 128).insert(3, left(left(n, 12) + m + a, 7)))


def round_(second: bool, majority: bool) -> Callable[[Cpu], None]:
    """SM3TT1A, SM3TT1B, SM3TT2A, SM3TT2B: half of a round; in the last 48 of 64 the functions are not linear."""

    def run(cpu: Cpu) -> None:
        d, c, b, a = words(cpu.V("Vd"))
        w, n = cpu.V("Vm").lane(cpu.index, 32), cpu.V("Vn").lane(3, 32)
        if not majority:
            f = a ^ b ^ c
        elif second:
            f = (a & b) | (~a & c)
        else:
            f = (a & b) | (a & c) | (b & c)
        t = f + d + w + (n if second else n ^ left(a, 12))
        t = t ^ left(t, 9) ^ left(t, 17) if second else t
        cpu.set_V("Vd", concat(c, left(b, 19 if second else 9), a, t))

    return run


three("11001110 011 Vm 1 1 00 00 Vn Vd", "sm3partw1", sm3partw1, "sm3", WORDS)
three("11001110 011 Vm 1 1 00 01 Vn Vd", "sm3partw2", sm3partw2, "sm3", WORDS)
simd("11001110 010 Vm 0 Va Vn Vd", "sm3ss1", sm3ss1, feature="sm3", asm=f"{WORDS}, {{Va.4s}}")
for _opcode, _name in enumerate(("sm3tt1a", "sm3tt1b", "sm3tt2a", "sm3tt2b")):
    simd(f"11001110 010 Vm 10 index:2 {_opcode:02b} Vn Vd", _name, round_(_opcode > 1, bool(_opcode & 1)),
         feature="sm3", lane=32, asm="{Vd.4s}, {Vn.4s}, {Vm.e}")  # fmt: skip


# -- SM4
def affine(x: int) -> int:
    """The matrix times x, and the constant."""
    r = 0
    for i in range(8):
        row = (AFFINE << i | AFFINE >> 8 - i) & 0xFF
        r |= ((row & x).bit_count() & 1) << i
    return r ^ CONSTANT


def product(a: int, b: int) -> int:
    """In the field of 256 elements."""
    r = 0
    for i in range(8):
        r ^= a << i if b >> i & 1 else 0
    for i in range(14, 7, -1):
        r ^= POLYNOMIAL << i - 8 if r >> i & 1 else 0
    return r


def inverse(x: int) -> int:
    """The power 254; zero stays."""
    r = x
    for _ in range(6):
        r = product(product(r, r), x)
    return product(r, r)


def substitution() -> bytes:
    """The S-box."""
    return bytes(affine(inverse(affine(x))) for x in range(256))


@function(128, returns=128)
def sm4_substitute(v: Value) -> Value:
    """Byte by byte, from sixteen tables of sixteen."""
    r, table = lift(0, 128), substitution()
    for k in range(16):
        order = v.lanes("sub", every(16 * k, 8, 128), 8).lanes("uadd.sat", every(0x70, 8, 128), 8)
        r = r | pick_bytes_128(lift(int.from_bytes(table[16 * k : 16 * k + 16], "little"), 128), order)
    return r


def four_rounds(state: Value, keys: Value, turns: tuple[int, ...]) -> Value:
    x = words(state)
    for key in words(keys):
        t = sm4_substitute((x[1] ^ x[2] ^ x[3] ^ key).zext(128)).low(32)
        new = x[0] ^ t
        for n in turns:
            new = new ^ left(t, n)
        x = [*x[1:], new]
    return concat(*x)


two("11001110 11 000000 1000 01 Vn Vd", "sm4e", lambda d, n: four_rounds(d, n, (2, 10, 18, 24)), "sm4", "{Vd.4s}, {Vn.4s}")
three("11001110 011 Vm 1 1 00 10 Vn Vd", "sm4ekey", lambda d, n, m: four_rounds(n, m, (13, 23)), "sm4", WORDS)
