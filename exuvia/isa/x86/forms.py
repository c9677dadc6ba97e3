"""How x86 writes encodings. The format does the plumbing; an instruction is a function of its operands.

An encoding is text, as on the manual's pages: `0F AF Gv,Ev`, `80/4 Eb,Ib` (digit in ModRM.reg), `50+r Zv` (register in the opcode),
`70+cc Jb` (condition), `66 0F FE Vx,Wx` (mandatory prefix; `NP` says that 66, F3 and F2 mean something else), `0F 01 =D0` (a fixed ModRM
byte), `D8 =C0+i ST` (eight of them), `VEX.128.66.W0 0F38 18 Vx,Wss` (VEX with L, the prefix and W that it stands for; L is 0 where nothing
is said, anything after LIG, W anything). Several are joined by ` | `.

Most of SSE has encodings with VEX too: the fact `vex` of its rows says which (see `with_vex`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from inspect import signature
from typing import Any

from exuvia.dsl.trace import tracing, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.cpu import Cpu, leave, protected, raise_
from exuvia.isa.x86.flags import CF
from exuvia.isa.x86.operands import device_not_available, operand
from exuvia.isa.x86.state import CR0_EM, CR0_NE, CR0_TS, CR4_OSFXSR, CR4_OSXSAVE, MF, NM, UD

ROWS: list[Row] = []

_ENCODING = re.compile(
    r"(?:(?P<vex>VEX)(?:\.(?P<length>128|256|LIG))?(?:\.(?P<vexp>66|F3|F2))?(?:\.(?P<wide>W0|W1))? |"
    r"(?P<prefix>NP|66|F3|F2) )?(?P<code>(?:[0-9A-F]{2} ?)+)"
    r"(?:=(?P<fixed>[0-9A-F]{2})(?P<plusi>\+i)?|(?P<plus>\+r)|/(?P<digit>[0-7]))?\s*(?P<operands>\S*)$"
)
REPEATS = {0: None, 1: "rep", 2: "repne", 3: None}
OSIZES = (16, 32, 64, 64)
FSW_ES = 1 << 7  # an unmasked x87 exception is pending
XCR0_VECTORS = 6  # SSE and AVX state
LEGACY = frozenset("sse sse2 pni ssse3 sse4_1 sse4_2".split())  # what AVX implies of SSE


class Row:
    """One encoding of one instruction.

    Facts: only=64|32 (modes), d64 / f64 (operand size defaults to / is 64 in 64-bit mode), branch (has a relative target), ends (ends a
    block), conditional (a branch that may fall through), string (a repeatable string instruction), repne (both REPs mean something),
    locks ("may" LOCK, or "always" for XCHG), modifies (memory operand is written), shadow (the next instruction runs before interrupts),
    feature (names of the CPUID features), wide_feature (the one of its form with REX.W), aligned / unaligned (of VEX / of SSE: unlike
    most), byte, asize / segment (depends on address size / segment override without ModRM), mmx / sse / avx / x87 (which unit must be
    available), keeps (registers that the text writes at once stay written where a fault follows), vsib (the index is a vector, the text's
    operand U).
    """

    def __init__(self, text: str, run: Callable[..., Any], facts: dict[str, Any]) -> None:
        m = _ENCODING.match(text.strip())
        if not m:
            raise ValueError(f"not an encoding: {text!r}; write for example '0F AF Gv,Ev' or '80/4 Eb,Ib'")
        self.text, self.run, self.facts = text.strip(), run, facts
        self.name = ""
        self.id = 0
        self.vex = m["vex"] is not None
        self.length = None if m["length"] == "LIG" else int(m["length"] == "256")  # VEX.L
        self.wide = int(m["wide"][1]) if m["wide"] else None  # VEX.W
        self.prefix: str | None = m["vexp"] or ("NP" if self.vex else m["prefix"])
        code = bytes.fromhex(m["code"])
        self.map = ""
        for escape in ("0F38", "0F3A", "0F"):
            if code[: len(escape) // 2] == bytes.fromhex(escape) and len(code) > len(escape) // 2:
                self.map, code = escape, code[len(escape) // 2 :]
                break
        if len(code) != 1:
            raise ValueError(f"not an opcode: {text!r}")
        self.opcode = code[0]
        self.plus = m["plus"] is not None
        self.digit = int(m["digit"]) if m["digit"] else None
        self.fixed = int(m["fixed"], 16) if m["fixed"] else None
        self.fixed_count = 8 if m["plusi"] else 1
        self.operands = [x for x in m["operands"].split(",") if x]
        self.extra = self.vex and any(x[0] in "BH" for x in self.operands)  # VEX.vvvv names an operand
        self.aligned = bool(facts.get("aligned") if self.vex else not facts.get("unaligned"))  # what of 128 bits or more lies in memory
        self.destination = next((x[0] for x in self.operands if x[0] != "H"), "")  # which H stands for without VEX
        self.three = any(x[0] == "H" for x in self.operands)  # the destination is not a source
        letters = {x[0] for x in self.operands if x not in ("AL", "CL", "DX", "ST", "1") and not x.startswith("r")}
        self.modrm = bool(letters & set("EGMRVWUHPQNSCD")) or self.digit is not None or self.fixed is not None
        memory_only = "M" in letters
        register_only = bool(letters & set("RUNCD")) and not facts.get("vsib") or self.fixed is not None or not self.modrm
        self.memory = self.modrm and not register_only
        self.register = not memory_only
        first = self.operands[0] if self.operands else ""
        if first[:1] not in ("E", "M"):  # of ADD's encodings, those with a register as destination neither lock nor write memory
            self.facts = {k: v for k, v in facts.items() if k not in ("locks", "modifies")}
        self.byte = bool(re.match(r"[EGZOM]b$", first)) or first == "AL" or bool(facts.get("byte"))
        sizes = {x[-1] for x in self.operands}
        sized = "v" in sizes or "z" in sizes or "rAX" in self.operands or "rDX" in self.operands or bool(facts.get("osize"))
        wide = sized and not self.byte
        self.osize = wide or "y" in sizes or bool(sizes & {"v"} and self.byte)
        self.only_w = "y" in sizes and not wide  # REX.W alone chooses; 66 is a mandatory prefix here
        self.far_memory = "O" in letters

    @property
    def features(self) -> set[str]:
        """What CPUID must announce."""
        return {*(("fpu",) if self.facts.get("x87") else ()), *str(self.facts.get("feature") or "").split()}

    def mask(self) -> int:
        """Which bits of the variant number matter: 0-1 operand size, 2 memory, 3 other address size, 4-5 REP or LOCK, 6 override."""
        m = 3 if self.osize or self.facts.get("d64") or self.facts.get("f64") else 0
        if self.memory and self.register:
            m |= 4
        if self.memory or self.far_memory or self.facts.get("string") or self.facts.get("asize"):
            m |= 8
        if self.memory or self.far_memory or self.facts.get("string") or self.facts.get("segment"):
            m |= 64
        if self.facts.get("string") or self.facts.get("locks"):
            m |= 48
        return m

    def trace(self, variant: int, code: int, stack: int, flat: bool) -> Cpu:
        """The instruction's text, read for one variant in one mode."""
        osize = OSIZES[variant & 3]
        rep = REPEATS[variant >> 4 & 3]
        native = 64 if code == 64 else code
        other = {64: 32, 32: 16, 16: 32}[native]
        cpu = Cpu(row=self)
        cpu.osize, cpu.w = osize, 8 if self.byte else osize
        cpu.code, cpu.stack, cpu.flat = code, stack, flat
        cpu.vector = 256 if self.length else 128
        cpu.asize = other if variant & 8 else native
        cpu.mem = (bool(variant & 4) if self.register else True) if self.memory else False
        cpu.override = bool(variant & 64) or not flat
        always = self.facts.get("locks") == "always"
        cpu.locked = cpu.mem and (always or bool(self.facts.get("locks")) and variant >> 4 & 3 == 3)
        cpu.rep = rep if self.facts.get("string") else None
        with tracing(cpu):
            self.guard(cpu)
            self.run(cpu, *(operand(cpu, x) for x in self.operands))
        return cpu

    def guard(self, cpu: Cpu) -> None:
        """#UD of VEX without protection (SDM vol. 2, 2.3, 2.8); #UD and #NM of the unit that the instruction needs (vol. 2, table 2-17;
        vol. 3, table 13-1)."""
        if self.vex and cpu.code != 64:
            with when(~protected(cpu)):
                raise_(UD)
        if self.facts.get("avx"):
            with when((cpu.cr0 & CR0_TS | ~cpu.cr4 & CR4_OSXSAVE | ~cpu.xcr0 & XCR0_VECTORS) != 0):
                with when((~cpu.cr4 & CR4_OSXSAVE | ~cpu.xcr0 & XCR0_VECTORS) != 0):
                    raise_(UD)
                raise_(NM)
        if self.facts.get("sse"):
            with when((cpu.cr0 & (CR0_EM | CR0_TS) | ~cpu.cr4 & CR4_OSFXSR) != 0):
                with when((cpu.cr0 & CR0_EM | ~cpu.cr4 & CR4_OSFXSR) != 0):
                    raise_(UD)
                raise_(NM)
        if self.facts.get("mmx"):
            enter_mmx(cpu)
        if self.facts.get("x87"):
            device_not_available(cpu)

    def __repr__(self) -> str:
        return f"<{self.name} {self.text}>"


