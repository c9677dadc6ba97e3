"""Instructions with values for their operands, made from the rows, and Unicorn as the oracle that runs them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import unicorn
from unicorn import mips_const as uc

from exuvia.isa.mips.forms import ROWS, Row
from exuvia.isa.mips.fpu_host import host_word
from exuvia.isa.mips.state import CU0, CU1, FR
from tests.isa.mips.machine import BREAK, KSEG0, RAM_SIZE, Machine

CODE, WINDOW, HELP = 0x1000, 0x4000, 0x2000  # physical
CFC1 = 0x4448_F800  # t0 = FCSR
EDGES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FFFE, 0xFFFF_8000, 0xAAAA_5555]
FLOATS = {
    32: [0, 1 << 31, 0x3F80_0000, 0xBF80_0000, 0x3FC0_0000, 0x7F80_0000, 0xFF80_0000, 1, 0x8000_0001, 0x007F_FFFF, 0x0080_0000, 0x7F7F_FFFF,
         0x7FC0_0000, 0x7FBF_FFFF, 0x7F80_0001, 0xFFC0_0001, 0x4F00_0000, 0xCF00_0000, 0x4EFF_FFFF, 0x5F00_0000, 0x3F00_0000, 0x4020_0000],
    64: [0, 1 << 63, 0x3FF << 52, 0xBFF << 52, 0x3FF8 << 48, 0x7FF << 52, 0xFFF << 52, 1, (1 << 63) + 1, (1 << 52) - 1,
         1 << 52, (0x7FF << 52) - 1, 0x7FF8 << 48, 0x7FF7_FFFF_FFFF_FFFF, (0x7FF << 52) + 1,
         0xFFF8_0000_0000_0001, 0x41E0 << 48, 0xC1E0 << 48,
         0x41DF_FFFF_FFC0_0000,
         0x43E0 << 48, 0x3FE0 << 48, 0x3690_0000_0000_0000, 0x3810 << 48, 0x47EF_FFFF_F000_0000, 0x7FF0_0000_1000_0000],
}  # fmt: skip
CODES = {12: 4, 13: 5, 14: 2, 15: 6, 16: 10, 17: 8, 18: 9, 19: 11, 20: 10, 21: 12, 22: 13, 23: 15}
"""Unicorn's numbers of exceptions -> Cause.ExcCode. 16 is SDBBP's, which is a reserved instruction where there is no debug mode."""
SYSTEM = ("cp0", "system", "tlb")
GPRS = [getattr(uc, f"UC_MIPS_REG_{i}") for i in range(32)]
FPRS = [getattr(uc, f"UC_MIPS_REG_F{i}") for i in range(32)]


@dataclass
class Case:
    """An instruction, what stands in its delay slot, and the state that it meets."""

    row: Row
    word: int
    slot: int
    gprs: list[int]
    fprs: list[int]
    hi: int
    lo: int
    fcsr: int
    wide: bool
    memory: bytes = field(repr=False)
    rest: list[int] = field(default_factory=list)  # instead of the slot

    @property
    def words(self) -> list[int]:
        """The code."""
        return [self.word, *(self.rest or [self.slot])]


@dataclass
class Result:
    """What a run left; `where` is the address of the exception, which is a breakpoint's where there was no other."""

    code: int
    where: int
    gprs: list[int]
    fprs: list[int]
    hi: int
    lo: int
    fcsr: int
    memory: bytes


