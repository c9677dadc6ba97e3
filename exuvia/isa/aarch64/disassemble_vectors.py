"""Operands of vectors as text, in the place of `{Vd.T}` and so on in a row's `asm` (Arm ARM, C1.2.5).

Behind the point: `T` the arrangement, `L` lanes twice as wide in 128 bits, `P` such lanes in as many bits as T, `Q` lanes of a quarter's
width, `E` one lane as a register, `W` one of twice the width, `e` an element; or a lane's letter for one lane as a register.

Rows say more in facts: `lane` (bits of a lane, where no `size` or `immh` does), `second` (with Q the name has a 2), and of structures
`count` (of registers), `one_lane`, `repeats` (in all lanes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.isa.aarch64.flags import CONDITIONS

LETTERS = {8: "b", 16: "h", 32: "s", 64: "d", 128: "q"}
WIDTHS = {letter: w for w, letter in LETTERS.items()}


def lane(shown: Any) -> int:
    """Bits of a lane: the row's fact, or what `size` or `immh` says."""
    if (w := shown.row.facts.get("lane")) is not None:
        return int(w)
    if "immh" in shown.variant:
        return int(8 << shown.variant["immh"].bit_length() - 1)
    return int(8 << shown.variant["size"])


def arrangement(w: int, total: int) -> str:
    return f"{total // w}{LETTERS[w]}"


def vector(shown: Any, name: str) -> str:
    """One operand."""
    field, kind = name.split(".")
    total = 128 if shown.code >> 30 & 1 else 64
    n = shown.code >> 16 & 15 if field == "Vm" and shown.row.facts.get("lower") else shown.bits(field)
    if kind in WIDTHS or kind == "v":
        return f"{kind}{n}"
    if kind in ("16b", "2d", "4s"):
        return f"v{n}.{kind}"
    w = lane(shown)
    if kind in "EW":
        return f"{LETTERS[w if kind == 'E' else 2 * w]}{n}"
    if kind == "e":
        return f"v{n}.{LETTERS[w]}[{index(shown, w)}]"
    if kind == "g":  # of the dot product
        return f"v{n}.4b[{index(shown, 32)}]"
    how = {"T": (w, total), "L": (2 * w, 128), "P": (2 * w, total), "Q": (w // 4, total)}
    return f"v{n}.{arrangement(*how[kind])}"


def index(shown: Any, w: int) -> int:
    """Of an element: a field, or H, L and M."""
    v = shown.variant
    if "index" in v:
        return int(v["index"])
    return int(v["H"] << 2 | v["L"] << 1 | v["M"] if w == 16 and "M" in v else v["H"] << 1 | v["L"] if "L" in v else v["H"])


def table(shown: Any) -> str:
    """The registers in which TBL and TBX look."""
    first = shown.bits("Vn")
    return f"{{{', '.join(f'v{(first + k) % 32}.16b' for k in range(shown.variant['len'] + 1))}}}"


def several(shown: Any) -> str:
    """The registers of a structure."""
    count, first = int(shown.row.facts["count"]), shown.bits("Vt")
    w, total = lane(shown), 128 if shown.code >> 30 & 1 else 64
    one = shown.row.facts.get("one_lane")
    kind = LETTERS[w] if one else arrangement(w, total)
    names = ", ".join(f"v{(first + k) % 32}.{kind}" for k in range(count))
    if not one:
        return f"{{{names}}}"
    which = (shown.code >> 30 & 1) << 3 | (shown.code >> 10 & 7)
    return f"{{{names}}}[{which >> w.bit_length() - 4 if w < 64 else which >> 3}]"


def count(shown: Any, left: bool) -> int:
    """Of a shift by an immediate."""
    w, value = lane(shown), shown.variant["immh"] << 3 | shown.bits("immb")
    return int(value - w if left else 2 * w - value)


def expanded(imm: int) -> str:
    """A number of eight bits (VFPExpandImm)."""
    exponent = (imm >> 4 & 7 ^ 4) - 3
    return f"#{(-1) ** (imm >> 7) * (16 + (imm & 15)) / 16 * 2.0**exponent:.8f}"


def immediate(shown: Any) -> str:
    """What stands behind the register of MOVI, MVNI, ORR, BIC and FMOV (AdvSIMDExpandImm)."""
    imm, cmode, op = shown.bits("abc") << 5 | shown.bits("defgh"), shown.variant.get("cmode", 15), shown.variant.get("op", 0)
    n, q = shown.bits("Vd"), shown.code >> 30 & 1
    if cmode == 15:
        w = 16 if "cmode" not in shown.variant else 64 if op else 32
        return f"v{n}.{arrangement(w, 128 if q else 64)}, {expanded(imm)}"
    if cmode == 14 and op:
        whole = sum(0xFF << 8 * i for i in range(8) if imm >> i & 1)
        return f"{f'v{n}.2d' if q else f'd{n}'}, #{whole:#x}"
    w = 32 if cmode < 8 or cmode in (12, 13) else 16 if cmode < 12 else 8
    text = f"v{n}.{arrangement(w, 128 if q else 64)}, #{imm:#x}"
    if cmode in (12, 13):
        return f"{text}, msl #{16 if cmode & 1 else 8}"
    shift = 8 * (cmode >> 1 & 3) if cmode < 8 else 8 * (cmode >> 1 & 1) if cmode < 12 else 0
    return text + (f", lsl #{shift}" if shift else "")


def vector_alias(shown: Any) -> str | None:
    """The aliases that the manual prefers."""
    name, second = shown.row.name, "2" if shown.code >> 30 & 1 else ""
    if name == "orr" and "Vm" in shown.row.fields and shown.bits("Vn") == shown.bits("Vm"):
        return f"mov {vector(shown, 'Vd.T')}, {vector(shown, 'Vn.T')}"
    if name in ("sshll", "ushll") and not count(shown, True):
        return f"{name[0]}xtl{second} {vector(shown, 'Vd.L')}, {vector(shown, 'Vn.T')}"
    return None


def number(v: int) -> str:
    return f"#{v}" if v < 10 else f"#{v:#x}"


PARTS: dict[str, Callable[[Any], str]] = {
    "left": lambda s: number(count(s, True)),
    "right": lambda s: number(count(s, False)),
    "several": several,
    "table": table,
    "modified": immediate,
    "imm8": lambda s: expanded(s.bits("imm8")),
    "fraction": lambda s: number(64 - (s.code >> 10 & 63)),
    "turn": lambda s: number(90 * s.variant["turn"] if s.row.choices["turn"] == 2 else 90 + 180 * s.variant["turn"]),
    "moved": lambda s: number(moved(s)),
    "index": lambda s: f"[{s.variant['index']}]",
    "from_": lambda s: f"[{s.variant['from_']}]",
    "position": lambda s: number(s.variant["position"]),
    "cond": lambda s: CONDITIONS[s.variant["cond"]],
    "nzcv": lambda s: number(s.bits("nzcv")),
    "lane": lambda s: number(lane(s)),
    "imm6": lambda s: number(s.code >> 10 & 63),
}
"""Other places in `asm`."""


def moved(shown: Any) -> int:
    """How far a structure's access moves its base register."""
    facts = shown.row.facts
    whole = 16 if shown.code >> 30 & 1 else 8
    return int(facts["count"] * (lane(shown) // 8 if facts.get("one_lane") or facts.get("repeats") else whole))
