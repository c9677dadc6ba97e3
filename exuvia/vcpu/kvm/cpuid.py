"""What CPUID tells a guest under KVM: a model's leaves without what the host cannot do, or with `-cpu host` the host's own.

(Linux, Documentation/virt/kvm/api.rst, 4.46 KVM_GET_SUPPORTED_CPUID; Documentation/virt/kvm/x86/cpuid.rst.)
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from exuvia.isa import UnknownName
from exuvia.isa.x86.cpus import FEATURES, NEEDS, CpuModel, Kind, canonical_name, model, with_needs
from exuvia.support.errors import UserError
from exuvia.vcpu.kvm import api

Leaf = tuple[int, int]  # function, index
Values = tuple[int, int, int, int]  # EAX, EBX, ECX, EDX
Leaves = dict[Leaf, Values]

KVM_SIGNATURE = 0x40000000
SUBLEAVES = {7: range(1), 0xD: range(3)}
"""Of the leaves of a model that have some."""
INDEXED = {4, 7, 0xB, 0xD, 0xF, 0x10, 0x12, 0x14, 0x17, 0x18, 0x1D, 0x1E, 0x1F, 0x8000001D}
ALWAYS = {"hypervisor", "apic"}  # KVM's list leaves them to who asks
TSC_DEADLINE, X2APIC = 1 << 24, 1 << 21  # CPUID.1:ECX; of a local APIC in the kernel
CLOCK_BITS = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 24  # CPUID.40000001:EAX: kvmclock in its forms, no delay after I/O; all that needs no APIC


def supported(fd: int) -> Leaves:
    """What KVM on this host can give a guest."""
    room = 64
    while True:
        listed = api.variable((api.CpuidEntry * room)())
        try:
            api.ioctl(fd, api.GET_SUPPORTED_CPUID, listed)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            room *= 2
            continue
        entries = listed.entries[: listed.count]
        return {(e.function, e.index if e.flags & api.CPUID_INDEXED else 0): (e.eax, e.ebx, e.ecx, e.edx) for e in entries}


def able(host: Leaves) -> set[str]:
    """The features with names that the host's leaves have."""
    found = set(ALWAYS)
    for name, (leaf, register, bit) in FEATURES.items():
        values = host.get((leaf, 1 if leaf == 0xD else 0), (0, 0, 0, 0))
        if values["abcd".index(register)] >> bit & 1:
            found.add(name)
    return found


class HostModel(CpuModel):
    """`-cpu host`: the leaves that KVM lists, less the features that the user took away."""

    leaves: Leaves = {}

    def numbered(self, apic_id: int, count: int) -> HostModel:
        """The same as processor `apic_id` of `count`."""
        made = HostModel(self.name, self.kind, self.features, apic_id, count)
        made.leaves = self.leaves
        return made

    @property
    def signature(self) -> int:
        """The host's family, model and stepping."""
        return self.leaves[1, 0][0]


def chosen(name: str, features: list[tuple[str, bool]], host: Leaves) -> tuple[CpuModel, list[str]]:
    """The model of `-cpu NAME,+FEATURE,-FEATURE` on this host, and the features that it should have had. UserError for unknown names."""
    can = able(host)
    try:
        if name != "host":
            wanted = model(name, [("+" if on else "-") + feature for feature, on in features])
            have, lacking = _closed(wanted.features & can), sorted(wanted.features - can)
            return CpuModel(name, wanted.kind, have), [] if name == "max" else lacking
        has = set(can)
        for feature, on in features:
            bare = canonical_name(feature)
            if on:
                has |= with_needs(bare)
            else:
                has.discard(bare)
    except UnknownName as error:
        raise UserError(f"-cpu {name}: {error}") from None
    vendor = b"".join(host[0, 0][i].to_bytes(4, "little") for i in (1, 3, 2)).decode("latin-1")
    made = HostModel("host", Kind(0, 0, 0, vendor, "", "", "the host's processor"), _closed(frozenset(has & can)))
    off = can - made.features
    made.leaves = {leaf: _without(leaf, values, off) for leaf, values in host.items()}
    return made, sorted(has - can)


def _closed(features: frozenset[str]) -> frozenset[str]:
    """Without those that rest on one that is not there."""
    kept = set(features)
    while lacking := {f for f in kept if not kept.issuperset(NEEDS.get(f, "").split())}:
        kept -= lacking
    return frozenset(kept)


def _without(leaf: Leaf, values: Values, off: set[str]) -> Values:
    words = list(values)
    for name in off:
        function, register, bit = FEATURES[name]
        if leaf == (function, 1 if function == 0xD else 0):
            words["abcd".index(register)] &= ~(1 << bit)
    return words[0], words[1], words[2], words[3]


def leaves(chosen: CpuModel, host: Leaves, kernel_apic: bool) -> Leaves:
    """All that a processor of this model answers."""
    found: Leaves
    if isinstance(chosen, HostModel):
        found = dict(chosen.leaves)
        a, b, c, d = found[1, 0]
        b = b & 0xFF00 | chosen.apic_id << 24 | chosen.count << 16
        c = (c | 1 << 31) & ~(0 if kernel_apic else TSC_DEADLINE | X2APIC)
        found[1, 0] = a, b, c, d | 1 << 9
        for leaf, (a, b, c, _) in list(found.items()):
            if leaf[0] in (0xB, 0x1F):  # the topology: all processors in one package
                found[leaf] = a, b, c, chosen.apic_id
    else:
        standard = [*range(chosen.basic + 1), *range(0x80000000, 0x80000009)]
        found = {(leaf, index): chosen.cpuid(leaf, index) for leaf in standard for index in SUBLEAVES.get(leaf, range(1))}
    if "hypervisor" in chosen:
        bits = host.get((KVM_SIGNATURE + 1, 0), (0, 0, 0, 0))[0]
        b, c, d = (int.from_bytes(b"KVMKVMKVM\0\0\0"[i : i + 4], "little") for i in (0, 4, 8))
        found[KVM_SIGNATURE, 0] = KVM_SIGNATURE + 1, b, c, d
        found[KVM_SIGNATURE + 1, 0] = bits if kernel_apic else bits & CLOCK_BITS, 0, 0, 0
    return found


def give(vcpu: int, found: Mapping[Leaf, Values]) -> None:
    """Make these the answers of a processor."""
    entries = (api.CpuidEntry * len(found))()
    for entry, ((function, index), values) in zip(entries, sorted(found.items())):
        entry.function, entry.index = function, index
        entry.flags = api.CPUID_INDEXED if function in INDEXED else 0
        entry.eax, entry.ebx, entry.ecx, entry.edx = values
    api.ioctl(vcpu, api.SET_CPUID2, api.variable(entries))