class Generator:
    """Cases of rows, always the same ones for a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self) -> int:
        """A general register's."""
        return self.random.choice([*EDGES, self.random.getrandbits(32), self.random.getrandbits(16)])

    def float(self, w: int, wide: bool) -> int:
        """A floating point register's: numbers of both formats and integers."""
        r = self.random
        if w == 32:
            return r.choice([*FLOATS[32], r.getrandbits(32), 0x3F00_0000 + r.getrandbits(24)])
        return r.choice([*FLOATS[64], r.getrandbits(64), (0x3F0 << 52) + r.getrandbits(57), r.getrandbits(32)])

    def case(self, row: Row, wide: bool) -> Case | None:
        """One; None where the manual leaves the result open."""
        r = self.random
        gprs = [0, *(self.value() for _ in range(31))]
        name, has = row.name, row.fields
        values = {f: r.getrandbits(w) for f, (_, w) in has.items()}
        double = (
            any(part in ("d", "l") for part in name.split(".")[1:]) or name[1:] in ("dc1", "dxc1", "uxc1") or name in ("mfhc1", "mthc1")
        )
        if double and not wide:
            for f in ("fs", "ft", "fd", "fr"):
                if f in values:
                    values[f] &= 30
        if "again" in values:
            values["again"] = values["rd"]
        if "base" in has:
            values["base"] = r.randrange(1, 32)
            size = 8 if name[1:3] == "dc" or name[1:4] in ("dxc", "uxc") else 4 if name not in ("lb", "lbu", "sb", "lh", "lhu", "sh") else 2
            place = WINDOW + r.randrange(0, 4096 - 8) & (-1 if r.random() < 0.15 or name in PIECES else -size)
            offset = self.random.choice([0, 4, -4, r.getrandbits(15) - (1 << 14)])
            if "index" in has:
                values["index"] = r.choice([i for i in range(1, 32) if i != values["base"]])
                gprs[values["index"]] = offset & 0xFFFF_FFFF
            else:
                values["offset"] = offset & 0xFFFF
            gprs[values["base"]] = KSEG0 + place - offset & 0xFFFF_FFFF
        if "branch" in has:
            values["branch"] = r.randrange(2, 40)
        if "target" in has:
            values["target"] = (CODE >> 2) + r.randrange(2, 40)
        if name in ("jr", "jalr"):
            values["rs"], values["hint"] = r.randrange(1, 31), 0
            gprs[values["rs"]] = KSEG0 + CODE + 4 * r.randrange(2, 40)
            if values.get("rd") == values["rs"]:
                return None
        if name.startswith(("bltzal", "bgezal")) and values["rs"] == 31:
            return None
        if name in ("div", "divu") and not gprs[values["rt"]]:
            return None
        if name == "ins" and values["rd"] < values["sa"] or name == "ext" and values["rd"] + values["sa"] > 31:
            return None
        if name == "ctc1" and (written := {25: 0xFF, 26: 0x3_F07C, 28: 0xF87}.get(row.value >> 11 & 31)) is not None:
            gprs[values["rt"]] &= written  # other bits must be written as zeros
        if name in ("syscall", "break"):
            values["code"] = 0
        if "fs" in has and r.random() < 0.3 and "ft" in has:
            values["ft"] = values["fs"]
        word = row.value
        for f, v in values.items():
            word |= (v & (1 << has[f][1]) - 1) << has[f][0]
        fprs = [self.float(64 if wide and r.random() < 0.6 else 32, wide) for _ in range(32)]
        if not wide:
            for i in range(0, 32, 2):
                if r.random() < 0.6:
                    v = self.float(64, wide)
                    fprs[i], fprs[i + 1] = v & 0xFFFF_FFFF, v >> 32
        fcsr = (
            r.randrange(4)
            | r.getrandbits(5) << 2
            | (r.getrandbits(5) << 7 if r.random() < 0.2 else 0)
            | r.getrandbits(8) << 24 & ~(1 << 24)
        )
        slot = 0x2400_0000 | r.randrange(32) << 21 | r.randrange(32) << 16 | r.getrandbits(16)  # addiu
        if r.random() < 0.4:
            slot = 0  # an empty one is another form of the jump
        return Case(
            row, word, slot if row.facts.get("jump") else BREAK, gprs, fprs, self.value(), self.value(), fcsr, wide, r.randbytes(4096)
        )

    def cases(self, row: Row, count: int, wide: bool) -> Iterator[Case]:
        """Several."""
        for _ in range(count):
            if (c := self.case(row, wide)) is not None:
                yield c


PIECES = ("lwl", "lwr", "swl", "swr")


def differences(c: Case, mine: Result, theirs: Result) -> list[str]:
    """What the manual does not leave open, and Unicorn does not get wrong."""
    out = []
    tiny = mine.fcsr & 1 << 13 and c.fcsr & 1 << 8  # an enabled underflow is one even where the result is exact (vol. I, 5.8.1.5)
    over = mine.fcsr & 1 << 14 and c.fcsr & 1 << 9  # what an enabled overflow says of inexactness is open
    if tiny and theirs.code == 9:
        return []
    for name in vars(mine):
        a, b = getattr(mine, name), getattr(theirs, name)
        if name == "fcsr" and (tiny or over):
            a, b = a & ~(1 << 12), b & ~(1 << 12)
        if name == "fprs" and c.wide:  # above a result of 32 bits is what there was, or anything else (vol. I, 5.5)
            a = [y if not (x ^ y) & 0xFFFF_FFFF and narrow(c.row) else x for x, y in zip(a, b, strict=True)]
        if name == "fprs" and c.row.name == "cvt.s.d":  # a NaN whose payload is lost is infinity there
            a = [y if x == NAN and y & 0x7FFF_FFFF == 0x7F80_0000 else x for x, y in zip(a, b, strict=True)]
        if a != b:
            both = zip(a, b, strict=True) if isinstance(a, list | bytes) else [(a, b)]
            out.append(f"{name}: " + ", ".join(f"{i}: {x:#x} not {y:#x}" for i, (x, y) in enumerate(both) if x != y)[:200])
    return out


NAN = 0x7FBF_FFFF


