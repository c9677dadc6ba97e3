"""The tables: checksums, links between them, and Intel's own disassembler and compiler as the judge of the AML."""

from __future__ import annotations

import shutil
import struct
import subprocess
import uuid
from pathlib import Path

import pytest

from exuvia.boot import acpi, aml, smbios
from exuvia.boot.layout import FOUR_GIB, GIB, MIB, RSDP, SMBIOS
from tests.boot.images import memory

FULL = acpi.Platform(
    apic_ids=range(4), low_top=0xE0000000, high_top=FOUR_GIB + GIB, serial=(0, 1, 2, 3), keyboard=True, hpet=True, vga=True
)
SMALL = acpi.Platform(apic_ids=range(1), low_top=64 * MIB, serial=())


def tables(platform: acpi.Platform) -> dict[str, bytes]:
    """Follow the pointers from the RSDP as a kernel does."""
    space, _ = memory()
    at = acpi.place(space, platform)
    rsdp = space.read_bytes(at, 36)
    assert at == RSDP
    assert rsdp[:8] == b"RSD PTR "
    assert sum(rsdp[:20]) & 0xFF == sum(rsdp) & 0xFF == 0

    def table(address: int) -> bytes:
        content = space.read_bytes(address, space.read(address + 4, 4))
        assert sum(content) & 0xFF == 0
        return content

    rsdt, xsdt = table(struct.unpack_from("<I", rsdp, 16)[0]), table(struct.unpack_from("<Q", rsdp, 24)[0])
    narrow = [n for (n,) in struct.iter_unpack("<I", rsdt[36:])]
    wide = [n for (n,) in struct.iter_unpack("<Q", xsdt[36:])]
    assert narrow == wide
    found = {content[:4].decode(): content for content in map(table, wide)}
    facs, dsdt = struct.unpack_from("<II", found["FACP"], 36)
    assert facs % 64 == 0
    assert space.read_bytes(facs, 4) == b"FACS"
    found["DSDT"] = table(dsdt)
    return found


def test_tables_are_linked() -> None:
    assert set(tables(FULL)) == {"FACP", "APIC", "WAET", "HPET", "DSDT"}
    assert set(tables(SMALL)) == {"FACP", "APIC", "WAET", "DSDT"}


def test_fadt_says_where_power_management_is() -> None:
    fadt = tables(SMALL)["FACP"]
    assert len(fadt) == 244
    assert struct.unpack_from("<HIBB", fadt, 46) == (9, 0xB2, 0xF1, 0xF0)
    assert struct.unpack_from("<I", fadt, 76) == (0x608,)
    assert fadt[116:120] == bytes([1, 8, 0, 1])
    assert struct.unpack_from("<QB", fadt, 120) == (0xCF9, 6)


def test_madt_lists_processors_and_overrides() -> None:
    madt = tables(FULL)["APIC"]
    at, found = 44, []
    while at < len(madt):
        found.append(madt[at : at + madt[at + 1]])
        at += madt[at + 1]
    assert [entry[2:4] for entry in found if entry[0] == 0] == [bytes([n, n]) for n in range(4)]
    assert [struct.unpack("<BIH", entry[3:]) for entry in found if entry[0] == 2] == [
        (0, 2, 0),
        (5, 5, 13),
        (9, 9, 13),
        (10, 10, 13),
        (11, 11, 13),
    ]


@pytest.mark.parametrize("platform", [FULL, SMALL])
def test_iasl_accepts_the_tables(tmp_path: Path, platform: acpi.Platform) -> None:
    iasl = shutil.which("iasl")
    if iasl is None:
        pytest.skip("iasl (Debian acpica-tools) is not installed")
    for signature, content in tables(platform).items():
        (tmp_path / f"{signature}.aml").write_bytes(content)
        subprocess.run([iasl, "-d", f"{signature}.aml"], cwd=tmp_path, check=True, capture_output=True)
        source = (tmp_path / f"{signature}.dsl").read_text()
        assert "Invalid" not in source
        assert "Unknown" not in source
        done = subprocess.run([iasl, "-oa", "-p", "again", f"{signature}.dsl"], cwd=tmp_path, capture_output=True, text=True)
        assert "0 Errors, 0 Warnings, 0 Remarks" in done.stdout, done.stdout
        if signature == "DSDT":
            assert "_PRT" in source
            assert ("PNP0501" in source) == bool(platform.serial)
            assert ("PNP0303" in source) == platform.keyboard
            # the compiler, not optimizing, makes the same bytes of the disassembly
            assert (tmp_path / "again.aml").read_bytes()[36:] == content[36:]


def test_aml_lengths() -> None:
    for size, head in ((10, 1), (100, 2), (5000, 3), (1 << 20, 4)):
        encoded = aml.scope("\\", bytes(size))
        length = encoded[1 : 1 + head]
        assert length[0] >> 6 == head - 1
        value = length[0] if head == 1 else length[0] & 0xF | int.from_bytes(length[1:], "little") << 4
        assert value == len(encoded) - 1


def test_aml_names() -> None:
    assert aml.name_string("\\_S5") == b"\\_S5_"
    assert aml.name_string("\\_SB.PCI0") == b"\\\x2e_SB_PCI0"
    assert aml.name_string("^A.B.C") == b"^\x2f\x03A___B___C___"
    assert aml.eisa_id("PNP0A03") == bytes.fromhex("0c41d00a03")
    with pytest.raises(ValueError, match="longer than four"):
        aml.name_string("FIVES")


@pytest.mark.parametrize(("ram", "processors"), [(64 * MIB, 1), (40 * GIB, 8), (1 << 40, 8)])
def test_smbios(ram: int, processors: int) -> None:
    space, _ = memory()
    identity = uuid.UUID("12345678-1234-5678-1234-567812345678")
    smbios.place(space, ram, processors, identity, "1.0")
    entry = space.read_bytes(SMBIOS, 31)
    assert entry[:4] == b"_SM_"
    assert entry[0x10:0x15] == b"_DMI_"
    assert sum(entry) & 0xFF == sum(entry[0x10:]) & 0xFF == 0
    largest = struct.unpack_from("<H", entry, 8)[0]
    length, at, count = struct.unpack_from("<HIH", entry, 0x16)
    table = space.read_bytes(at, length)
    kinds, sizes, at = [], [], 0
    handles = set()
    minimum = {0: 24, 1: 27, 3: 21, 4: 42, 16: 23, 17: 34, 19: 31, 32: 11, 127: 4}
    capacity = 0
    while at < len(table):
        kind, formatted, handle = struct.unpack_from("<BBH", table, at)
        assert formatted >= minimum[kind], f"type {kind} is too short for 2.8"
        if kind == 1:
            assert table[at + 8 : at + 24] == identity.bytes_le
        if kind == 4:
            assert table[at + 35 : at + 38] == bytes([processors] * 3), "cores, enabled ones, threads"
        if kind == 17:
            short, extended = struct.unpack_from("<H", table, at + 12)[0], struct.unpack_from("<I", table, at + 28)[0]
            capacity += extended if short == 0x7FFF else short
        end = table.index(b"\0\0", at + formatted) + 2
        kinds.append(kind)
        handles.add(handle)
        sizes.append(end - at)
        at = end
    assert len(kinds) == count == len(handles)
    assert max(sizes) == largest
    assert kinds.count(4) == 1
    assert set(kinds) == set(minimum)
    assert capacity == ram // MIB
