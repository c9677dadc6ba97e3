"""The host's own instructions for floats, where they are the guest's: x86 with AVX under the guest's MXCSR and x87 control word.

While guest code runs, the host's control words round as the guest's do, with everything masked, and its sticky flags are what the guest's
have not taken over yet (`Surroundings`). So one instruction gives the guest's result and its exceptions.
LLVM takes floats for free of effects, would drop and move them and swap operands; as assembly they stay what and where they are.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from exuvia.codegen.instructions import host
from exuvia.codegen.native import Native, V
from exuvia.dsl.state import Layout

QUADS, EXTENDED = "packed", "x86_fp80"  # the first: as many i64 as the value or argument has
TYPES = {"ss": "float", "sd": "double", "ps": QUADS, "pd": QUADS}


def quads(w: int) -> str:
    """The type of a vector register of so many bits."""
    return f"<{w // 64} x i64>"


def cut(wide: Any, which: int) -> str:
    """The low (0) or high (1) half of 256 bits."""
    return f"shufflevector {quads(256)} {wide}, {quads(256)} poison, <2 x i32> <i32 {2 * which}, i32 {2 * which + 1}>"


def together(low: Any, high: Any) -> str:
    """256 bits of their halves."""
    return f"shufflevector {quads(128)} {low}, {quads(128)} {high}, <4 x i32> <i32 0, i32 1, i32 2, i32 3>"


class Assembly(NamedTuple):
    """One instruction: LLVM's template and constraints, types of results and arguments (mN: N bits of memory).

    `choices`: of an immediate, the last argument; `stores`: bits of a result that it writes to memory.
    """

    text: str
    constraints: str
    results: tuple[str, ...]
    types: tuple[str, ...]
    choices: int = 0
    stores: int = 0


FLOATS: dict[str, Assembly] = {}


def two(name: str, t: str) -> None:
    FLOATS[name] = Assembly(f"v{name} $2, $1, $0", "=x,x,x", (t,), (t, t))


def one(name: str, result: str, t: str, text: str = "$1, $0", constraints: str = "=x,x") -> None:
    FLOATS[name] = Assembly(f"v{name.partition('.')[0]} {text}", constraints, (result,), (t,))


for _kind, _type in TYPES.items():
    for _name in ("add", "sub", "mul", "div", "min", "max"):
        two(_name + _kind, _type)
    _scalar = _kind[0] == "s"
    one("sqrt" + _kind, _type, _type, "$1, $1, $0" if _scalar else "$1, $0")
    for _name, _choices in (("cmp", 8), ("vcmp", 32)):
        FLOATS[_name + _kind] = Assembly(f"vcmp{_kind} $$#, $2, $1, $0", "=x,x,x", (_type,), (_type, _type), _choices)
    FLOATS["round" + _kind] = Assembly(f"vround{_kind} $$#, $1, {'$1, ' if _scalar else ''}$0", "=x,x", (_type,), (_type,), 16)
    if _scalar:
        for _name in ("comi", "ucomi"):
            _text = f"v{_name}{_kind} $4, $3\\0Asete $0\\0Asetp $1\\0Asetb $2"
            FLOATS[_name + _kind] = Assembly(_text, "=r,=r,=r,x,x,~{flags}", ("i8",) * 3, (_type,) * 2)
        for _w, _letter in ((32, "l"), (64, "q")):
            # the upper part is nobody's: zero, so that nothing waits for it
            _text = f"vxorps $0, $0, $0\\0Avcvtsi2{_kind}{_letter} $1, $0, $0"
            FLOATS[f"cvtsi2{_kind}.{_w}"] = Assembly(_text, "=&x,r", (_type,), (f"i{_w}",))
            for _name in ("cvt", "cvtt"):
                one(f"{_name}{_kind}2si.{_w}", f"i{_w}", _type, constraints="=r,x")
    else:
        for _name in ("addsub", "hadd", "hsub"):
            two(_name + _kind, _type)
for _name in ("fmadd", "fmsub", "fnmadd", "fnmsub", "fmaddsub", "fmsubadd"):
    for _kind, _type in TYPES.items():
        for _order in ("132", "213", "231") if _kind[0] == "p" or len(_name) < 8 else ():
            FLOATS[_name + _order + _kind] = Assembly(f"v{_name}{_order}{_kind} $3, $2, $0", "=x,0,x,x", (_type,), (_type,) * 3)
one("cvtph2ps", QUADS, QUADS)
FLOATS["cvtps2ph"] = Assembly("vcvtps2ph $$#, $1, $0", "=x,x", (QUADS,), (QUADS,), 8)
one("cvtss2sd", "double", "float", "$1, $1, $0")
one("cvtsd2ss", "float", "double", "$1, $1, $0")
for _name in "cvtps2pd cvtpd2ps cvtdq2ps cvtps2dq cvttps2dq cvtdq2pd cvtpd2dq cvttpd2dq".split():
    one(_name, QUADS, QUADS)


# -- x87: arguments and results on top of a stack that is empty otherwise
WITH_STATUS = ".status"
SIZES = {16: "s", 32: "l", 64: "ll"}  # letters of integers in memory
WORD = "\\0Afnstsw %ax"


def stack(name: str, text: str, results: str, arguments: str, types: tuple[str, ...], stores: int = 0) -> None:
    """An instruction, and it with the status word behind it as a further result. `@` is its operand in memory."""
    given = () if stores else (EXTENDED,)
    for ending, word, behind, more in ("", "", "", ()), (WITH_STATUS, WORD, "={ax}", ("i16",)):
        first, last = (behind, results) if stores else (results, behind)  # what LLVM returns, then what lies in memory
        constraints = ",".join(x for x in (first, last, arguments) if x)
        memory = constraints.split(",").index("=*m" if stores else "*m") if "*m" in constraints else 0
        FLOATS[name + ending] = Assembly(text.replace("@", f"${memory}") + word, constraints, (*given, *more), types, stores=stores)


def compares(name: str, text: str, arguments: str, types: tuple[str, ...]) -> None:
    """An instruction whose result is the status word."""
    FLOATS[name] = Assembly(text.replace("@", "$2") + WORD, "={ax}," + arguments, ("i16",), types)


# the forms that pop, as bytes: assemblers do not agree on which of FSUB and FSUBR is meant
for _name, _byte in (("fadd", 0xC1), ("fsub", 0xE9), ("fmul", 0xC9), ("fdiv", 0xF9)):
    stack(_name, f".byte 0xDE, {_byte:#x}", "={st}", "{st(1)},0,~{st(1)}", (EXTENDED, EXTENDED))
    for _r in ("", "r") if _name in ("fsub", "fdiv") else ("",):
        for _w, _letter in ((32, "s"), (64, "l")):
            stack(f"{_name}{_r}.{_w}", f"{_name}{_r}{_letter} @", "={st}", "0,*m", (EXTENDED, f"m{_w}"))
        for _w in (16, 32):
            stack(f"fi{_name[1:]}{_r}.{_w}", f"fi{_name[1:]}{_r}{SIZES[_w]} @", "={st}", "0,*m", (EXTENDED, f"m{_w}"))
for _w, _letter in ((32, "s"), (64, "l")):
    FLOATS[f"fld.{_w}"] = Assembly(f"fld{_letter} $1", "={st},*m", (EXTENDED,), (f"m{_w}",))
    stack(f"fst.{_w}", f"fstp{_letter} @", "=*m", "{st},~{st},~{memory}", (EXTENDED,), stores=_w)
    compares(f"fcom.{_w}", f"fcom{_letter} @", "{st},*m", (EXTENDED, f"m{_w}"))
for _w, _letter in SIZES.items():
    FLOATS[f"fild.{_w}"] = Assembly(f"fild{_letter} $1", "={st},*m", (EXTENDED,), (f"m{_w}",))
    for _name in ("fist", "fistt"):
        stack(f"{_name}.{_w}", f"{_name}p{_letter} @", "=*m", "{st},~{st},~{memory}", (EXTENDED,), stores=_w)
    if _w < 64:
        compares(f"ficom.{_w}", f"ficom{_letter} @", "{st},*m", (EXTENDED, f"m{_w}"))
for _name in ("fcom", "fucom"):
    compares(_name, f"{_name} %st(1)", "{st},{st(1)}", (EXTENDED, EXTENDED))
compares("ftst", "ftst", "{st}", (EXTENDED,))
for _name in ("fsqrt", "frndint"):
    stack(_name, _name, "={st}", "0", (EXTENDED,))
for _name in ("fchs", "fabs"):
    FLOATS[_name] = Assembly(_name, "={st},0", (EXTENDED,), (EXTENDED,))


def available(feature: str = "avx") -> bool:
    """Has this host these instructions, and those of a feature that not every host has?"""
    triple, features = host()
    return triple.startswith("x86_64") and {"avx", feature} <= features


CONTROL, FLAGS, MASKED = 0xE040, 0x3F, 0x1F80
"""MXCSR: rounding, FTZ and DAZ; exceptions; their masks."""
STACK_MASKED = 0x3F
"""The x87's."""


