"""Operand values for test cases: edges as often as random bits."""

from __future__ import annotations

import math
import struct
from random import Random

from tests.oracle.case import FXSAVE_SIZE

STATUS_FLAGS = 0x8D5
INTEGER_EDGES = [
    0,
    1,
    2,
    3,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    1 << 63,
    (1 << 63) - 1,
    (1 << 64) - 1,
]
DOUBLE_EDGES = [
    0, 1 << 63, 0x3FF0 << 48, 0xBFF0 << 48, 0x7FF0 << 48, 0xFFF0 << 48,  # zeros, ones, infinities
    0x7FF8 << 48, 0xFFF8 << 48, 0x7FF8_0000_0000_0123, 0xFFFF_FFFF_FFFF_FFFF,  # quiet NaNs, two with a payload
    0x7FF0_0000_0000_0001, 0xFFF4_0000_DEAD_BEEF, 0x7FF7_FFFF_FFFF_FFFF,  # signalling NaNs
    1, 0x800F_FFFF_FFFF_FFFF, 0x0008_0000_0000_0000, 0x0010_0000_0000_0000, 0x8010_0000_0000_0001,  # denormals, least normal
    0x7FEF_FFFF_FFFF_FFFF, 0xFFEF_FFFF_FFFF_FFFF,  # greatest
    0x3FE0 << 48, 0x3FDF_FFFF_FFFF_FFFF, 0x3FF8 << 48, 0x4004 << 48, 0xC004 << 48,  # 0.5, just below, 1.5, 2.5, -2.5
    0x41DF_FFFF_FFC0_0000, 0x41E0 << 48, 0xC1E0 << 48, 0xC1E0_0000_0010_0000, 0x41DF_FFFF_FFE0_0000,  # around the int32 range
    0x43DF_FFFF_FFFF_FFFF, 0x43E0 << 48, 0xC3E0 << 48, 0xC3E0_0000_0000_0001,  # around the int64 range
    0x380F_FFFF_E000_0000, 0x3690 << 48, 0x47EF_FFFF_F000_0000, 0x47EF_FFFF_EFFF_FFFF,  # halves of a float's last place
]  # fmt: skip
SINGLE_EDGES = [
    0, 0x8000_0000, 0x3F80_0000, 0xBF80_0000, 0x7F80_0000, 0xFF80_0000, 0x7FC0_0000, 0xFFC0_0000, 0x7FC0_0123, 0xFFFF_FFFF,
    0x7F80_0001, 0xFFA0_BEEF, 0x7FBF_FFFF, 1, 0x807F_FFFF, 0x0040_0000, 0x0080_0000, 0x8080_0001, 0x7F7F_FFFF, 0xFF7F_FFFF,
    0x3F00_0000, 0x3EFF_FFFF, 0x3FC0_0000, 0x4020_0000, 0xC020_0000, 0x4EFF_FFFF, 0x4F00_0000, 0xCF00_0000, 0xCF00_0001,
    0x5EFF_FFFF, 0x5F00_0000, 0xDF00_0000, 0xDF00_0001, 0x4B00_0001, 0x4A80_0001,
]  # fmt: skip
HALF_EDGES = [0, 0x8000, 0x3C00, 0x7C00, 0xFC00, 0x7E00, 0xFE00, 0x7C01, 0xFD55, 1, 0x83FF, 0x0400, 0x7BFF, 0xFBFF]
EXTENDED_EDGES = [
    (0, 0), (0x8000, 0), (0x3FFF, 1 << 63), (0xBFFF, 1 << 63), (0x7FFF, 1 << 63), (0xFFFF, 1 << 63),
    (0x7FFF, 3 << 62), (0xFFFF, 3 << 62), (0x7FFF, 0xC000_0000_0000_0123), (0xFFFF, (1 << 64) - 1),  # quiet NaNs
    (0x7FFF, 0x8000_0000_0000_0001), (0xFFFF, 0xA000_DEAD_BEEF_0000),  # signalling NaNs
    (0, 1), (0x8000, (1 << 63) - 1), (0, 1 << 63), (0x8000, 0xC000_0000_0000_0000),  # denormals, pseudo-denormals
    (0x3FFF, 1), (0xBFFF, 0x4000_0000_0000_0000), (0x4000, 0),  # unnormals, a pseudo-zero
    (0x7FFF, 0), (0xFFFF, 0x4000_0000_0000_0000), (0x7FFF, 1),  # pseudo-infinity, pseudo-NaNs
    (1, 1 << 63), (0x7FFE, (1 << 64) - 1), (0xFFFE, (1 << 64) - 1), (0x3FFE, 1 << 63), (0x3FFE, (1 << 64) - 1),
    (0x4000, 0xA000 << 48), (0xC000, 0xA000 << 48), (0x3FFF, 0x8000_0000_0000_0001),
    (0x3FFF, 0x8000_0080_0000_0000), (0x3FFF, 0x8000_0000_0000_0400),
    (0x403E, 1 << 63), (0xC03E, 1 << 63), (0x403D, (1 << 64) - 1), (0x401E, 1 << 63), (0x400E, 1 << 63), (0x403A, 0xDE0B_6B3A_763F_FFF0),
]  # fmt: skip


