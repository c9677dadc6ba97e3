"""Instruction cases from encodings: random registers, memory forms, immediates and prefixes around edge and random operand values."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from tests.oracle import values
from tests.oracle.case import CODE, CODE_PAGE, WINDOW, WINDOW_SIZE, Case
from tests.oracle.encoding import Encoding

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
LOCKABLE = frozenset("adc add and btc btr bts cmpxchg cmpxchg8b cmpxchg16b dec inc neg not or sbb sub xadd xchg xor".split())
"""SDM vol. 2, LOCK: the instructions that take the prefix when their destination is memory."""
STRINGS = frozenset(f"{name}{size}" for name in ("movs", "cmps", "scas", "lods", "stos") for size in ("", "b", "w", "d", "q"))
SHIFTS = frozenset("shl sal shr sar rol ror rcl rcr shld shrd".split())
SYSTEM = frozenset("CDA")


class Unsuitable(ValueError):
    """The encoding has no form with the operand size, mode or operand kind that was asked for."""


@dataclass(frozen=True)
class Generated:
    """A case, and what is needed to judge its result."""

    row: Encoding
    case: Case
    size: int
    """The operand size in bits: 8 for byte forms."""
    memory: bool
    """Whether the ModRM operand is in memory."""
    count: int | None = None
    """A shift's or rotate's count before masking."""
    address: int | None = None
    """Where the ModRM operand in memory begins."""


class Generator:
    """Makes cases; the same seed gives the same cases."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.pool = [self.random.randbytes(WINDOW_SIZE) for _ in range(8)]

    def cases(self, row: Encoding, rounds: int = 1, modes: tuple[int, ...] = (64, 32)) -> Iterator[Generated]:
        """`rounds` cases of every mode, operand size and operand kind that the encoding has."""
        for mode in modes:
            for size in sizes(row, mode):
                for memory in (False, True):
                    for _ in range(rounds):
                        try:
                            yield self.case(row, size, mode, memory)
                        except Unsuitable:
                            break

    def case(self, row: Encoding, size: int, mode: int = 64, memory: bool = False) -> Generated:
        """One case with an operand size of 16, 32 or 64 bits. Raises Unsuitable."""
        return Builder(self, row, size, mode, memory).build()


def letters(row: Encoding) -> str:
    """The first letter of each operand ('s' stands for sI)."""
    return "".join(x[0] for x in row.operands if x != "1" and not is_register(x))


def is_register(operand: str) -> bool:
    """Whether the operand is a fixed register: AL, CL, DX, rAX, eAX, ST, ST0, XMM0."""
    return operand in ("AL", "CL", "AH", "AX", "DX", "EAX", "ES", "CS", "SS", "DS", "FS", "GS") or operand[:2] in ("rA", "eA", "ST", "XM")


def sizes(row: Encoding, mode: int) -> tuple[int, ...]:
    """The operand sizes that make a difference in `mode`; none where the encoding does not exist."""
    if row.facts.get("only", mode) != mode:
        return ()
    if mode == 64 and row.facts.get("f64"):
        return (64,)
    if mode == 64 and row.facts.get("d64"):
        return (16, 64)
    if not row.osize:
        return (32,)
    every = (32, 64) if row.only_w or row.vex or row.prefix == "NP" else (16, 32, 64)
    return tuple(s for s in every if s <= mode)


