"""Generated sequences that are mostly x87: registers pushed, popped, moved and marked empty, TOP turned, control words and environments
in between, MMX on the same registers."""

from __future__ import annotations

import struct
from random import Random

from tests.codegen.sequences import RSP, Maker, Memory

ARITHMETIC = (0, 1, 4, 5, 6, 7)
"""ADD, MUL, SUB, SUBR, DIV, DIVR, as ModRM's reg has them."""
ONE = (0xE0, 0xE1, 0xE4, 0xE5, 0xFA, 0xFC)
"""FCHS, FABS, FTST, FXAM, FSQRT, FRNDINT."""
AREA = Memory(RSP, 256)


class Floats(Maker):
    """Makes one sequence. Environments, which not all processors fill alike, are left out of what is `defined`."""

    MENU = (
        ("constant", 8), ("load", 8), ("with_memory", 7), ("with_register", 14), ("one", 5), ("move", 10), ("turn", 3), ("compare", 5),
        ("put", 9), ("word", 4), ("environment", 2), ("mmx", 2), ("alu", 5), ("condition", 2),
    )  # fmt: skip

    def register(self) -> int:
        """ST(i): mostly a near one."""
        return self.random.choice((0, 0, 1, 1, 1, 2, 3, self.random.randrange(8)))

    def constant(self) -> None:
        self.emit(0xD9, self.random.choice((0xE8, 0xE8, 0xEB, 0xEE, 0xE9)))

    def load(self) -> None:
        code, digit = self.random.choice(((b"\xd9", 0), (b"\xdd", 0), (b"\xdb", 5), (b"\xdf", 0), (b"\xdb", 0), (b"\xdf", 5)))
        self.operand(code, digit, self.memory(), 0)

    def with_memory(self) -> None:
        code = self.random.choice((b"\xd8", b"\xdc", b"\xda", b"\xde"))
        self.operand(code, self.random.choice((*ARITHMETIC, 2, 3)), self.memory(), 0)

    def with_register(self) -> None:
        self.emit(self.random.choice((0xD8, 0xD8, 0xDC, 0xDE)), 0xC0 | self.random.choice(ARITHMETIC) << 3 | self.register())

    def one(self) -> None:
        self.emit(0xD9, self.random.choice(ONE))

    def move(self) -> None:
        """FLD, FXCH, FST, FSTP, FCMOVcc."""
        code, base = self.random.choice(((0xD9, 0xC0), (0xD9, 0xC8), (0xDD, 0xD0), (0xDD, 0xD8), (0xD9, 0xC8), (0xDA, 0xC0), (0xDB, 0xC8)))
        self.emit(code, base | self.register())

    def turn(self) -> None:
        """FINCSTP, FDECSTP, FFREE, FFREEP."""
        register = self.register()
        self.emit(*self.random.choice(((0xD9, 0xF7), (0xD9, 0xF6), (0xDD, 0xC0 | register), (0xDF, 0xC0 | register))))

    def compare(self) -> None:
        r, i = self.random, self.register()
        self.emit(*r.choice(((0xD8, 0xD0 | i), (0xD8, 0xD8 | i), (0xDE, 0xD9), (0xDD, 0xE0 | i), (0xDB, 0xF0 | i), (0xDF, 0xE8 | i))))
        if r.random() < 0.6:
            self.emit(0xDF, 0xE0)  # FNSTSW AX

    def put(self) -> None:
        code, digit = self.random.choice(
            ((b"\xd9", 2), (b"\xd9", 3), (b"\xdd", 2), (b"\xdd", 3), (b"\xdb", 7), (b"\xdb", 2), (b"\xdf", 7), (b"\xdd", 1))
        )
        self.operand(code, digit, self.memory(), 0)

    def word(self) -> None:
        """Control and status words: FLDCW, now and then of one that unmasks, FNSTCW, FNSTSW, FNCLEX, FNINIT."""
        r, m = self.random, Memory(RSP, -64)
        kind = r.randrange(8)
        if kind < 3:
            masks = 0x3F if r.random() < 0.8 else r.getrandbits(6)
            self.operand(b"\xc7", 0, m, 32, struct.pack("<I", 0x40 | masks | r.randrange(4) << 10 | r.choice((0, 2, 3)) << 8))
            self.operand(b"\xd9", 5, m, 0)
        elif kind < 5:
            self.emit(0xDF, 0xE0)
        elif kind == 5:
            self.operand(b"\xdd", 7, self.memory(), 0)
        else:
            self.emit(0xDB, r.choice((0xE2, 0xE2, 0xE3)))

    def environment(self) -> None:
        """FNSTENV, FLDENV, FNSAVE, FRSTOR, FXSAVE, FXRSTOR."""
        if self.defined:
            return
        for code, digit in self.random.choice((((b"\xd9", 6), (b"\xd9", 4)), ((b"\xdd", 6), (b"\xdd", 4)), ((b"\xdd", 6),))):
            self.operand(code, digit, AREA, 0)

    def mmx(self) -> None:
        """PADDB, PXOR, MOVQ, EMMS: they put TOP to 0."""
        r = self.random
        a = r.randrange(8)
        self.emit(0x0F, *r.choice(((0xFC, 0xC1 | a << 3), (0xEF, 0xC0 | a << 3), (0x6F, 0xC3 | a << 3), (0x77,), (0x77,))))

    def sequence(self, count: int) -> bytes:
        """Mostly with all exceptions masked and some registers in use."""
        if self.random.random() < 0.85:
            self.emit(0xDB, 0xE3)
        for _ in range(self.random.randrange(5)):
            self.constant() if self.random.random() < 0.5 else self.load()
        return super().sequence(count)


def floats(random: Random, mode: int = 64, defined: bool = True, rewrites: bool = False) -> bytes:
    """The code of a sequence of 5 to 40 instructions, and some before it."""
    while True:
        try:
            return Floats(random, mode, defined, rewrites).sequence(random.randrange(5, 41))
        except ValueError:
            continue
