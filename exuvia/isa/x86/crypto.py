"""AES, carry-less multiplication, SHA, and random numbers (SDM vol. 1, 12.13, 7.3.17; vol. 2; FIPS 197; FIPS 180-4)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.ciphers import (
    aes_decrypt,
    aes_decrypt_last,
    aes_encrypt,
    aes_encrypt_last,
    aes_substitute,
    left,
    multiply_without_carry,
    rotated,
    sha1_rounds,
    sha256_rounds,
    small_sigma,
    state,
    unmixed,
    words,
)
from exuvia.dsl.values import Value, concat, lift
from exuvia.isa.x86.cpu import Cpu, leave
from exuvia.isa.x86.forms import op, pure
from exuvia.isa.x86.vector import by_half

AES: dict[str, Any] = {"sse": True, "feature": "aes"}
SHA: dict[str, Any] = {"sse": True, "feature": "sha_ni"}


# fmt: off
pure("66 0F38 DB Vx,Wx",    lambda a, b: unmixed(b.read()), "aesimc",     vex="128",  **AES)
pure("66 0F38 DC Vx,Hx,Wx", by_half(aes_encrypt),           "aesenc",     vex="vaes", **AES)
pure("66 0F38 DD Vx,Hx,Wx", by_half(aes_encrypt_last),      "aesenclast", vex="vaes", **AES)
pure("66 0F38 DE Vx,Hx,Wx", by_half(aes_decrypt),           "aesdec",     vex="vaes", **AES)
pure("66 0F38 DF Vx,Hx,Wx", by_half(aes_decrypt_last),      "aesdeclast", vex="vaes", **AES)
# fmt: on


@op("66 0F3A DF Vx,Wx,Ib", vex="128", **AES)
def aeskeygenassist(cpu: Cpu, a: Any, b: Any, i: Any) -> None:
    """Columns 1 and 3 substituted, and turned by a byte with the constant added."""
    v = aes_substitute(b)
    x1, x3 = v.lane(1, 32), v.lane(3, 32)
    a.set(concat(x1, rotated(x1, 8) ^ i.zext(32), x3, rotated(x3, 8) ^ i.zext(32)))


# -- carry-less multiplication
def halves_multiplied(a: Value, b: Value, i: Value) -> Value:
    return multiply_without_carry(*(x.lane_at(i.bit(k).zext(64), 64).zext(128) for x, k in ((a, 0), (b, 4))))


pure("66 0F3A 44 Vx,Hx,Wx,Ib", by_half(halves_multiplied), "pclmulqdq", vex="vpclmulqdq", sse=True, feature="pclmulqdq")


# -- SHA (FIPS 180-4, 6.1, 6.2)
@op("NP 0F3A CC Vx,Wx,Ib", **SHA)
def sha1rnds4(cpu: Cpu, a: Any, b: Any, i: Any) -> None:
    a.set(sha1_rounds(a, b, i))


@op("NP 0F38 C8 Vx,Wx", **SHA)
def sha1nexte(cpu: Cpu, a: Any, b: Any) -> None:
    a.set(b.insert(3, b.lane(3, 32) + left(a.lane(3, 32), 30)))


@op("NP 0F38 C9 Vx,Wx", **SHA)
def sha1msg1(cpu: Cpu, a: Any, b: Any) -> None:
    a.set(a ^ a.shuffle(b.read(), 32, 6, 7, 0, 1))


@op("NP 0F38 CA Vx,Wx", **SHA)
def sha1msg2(cpu: Cpu, a: Any, b: Any) -> None:
    _, w13, w14, w15 = words(b)
    x0, x1, x2, x3 = words(a)
    w16 = left(x0 ^ w13, 1)
    a.set(state(w16, left(x1 ^ w14, 1), left(x2 ^ w15, 1), left(x3 ^ w16, 1)))


@op("NP 0F38 CB Vx,Wx", **SHA)
def sha256rnds2(cpu: Cpu, a: Any, b: Any) -> None:
    a.set(sha256_rounds(a, b, cpu.get(("x", 0, 128))))


@op("NP 0F38 CC Vx,Wx", **SHA)
def sha256msg1(cpu: Cpu, a: Any, b: Any) -> None:
    w = [a.lane(i, 32) for i in range(4)] + [b.lane(0, 32)]
    a.set(concat(*(w[i] + small_sigma(w[i + 1], 7, 18, 3) for i in range(4))))


@op("NP 0F38 CD Vx,Wx", **SHA)
def sha256msg2(cpu: Cpu, a: Any, b: Any) -> None:
    w = [b.lane(2, 32), b.lane(3, 32)]
    for i in range(4):
        w.append(a.lane(i, 32) + small_sigma(w[i], 17, 19, 10))
    a.set(concat(*w[2:]))


def random(cpu: Cpu, a: Any) -> None:
    """CF says that there was a number; there always is."""
    no = lift(0, 1)
    cpu.set_flags("six", lift(1, 1), no, no, no, no, no)
    leave("random", cpu.field("rm").u >> 3, a.w)


op("NP 0F C7/6 Rv | 66 0F C7/6 Rv", "rdrand", feature="rdrand")(random)
op("NP 0F C7/7 Rv | 66 0F C7/7 Rv", "rdseed", feature="rdseed")(random)
