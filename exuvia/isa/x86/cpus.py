"""Processor models: what CPUID announces (SDM vol. 2, CPUID; AMD64 manual vol. 3, appendix E).

`model("qemu64", ["+popcnt", "-pni"])` -> CpuModel. A feature's name is the one in /proc/cpuinfo or QEMU's, and the one in the `feature`
fact of an instruction's row. Only what works here has a name: a model announces nothing else.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from exuvia.isa import UnknownName

# feature -> CPUID leaf, register, bit
FEATURES: dict[str, tuple[int, str, int]] = {
    name: (leaf, register, int(bit))
    for leaf, register, names in [
        (1, "d", "fpu 0 de 2 pse 3 tsc 4 msr 5 pae 6 mce 7 cx8 8 apic 9 sep 11 mtrr 12 pge 13 mca 14 cmov 15 pat 16 pse36 17 clflush 19"),
        (1, "d", "mmx 23 fxsr 24 sse 25 sse2 26"),
        (1, "c", "pni 0 pclmulqdq 1 ssse3 9 fma 12 cx16 13 pcid 17 sse4_1 19 sse4_2 20 movbe 22 popcnt 23 aes 25 xsave 26"),
        (1, "c", "avx 28 f16c 29 rdrand 30 hypervisor 31"),
        (6, "a", "arat 2"),
        (7, "b", "fsgsbase 0 tsc_adjust 1 bmi1 3 avx2 5 smep 7 bmi2 8 erms 9 invpcid 10 rdseed 18 adx 19 smap 20 sha_ni 29"),
        (7, "c", "umip 2 vaes 9 vpclmulqdq 10 rdpid 22"),
        (0xD, "a", "xsaveopt 0 xsavec 1 xgetbv1 2"),
        (0x80000001, "c", "lahf_lm 0 abm 5 3dnowprefetch 8"),
        (0x80000001, "d", "syscall 11 nx 20 pdpe1gb 26 rdtscp 27 lm 29"),
        (0x80000007, "d", "constant_tsc 8"),
    ]
    for name, bit in zip(names.split()[::2], names.split()[1::2])
}
ALIASES = {
    "sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "sse4-1": "sse4_1", "sse4-2": "sse4_2", "sha-ni": "sha_ni", "lahf-lm": "lahf_lm",
    "lzcnt": "abm", "i64": "lm", "xd": "nx", "invtsc": "constant_tsc", "clfsh": "clflush", "ffxsr": "fxsr",
}  # fmt: skip

_BASE = "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 pni hypervisor"
_LONG = "syscall nx lm lahf_lm"
_BRAND = "Exuvia Virtual CPU version 1.0"


@dataclass(frozen=True)
class Kind:
    """A model before features are added or taken away."""

    family: int
    model: int
    stepping: int
    vendor: str
    brand: str
    features: str
    about: str


MODELS = {
    "qemu64": Kind(15, 107, 1, "AuthenticAMD", _BRAND, f"{_BASE} {_LONG} cx16", "64-bit baseline, as QEMU's model of that name"),
    "qemu32": Kind(6, 6, 3, "GenuineIntel", _BRAND, _BASE, "32-bit baseline, as QEMU's model of that name"),
    "max": Kind(15, 107, 1, "AuthenticAMD", _BRAND, " ".join(FEATURES), "everything that this processor can do"),
}
# what a feature rests on: taking any of the latter away takes the former too
NEEDS = {
    "pae": "cx8", "lm": "pae", "pdpe1gb": "lm", "sse": "fxsr", "sse2": "sse", "pni": "sse2", "ssse3": "pni", "sse4_1": "ssse3",
    "sse4_2": "sse4_1", "aes": "sse2", "pclmulqdq": "sse2", "sha_ni": "sse2", "xsaveopt": "xsave", "xsavec": "xsave", "xgetbv1": "xsave",
    "avx": "xsave sse4_2", "avx2": "avx", "fma": "avx", "f16c": "avx", "vaes": "avx2 aes", "vpclmulqdq": "avx2 pclmulqdq",
    "bmi1": "lm", "bmi2": "lm", "pcid": "lm", "invpcid": "lm", "fsgsbase": "lm", "lahf_lm": "lm", "cx16": "lm", "rdtscp": "tsc",
    "tsc_adjust": "tsc",
}  # fmt: skip


def canonical_name(name: str) -> str:
    """A feature's own name; UnknownName with the nearest ones otherwise."""
    name = ALIASES.get(name.lower(), name.lower())
    name = ALIASES.get(name.replace("-", "_"), name.replace("-", "_")) if name not in FEATURES else name
    if name not in FEATURES:
        near = difflib.get_close_matches(name, [*FEATURES, *ALIASES], 3)
        raise UnknownName(f"unknown processor feature '{name}'" + (f"; did you mean {', '.join(near)}?" if near else ""))
    return name


