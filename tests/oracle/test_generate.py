"""The generator: its bytes mean what was asked for, says capstone, and the oracle runs them."""

from __future__ import annotations

import importlib
import pkgutil

import capstone
import pytest

import exuvia.isa.x86
from exuvia.isa.x86.forms import ROWS, Row
from tests.oracle.case import GPR, WINDOW, WINDOW_SIZE
from tests.oracle.generate import Generated, Generator, Unsuitable, sizes
from tests.oracle.hostcpu import HostCpu, why_not
from tests.oracle.undefined import AF, CF, OF, undefined_flags

TEXTS = """
add: 00 Eb,Gb | 01 Ev,Gv | 02 Gb,Eb | 03 Gv,Ev | 04 AL,Ib | 05 rAX,Iz | 80/0 Eb,Ib | 81/0 Ev,Iz | 83/0 Ev,sIb
not: F6/2 Eb | F7/2 Ev
shl: C0/4 Eb,Ib | C1/4 Ev,Ib | D1/4 Ev,1 | D3/4 Ev,CL
shld: 0F A4 Ev,Gv,Ib | 0F A5 Ev,Gv,CL
bts: 0F AB Ev,Gv | 0F BA/5 Ev,Ib
bswap: 0F C8+r Zy
movzx: 0F B6 Gv,Eb | 0F B7 Gv,Ew
cmpxchg: 0F B0 Eb,Gb | 0F B1 Ev,Gv
cmpxchg8b: 0F C7/1 Mq
mul: F6/4 Eb | F7/4 Ev
idiv: F6/7 Eb | F7/7 Ev
imul: 0F AF Gv,Ev | 69 Gv,Ev,Iz | 6B Gv,Ev,sIb
popcnt: F3 0F B8 Gv,Ev
andn: VEX 0F38 F2 Gy,By,Ey
shlx: VEX.66 0F38 F7 Gy,Ey,By
rorx: VEX.F2 0F3A F0 Gy,Ey,Ib
adcx: 66 0F38 F6 Gy,Ey
addps: NP 0F 58 Vx,Wx
addsd: F2 0F 58 Vsd,Wsd
pshufb: 66 0F38 00 Vx,Wx
pshufd: 66 0F 70 Vx,Wx,Ib
paddb: NP 0F FC Pq,Qq
cvtsi2sd: F2 0F 2A Vsd,Ey
cvttss2si: F3 0F 2C Gy,Wss
ldmxcsr: NP 0F AE/2 Md
pmovmskb: 66 0F D7 Gd,Ux
fadd: D8/0 Md | DC/0 Mq | D8 =C0+i ST | DC =C0+i ST
fld: D9/0 Md | DD/0 Mq | DB/5 Mt | D9 =C0+i ST
fsin: D9 =FE
fbld: DF/4 Mt
"""
SPECIAL: list[tuple[str, str, dict[str, object]]] = [
    ("movs", "A4", {"string": True, "byte": True}),
    ("movs", "A5", {"string": True, "osize": True}),
    ("push", "50+r Zv", {"d64": True}),
    ("pop", "8F/0 Ev", {"d64": True}),
    ("daa", "27", {"only": 32}),
    ("inc", "40+r Zv", {"only": 32}),
    ("jmp", "EB Jb", {"f64": True}),
    ("call", "E8 Jz", {"f64": True}),
    ("jmp", "FF/4 Ev", {"f64": True}),
]
ALIAS = {"movs": ("movsb", "movsw", "movsd", "movsq"), "pop": ("pop",), "shl": ("shl", "sal")}


UNKNOWN_TO_CAPSTONE = {
    *("0F B9 Gv,Ev", "0F FF Gv,Ev"),  # UD1, UD0
    *("0F 1A Ev,Gv", "0F 1B Ev,Gv", "0F 1C Ev,Gv", "0F 1D Ev,Gv", "NP 0F 1E Ev,Gv", "66 0F 1E Ev,Gv", "F3 0F 1E Ev,Gv"),  # reserved NOPs
    *("DF =D0+i ST", "DF =D8+i ST", "DD =C8+i ST", "DF =C8+i ST", "DC =D0+i ST", "DC =D8+i ST", "DE =D0+i ST"),  # undocumented aliases
    *("NP 0F AE =E8+i", "NP 0F AE =F0+i", "NP 0F AE =F8+i"),  # of eight ModRM bytes of each fence it reads one
    *("8E Sw,Ew", "8C Ev,Sw"),  # segment registers 6 and 7 do not exist
    *("VEX.128.66 0F3A 60 Vx,Wx,Ib", "VEX.128.66 0F3A 61 Vx,Wx,Ib"),  # with W set, for lengths of 64 bits
    "63 Gv,Ed",  # with a 32-bit register and prefix 67
}


def rows() -> list[Row]:
    """Encodings of every shape."""
    found = []
    for line in TEXTS.strip().splitlines():
        name, texts = line.split(": ")
        for text in texts.split("|"):
            found.append(Row(text, print, {}))
            found[-1].name = name
    for name, text, facts in SPECIAL:
        found.append(Row(text, print, facts))
        found[-1].name = name
    return found