def narrow(row: Row) -> bool:
    """Does it write 32 bits of a floating point register?"""
    return (
        row.name in ("lwc1", "lwxc1", "mtc1")
        or row.name.split(".")[-1] == "s"
        and ".d" not in row.name
        and ".l" not in row.name
        or (any(x in row.name for x in (".w.", "cvt.s.")))
    )


def rows() -> list[Row]:
    """Those that need no system around them."""
    return [row for row in ROWS if row.run.__module__.rpartition(".")[2] not in SYSTEM and row.name not in ("ll", "sc", "cache")]


class Oracle:
    """Unicorn's 24Kf."""

    def __init__(self, big: bool) -> None:
        self.order: Any = "big" if big else "little"
        mode = unicorn.UC_MODE_MIPS32 | (unicorn.UC_MODE_BIG_ENDIAN if big else 0)
        self.uc = unicorn.Uc(unicorn.UC_ARCH_MIPS, mode, uc.UC_CPU_MIPS32_24KF)
        self.uc.mem_map(0, RAM_SIZE)
        self.at = self.code = 0
        self.uc.hook_add(unicorn.UC_HOOK_CODE, self.on_code)
        self.uc.hook_add(unicorn.UC_HOOK_INTR, self.on_exception)
        # ctc1 $1, $31; break; cfc1 $1, $31; break
        self.write(HELP, 0x44C1_F800, BREAK, 0x4441_F800, BREAK)

    def on_code(self, _: Any, address: int, size: int, data: Any) -> None:
        self.at = address

    def on_exception(self, _: Any, number: int, data: Any) -> None:
        self.code = number
        self.uc.emu_stop()

    def write(self, address: int, *words: int) -> None:
        self.uc.mem_write(address, b"".join(w.to_bytes(4, self.order) for w in words))

    def go(self, address: int) -> None:
        """Until an exception."""
        self.code = 0
        try:
            self.uc.emu_start(KSEG0 + address, 0)
        except unicorn.UcError:
            assert self.code

    def run(self, c: Case) -> Result:
        """One case."""
        u = self.uc
        u.reg_write(uc.UC_MIPS_REG_CP0_STATUS, CU0 | CU1 | (FR if c.wide else 0))
        u.reg_write(GPRS[1], c.fcsr)
        self.go(HELP)
        for i in range(32):
            u.reg_write(GPRS[i], c.gprs[i])
            u.reg_write(FPRS[i], c.fprs[i])
        u.reg_write(uc.UC_MIPS_REG_HI, c.hi)
        u.reg_write(uc.UC_MIPS_REG_LO, c.lo)
        u.mem_write(WINDOW, c.memory)
        self.write(CODE, *c.words, *[BREAK] * 62)
        u.ctl_remove_cache(KSEG0 + CODE, KSEG0 + CODE + 256)
        self.go(CODE)
        code, at = CODES[self.code], self.at
        gprs = [u.reg_read(r) & 0xFFFF_FFFF for r in GPRS]
        fprs = [u.reg_read(r) for r in FPRS]
        hi, lo = u.reg_read(uc.UC_MIPS_REG_HI) & 0xFFFF_FFFF, u.reg_read(uc.UC_MIPS_REG_LO) & 0xFFFF_FFFF
        memory = bytes(u.mem_read(WINDOW, 4096))
        self.go(HELP + 8)
        return Result(code, at, gprs, fprs, hi, lo, u.reg_read(GPRS[1]) & 0xFFFF_FFFF, memory)


def run(m: Machine, c: Case, how: Callable[[Machine], object] = lambda m: None) -> Result:
    """One case on our processor; `how` it runs is prepared when everything is in place."""
    cpu = m.cpu
    cpu.status = CU0 | CU1 | (FR if c.wide else 0)
    m.put(CODE, *c.words, *[BREAK] * 62)
    m.write(WINDOW, c.memory)
    for i in range(1, 32):
        cpu.r[i] = c.gprs[i]
    fprs = cpu.fw if c.wide else cpu.f
    for i in range(32):
        fprs[i] = c.fprs[i]
    cpu.fp_host, cpu.fp_last = host_word(c.fcsr), 0
    cpu.hi, cpu.lo, cpu.fcsr, cpu.fault_vector, cpu.walk_error = c.hi, c.lo, c.fcsr, 0, (1 << 64) - 1
    m.start(KSEG0 + CODE)
    how(m)
    code, where = m.run()
    gprs = [cpu.r[i] for i in range(32)]
    fprs, memory = [fprs[i] for i in range(32)], bytes(m.ram.view[WINDOW : WINDOW + 4096])
    m.put(CODE, CFC1, BREAK)
    m.start(KSEG0 + CODE)
    m.run()
    return Result(code, where, gprs, fprs, cpu.hi, cpu.lo, cpu.r[8], memory)