class CpuModel:
    """A model with its features; `feature in model` asks for one by name."""

    address_bits = 40

    def __init__(self, name: str, kind: Kind, features: frozenset[str], apic_id: int = 0, count: int = 1) -> None:
        self.name, self.kind, self.features, self.apic_id, self.count = name, kind, features, apic_id, count

    def __contains__(self, feature: str) -> bool:
        return feature in self.features

    def __repr__(self) -> str:
        return f"<{self.name} {' '.join(sorted(self.features))}>"

    def numbered(self, apic_id: int, count: int) -> CpuModel:
        """The same model as processor `apic_id` of `count`."""
        return CpuModel(self.name, self.kind, self.features, apic_id, count)

    @property
    def signature(self) -> int:
        """Family, model and stepping, as CPUID.1:EAX and EDX after reset have them."""
        k = self.kind
        family, extended = (15, k.family - 15) if k.family >= 15 else (k.family, 0)
        return extended << 20 | k.model >> 4 << 16 | family << 8 | (k.model & 15) << 4 | k.stepping

    def word(self, leaf: int, register: str) -> int:
        """The feature bits of a register."""
        return sum(1 << FEATURES[f][2] for f in self.features if FEATURES[f][:2] == (leaf, register))

    @property
    def basic(self) -> int:
        """The highest standard leaf."""
        return 0xD if "xsave" in self or self.word(7, "b") else 5

    def cpuid(self, leaf: int, subleaf: int, *, osxsave: bool = False, apic: bool = True, xcr0: int = 1) -> tuple[int, int, int, int]:
        """EAX, EBX, ECX, EDX. A leaf beyond the highest answers as that one does; what has a name is the processor's state."""
        if leaf >> 31 and leaf <= 0x80000008 or leaf in (0x40000000, 0x40000001):
            pass
        elif leaf > self.basic:
            leaf, subleaf = self.basic, 0
        method = getattr(self, f"leaf_{leaf:x}", None)
        a, b, c, d = method(subleaf) if method else (0, 0, 0, 0)
        if leaf == 1:
            c |= osxsave << 27
            d &= ~(0 if apic else 1 << 9)
        if leaf == 0xD and a and (subleaf == 0 or subleaf == 1 and "xsavec" in self):
            b = self.area(xcr0)
        return a, b, c, d

    def leaf_0(self, subleaf: int) -> tuple[int, int, int, int]:
        """Highest leaf and vendor."""
        v = self.kind.vendor.encode()
        b, d, c = (int.from_bytes(v[i : i + 4], "little") for i in (0, 4, 8))
        return self.basic, b, c, d

    def leaf_1(self, subleaf: int) -> tuple[int, int, int, int]:
        """Signature, APIC ID, features."""
        b = self.apic_id << 24 | self.count << 16 | 8 << 8
        return self.signature, b, self.word(1, "c"), self.word(1, "d") | (1 << 28 if self.count > 1 else 0)

    def leaf_2(self, subleaf: int) -> tuple[int, int, int, int]:
        """Cache descriptors: 2 MiB of L2, 32 KiB of each L1, 64-byte lines."""
        return (0x00000001, 0, 0x4D, 0x002C307D) if self.kind.vendor == "GenuineIntel" else (0, 0, 0, 0)

    def leaf_6(self, subleaf: int) -> tuple[int, int, int, int]:
        """Power management."""
        return self.word(6, "a"), 0, 0, 0

    def leaf_7(self, subleaf: int) -> tuple[int, int, int, int]:
        """Structured features."""
        return (0, self.word(7, "b"), self.word(7, "c"), 0) if subleaf == 0 else (0, 0, 0, 0)

    @property
    def components(self) -> int:
        """The bits that XCR0 can have: x87, SSE, AVX."""
        return 7 if "avx" in self else 3

    def area(self, xcr0: int) -> int:
        """Bytes that XSAVE wants for these components: the legacy area and its header have 576, AVX's component 256."""
        return 832 if xcr0 & 4 else 576

    def leaf_d(self, subleaf: int) -> tuple[int, int, int, int]:
        """XSAVE: sizes of what XCR0 has (see `cpuid`) and can have; where AVX's component stands."""
        if "xsave" not in self:
            return 0, 0, 0, 0
        leaves = {0: (self.components, 0, self.area(self.components), 0), 1: (self.word(0xD, "a"), 0, 0, 0)}
        return (leaves | ({2: (256, 576, 0, 0)} if "avx" in self else {})).get(subleaf, (0, 0, 0, 0))

    def leaf_40000000(self, subleaf: int) -> tuple[int, int, int, int]:
        """A hypervisor's signature."""
        if "hypervisor" not in self:
            return 0, 0, 0, 0
        b, c, d = (int.from_bytes(b"ExuviaExuvia"[i : i + 4], "little") for i in (0, 4, 8))
        return 0x40000000, b, c, d

    def leaf_80000000(self, subleaf: int) -> tuple[int, int, int, int]:
        """Highest extended leaf and vendor."""
        return 0x80000008, *self.leaf_0(0)[1:]

    def leaf_80000001(self, subleaf: int) -> tuple[int, int, int, int]:
        """Extended features; AMD repeats the standard ones."""
        d = self.word(0x80000001, "d")
        if self.kind.vendor == "AuthenticAMD":
            d |= self.word(1, "d") & 0x0183F3FF
        return self.signature, 0, self.word(0x80000001, "c") | (2 if self.count > 1 and self.kind.vendor == "AuthenticAMD" else 0), d

    def brand(self, part: int) -> tuple[int, int, int, int]:
        """16 bytes of the name."""
        text = self.kind.brand.encode().ljust(48, b"\0")[16 * part : 16 * part + 16]
        a, b, c, d = (int.from_bytes(text[i : i + 4], "little") for i in (0, 4, 8, 12))
        return a, b, c, d

    def leaf_80000002(self, subleaf: int) -> tuple[int, int, int, int]:
        """The name's first part."""
        return self.brand(0)

    def leaf_80000003(self, subleaf: int) -> tuple[int, int, int, int]:
        """The name's second part."""
        return self.brand(1)

    def leaf_80000004(self, subleaf: int) -> tuple[int, int, int, int]:
        """The name's third part."""
        return self.brand(2)

    def leaf_80000005(self, subleaf: int) -> tuple[int, int, int, int]:
        """L1 caches and TLBs, AMD's form: 64 KiB, 2 ways, 64-byte lines."""
        return 0x01FF01FF, 0x01FF01FF, 0x40020140, 0x40020140

    def leaf_80000006(self, subleaf: int) -> tuple[int, int, int, int]:
        """L2: 512 KiB, 16 ways."""
        return 0, 0x42004200, 0x02008140, 0

    def leaf_80000007(self, subleaf: int) -> tuple[int, int, int, int]:
        """An invariant TSC, where asked for."""
        return 0, 0, 0, self.word(0x80000007, "d")

    def leaf_80000008(self, subleaf: int) -> tuple[int, int, int, int]:
        """Address sizes; number of processors."""
        linear = 48 if "lm" in self else 32
        return self.address_bits | linear << 8, 0, self.count - 1, 0


def with_needs(feature: str) -> set[str]:
    """The feature and all that it rests on."""
    return {feature}.union(*map(with_needs, NEEDS.get(feature, "").split()))


def model(name: str, features: Iterable[str] = ()) -> CpuModel:
    """A model by name with `+feature`, `-feature`, `feature=on|off`; UnknownName names the nearest where there is none."""
    kind = MODELS.get(name)
    if kind is None:
        near = difflib.get_close_matches(name, MODELS, 2) or list(MODELS)
        raise UnknownName(f"unknown processor model '{name}'; there are {', '.join(near)}")
    chosen = set(kind.features.split())
    for f in features:
        on = f[0] != "-"
        bare, _, value = f.lstrip("+-").partition("=")
        if value:
            if value not in ("on", "off", "yes", "no", "true", "false"):
                raise UnknownName(f"processor feature '{bare}' is on or off, not '{value}'")
            on = value in ("on", "yes", "true")
        bare = canonical_name(bare)
        if on:
            chosen |= with_needs(bare)
        else:
            chosen.discard(bare)
    while lacking := {f for f in chosen if not chosen.issuperset(NEEDS.get(f, "").split())}:
        chosen -= lacking
    return CpuModel(name, kind, frozenset(chosen))