class Builder:
    """One case in the making."""

    def __init__(self, maker: Generator, row: Encoding, size: int, mode: int, memory: bool) -> None:
        self.random, self.row, self.size, self.mode, self.in_memory = maker.random, row, size, mode, memory
        if SYSTEM & set(letters(row)):
            raise Unsuitable(f"{row.name}: control and debug registers and far addresses are not for user code")
        if not (row.memory if memory else row.register):
            raise Unsuitable(f"{row.name}: no {'memory' if memory else 'register'} form")
        self.byte, self.width = row.byte, 8 if row.byte else size
        self.rex, self.rex_wanted = 0, False
        self.registers = 16 if mode == 64 else 8
        self.gprs = [values.integer(self.random) & (1 << mode) - 1 for _ in range(16)]
        if mode == 32:
            self.gprs[8:] = [0] * 8
        self.memory = bytearray(self.random.choice(maker.pool))
        self.address = self.pick_address()
        self.gprs[RSP] = WINDOW + 4096 + (self.random.randrange(512) * 8)
        self.rflags = values.rflags(self.random)
        self.long_address = False  # a 67h prefix
        self.vvvv = self.index = self.scale = 0  # of a gather

    def pick_address(self) -> int:
        """Where the memory operand lies: anywhere in the window, now and then across its end."""
        chance = self.random.random()
        if self.bit_string():
            return WINDOW + 4096 + self.random.randrange(4000)
        if chance < 0.03:
            return WINDOW + WINDOW_SIZE - self.random.randrange(1, 20)
        if chance < 0.15:
            return WINDOW + 8192 - self.random.randrange(1, 20)
        address = WINDOW + 4096 + self.random.randrange(4000)
        operand = next((x for x in self.row.operands if x[0] in "WMQ"), "")
        wide = operand in ("Wx", "Wdq") or operand[:1] == "M"
        return address & ~(self.vector() - 1) if wide and self.random.random() < 0.85 or self.random.random() < 0.3 else address

    def vector(self) -> int:
        """The size of its vectors, in bytes."""
        return 32 if self.row.vex and self.row.length else 16

    def build(self) -> Generated:
        """The case."""
        row, r = self.row, self.random
        opcode, tail, modrm = row.opcode, b"", b""
        reg = row.digit if row.digit is not None else r.randrange(8 if self.reg_letter() in "PS" else self.registers)
        if self.bit_string():
            reg = r.choice((RAX, RDX, RCX))  # never an address register
        if row.plus:
            low = r.randrange(self.registers)
            self.note_byte(low)
            self.rex |= low >> 3
            opcode += low & 7
        if row.modrm:
            modrm = self.encode_modrm(reg)
        count = self.operands()
        tail = b"".join(self.immediate(x) for x in row.operands)
        if row.name in SHIFTS:
            count = tail[-1] if tail else 1 if "1" in row.operands else self.gprs[RCX] & 255
        prefixes = self.prefixes()
        code = prefixes + self.escape(opcode) + modrm + tail
        kind = "s" if row.name[-2:] in ("ss", "ps") else "d" if row.name[-2:] in ("sd", "pd") else "?"
        mmx = any(x in "PQN" for x in letters(row)) and r.random() < 0.9
        image, upper = values.fxsave(r, kind, mmx=mmx), values.upper(r, kind)
        if row.facts.get("vsib"):
            image, upper = self.gathered(image, upper)
        case = Case(code, self.mode, self.gprs, self.rflags, image, bytes(self.memory), upper)
        return Generated(row, case, self.width, self.in_memory, count, self.address if self.in_memory and row.modrm else None)

    def reg_letter(self) -> str:
        """The letter of the operand in ModRM.reg, or a space."""
        return next((x[0] for x in self.row.operands if not is_register(x) and x[0] in "GVPS"), " ")

    def note_byte(self, register: int) -> None:
        """SPL, BPL, SIL and DIL need a REX prefix; without one the numbers mean AH to BH."""
        if self.byte and 4 <= register < 8 and self.mode == 64 and self.random.random() < 0.5:
            self.rex_wanted = True

    def encode_modrm(self, reg: int) -> bytes:
        """ModRM, SIB and displacement; sets the address registers."""
        row, r = self.row, self.random
        if row.fixed is not None:
            return bytes([row.fixed + r.randrange(row.fixed_count)])
        self.rex |= (reg >> 3) << 2
        self.note_byte(reg)
        if row.facts.get("vsib"):
            return self.encode_vsib(reg)
        if not self.in_memory:
            vector = any(x[0] in "QN" for x in row.operands)
            rm = r.randrange(8 if vector else self.registers)
            self.rex |= rm >> 3
            self.note_byte(rm)
            return bytes([0xC0 | (reg & 7) << 3 | rm & 7])
        return self.encode_memory(reg & 7)

    def encode_memory(self, reg: int) -> bytes:
        """A base or none, an index or none, a displacement of 0, 8 or 32 bits: so that the sum is `self.address`."""
        r = self.random
        limit = 1 << self.mode
        if self.mode == 64 and r.random() < 0.08:
            self.long_address, limit = True, 1 << 32
        form = r.choice(("base", "base", "base8", "base32", "index", "index8", "index32", "none", "nobase"))
        free = [x for x in range(self.registers) if x not in (RSP, RAX, RDX, RCX)]
        base, index = r.sample(free, 2)
        if form.startswith("base") and r.random() < 0.1:
            base = RSP
        disp = 0
        if form.endswith("8"):
            disp = r.randrange(-128, 128)
        elif form.endswith("32"):
            disp = r.choice((r.randrange(-1 << 31, 1 << 31), r.randrange(-5000, 5000)))
        if form == "base" and base & 7 == RBP:
            form = "base8"
        if form == "index" and base & 7 == RBP:
            form = "index8"
        mod = {"8": 0x40, "2": 0x80}.get(form[-1], 0)
        packed = struct.pack("<b", disp) if mod == 0x40 else struct.pack("<i", disp) if mod else b""
        upper = r.getrandbits(32) << 32 if self.long_address else 0
        if form in ("none", "nobase"):
            scale = r.randrange(4)
            value = 0
            if form == "nobase":
                self.rex |= (index >> 3) << 1
                value = r.choice((r.randrange(2000), -r.randrange(2000)))
                self.gprs[index] = value % limit | upper
            sib = scale << 6 | (index & 7 if form == "nobase" else 4) << 3 | 5
            return bytes([reg << 3 | 4, sib]) + struct.pack("<i", self.address - (value << scale))
        if form.startswith("base"):
            self.gprs[base] = (self.address - disp) % limit | upper
            self.rex |= base >> 3
            if base & 7 == 4 or r.random() < 0.2:
                return bytes([mod | reg << 3 | 4, r.randrange(4) << 6 | 4 << 3 | base & 7]) + packed
            return bytes([mod | reg << 3 | base & 7]) + packed
        scale = r.randrange(4)
        value = r.choice((r.randrange(100000), values.integer(r))) % limit
        self.gprs[index] = value | upper
        self.gprs[base] = (self.address - disp - (value << scale)) % limit | upper
        self.rex |= base >> 3 | (index >> 3) << 1
        return bytes([mod | reg << 3 | 4, scale << 6 | (index & 7) << 3 | base & 7]) + packed

    def encode_vsib(self, reg: int) -> bytes:
        """A base, and a vector of indices; now and then two of the three vector registers are the same."""
        r = self.random
        self.vvvv, self.index = r.sample([x for x in range(self.registers) if x != reg], 2)
        if r.random() < 0.05:
            self.vvvv, self.index = r.choice(((reg, self.index), (self.vvvv, reg), (self.index, self.index)))
        base = r.choice([x for x in range(self.registers) if x & 7 != RBP and x != RSP])
        self.scale, disp = r.randrange(4), r.randrange(-128, 128)
        self.gprs[base] = WINDOW + 4096 - disp
        self.rex |= base >> 3 | (self.index >> 3) << 1
        return bytes([0x40 | (reg & 7) << 3 | 4, self.scale << 6 | (self.index & 7) << 3 | base & 7]) + struct.pack("<b", disp)

    def gathered(self, image: bytes, upper: bytes) -> tuple[bytes, bytes]:
        """Indices that lead into the window, mostly; all of the mask in one case of three."""
        r, registers = self.random, [bytearray(image[160 + 16 * i : 176 + 16 * i] + upper[16 * i : 16 * i + 16]) for i in range(16)]
        w = 4 << (self.row.opcode & 1)  # of an index
        far = 2000 if r.random() < 0.75 else 9000
        indices = [r.randrange(-far, far) >> self.scale for _ in range(32 // w)]
        registers[self.index][:] = b"".join(i.to_bytes(w, "little", signed=True) for i in indices)
        if self.vvvv != self.index and r.random() < 0.4:
            registers[self.vvvv][:] = bytes([0xFF]) * 32
        return image[:160] + b"".join(x[:16] for x in registers) + image[416:], b"".join(x[16:] for x in registers)

    def operands(self) -> int | None:
        """Operand values that the mnemonic asks for: strings, stacks, branch targets, compare values, x87 images."""
        r, name, at = self.random, self.row.name, self.address - WINDOW
        if name in STRINGS or self.row.facts.get("string"):
            self.gprs[RSI] = WINDOW + 4096 + r.randrange(4096)
            self.gprs[RDI] = WINDOW + 4096 + r.randrange(4096) if r.random() < 0.6 else self.gprs[RSI] + r.randrange(-16, 17)
            self.gprs[RCX] = r.randrange(40)
            self.rflags |= 0x400 if r.random() < 0.3 else 0
            if r.random() < 0.5:  # runs of equal bytes, for the conditions of REPE and REPNE
                start = self.gprs[RDI] - WINDOW - 64
                self.memory[start : start + 128] = bytes([self.gprs[RAX] & 255]) * 128
        elif name in ("xlat", "xlatb"):
            self.gprs[RBX] = WINDOW + 4096 + r.randrange(3000)
        elif name in ("maskmovq", "maskmovdqu", "vmaskmovdqu"):
            self.gprs[RDI] = WINDOW + 4096 + r.randrange(3000)
        elif name in ("leave", "enter"):
            self.gprs[RBP] = WINDOW + 4096 + r.randrange(512) * 8
        elif self.bit_string():  # its offset reaches 4 KiB to both sides
            for x in (RAX, RDX, RCX):
                self.gprs[x] = r.randrange(-30000, 30000) % (1 << self.mode)
        elif name in ("div", "idiv") and r.random() < 0.7:
            self.fair_division(name == "idiv")
        elif name.startswith("cmpxchg") and self.in_memory and r.random() < 0.5 and 0 <= at < WINDOW_SIZE - 16:
            half = {"cmpxchg8b": 4, "cmpxchg16b": 8}.get(name, self.width // 8)
            low, high = (self.gprs[x].to_bytes(8, "little")[:half] for x in (RAX, RDX))
            self.memory[at : at + half] = low
            if name != "cmpxchg":
                self.memory[at + half : at + 2 * half] = high
        elif name in ("jmp", "call", "ret"):
            self.target()
        if self.in_memory and 0 <= at < WINDOW_SIZE:
            data = self.memory_operand()
            self.memory[at : at + len(data)] = data
            del self.memory[WINDOW_SIZE:]
        return None

    def bit_string(self) -> bool:
        """Whether the register operand is an offset into a bit string in memory."""
        return self.row.name in ("bt", "bts", "btr", "btc") and self.in_memory and "Gv" in self.row.operands

    def fair_division(self, signed: bool) -> None:
        """A dividend whose quotient mostly fits."""
        if self.width == 8:
            self.gprs[RAX] = self.gprs[RAX] & ~0xFF80 | (0xFF80 if signed and self.random.random() < 0.5 else 0)
        else:
            self.gprs[RDX] = (1 << self.mode) - 1 if signed and self.gprs[RAX] >> self.width - 1 & 1 else self.random.choice((0, 0, 1, 2))

    def target(self) -> None:
        """An indirect branch's target, in the code page and off the code."""
        to = CODE_PAGE + self.random.choice((self.random.randrange(0x10, 0x7F0), self.random.randrange(0xA00, 0xF00)))
        if self.row.name == "ret":
            at = self.gprs[RSP] - WINDOW
            self.memory[at : at + 8] = struct.pack("<Q", to)
        elif self.in_memory:
            at = self.address - WINDOW
            self.memory[at : at + 8] = struct.pack("<Q", to)
            del self.memory[WINDOW_SIZE:]
        elif letters(self.row)[:1] in ("E", "R"):
            self.gprs = [to if x != RSP else g for x, g in enumerate(self.gprs)]

    def memory_operand(self) -> bytes:
        """Bytes for the memory operand, empty where anything goes."""
        r, row, name = self.random, self.row, self.row.name
        if name in ("jmp", "call"):
            return b""
        if name in ("ldmxcsr", "vldmxcsr"):
            return struct.pack("<I", values.mxcsr(r))
        if name == "fldcw":
            return struct.pack("<H", values.control_word(r))
        if name in ("fldenv", "frstor"):
            head = struct.pack("<HHHHHH", values.control_word(r), 0, r.getrandbits(16) & 0x7F40, 0, r.getrandbits(16), 0) + bytes(16)
            return head + b"".join(values.extended(r) for _ in range(8)) if name == "frstor" else head
        if name in ("fxrstor", "fxrstor64"):
            return values.fxsave(r)
        if not row.map and 0xD8 <= row.opcode <= 0xDF:
            return self.x87_operand()
        letter = next((x for x in row.operands if x[0] in "WQ"), None)
        if letter:
            kind = "h" if name == "vcvtph2ps" else {"ss": "s", "ps": "s", "sd": "d", "pd": "d"}.get(name[-2:], "?")
            return values.lanes(r, kind) + (values.lanes(r, kind) if self.vector() == 32 else b"")
        return struct.pack("<Q", values.integer(r)) if r.random() < 0.7 else b""

    def x87_operand(self) -> bytes:
        """Of the type that the opcode reads."""
        r, opcode, digit = self.random, self.row.opcode, self.row.digit or 0
        if opcode in (0xD8, 0xD9):
            return struct.pack("<I", values.single(r))
        if opcode == 0xDC or opcode == 0xDD and digit in (0, 2, 3):
            return struct.pack("<Q", values.double(r))
        if opcode == 0xDB and digit in (5, 7):
            return values.extended(r)
        if opcode == 0xDF and digit == 4:
            return bytes(r.randrange(10) | r.randrange(10) << 4 for _ in range(9)) + r.choice((b"\0", b"\x80"))
        return struct.pack("<Q", values.integer(r))

    def immediate(self, operand: str) -> bytes:
        """An immediate, a relative target or a moffs address; nothing for other operands."""
        r = self.random
        if is_register(operand) or operand == "1":
            return b""
        if operand == "Lx":
            return bytes([self.random.randrange(self.registers) << 4 | self.random.randrange(16)])
        letter, size = ("I", operand[2:]) if operand.startswith("sI") else (operand[0], operand[1:])
        if letter not in "IJO":
            return b""
        if letter == "O":
            return struct.pack("<Q", self.address)[: self.mode // 8]
        length = {"b": 1, "w": 2, "d": 4, "q": 8, "z": 2 if self.size == 16 else 4, "v": self.size // 8}[size]
        if letter == "J":
            if self.mode == 64:
                length = min(length, 4) if length != 2 else 4
            reach = (
                r.choice((r.randrange(0x20, 0x7F), -r.randrange(0x20, 0x80)))
                if length == 1
                else r.choice((0x200, -0x200)) + r.randrange(-0x90, 0x90)
            )
            return reach.to_bytes(length, "little", signed=True)
        if self.row.name == "enter":
            return (r.randrange(64) if size == "w" else r.randrange(8)).to_bytes(length, "little")
        return (values.integer(r) & (1 << 8 * length) - 1).to_bytes(length, "little")

    def prefixes(self) -> bytes:
        """LOCK, REP, address and operand size."""
        r, row, out = self.random, self.row, b""
        if row.name in STRINGS or row.facts.get("string"):
            out += r.choice((b"", b"\xf3", b"\xf3", b"\xf2"))
        elif self.in_memory and row.name in LOCKABLE and row.operands and row.operands[0][0] in "EM" and r.random() < 0.35:
            out += b"\xf0"
        if self.long_address:
            out += b"\x67"
        if self.size == 16 and not self.byte and not (row.vex or row.only_w or row.facts.get("f64") and self.mode == 64):
            out += b"\x66"
        return out

    def escape(self, opcode: int) -> bytes:
        """Mandatory prefix, REX or VEX, opcode map and opcode."""
        row = self.row
        wide = self.size == 64 and not self.byte and not (self.mode == 64 and (row.facts.get("d64") or row.facts.get("f64")))
        prefix = int(row.prefix, 16) if row.prefix not in (None, "NP") else 0
        if row.vex:
            r = self.random
            vvvv = r.randrange(self.registers) if any(x[0] in "BH" for x in row.operands) else 0
            vvvv = self.vvvv if row.facts.get("vsib") else vvvv
            rxb = 7 if self.mode == 32 else ~self.rex & 7  # elsewhere 32-bit mode reads LES
            last = (~vvvv & 15) << 3 | {0: 0, 0x66: 1, 0xF3: 2, 0xF2: 3}[prefix]
            last |= (r.randrange(2) if row.length is None else row.length) << 2
            table = {"0F": 1, "0F38": 2, "0F3A": 3}[row.map]
            w = row.wide if row.wide is not None else wide if row.osize else r.randrange(2)
            if table == 1 and rxb & 3 == 3 and not w and r.random() < 0.7:
                return bytes([0xC5, rxb >> 2 << 7 | last, opcode])
            return bytes([0xC4, rxb << 5 | table, w << 7 | last, opcode])
        rex = self.rex | (8 if wide else 0)
        out = bytes([prefix] if prefix else [])
        if rex or self.rex_wanted:
            out += bytes([0x40 | rex])
        return out + bytes.fromhex(row.map) + bytes([opcode])


__all__ = ["CODE", "Builder", "Generated", "Generator", "Unsuitable", "sizes"]