def generated(seed: int, rounds: int) -> list[Generated]:
    maker = Generator(seed)
    return [g for row in rows() for g in maker.cases(row, rounds)]


@pytest.mark.parametrize("mode", [64, 32])
def test_capstone_reads_what_was_meant(mode: int) -> None:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64 if mode == 64 else capstone.CS_MODE_32)
    decoder.detail = True
    seen = set()
    for g in generated(1, 12):
        if g.case.mode != mode:
            continue
        decoded = list(decoder.disasm(g.case.code, 0x1000_0800))
        text = f"{g.row.text} {g.size} {g.case.code.hex()}: {[(d.mnemonic, d.op_str) for d in decoded]}"
        assert len(decoded) == 1 and decoded[0].size == len(g.case.code), text
        words = decoded[0].mnemonic.split()
        assert words[-1] in ALIAS.get(g.row.name, (g.row.name,)), text
        operands = decoded[0].operands
        if g.row.modrm and g.row.fixed is None and g.row.name not in ("fbld",):
            assert any(o.type == capstone.x86.X86_OP_MEM for o in operands) == g.memory, text
        if g.row.osize and operands and g.row.operands and g.row.operands[0][-1] in "vy":
            assert operands[0].size * 8 == g.size, text
        seen.add(g.row.text)
    assert seen >= {r.text for r in rows() if sizes(r, mode)}


def test_memory_operands_lie_in_the_window() -> None:
    decoder = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    decoder.detail = True
    for g in generated(2, 8):
        if not g.memory or g.case.mode != 64 or g.row.name in ("bts",):
            continue
        (d,) = decoder.disasm(g.case.code, 0)
        (m,) = (o.mem for o in d.operands if o.type == capstone.x86.X86_OP_MEM)
        mask = (1 << 32) - 1 if b"\x67" in g.case.code[:3] else (1 << 64) - 1

        values = []
        for number in (m.base, m.index):
            name = d.reg_name(number) if number else "riz"
            values.append(0 if name in ("riz", "eiz") else g.case.gprs[number_of(name)])
        address = (values[0] + values[1] * m.scale + m.disp) & mask
        assert WINDOW <= address < WINDOW + WINDOW_SIZE, (g.row.text, d.mnemonic, d.op_str, hex(address))


def number_of(name: str) -> int:
    return GPR.index(name if name in GPR else "r" + name[1:] if name[0] == "e" else name[:-1])


def test_same_seed_same_cases() -> None:
    assert [g.case for g in generated(3, 1)] == [g.case for g in generated(3, 1)]


def test_impossible_forms_are_refused() -> None:
    (row,) = (r for r in rows() if r.name == "fsin")
    with pytest.raises(Unsuitable, match="fsin: no memory form"):
        Generator(1).case(row, 32, 64, memory=True)


def test_undefined_flags_depend_on_the_count() -> None:
    assert undefined_flags("shl", 32, 0) == 0 and undefined_flags("shl", 32, 32) == 0 and undefined_flags("shl", 64, 32) == AF | OF
    assert undefined_flags("shr", 8, 8) == AF | OF | CF and undefined_flags("sar", 8, 9) == AF | OF and undefined_flags("rol", 32, 1) == 0
    with pytest.raises(ValueError, match="depends on the count"):
        undefined_flags("shl", 32)


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_oracle_runs_them() -> None:
    """Most cases do not fault, and none takes the worker down or reads as undefined."""
    with HostCpu() as host:
        cases = generated(4, 6)
        results = host.run_many([g.case for g in cases])
        faults = [(g, r.fault) for g, r in zip(cases, results, strict=True) if r.fault]
        assert not [(g.row.text, g.case.code.hex()) for g, f in faults if f.signal == 9 or f.vector == 6]
        assert len(faults) < len(cases) / 6


def plain(g: Generated) -> bytes:
    """The code without the VEX.W that instructions ignore: capstone does not know many of them with it."""
    first = g.case.code.removeprefix(b"\x67")
    if not g.row.vex or g.row.wide is not None or g.row.osize or first[0] != 0xC4:
        return g.case.code
    return g.case.code[: -len(first)] + first[:2] + bytes([first[2] & 0x7F]) + first[3:]


def test_every_encoding_reads_back() -> None:
    """Capstone finds one instruction of the intended length for every row of the processor; what it does not know is named here."""
    for module in pkgutil.iter_modules(exuvia.isa.x86.__path__):
        importlib.import_module(f"exuvia.isa.x86.{module.name}")
    decoders = {64: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64), 32: capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_32)}
    maker, wrong, seen = Generator(5), set(), 0
    for row in ROWS:
        for g in maker.cases(row):
            decoded = list(decoders[g.case.mode].disasm(plain(g), 0x1000_0800))
            seen += 1
            if len(decoded) != 1 or decoded[0].size != len(g.case.code):
                wrong.add(row.text)
    assert not {text for text in wrong if text not in UNKNOWN_TO_CAPSTONE}
    assert seen > 3000