class Surroundings:
    """Of a run of guest code: the host's control words become the guest's, and are brought back."""

    def __init__(self, b: Native, layout: Layout) -> None:
        self.b, self.layout, self.there = b, layout, available() and layout.vector_control is not None
        self.scratch = layout.offset("host_control")

    def enter(self) -> None:
        """Before guest code runs."""
        if not self.there:
            return
        b = self.b
        self.kept = self.vector_word()
        self.guest = self.layout.offset(str(self.layout.vector_control))
        self.load((b.get(self.guest) & CONTROL) | MASKED)
        if self.layout.stack_control is None:
            return
        self.stack_word("fnstcw", "=")
        self.kept_stack = b.get(self.scratch, 16)
        b.put(self.scratch, b.get(self.layout.offset(self.layout.stack_control)) | STACK_MASKED, 16)
        self.stack_word("fnclex\\0Afldcw")

    def leave(self) -> None:
        """When it has run: exceptions that happened are the guest's."""
        if not self.there:
            return
        b = self.b
        b.put(self.guest, b.get(self.guest) | (self.vector_word() & FLAGS))
        self.load(self.kept)
        if self.layout.stack_control is None:
            return
        self.stack_word("fnstsw", "=")
        status = self.layout.offset(str(self.layout.stack_status))
        b.put(status, b.get(status) | (b.get(self.scratch, 16) & FLAGS))
        b.put(self.scratch, self.kept_stack, 16)
        self.stack_word("fnclex\\0Afldcw")

    def stack_word(self, text: str, direction: str = "") -> None:
        pointer = f"ptr elementtype(i16) {self.b.field(self.scratch)}"
        self.b.do(f'call void asm sideeffect "{text} $0", "{direction}*m,~{{memory}}"({pointer})')

    def vector_word(self) -> V:
        self.b.do(f"call void @llvm.x86.sse.stmxcsr(ptr {self.b.field(self.scratch)})")
        return self.b.get(self.scratch, 32)

    def load(self, word: V) -> None:
        self.b.put(self.scratch, word, 32)
        self.b.do(f"call void @llvm.x86.sse.ldmxcsr(ptr {self.b.field(self.scratch)})")


def declares() -> set[str]:
    """What `Surroundings` calls."""
    return {f"declare void @llvm.x86.sse.{name}(ptr)" for name in ("stmxcsr", "ldmxcsr")} if available() else set()
