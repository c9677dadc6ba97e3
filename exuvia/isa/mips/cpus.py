"""Processor models: what PRId, Config and FIR say (vol. III, 9.29 on; Software User's Manuals of the MIPS32 4K, 24K and 34K cores).

A model announces only what is here: of 24Kf and 34Kf neither MIPS16e nor the DSP and MT ASEs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from exuvia.isa import UnknownName
from exuvia.isa.mips.state import BEV, CU0, CU1, ERL, EXL, FR, IE, IM, KSU, NMI, RP, SR, TS

FPU, WRITABLE = CU1 | FR, CU0 | RP | BEV | TS | SR | NMI | IM | KSU | ERL | EXL | IE
CACHES = 1 << 22 | 4 << 19 | 3 << 16 | 1 << 13 | 4 << 10 | 3 << 7
"""Config1: 16 KiB each of 32-byte lines, four ways."""


@dataclass(frozen=True)
class CpuModel:
    """A model as processor `index` of a machine, in one of the byte orders. `features` choose among encodings."""

    name: str
    about: str
    prid: int
    tlb: int
    release: int = 2
    fpu: bool = True
    big: bool = False
    index: int = 0

    @property
    def features(self) -> frozenset[str]:
        """r2 and what is optional in it."""
        return frozenset(("r2", "userlocal") if self.release == 2 else ())

    def numbered(self, index: int, count: int) -> CpuModel:
        """The same model as another processor."""
        return replace(self, index=index)

    def ordered(self, big: bool) -> CpuModel:
        """The same model in a byte order."""
        return replace(self, big=big)

    def words(self) -> dict[str, int]:
        """The state's words that say so: Config has M, BE, AR, MT (a TLB) and K0 (uncached)."""
        second = self.release == 2
        config1 = second << 31 | (self.tlb - 1) << 25 | CACHES | self.fpu
        return dict(
            prid=self.prid, tlb_size=self.tlb, config1=config1,
            config=1 << 31 | self.big << 15 | (self.release - 1) << 10 | 1 << 7 | 2,
            config2=second << 31, config3=(1 << 13 | 1 << 5) if second else 0,  # ULRI, VInt
            config7=1 << 31 if second else 0,  # WII
            intctl=7 << 29 if second else 0, status_writable=WRITABLE | (FPU if self.fpu else 0),
            fir=(1 << 22 | 1 << 21 | 1 << 20 | 3 << 16 | self.prid & 0xFF00) if self.fpu else 0,  # F64, L, W, D, S; the processor's number
        )  # fmt: skip


MODELS = {
    m.name: m
    for m in (
        CpuModel("4Kc", "MIPS32 release 1, 16 TLB entries, no floating point", 0x0001_8000, 16, release=1, fpu=False),
        CpuModel("24Kc", "MIPS32 release 2, 64 TLB entries, no floating point", 0x0001_9300, 64, fpu=False),
        CpuModel("24Kf", "MIPS32 release 2, 64 TLB entries, 64-bit floating point", 0x0001_9300, 64),
        CpuModel("34Kf", "MIPS32 release 2, 64 TLB entries, 64-bit floating point", 0x0001_9500, 64),
    )
}


FEATURES: dict[str, str] = {}
"""What can be added to a model, or taken away."""


def canonical_name(name: str) -> str:
    """A feature's own name."""
    raise UnknownName(f"unknown processor feature '{name}': MIPS processors have none that can be chosen")


def model(name: str, changes: Iterable[str] = ()) -> CpuModel:
    """A model by name, little-endian."""
    found = next((m for key, m in MODELS.items() if key.lower() == name.lower()), None)
    if found is None:
        near = difflib.get_close_matches(name, MODELS, 3, 0.3) or list(MODELS)
        raise UnknownName(f"unknown processor '{name}'; did you mean {', '.join(near)}?")
    for change in changes:
        canonical_name(change[1:])
    return found