def integer(random: Random) -> int:
    """64 bits; the low 8, 16 and 32 of them are edges too."""
    return random.choice(INTEGER_EDGES) if random.random() < 0.4 else random.getrandbits(random.choice((4, 8, 16, 32, 64)))


def single(random: Random) -> int:
    """The bits of a binary32."""
    kind = random.random()
    if kind < 0.35:
        return random.choice(SINGLE_EDGES)
    if kind < 0.5:
        return random.getrandbits(32)
    return int(struct.unpack("<I", struct.pack("<f", near(random)))[0])


def double(random: Random) -> int:
    """The bits of a binary64."""
    kind = random.random()
    if kind < 0.35:
        return random.choice(DOUBLE_EDGES)
    if kind < 0.5:
        return random.getrandbits(64)
    return int(struct.unpack("<Q", struct.pack("<d", near(random)))[0])


def near(random: Random) -> float:
    """A number in the ordinary range; one in three lies half-way between integers or close to it."""
    if random.random() < 0.34:
        return random.randrange(-300, 300) + random.choice((0.5, 0.5 - 2**-20, 0.5 + 2**-20, 0.25, 0.0))
    return math.ldexp(random.uniform(-1, 1), random.randrange(-30, 40))


def extended(random: Random) -> bytes:
    """The ten bytes of an x87 register, invalid operands included (SDM vol. 1, 8.2.2)."""
    kind = random.random()
    if kind < 0.35:
        head, significand = random.choice(EXTENDED_EDGES)
    elif kind < 0.45:
        head, significand = random.getrandbits(16), random.getrandbits(64)
    elif kind < 0.55:  # a binary64's worth of bits, so that conversions are exact, or a half
        head, significand = (
            0x3FFF + random.randrange(-60, 60),
            random.getrandbits(53) << 11 | 1 << 63 | random.choice((0, 0x400, 0x3FF, 0x401)),
        )
    elif kind < 0.62:  # a packed BCD number's range
        head, significand = 0x3FFF + random.randrange(62), random.getrandbits(64) | 1 << 63
    else:
        mantissa, exponent = math.frexp(near(random))
        significand = int(abs(mantissa) * 2**64) & (1 << 64) - 1
        head = (exponent + 0x3FFE if significand else 0) | (0x8000 if mantissa < 0 else 0)
    return struct.pack("<QH", significand, head)


def lanes(random: Random, kind: str) -> bytes:
    """Sixteen bytes for a vector register: kind 's' singles, 'd' doubles, 'h' half floats, 'i' integers, '?' one of them."""
    if kind == "?":
        kind = random.choice("sdi")
    if kind == "s":
        return struct.pack("<4I", *(single(random) for _ in range(4)))
    if kind == "h":
        return struct.pack("<8H", *(random.choice(HALF_EDGES) if random.random() < 0.4 else random.getrandbits(16) for _ in range(8)))
    if kind == "d":
        return struct.pack("<2Q", double(random), double(random))
    width = random.choice((8, 16, 32, 64))
    return b"".join((integer(random) & (1 << width) - 1).to_bytes(width // 8, "little") for _ in range(128 // width))


def mxcsr(random: Random) -> int:
    """A valid MXCSR: any rounding mode, DAZ and FTZ now and then, any sticky flags, exceptions masked."""
    value = 0x1F80 | random.choice((0, 0, 1, 2, 3)) << 13
    if random.random() < 0.25:
        value |= random.choice((0x8000, 0x0040, 0x8040))
    return value | (random.getrandbits(6) if random.random() < 0.2 else 0)


def control_word(random: Random) -> int:
    """An x87 control word: any rounding and precision control (01, reserved, excepted), exceptions masked."""
    return 0x7F | random.choice((0, 0, 1, 2, 3)) << 10 | random.choice((3, 3, 3, 2, 0)) << 8 & 0x300


def fxsave(random: Random, kind: str = "?", *, mmx: bool = False) -> bytes:
    """An FXSAVE64 image: x87 registers mostly full, random control words, vector registers of a kind (see `lanes`)."""
    image = bytearray(FXSAVE_SIZE)
    top = 0 if mmx else random.randrange(8)
    tags = 0xFF if random.random() < 0.8 else random.getrandbits(8)
    status = top << 11 | (random.getrandbits(4) & 7) << 8 | random.getrandbits(1) << 14
    if random.random() < 0.1:
        status |= random.getrandbits(6)
    struct.pack_into("<HHB", image, 0, control_word(random), status, tags)
    struct.pack_into("<II", image, 24, mxcsr(random), 0xFFFF)
    for i in range(8):
        image[32 + 16 * i : 42 + 16 * i] = lanes(random, "i")[:8] + b"\xff\xff" if mmx else extended(random)
    for i in range(16):
        image[160 + 16 * i : 176 + 16 * i] = lanes(random, kind)
    return bytes(image)


def rflags(random: Random) -> int:
    """RFLAGS with any status flags."""
    return 0x202 | random.choice((0, STATUS_FLAGS, 1, random.getrandbits(12) & STATUS_FLAGS, random.getrandbits(12) & STATUS_FLAGS))


def upper(random: Random, kind: str = "?") -> bytes:
    """The upper halves of the ymm registers."""
    return b"".join(lanes(random, kind) for _ in range(16))
