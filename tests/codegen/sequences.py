"""Generated sequences of instructions that end: branches, loops, calls, flags that live over joins, accesses near one another.

Encodings by hand (SDM vol. 2, appendix A): what an instruction does is for the engines and the host's processor to say.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from tests.oracle import values
from tests.oracle.case import CODE, CODE_LIMIT, WINDOW, WINDOW_SIZE, Case

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
ALU = {"add": 0, "or": 1, "adc": 2, "sbb": 3, "and": 4, "sub": 5, "xor": 6, "cmp": 7}
CONDITIONS = range(16)
WORDS_16 = {RBX: 7, RSI: 4, RDI: 5, RBP: 6}
"""ModRM's rm for a base register in 16-bit addressing (SDM vol. 2, table 2-1)."""
SSE_PACKED = ("0F 58", "0F 59", "0F 5C", "66 0F 58", "66 0F FE", "66 0F EF", "66 0F DB", "66 0F 62", "66 0F 70", "0F 14", "66 0F 38 00")
SSE_SCALAR = ("F2 0F 58", "F2 0F 59", "F2 0F 5E", "F3 0F 58", "F3 0F 5C", "F2 0F 51", "F2 0F 5D", "F3 0F 5A", "66 0F 2E", "0F 2F")
AVX_PACKED = (*((1, x, 1) for x in (0xFE, 0xEF, 0xDB, 0x62, 0x58, 0xD2)), (1, 0x58, 0), (1, 0x59, 0), (2, 0x00, 1), (2, 0xB8, 1))
AVX_SCALAR = ((1, 0x58, 3), (1, 0x59, 2), (1, 0x51, 3), (1, 0x5A, 2), (1, 0x10, 3))
"""Opcode map, opcode, number of the mandatory prefix (SDM vol. 2, 2.3.5)."""


class Memory(NamedTuple):
    """An operand in memory; `by`: the index register, if it has one."""

    base: int
    disp: int
    by: int = -1
    scale: int = 0