def enter_mmx(cpu: Cpu) -> None:
    """#UD, #NM and a pending #MF; then all x87 registers are in use, from number 0 (SDM vol. 1, 9.5.1; vol. 3, 12.1)."""
    with when((cpu.cr0 & (CR0_EM | CR0_TS) | cpu.fsw & FSW_ES) != 0):
        with when((cpu.cr0 & CR0_EM) != 0):
            raise_(UD)
        with when((cpu.cr0 & CR0_TS) != 0):
            raise_(NM)
        numeric_error(cpu)
    cpu.top, cpu.ftw = 0, 0  # in `ftw` a set bit is an empty register


def numeric_error(cpu: Cpu) -> None:
    """An x87 exception is pending: #MF, or where CR0.NE is clear the wire FERR#, unless IGNNE# answered it (SDM vol. 1, 8.7)."""
    with when((cpu.cr0 & CR0_NE) != 0):
        raise_(MF)
    with when(cpu.ignne == 0):
        cpu.again()
        leave("ferr")


def op(rows: str, name: str = "", *, vex: str = "", **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers encodings for a text `(cpu, operands...)`; the mnemonic is the function's name unless given. `vex`: see `with_vex`."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        own = name or run.__name__.strip("_")
        for text in rows.split("|"):
            add(Row(text, run, facts), own)
            for row in with_vex(text, run, facts, vex):
                add(row, "v" + own)
        return run

    return register


def add(row: Row, name: str) -> None:
    """Give the row its name and number."""
    row.name, row.id = name, len(ROWS)
    ROWS.append(row)


def with_vex(text: str, run: Callable[..., Any], facts: dict[str, Any], which: str) -> list[Row]:
    """The encodings with VEX that do what one of SSE does, on three operands and with zeros above (SDM vol. 1, 14.1).

    `which`: none; "128", "LIG", or the feature that has the one of 256 bits. An operand H is VEX.vvvv, where SSE has the destination.
    """
    if not which:
        return []
    head, rest = text.strip().split(" ", 1)
    prefix = "" if head == "NP" else "." + head
    features = " ".join({"avx": 0} | dict.fromkeys(x for x in facts.get("feature", "").split() if x not in LEGACY))
    kept = {k: v for k, v in facts.items() if k not in ("sse", "unaligned")} | {"avx": True, "feature": features}
    lengths = ["LIG"] if which == "LIG" else ["128"] if which == "128" else ["128", "256"]
    more = " ".join(dict.fromkeys([*features.split(), which]))
    return [Row(f"VEX.{length}{prefix} {rest}", run, kept | ({"feature": more} if length == "256" else {})) for length in lengths]


CONDITIONS = "o no b nb z nz be nbe s ns p np l nl le nle".split()
_CONDITION = dict(o="OF", b="CF", z="ZF", s="SF", p="PF", be="BE", l="L", le="LE")


def condition(cpu: Cpu, name: str) -> Value:
    """A condition by its suffix: z, nbe, l ..."""
    c = cpu.condition(_CONDITION[name.removeprefix("n")])
    return ~c if name[0] == "n" else c


def by_condition(rows: str, name: str, **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Sixteen encodings, one per condition; the text gets the condition as a value."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        for cc, suffix in enumerate(CONDITIONS):

            def text(cpu: Cpu, *operands: Any, suffix: str = suffix) -> None:
                run(cpu, condition(cpu, suffix), *operands)

            for r in rows.split("|"):
                head, operands = r.split("+cc")
                head = head.strip()
                op(f"{head[:-1]}{int(head[-1], 16) + cc:X} {operands}", name + suffix, **facts)(text)
        return run

    return register


def pure(
    rows: str, f: Callable[..., Any], name: str = "", flags: Callable[..., Any] | None = None, writes: bool = True, **facts: Any
) -> Any:
    """destination = f(destination, source...), or f(H, source...): the plumbing of most of the manual.

    `flags` is a rule of `flags`; its parameters' names say what it is given.
    """

    def run(cpu: Cpu, *o: Any) -> None:
        r = lift(f(*(o[1:] if cpu.row.three else o)), o[0].w)
        if flags is not None:
            known: dict[str, Callable[[], Any]] = dict(a=o[0].read, b=lambda: lift(o[1], r.w), carry=CF.read, r=lambda: r)
            cpu.set_flags(flags.__name__, *(known[argument]() for argument in signature(flags).parameters))
        if writes:
            o[0].set(r)

    return op(rows, name, **facts)(run)


def form(rows: str) -> Callable[..., Any]:
    """Encodings with '+n' relative to the instruction's row of eight, and '/r' for its digit."""

    def make(n: int, name: str, f: Callable[..., Any], **facts: Any) -> Any:
        each = [re.sub(r"^\+(\d)", lambda m: f"{8 * n + int(m[1]):02X}", r.strip()).replace("/r", f"/{n}") for r in rows.split("|")]
        return pure(" | ".join(each), f, name, **facts)

    return make
