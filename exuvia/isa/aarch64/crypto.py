"""AES, SHA-1, SHA-256, SHA-512 and SHA-3 instructions (Arm ARM, C3.5.30, C4.1.96.1 to C4.1.96.5; FIPS 197, 180-4, 202)."""

from __future__ import annotations

from collections.abc import Callable

from exuvia.dsl.ciphers import (
    SHA1_ROUNDS,
    aes_decrypt_last,
    aes_encrypt_last,
    left,
    mixed,
    rotated,
    sha256_rounds,
    small_sigma,
    unmixed,
)
from exuvia.dsl.trace import function
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.aarch64.cpu import Cpu
from exuvia.isa.aarch64.vectors import simd

NO_KEY = lift(0, 128)
TWO_WORDS, WORDS = "{Vd.4s}, {Vn.4s}", "{Vd.4s}, {Vn.4s}, {Vm.4s}"


def words(v: Value, w: int = 32) -> list[Value]:
    """Lane 0 first."""
    return [v.lane(i, w) for i in range(v.w // w)]


def three(row: str, name: str, f: Callable[..., Value], feature: str, asm: str) -> None:
    """Of the destination and two sources."""
    simd(row, name, lambda cpu: cpu.set_V("Vd", f(cpu.V("Vd"), cpu.V("Vn"), cpu.V("Vm"))), feature=feature, asm=asm)


def two(row: str, name: str, f: Callable[..., Value], feature: str, asm: str) -> None:
    """Of the destination and a source."""
    simd(row, name, lambda cpu: cpu.set_V("Vd", f(cpu.V("Vd"), cpu.V("Vn"))), feature=feature, asm=asm)


AES = "01001110 00 10100"
two(f"{AES} 00100 10 Vn Vd", "aese", lambda d, n: aes_encrypt_last(d ^ n, NO_KEY), "aes", "{Vd.16b}, {Vn.16b}")
two(f"{AES} 00101 10 Vn Vd", "aesd", lambda d, n: aes_decrypt_last(d ^ n, NO_KEY), "aes", "{Vd.16b}, {Vn.16b}")
two(f"{AES} 00110 10 Vn Vd", "aesmc", lambda d, n: mixed(n), "aes", "{Vd.16b}, {Vn.16b}")
two(f"{AES} 00111 10 Vn Vd", "aesimc", lambda d, n: unmixed(n), "aes", "{Vd.16b}, {Vn.16b}")


# -- SHA-1
@function(128, 32, 128, 8, returns=128)
def arm_sha1_rounds(abcd: Value, e: Value, w: Value, which: Value) -> Value:
    """Four rounds; the words come with their constants added."""
    a, b, c, d = words(abcd)
    for x in words(w):
        f = lift(0, 32)
        for n, (_, text) in enumerate(SHA1_ROUNDS[:3]):
            f = (which == n).choose(text(b, c, d), f)
        a, b, c, d, e = f + left(a, 5) + x + e, a, left(b, 30), c, d
    return concat(a, b, c, d)


for _opcode, _name, _which in (("000", "sha1c", 0), ("001", "sha1p", 1), ("010", "sha1m", 2)):
    three(f"01011110 00 0 Vm 0 {_opcode} 00 Vn Vd", _name,
          lambda d, n, m, k=_which: arm_sha1_rounds(d, n.low(32), m, lift(k, 8)), "sha1", "{Vd.q}, {Vn.s}, {Vm.4s}")  # fmt: skip
three("01011110 00 0 Vm 0 011 00 Vn Vd", "sha1su0", lambda d, n, m: d.shuffle(n, 64, 1, 2) ^ d ^ m, "sha1", WORDS)
two("01011110 00 10100 00000 10 Vn Vd", "sha1h", lambda d, n: left(n.low(32), 30), "sha1", "{Vd.s}, {Vn.s}")


def sha1su1(d: Value, n: Value) -> Value:
    t = words(d ^ n.u >> 32)
    return concat(left(t[0], 1), left(t[1], 1), left(t[2], 1), left(t[3], 1) ^ left(t[0], 2))


two("01011110 00 10100 00001 10 Vn Vd", "sha1su1", sha1su1, "sha1", TWO_WORDS)


# -- SHA-256: two pairs of rounds of the function that is named after x86's registers, {f e b a} and {h g d c}
def four_rounds(abcd: Value, efgh: Value, w: Value) -> tuple[Value, Value]:
    abef = abcd.shuffle(efgh, 32, 5, 4, 1, 0)
    cdgh = abcd.shuffle(efgh, 32, 7, 6, 3, 2)
    first = sha256_rounds(cdgh, abef, w)
    return first, sha256_rounds(abef, first, w.shuffle(w, 64, 1, 0))


def sha256h(d: Value, n: Value, m: Value) -> Value:
    cdgh, abef = four_rounds(d, n, m)
    return abef.shuffle(cdgh, 32, 3, 2, 7, 6)


def sha256h2(d: Value, n: Value, m: Value) -> Value:
    cdgh, abef = four_rounds(n, d, m)
    return abef.shuffle(cdgh, 32, 1, 0, 5, 4)


def sha256su0(d: Value, n: Value) -> Value:
    w = [*words(d), n.low(32)]
    return concat(*(w[i] + small_sigma(w[i + 1], 7, 18, 3) for i in range(4)))


def sha256su1(d: Value, n: Value, m: Value) -> Value:
    old, later = words(d), [*words(n)[1:], m.low(32)]
    w = words(m)[2:]
    for i in range(4):
        w.append(old[i] + later[i] + small_sigma(w[i], 17, 19, 10))
    return concat(*w[2:])


three("01011110 00 0 Vm 0 100 00 Vn Vd", "sha256h", sha256h, "sha2", "{Vd.q}, {Vn.q}, {Vm.4s}")
three("01011110 00 0 Vm 0 101 00 Vn Vd", "sha256h2", sha256h2, "sha2", "{Vd.q}, {Vn.q}, {Vm.4s}")
three("01011110 00 0 Vm 0 110 00 Vn Vd", "sha256su1", sha256su1, "sha2", WORDS)
two("01011110 00 10100 00010 10 Vn Vd", "sha256su0", sha256su0, "sha2", TWO_WORDS)


# -- SHA-512
def large_sigma(v: Value, *counts: int) -> Value:
    r = rotated(v, counts[0])
    for n in counts[1:]:
        r = r ^ rotated(v, n)
    return r


def sha512h(d: Value, n: Value, m: Value) -> Value:
    d0, d1 = words(d, 64)
    n0, n1 = words(n, 64)
    m0, m1 = words(m, 64)
    high = large_sigma(m1, 14, 18, 41) + ((m1 & n0) ^ (~m1 & n1)) + d1
    t = high + m0
    low = large_sigma(t, 14, 18, 41) + ((t & m1) ^ (~t & n0)) + d0
    return concat(low, high)


def sha512h2(d: Value, n: Value, m: Value) -> Value:
    d0, d1 = words(d, 64)
    x = n.low(64)
    m0, m1 = words(m, 64)
    high = large_sigma(m0, 28, 34, 39) + ((x & m1) ^ (x & m0) ^ (m1 & m0)) + d1
    low = large_sigma(high, 28, 34, 39) + ((high & m0) ^ (high & m1) ^ (m1 & m0)) + d0
    return concat(low, high)


def sha512su0(d: Value, n: Value) -> Value:
    w = [*words(d, 64), n.low(64)]
    return concat(*(w[i] + small_sigma(w[i + 1], 1, 8, 7) for i in (0, 1)))


def sha512su1(d: Value, n: Value, m: Value) -> Value:
    return concat(*(a + small_sigma(b, 19, 61, 6) + c for a, b, c in zip(words(d, 64), words(n, 64), words(m, 64))))


three("11001110 011 Vm 1 0 00 00 Vn Vd", "sha512h", sha512h, "sha512", "{Vd.q}, {Vn.q}, {Vm.2d}")
three("11001110 011 Vm 1 0 00 01 Vn Vd", "sha512h2", sha512h2, "sha512", "{Vd.q}, {Vn.q}, {Vm.2d}")
three("11001110 011 Vm 1 0 00 10 Vn Vd", "sha512su1", sha512su1, "sha512", "{Vd.2d}, {Vn.2d}, {Vm.2d}")
two("11001110 11 000000 1000 00 Vn Vd", "sha512su0", sha512su0, "sha512", "{Vd.2d}, {Vn.2d}")


# -- SHA-3
def rotated_lanes(v: Value, n: int) -> Value:
    """Both halves to the left."""
    return concat(*((x << n) | (x.u >> 64 - n) for x in words(v, 64)))


def xar(cpu: Cpu) -> None:
    count = cpu.amount & 63
    parts = words(cpu.V("Vn") ^ cpu.V("Vm"), 64)
    cpu.set_V("Vd", concat(*((x.u >> count) | (x << ((64 - count) & 63)) for x in parts)))


three("11001110 011 Vm 1 0 00 11 Vn Vd", "rax1", lambda d, n, m: n ^ rotated_lanes(m, 1), "sha3", "{Vd.2d}, {Vn.2d}, {Vm.2d}")
simd("11001110 000 Vm 0 Va Vn Vd", "eor3", lambda cpu: cpu.set_V("Vd", cpu.V("Vn") ^ cpu.V("Vm") ^ cpu.V("Va")),
     feature="sha3", asm="{Vd.16b}, {Vn.16b}, {Vm.16b}, {Va.16b}")  # fmt: skip
simd("11001110 001 Vm 0 Va Vn Vd", "bcax", lambda cpu: cpu.set_V("Vd", cpu.V("Vn") ^ cpu.V("Vm") & ~cpu.V("Va")),
     feature="sha3", asm="{Vd.16b}, {Vn.16b}, {Vm.16b}, {Va.16b}")  # fmt: skip
simd("11001110 100 Vm imm6 Vn Vd", "xar", xar, feature="sha3", asm="{Vd.2d}, {Vn.2d}, {Vm.2d}, {imm6}")
