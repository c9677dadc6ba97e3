"""Processor models: what the identification registers announce (DDI 0487, D19.2; the cores' technical reference manuals).

`model("cortex-a57", ["-aes"])` -> CpuModel. A feature's name is the one that Linux shows in /proc/cpuinfo, and the one in the `feature`
fact of an instruction's row. Only what works here has a name: a model announces nothing else, whatever the core of that name has.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from exuvia.isa import UnknownName
from exuvia.isa.aarch64 import debug

# feature -> identification register, the field's lowest bit, its value; of two features in one field the larger value counts
FEATURES: dict[str, tuple[str, int, int]] = {
    "aes": ("isar0", 4, 1), "pmull": ("isar0", 4, 2), "sha1": ("isar0", 8, 1), "sha2": ("isar0", 12, 1), "crc32": ("isar0", 16, 1),
    "atomics": ("isar0", 20, 2), "asimdrdm": ("isar0", 28, 1), "asimddp": ("isar0", 44, 1), "lor": ("mmfr1", 16, 1),
    "pan": ("mmfr1", 20, 1), "hpd": ("mmfr1", 12, 1), "lrcpc": ("isar1", 20, 1), "dcpop": ("isar1", 0, 1), "sb": ("isar1", 36, 1),
    "dit": ("pfr0", 48, 1), "fphp": ("pfr0", 16, 1), "asimdhp": ("pfr0", 20, 1), "sha512": ("isar0", 12, 2), "sha3": ("isar0", 32, 1),
    "csv2": ("pfr0", 56, 1), "csv3": ("pfr0", 60, 1), "paca": ("isar1", 8, 1), "pacg": ("isar1", 28, 1),
    "sm3": ("isar0", 36, 1), "sm4": ("isar0", 40, 1), "jscvt": ("isar1", 12, 1), "fcma": ("isar1", 16, 1), "frint": ("isar1", 32, 1),
    "bti": ("pfr1", 0, 1), "e0pd": ("mmfr2", 60, 1),
}  # fmt: skip
NEEDS = {"pmull": "aes", "fphp": "asimdhp", "asimdhp": "fphp", "sha512": "sha2", "sha3": "sha512"}
ALIASES = {"lse": "atomics", "rdm": "asimdrdm", "dotprod": "asimddp", "rcpc": "lrcpc", "sha256": "sha2", "crc": "crc32"}
PARANGE = {32: 0, 36: 1, 40: 2, 42: 3, 44: 4, 48: 5}


@dataclass(frozen=True)
class Kind:
    """A model before features are added or taken away. `caches`: CCSIDR_EL1 of L1's data and instructions, and L2's."""

    about: str
    midr: int
    address_bits: int
    granule16: bool
    ctr: int
    caches: tuple[int, int, int]
    features: str
    clidr: int = 0x0A200023


_CRYPTO = "aes pmull sha1 sha2"
_V8_2 = f"{_CRYPTO} crc32 atomics fphp asimdhp asimdrdm asimddp lor pan hpd lrcpc dcpop csv2 csv3"
MODELS = {
    "cortex-a53": Kind("Cortex-A53", 0x410FD034, 40, False, 0x84448004, (0x700FE01A, 0x201FE01A, 0x707FE07A), f"{_CRYPTO} crc32"),
    "cortex-a57": Kind("Cortex-A57", 0x411FD070, 44, False, 0x8444C004, (0x701FE00A, 0x201FE012, 0x70FFE07A), f"{_CRYPTO} crc32"),
    "cortex-a72": Kind("Cortex-A72", 0x410FD083, 44, False, 0x8444C004, (0x701FE00A, 0x201FE012, 0x707FE07A), f"{_CRYPTO} crc32"),
    "neoverse-n1": Kind("Neoverse N1", 0x414FD0C1, 48, True, 0x8444C004, (0x701FE01A, 0x201FE01A, 0x70FFE03A), _V8_2),
    "max": Kind("everything that there is", 0x000F0510, 48, True, 0xB444C004, (0x701FE01A, 0x201FE01A, 0x70FFE03A), " ".join(FEATURES)),
}


def canonical_name(name: str) -> str:
    """A feature's own name; UnknownName with the nearest ones otherwise."""
    name = ALIASES.get(name.lower(), name.lower())
    if name not in FEATURES:
        near = difflib.get_close_matches(name, [*FEATURES, *ALIASES], 3)
        raise UnknownName(f"unknown processor feature '{name}'" + (f"; did you mean {', '.join(near)}?" if near else ""))
    return name


class CpuModel:
    """A model with its features; `feature in model` asks for one by name."""

    def __init__(self, name: str, kind: Kind, features: frozenset[str], index: int = 0) -> None:
        self.name, self.kind, self.features, self.index = name, kind, features, index

    def __contains__(self, feature: str) -> bool:
        return feature in self.features

    def __repr__(self) -> str:
        return f"<{self.name} {' '.join(sorted(self.features))}>"

    def numbered(self, index: int, count: int) -> CpuModel:
        """The same model as processor `index` of `count`."""
        return CpuModel(self.name, self.kind, self.features, index)

    @property
    def mpidr(self) -> int:
        """MPIDR_EL1: clusters of 16, which is what a GICv3 can name."""
        return 1 << 31 | self.index >> 4 << 8 | self.index & 15

    def fields(self, register: str) -> int:
        """What the features put into a register."""
        found: dict[int, int] = {}
        for feature in self.features:
            where, at, value = FEATURES[feature]
            if where == register:
                found[at] = max(found.get(at, 0), value)
        return sum(value << at for at, value in found.items())

    def identification(self, has_el2: bool, gic_registers: bool) -> dict[str, int]:
        """ID_AA64*_EL1 by the ends of their names; others are zero. AArch64 only; FP and SIMD."""
        kind = self.kind
        return {
            "pfr0": 0x11 | has_el2 << 8 | gic_registers << 24 | self.fields("pfr0"),
            "pfr1": self.fields("pfr1"),
            "dfr0": debug.FEATURES,
            "isar0": self.fields("isar0"),
            "isar1": self.fields("isar1"),
            "mmfr0": PARANGE[kind.address_bits] | 2 << 4 | kind.granule16 << 20,
            "mmfr1": self.fields("mmfr1"),
            "mmfr2": self.fields("mmfr2"),
        }


def model(name: str, features: Iterable[str] = ()) -> CpuModel:
    """A model by name with `+feature`, `-feature`; UnknownName names the nearest where there is none."""
    kind = MODELS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, MODELS, 2) or list(MODELS)
        raise UnknownName(f"unknown processor model '{name}'; there are {', '.join(near)}")
    chosen = set(kind.features.split())
    for f in features:
        bare = canonical_name(f.lstrip("+-"))
        if f[0] == "-":
            chosen -= {bare} | {x for x, needs in NEEDS.items() if bare in needs.split()}
        else:
            chosen |= {bare, *NEEDS.get(bare, "").split()}
    return CpuModel(name, kind, frozenset(chosen))
