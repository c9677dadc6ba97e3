"""What a guest is told of its processor: a model without what the host's KVM lacks, or all that it gives."""

from __future__ import annotations

import pytest

from exuvia.isa.x86.cpus import FEATURES, model
from exuvia.support.errors import UserError
from exuvia.vcpu.kvm import cpuid
from exuvia.vcpu.kvm.cpuid import HostModel, Leaves


def host(features: str) -> Leaves:
    """A host's leaves with these features."""
    words: dict[tuple[int, int], list[int]] = {(leaf, 0): [0, 0, 0, 0] for leaf in (0, 1, 6, 7, 0xB, 0x80000001, 0x80000007, 0x40000001)}
    words[0xD, 1] = [0, 0, 0, 0]
    for name in features.split():
        leaf, register, bit = FEATURES[name]
        words[leaf, 1 if leaf == 0xD else 0]["abcd".index(register)] |= 1 << bit
    words[0, 0] = [0xD, *(int.from_bytes(part, "little") for part in (b"Genu", b"ntel", b"ineI"))]
    words[1, 0][0] = 0xC06F2
    words[1, 0][2] |= cpuid.TSC_DEADLINE | cpuid.X2APIC
    words[0x40000001, 0] = [0x01007EFB, 0, 0, 0]
    return {leaf: (a, b, c, d) for leaf, (a, b, c, d) in words.items()}


ALL = host(" ".join(FEATURES))


def test_a_model_keeps_what_the_host_has() -> None:
    chosen, lacking = cpuid.chosen("qemu64", [("aes", True)], ALL)
    assert (chosen.features, lacking) == (model("qemu64", ["+aes"]).features, [])


def test_what_the_host_lacks_goes_with_what_rests_on_it() -> None:
    chosen, lacking = cpuid.chosen("qemu64", [("avx2", True)], host(" ".join(set(FEATURES) - {"ssse3", "xsave"})))
    assert lacking == ["ssse3", "xsave"]
    assert not chosen.features & {"ssse3", "sse4_1", "sse4_2", "xsave", "avx", "avx2"}
    assert "pni" in chosen


def test_max_is_what_there_is() -> None:
    chosen, lacking = cpuid.chosen("max", [], host("fpu tsc msr pae cx8 apic"))
    assert lacking == []
    assert chosen.features == {"fpu", "tsc", "msr", "pae", "cx8", "apic", "hypervisor"}


def test_the_host_itself() -> None:
    chosen, lacking = cpuid.chosen("host", [("sse4_2", False)], ALL)
    assert isinstance(chosen, HostModel) and lacking == []
    assert chosen.kind.vendor == "GenuineIntel"
    second = chosen.numbered(1, 2)
    assert second.signature == 0xC06F2
    found = cpuid.leaves(second, ALL, False)
    a, b, c, d = found[1, 0]
    assert (a, b >> 24, b >> 16 & 0xFF) == (0xC06F2, 1, 2)
    assert not c & (1 << 20 | cpuid.TSC_DEADLINE | cpuid.X2APIC)
    assert c >> 19 & 1 and c >> 31 and d >> 9 & 1
    assert found[0xB, 0][3] == 1
    assert cpuid.leaves(second, ALL, True)[1, 0][2] & cpuid.X2APIC
    assert cpuid.chosen("host", [("aes", True)], host("fpu"))[1] == ["aes", "fxsr", "sse", "sse2"]


def test_kvm_shows_itself_and_its_clock() -> None:
    chosen, _ = cpuid.chosen("qemu64", [], ALL)
    found = cpuid.leaves(chosen, ALL, False)
    assert b"".join(found[0x40000000, 0][i].to_bytes(4, "little") for i in (1, 2, 3)) == b"KVMKVMKVM\0\0\0"
    assert found[0x40000001, 0][0] == 0x0100000B
    assert cpuid.leaves(chosen, ALL, True)[0x40000001, 0][0] == 0x01007EFB
    hidden, _ = cpuid.chosen("qemu64", [("hypervisor", False)], ALL)
    assert (0x40000000, 0) not in cpuid.leaves(hidden, ALL, False)


def test_unknown_names() -> None:
    with pytest.raises(UserError, match="-cpu qemu63: unknown processor model 'qemu63'; there are qemu64"):
        cpuid.chosen("qemu63", [], ALL)
    with pytest.raises(UserError, match="-cpu host: unknown processor feature 'sse9'"):
        cpuid.chosen("host", [("sse9", True)], ALL)