class Maker:
    """Makes one sequence for 64-, 32- or 16-bit code. `defined`: only what the manual defines, so that the host can be asked."""

    def __init__(self, random: Random, mode: int = 64, defined: bool = True, rewrites: bool = False) -> None:
        self.random, self.mode, self.defined, self.rewrites = random, mode, defined, rewrites
        self.code = bytearray()
        self.jumps: list[tuple[int, int, int]] = []  # place of a displacement, its bytes, number of a label
        self.labels: dict[int, int] = {}
        self.calls: list[tuple[int, int]] = []  # labels and sizes of functions still to be written
        self.patches: list[tuple[int, int]] = []  # places of displacements that lead to a rewritten byte, and that byte's
        self.count = 0
        self.immediates: list[int] = []  # places of bytes that may be rewritten
        wide = mode == 64
        self.data = [0, 1, 2, 8, 9, 10, 11, 12] if wide else [0, 1, 2]
        self.bases = [RBX, RSI, RBP, RDI] if wide else [RBX, RSI]
        self.counters = [15, 14, 13] if wide else [RDI, RBP]
        self.depth = 0

    # -- encoding
    def emit(self, *parts: int | bytes) -> None:
        """Bytes."""
        for p in parts:
            self.code += bytes([p]) if isinstance(p, int) else p

    def operand(self, opcode: bytes, reg: int, rm: int | Memory, size: int, immediate: bytes = b"", prefix: bytes = b"") -> None:
        """An instruction with ModRM. `size`: 8, 16, 32, 64, or 0 where the operand size says nothing."""
        default = 16 if self.mode == 16 else 32
        head = bytearray()
        addresses = self.mode
        if isinstance(rm, Memory) and not self.defined and self.random.random() < 0.08:
            head.append(0x67)
            addresses = {64: 32, 32: 16, 16: 32}[self.mode]
        if not self.defined and isinstance(rm, Memory) and self.random.random() < 0.08:
            head.append(self.random.choice((0x64, 0x65, 0x26, 0x36)))
        if size in (16, 32) and size != default:
            head.append(0x66)
        head += prefix
        rex = 0x48 if size == 64 else 0
        rex |= 0x44 if reg >= 8 else 0
        if isinstance(rm, Memory):
            body, more = self.address(rm, reg & 7, addresses)
            rex |= more
        else:
            body = bytes([0xC0 | (reg & 7) << 3 | rm & 7])
            rex |= 0x41 if rm >= 8 else 0
        self.emit(bytes(head), bytes([rex]) if rex else b"", opcode, body, immediate)

    def address(self, m: Memory, reg: int, size: int) -> tuple[bytes, int]:
        """ModRM, SIB and displacement; bits of REX."""
        disp = m.disp
        if size == 16:
            base = WORDS_16.get(m.base, 7)
            return bytes([0x80 | reg << 3 | base]) + struct.pack("<h", disp), 0
        form, tail = (
            (0x40, struct.pack("<b", disp)) if -128 <= disp < 128 and self.random.random() < 0.8 else (0x80, struct.pack("<i", disp))
        )
        rex = 0x41 if m.base >= 8 else 0
        if m.by < 0:
            if m.base & 7 == RSP:
                return bytes([form | reg << 3 | 4, 0x24]) + tail, rex
            return bytes([form | reg << 3 | m.base & 7]) + tail, rex
        rex |= 0x42 if m.by >= 8 else 0
        return bytes([form | reg << 3 | 4, m.scale << 6 | (m.by & 7) << 3 | m.base & 7]) + tail, rex

    def label(self) -> int:
        """A new label, not yet placed."""
        self.count += 1
        return self.count

    def place(self, label: int) -> None:
        self.labels[label] = len(self.code)

    def branch(self, opcode: bytes, label: int, wide: bool = False) -> None:
        """A relative branch; `wide` with the operand size's displacement instead of a byte's."""
        n = (2 if self.mode == 16 else 4) if wide else 1
        self.emit(opcode, bytes(n))
        self.jumps.append((len(self.code) - n, n, label))

    def finish(self) -> bytes:
        """The code, with every branch resolved. Raises ValueError where it became too long."""
        for at, n, label in self.jumps:
            delta = self.labels[label] - at - n
            if n == 1 and not -128 <= delta < 128:
                raise ValueError("a short branch that is too far")
            self.code[at : at + n] = (delta & (1 << 8 * n) - 1).to_bytes(n, "little")
        if len(self.code) > CODE_LIMIT:
            raise ValueError("too long")
        return bytes(self.code)

    # -- choices
    def size(self) -> int:
        return self.random.choice((8, 16, 32, 32, 64, 64) if self.mode == 64 else (8, 16, 32, 32))

    def register(self) -> int:
        return self.random.choice(self.data)

    def memory(self, size: int = 64) -> Memory:
        """Mostly at small distances from one of the bases; now and then with an index."""
        r = self.random
        disp = r.choice((0, 1, 4, 8, 8, 16, 24, 40, -8, -4, -16, r.randrange(-128, 128), r.randrange(-40, 300)))
        base = r.choice(self.bases[:2] if r.random() < 0.8 else self.bases)
        if self.mode != 16 and r.random() < 0.08:
            return Memory(base, disp, RCX, r.randrange(2))
        return Memory(base, disp)

    def target(self) -> int | Memory:
        return self.memory() if self.random.random() < 0.45 else self.register()

    def immediate(self, size: int) -> bytes:
        n = min(size // 8, 4)
        return (values.integer(self.random) & (1 << 8 * n) - 1).to_bytes(n, "little")

    def settle(self) -> None:
        """Make undefined flags defined again."""
        if self.defined:
            self.operand(b"\x39", self.register(), self.register(), 32)

    # -- instructions
    def alu(self) -> None:
        r, size = self.random, self.size()
        n = ALU[r.choice(list(ALU))] << 3
        kind = r.random()
        if kind < 0.4:
            self.operand(bytes([n | (size > 8)]), self.register(), self.target(), size)
        elif kind < 0.7:
            self.operand(bytes([n | 2 | (size > 8)]), self.register(), self.target(), size)
        elif size == 8 or kind < 0.9:
            self.operand(b"\x80" if size == 8 else b"\x83", n >> 3, self.target(), size, self.immediate(8))
            self.immediates.append(len(self.code) - 1)
        else:
            self.operand(b"\x81", n >> 3, self.target(), size, self.immediate(size))

    def test(self) -> None:
        size = self.size()
        self.operand(b"\x84" if size == 8 else b"\x85", self.register(), self.target(), size)

    def move(self) -> None:
        r, size = self.random, self.size()
        kind = r.random()
        if kind < 0.35:
            self.operand(b"\x88" if size == 8 else b"\x89", self.register(), self.target(), size)
        elif kind < 0.7:
            self.operand(b"\x8a" if size == 8 else b"\x8b", self.register(), self.target(), size)
        elif kind < 0.85:
            self.operand(b"\xc6" if size == 8 else b"\xc7", 0, self.target(), size, self.immediate(size))
            self.immediates.append(len(self.code) - 1)
        else:
            self.operand(r.choice((b"\x0f\xb6", b"\x0f\xbe", b"\x0f\xb7", b"\x0f\xbf")), self.register(), self.target(), max(size, 16))

    def load_address(self) -> None:
        m = self.memory()
        self.operand(b"\x8d", self.register(), m, self.random.choice((32, 64)) if self.mode == 64 else 32)

    def one(self) -> None:
        size = self.size()
        opcode, digit = self.random.choice(((0xFE, 0), (0xFE, 1), (0xF6, 2), (0xF6, 3)))
        self.operand(bytes([opcode | (size > 8)]), digit, self.target(), size)

    def shift(self) -> None:
        r, size = self.random, self.size()
        digit = r.choice((0, 1, 2, 3, 4, 5, 7))
        kind = r.randrange(3)
        if kind == 0:
            self.operand(bytes([0xD0 | (size > 8)]), digit, self.target(), size)
        elif kind == 1:
            count = r.randrange(1, min(size, 32)) if self.defined else r.randrange(256)
            self.operand(bytes([0xC0 | (size > 8)]), digit, self.target(), size, bytes([count]))
        elif not (self.defined and size < 32):
            self.operand(bytes([0xD2 | (size > 8)]), digit, self.target(), size)
        self.settle()

    def condition(self) -> None:
        c = self.random.choice(CONDITIONS)
        if self.random.random() < 0.5:
            self.operand(bytes([0x0F, 0x90 | c]), 0, self.target(), 8)
        else:
            self.operand(bytes([0x0F, 0x40 | c]), self.register(), self.target(), max(16, self.size()))

    def carry(self) -> None:
        self.emit(self.random.choice((0xF5, 0xF8, 0xF9)))
        if not self.defined:
            self.emit(self.random.choice((b"", b"\x9f", b"\x9e", b"\xfc")))

    def stack(self) -> None:
        r = self.random
        kind = r.randrange(4)
        if kind == 0:
            a, b = r.choice((RAX, RCX, RDX)), r.choice((RAX, RCX, RDX))
            self.emit(0x50 | a)
            self.ordinary(r.randrange(2))
            self.emit(0x58 | b)
        elif kind == 1:
            self.emit(0x6A, self.immediate(8), 0x58 | r.choice((RAX, RCX, RDX)))
        elif kind == 2:
            self.emit(0xFF, 0x30 | WORDS_16[RBX] if self.mode == 16 else 0x30 | RBX, 0x58 | RAX)
        else:
            self.emit(0x50, 0x51, 0x52, 0x5A, 0x58, 0x59)

    def multiply(self) -> None:
        size = max(16, self.size())
        self.operand(b"\x0f\xaf", self.register(), self.target(), size)
        self.settle()

    def divide(self) -> None:
        """Mostly of what fits; a zero divisor now and then."""
        size = self.random.choice((32, 64) if self.mode == 64 else (32,))
        self.operand(b"\x31", RDX, RDX, size)
        self.operand(b"\xf7", self.random.choice((4, 6)) if self.random.random() < 0.8 else 7, self.target(), size)
        self.settle()

    def exchange(self) -> None:
        r, size = self.random, max(16, self.size())
        kind = r.randrange(4)
        if kind == 0:
            self.operand(b"\x87", self.register(), self.target(), size)
        elif kind == 1:
            self.operand(b"\x0f\xc1", self.register(), self.memory(), size, prefix=r.choice((b"", b"\xf0")))
        elif kind == 2:
            self.operand(b"\x0f\xb1", self.register(), self.memory(), size, prefix=r.choice((b"", b"\xf0")))
        else:
            self.operand(b"\x01", self.register(), self.memory(), size, prefix=b"\xf0")

    def bits(self) -> None:
        r, size = self.random, max(16, self.size())
        if r.random() < 0.6:
            self.operand(b"\x0f\xba", r.choice((4, 5, 6, 7)), self.target(), size, bytes([r.randrange(size)]))
            self.settle()
        else:
            self.operand(b"\x0f\xb8", self.register(), self.target(), size, prefix=b"\xf3")

    def move_base(self) -> None:
        """Change what the bases hold, a little."""
        r = self.random
        base = r.choice(self.bases[:2])
        wide = 64 if self.mode == 64 else 32 if self.mode == 32 else 16
        kind = r.randrange(4)
        if kind < 2:
            self.operand(b"\x83", r.choice((0, 5)), base, wide, bytes([r.choice((1, 4, 8, 16, 60))]))
        elif kind == 2:
            other = r.choice(self.bases[:2])
            self.operand(b"\x8d", base, Memory(other, r.choice((0, 8, -8, 33))), wide)
        else:
            self.operand(b"\x89", self.bases[0], self.bases[1], wide)

    def vector(self) -> None:
        r = self.random
        if self.mode != 16 and r.random() < 0.45:
            return self.avx()
        reg, kind = r.randrange(4), r.randrange(6)
        if kind == 0:
            self.operand(b"\x0f" + r.choice((b"\x10", b"\x11")), reg, self.memory(), 0)  # MOVUPS
        elif kind == 1:
            self.operand(b"\x0f" + r.choice((b"\x28", b"\x29")), reg, self.memory() if r.random() < 0.1 else r.randrange(4), 0)
        elif kind == 2:
            self.sse(r.choice(SSE_PACKED), reg, r.randrange(4))
        elif kind == 3:
            self.sse(r.choice(SSE_SCALAR), reg, self.memory() if r.random() < 0.4 else r.randrange(4))
        elif kind == 4:
            self.operand(b"\x0f\x2a", reg, self.register(), 32, prefix=b"\xf2") if self.mode != 16 else None
        else:
            self.operand(b"\x0f" + r.choice((b"\x6e", b"\x7e")), reg, self.register(), 0, prefix=b"\x66")

    def avx(self) -> None:
        """At 128 and at 256 bits, among SSE that leaves the upper halves."""
        r = self.random
        reg, other, rm, wide = r.randrange(4), r.randrange(4), r.randrange(4), r.random() < 0.7
        kind = r.randrange(9)
        if kind < 2:
            self.vex(1, r.choice((0x10, 0x11)), 0, reg, 0, self.memory(), wide)  # VMOVUPS
        elif kind < 5:
            table, opcode, prefix = r.choice(AVX_PACKED)
            self.vex(table, opcode, prefix, reg, other, rm if r.random() < 0.75 or opcode == 0xD2 else self.memory(), wide)
        elif kind == 5:
            table, opcode, prefix = r.choice(AVX_SCALAR)
            self.vex(table, opcode, prefix, reg, other, rm, False)
        elif kind == 6:
            opcode = r.choice((0x18, 0x19, 0x06))  # VINSERTF128, VEXTRACTF128, VPERM2F128
            self.vex(3, opcode, 1, reg, 0 if opcode == 0x19 else other, rm, True, r.randbytes(1))
        elif kind == 7:
            self.vex(1, 0x77, 0, None, 0, 0, r.random() < 0.2)  # VZEROUPPER, VZEROALL
        else:
            a, b, c = r.sample(range(4), 3)
            self.vex(1, 0xEF, 1, b, b, b, True)
            if r.random() < 0.7:
                self.vex(1, 0x76, 1, c, c, c, True)
            m = Memory(self.memory().base, r.choice((0, 4, 16, -8)), b, 1)
            self.vex(2, r.choice((0x90, 0x91)), 1, a, c, m, wide)  # VPGATHERDD, VPGATHERQD at indices of zero

    def vex(
        self, table: int, opcode: int, prefix: int, reg: int | None, other: int, rm: int | Memory, wide: bool, tail: bytes = b""
    ) -> None:
        """An instruction with VEX of W0; `reg`: None where there is no ModRM."""
        body, rex = b"", 0
        if reg is not None:
            body, rex = self.address(rm, reg, self.mode) if isinstance(rm, Memory) else (bytes([0xC0 | reg << 3 | rm]), 0)
        inverted = 0xE0 & ~((rex & 3) << 5)
        self.emit(0xC4, inverted | table, (~other & 15) << 3 | wide << 2 | prefix, opcode, body, tail)

    def sse(self, text: str, reg: int, rm: int | Memory) -> None:
        data = bytes.fromhex(text)
        at = data.index(0x0F)
        self.operand(data[at:], reg, rm, 0, b"\x1b" if data[-1] == 0x70 else b"", data[:at])

    def float(self) -> None:
        """x87: something goes in, something is done, it comes out."""
        r = self.random
        m = self.memory()
        self.emit(b"\xd9", r.choice((0xE8, 0xEE, 0xEB)))
        depth = 1
        for _ in range(r.randrange(5)):
            kind = r.randrange(6)
            if kind < 2:
                self.operand(r.choice((b"\xdc", b"\xd8", b"\xda")), r.choice((0, 1, 4, 5, 6)), m, 0)
            elif kind == 2 and depth < 4:
                self.operand(r.choice((b"\xd9", b"\xdd", b"\xdb")), 0, m, 0) if r.random() < 0.6 else self.emit(0xD9, 0xC0)
                depth += 1
            elif depth > 1:
                pops = r.choice((0xC1, 0xC9, 0xE1, 0xE9, 0xF1, 0xF9))
                self.emit(*r.choice(((0xDE, pops), (0xD9, 0xC9), (0xD8, pops & ~1 | 1), (0xDF, 0xF1))))
                depth -= self.code[-2] in (0xDE, 0xDF)
        for _ in range(depth):
            code, digit = r.choice(((b"\xdd", 3), (b"\xd9", 3), (b"\xdb", 3), (b"\xdf", 7), (b"\xdb", 7)))
            self.operand(code, digit, self.memory(), 0)

    def control_word(self) -> None:
        """LDMXCSR and FLDCW with another rounding; words that tell exceptions; FNCLEX, FNINIT."""
        if self.mode == 16:
            return
        r, m = self.random, Memory(RSP, -64)
        kind = r.randrange(6)
        if kind < 2:
            self.operand(b"\xc7", 0, m, 32, struct.pack("<I", 0x1F80 | r.randrange(4) << 13 | r.choice((0, 0x20, 0x8040))))
            self.operand(b"\x0f\xae", 2, m, 0)
        elif kind == 2:
            self.operand(b"\x0f\xae", 3, self.memory(), 0)
        elif kind == 3:
            self.operand(b"\xc7", 0, m, 32, struct.pack("<I", 0x7F | r.randrange(4) << 10 | r.choice((0, 2, 3)) << 8))
            self.operand(b"\xd9", 5, m, 0)
        elif kind == 4:
            self.emit(r.choice((b"\xdb\xe2", b"\xdf\xe0", b"\xdb\xe3")))  # FNCLEX, FNSTSW AX, FNINIT
        else:
            self.operand(b"\xdd", 7, self.memory(), 0)

    def string(self) -> None:
        """A string instruction between PUSHes and POPs of what it needs, so that loops go on."""
        if self.mode == 16:
            return
        r = self.random
        self.emit(0x57, 0x56, 0x51)
        for reg, v in ((RDI, WINDOW + 5000 + r.randrange(3000)), (RSI, WINDOW + 5000 + r.randrange(3000)), (RCX, r.randrange(20))):
            self.emit(0xB8 | reg, struct.pack("<I", v))
        down = r.random() < 0.2
        if down:
            self.emit(0xFD)
        wide = r.choice((b"", b"", b"\x66"))
        self.emit(wide, r.choice((b"\xf3", b"\xf3", b"\xf2", b"")), r.choice(b"\xa4\xa5\xaa\xab\xa6\xa7\xae\xaf\xac\xad"))
        if down:
            self.emit(0xFC)
        self.emit(0x59, 0x5E, 0x5F)
        self.settle()

    def rewrite(self) -> None:
        """A store into the immediate of an instruction of ours, before or behind."""
        if not self.rewrites or not self.immediates or self.mode == 16:
            return
        self.emit(0xC6, 0x05)
        self.patches.append((len(self.code), self.random.choice(self.immediates)))
        self.emit(bytes(4), self.random.randrange(256))

    MENU: tuple[tuple[str, int], ...] = (
        ("alu", 24), ("test", 4), ("move", 18), ("load_address", 3), ("one", 8), ("shift", 7), ("condition", 7), ("carry", 3), ("stack", 4),
        ("multiply", 3), ("divide", 1), ("exchange", 4), ("bits", 4), ("move_base", 5), ("vector", 9), ("float", 2), ("control_word", 2),
        ("string", 2), ("rewrite", 3),
    )  # fmt: skip

    def ordinary(self, count: int) -> None:
        """Instructions that no branch is among."""
        for name in self.random.choices([name for name, _ in self.MENU], [w for _, w in self.MENU], k=count):
            getattr(self, name)()

    # -- shapes
    def body(self, room: int) -> None:
        """Instructions and shapes."""
        r = self.random
        while room > 0:
            n = min(room, r.randrange(1, 6))
            self.ordinary(n)
            room -= n
            if room > 2:
                shape: Callable[[int], None] = r.choice((self.skip, self.skip, self.either, self.repeat, self.call, self.indirect))
                n = min(room - 1, r.randrange(1, 9))
                shape(n)
                room -= n + 1

    def skip(self, room: int) -> None:
        """A forward branch over something."""
        over = self.label()
        if self.random.random() < 0.7:
            self.branch(bytes([0x70 | self.random.choice(CONDITIONS)]), over)
        else:
            self.branch(b"\xe3", over)  # JrCXZ
        self.body(room)
        self.place(over)

    def either(self, room: int) -> None:
        """If and else."""
        other, end = self.label(), self.label()
        self.branch(bytes([0x70 | self.random.choice(CONDITIONS)]), other)
        self.body(room // 2)
        self.branch(b"\xeb", end)
        self.place(other)
        self.body(room - room // 2)
        self.place(end)

    def repeat(self, room: int) -> None:
        """A loop of a few rounds; its counter is nobody else's."""
        if self.depth >= len(self.counters):
            return self.body(room)
        counter, top = self.counters[self.depth], self.label()
        wide = 16 if self.mode == 16 else 32
        self.operand(b"\xc7", 0, counter, wide, self.random.randrange(1, 6).to_bytes(wide // 8, "little"))
        self.place(top)
        self.depth += 1
        self.body(room)
        self.depth -= 1
        self.operand(b"\xff", 1, counter, wide)
        if self.random.random() < 0.7:
            self.branch(b"\x7f", top)  # JG
        else:
            self.branch(b"\x0f\x8f", top, True)
        return None

    def call(self, room: int) -> None:
        """A call of something that stands behind the end."""
        if self.depth >= 2:
            return self.body(room)
        f = self.label()
        self.branch(b"\xe8", f, True)
        self.calls.append((f, room))
        return None

    def indirect(self, room: int) -> None:
        """A jump to an address in a register."""
        if self.mode != 64:
            return self.skip(room)
        over = self.label()
        self.emit(0x48, 0x8D, 0x05, bytes(4))  # LEA RAX, [RIP + ...]
        self.jumps.append((len(self.code) - 4, 4, over))
        self.emit(0xFF, 0xE0)
        if self.random.random() < 0.5:
            self.body(room)
        self.place(over)
        return None

    def sequence(self, count: int) -> bytes:
        """The whole: main part, a jump over the functions, the functions. Raises ValueError where it became too long."""
        end = self.label()
        self.body(count)
        if self.calls:
            self.branch(b"\xe9", end, True)
        for f, room in self.calls:
            self.depth = 2  # functions have the last counter to themselves
            self.place(f)
            self.ordinary(room)
            self.emit(0xC3)
        self.place(end)
        self.emit(0x90)
        for at, where in self.patches:
            address = CODE + where
            struct.pack_into("<i", self.code, at, where - (at + 5) if self.mode == 64 else address)
        return self.finish()


def sequence(random: Random, mode: int = 64, defined: bool = True, rewrites: bool = False, count: int = 0) -> bytes:
    """The code of a sequence of 5 to 40 instructions."""
    while True:
        maker = Maker(random, mode, defined, rewrites)
        try:
            return maker.sequence(count or random.randrange(5, 41))
        except ValueError:
            continue


def start(random: Random, code: bytes, mode: int = 64, origin: int = WINDOW) -> Case:
    """A state for a sequence: the bases inside of the window, near a page's end, or near the window's. `origin`: the window's address."""
    gprs = [values.integer(random) & (1 << mode) - 1 for _ in range(16)]
    for base in (RBX, RSI, RBP, RDI):
        chance = random.random()
        if chance < 0.6:
            at = 512 + random.randrange(2000) + 4096 * random.randrange(3)
        elif chance < 0.95:
            at = 4096 * random.choice((1, 2)) + random.randrange(-70, 70)
        else:
            at = WINDOW_SIZE - random.randrange(1, 120)
        gprs[base] = origin + (at & ~7 if random.random() < 0.5 else at)
    gprs[RSP] = origin + 4096 + 8 * random.randrange(100, 500)
    gprs[RCX] = random.choice((0, 1, 2, 3, random.randrange(64), gprs[RCX]))
    if mode == 64:
        gprs[13:] = [random.randrange(5) for _ in range(3)]
    else:
        gprs[8:] = [0] * 8
        gprs[RDI], gprs[RBP] = random.randrange(5), random.randrange(5)
    return Case(
        code, mode, gprs, values.rflags(random) & ~0x400, values.fxsave(random), random.randbytes(WINDOW_SIZE), values.upper(random)
    )
