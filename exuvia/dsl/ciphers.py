"""AES, SHA and carry-less multiplication as functions (FIPS 197; FIPS 180-4): what processors have instructions for pieces of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.lanes import every
from exuvia.dsl.trace import Var, function, loop
from exuvia.dsl.values import Value, concat, lift


def rotated(v: Value, n: int) -> Value:
    """Right by n bits."""
    return (v.u >> n) | (v << (v.w - n))


# -- AES: a column is a lane of 32 bits, a row one of its bytes (FIPS 197, 3.4)
def doubled(v: Value) -> Value:
    """Each byte times x in GF(2**8) (FIPS 197, 4.2.1)."""
    return v.lanes("add", v, 8) ^ (v.lanes("ashr", every(7, 8, 128), 8) & every(0x1B, 8, 128))


def product(a: Value, b: Value) -> Value:
    """Bytes multiplied in GF(2**8)."""
    r = lift(0, 128)
    for i in range(8):
        bit = b.lanes("shl", every(7 - i, 8, 128), 8).lanes("ashr", every(7, 8, 128), 8)
        r = r ^ (a & bit)
        a = doubled(a)
    return r


def inverse(v: Value) -> Value:
    """Bytes to their inverses: the power 254; zero stays (FIPS 197, 5.1.1)."""
    x2 = product(v, v)
    x3 = product(x2, v)
    x6 = product(x3, x3)
    x12 = product(x6, x6)
    x15, x14 = product(x12, x3), product(x12, x2)
    x240 = x15
    for _ in range(4):
        x240 = product(x240, x240)
    return product(x240, x14)


def turned(v: Value, n: int) -> Value:
    """Bytes rotated left by n."""
    return v.lanes("shl", every(n, 8, 128), 8) | v.lanes("lshr", every(8 - n, 8, 128), 8)


@function(128, returns=128)
def aes_substitute(v: Value) -> Value:
    """SubBytes (FIPS 197, 5.1.1)."""
    x = inverse(v)
    return x ^ turned(x, 1) ^ turned(x, 2) ^ turned(x, 3) ^ turned(x, 4) ^ every(0x63, 8, 128)


@function(128, returns=128)
def aes_substitute_back(v: Value) -> Value:
    """InvSubBytes (FIPS 197, 5.3.2)."""
    return inverse(turned(v, 1) ^ turned(v, 3) ^ turned(v, 6) ^ every(0x05, 8, 128))


def shifted_rows(v: Value, step: int) -> Value:
    """Row r comes from r * step columns further on."""
    return v.shuffle(v, 8, *((i + 4 * step * (i % 4)) % 16 for i in range(16)))


def next_row(v: Value, n: int) -> Value:
    """In each column, the byte n rows further on."""
    return v.shuffle(v, 8, *(i & ~3 | (i + n) & 3 for i in range(16)))


def mixed(v: Value) -> Value:
    """MixColumns (FIPS 197, 5.1.3)."""
    return doubled(v) ^ doubled(next_row(v, 1)) ^ next_row(v, 1) ^ next_row(v, 2) ^ next_row(v, 3)


def unmixed(v: Value) -> Value:
    """InvMixColumns (FIPS 197, 5.3.3)."""
    four = doubled(doubled(v ^ next_row(v, 2)))
    return mixed(v ^ four)


@function(128, 128, returns=128)
def aes_encrypt(state: Value, key: Value) -> Value:
    return mixed(shifted_rows(aes_substitute(state), 1)) ^ key


@function(128, 128, returns=128)
def aes_encrypt_last(state: Value, key: Value) -> Value:
    return shifted_rows(aes_substitute(state), 1) ^ key


@function(128, 128, returns=128)
def aes_decrypt(state: Value, key: Value) -> Value:
    return unmixed(shifted_rows(aes_substitute_back(state), -1)) ^ key


@function(128, 128, returns=128)
def aes_decrypt_last(state: Value, key: Value) -> Value:
    return shifted_rows(aes_substitute_back(state), -1) ^ key


# -- carry-less multiplication
@function(128, 128, returns=128)
def multiply_without_carry(a: Value, b: Value) -> Value:
    """The product of the low halves as polynomials over GF(2)."""
    wide = a.low(64).zext(128)
    r, rest = Var(lift(0, 128)), Var(b.low(64))
    with loop(lift(64, 64), r, rest):
        r.set((r << 1) ^ (rest.top.sext(128) & wide))
        rest.set(rest << 1)
    return r.read()


# -- SHA (FIPS 180-4, 4.1, 6.1, 6.2)
def words(v: Any) -> list[Value]:
    """Four words, the highest first: the order in which the manual names them."""
    return [v.lane(i, 32) for i in (3, 2, 1, 0)]


def state(*high_first: Value) -> Value:
    return concat(*reversed(high_first))


def left(v: Value, n: int) -> Value:
    return rotated(v, 32 - n)


SHA1_ROUNDS: list[tuple[int, Callable[[Value, Value, Value], Value]]] = [
    (0x5A827999, lambda b, c, d: (b & c) ^ (~b & d)),
    (0x6ED9EBA1, lambda b, c, d: b ^ c ^ d),
    (0x8F1BBCDC, lambda b, c, d: (b & c) ^ (b & d) ^ (c & d)),
    (0xCA62C1D6, lambda b, c, d: b ^ c ^ d),
]


@function(128, 128, 8, returns=128)
def sha1_rounds(abcd: Value, wk: Value, which: Value) -> Value:
    """Four rounds; E of the first has been added to its word."""
    a, b, c, d = words(abcd)
    e = lift(0, 32)
    for w in words(wk):
        f, k = lift(0, 32), lift(0, 32)
        for n, (constant, text) in enumerate(SHA1_ROUNDS):
            chosen = which.low(2) == n
            f, k = chosen.choose(text(b, c, d), f), chosen.choose(lift(constant, 32), k)
        a, b, c, d, e = f + left(a, 5) + w + e + k, a, left(b, 30), c, d
    return state(a, b, c, d)


@function(128, 128, 128, returns=128)
def sha256_rounds(cdgh: Value, abef: Value, wk: Value) -> Value:
    """Two rounds; the words come with their constants added."""
    (c, d, g, h), (a, b, e, f) = words(cdgh), words(abef)
    for i in (0, 1):
        s1, s0 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25), rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)
        t = h + s1 + ((e & f) ^ (~e & g)) + wk.lane(i, 32)
        a, b, c, d, e, f, g, h = t + s0 + ((a & b) ^ (a & c) ^ (b & c)), a, b, c, d + t, e, f, g
    return state(a, b, e, f)


def small_sigma(v: Value, first: int, second: int, shift: int) -> Value:
    return rotated(v, first) ^ rotated(v, second) ^ (v.u >> shift)
