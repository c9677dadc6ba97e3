"""The ACPI tables of a PC with an i440FX, a PIIX3 and a PIIX4 power management function (ACPI 6.5, chapter 5)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from exuvia.boot import aml
from exuvia.boot.layout import (
    FOUR_GIB,
    HPET,
    IOAPIC,
    LOCAL_APIC,
    PCI_HOLE_END,
    RSDP,
    TABLES,
    TABLES_SIZE,
    VGA_WINDOW,
    Memory,
)

SCI_IRQ = 9
SMI_COMMAND, ACPI_ENABLE, ACPI_DISABLE = 0xB2, 0xF1, 0xF0
PM_BASE = 0x600
RESET_PORT, RESET_VALUE = 0xCF9, 0x06
CENTURY = 0x32
PIRQ_CHOICES = (5, 10, 11)
FW_CFG = 0x510, 12  # the first port, how many
COM_PORTS = ((0x3F8, 4), (0x2F8, 3), (0x3E8, 4), (0x2E8, 3))


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What the tables describe.

    apic_ids     of the processors, the first one boots
    low_top      where RAM below 4 GiB ends and the PCI window begins
    high_top     where RAM above 4 GiB ends, FOUR_GIB when there is none
    serial       which of COM1..COM4 exist
    keyboard     whether anything is attached to the 8042
    hpet, vga    whether they exist
    """

    apic_ids: Sequence[int]
    low_top: int
    high_top: int = FOUR_GIB
    serial: Sequence[int] = (0,)
    keyboard: bool = False
    hpet: bool = False
    vga: bool = False


def place(memory: Memory, platform: Platform) -> int:
    """Write the tables and the RSDP; the RSDP's address. ValueError when they do not fit into their area."""
    written: list[tuple[int, bytes]] = []
    at = TABLES

    def put(content: bytes, align: int = 16) -> int:
        nonlocal at
        start = (at + align - 1) & -align
        written.append((start, content))
        at = start + len(content)
        return start

    facs = put(struct.pack("<4sIIIII", b"FACS", 64, 0, 0, 0, 0).ljust(64, b"\0"), 64)
    dsdt = put(build_dsdt(platform))
    tables = [put(build_fadt(platform, facs, dsdt)), put(build_madt(platform)), put(build_waet())]
    if platform.hpet:
        tables.append(put(build_hpet()))
    rsdt = put(aml.table("RSDT", 1, struct.pack(f"<{len(tables)}I", *tables)))
    xsdt = put(aml.table("XSDT", 1, struct.pack(f"<{len(tables)}Q", *tables)))
    if at > TABLES + TABLES_SIZE:
        raise ValueError(f"{at - TABLES} bytes of ACPI tables do not fit into {TABLES_SIZE}")
    written.append((RSDP, build_rsdp(rsdt, xsdt)))
    for address, content in written:
        memory.write_bytes(address, content)
    return RSDP


def build_rsdp(rsdt: int, xsdt: int) -> bytes:
    """Root System Description Pointer, revision 2 (section 5.2.5.3)."""
    rsdp = bytearray(struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, b"EXUVIA", 2, rsdt, 36, xsdt, 0))
    rsdp[8] = -sum(rsdp[:20]) & 0xFF
    rsdp[32] = -sum(rsdp) & 0xFF
    return bytes(rsdp)


def _port(address: int, bits: int, access: int) -> bytes:
    """Generic Address Structure in I/O space (section 5.2.3.2)."""
    return struct.pack("<BBBBQ", 1, bits, 0, access, address)


def build_fadt(platform: Platform, facs: int, dsdt: int) -> bytes:
    """Fixed ACPI Description Table, revision 3 (ACPI 2.0, 244 bytes; section 5.2.9). Registers as in the PIIX4 datasheet, section 7.1."""
    legacy_devices, has_8042, no_vga = 1, platform.keyboard << 1, (not platform.vga) << 2
    wbinvd, c1, no_sleep_button, rtc_s4, reset_register = 1 << 0, 1 << 2, 1 << 5, 1 << 7, 1 << 10
    body = struct.pack("<IIBBHIBBBB", facs, dsdt, 1, 0, SCI_IRQ, SMI_COMMAND, ACPI_ENABLE, ACPI_DISABLE, 0, 0)
    body += struct.pack("<8I", PM_BASE, 0, PM_BASE + 4, 0, 0, PM_BASE + 8, PM_BASE + 0xC, 0)
    body += struct.pack("<8B", 4, 2, 0, 4, 4, 0, 0, 0)
    body += struct.pack("<HHHHBBBBB", 0xFFF, 0xFFF, 0, 0, 0, 0, 0, 0, CENTURY)
    body += struct.pack("<HB", legacy_devices | has_8042 | no_vga, 0)
    body += struct.pack("<I", wbinvd | c1 | no_sleep_button | rtc_s4 | reset_register)
    body += _port(RESET_PORT, 8, 1) + struct.pack("<B3x", RESET_VALUE)
    body += struct.pack("<QQ", facs, dsdt)
    body += _port(PM_BASE, 32, 2) + bytes(12) + _port(PM_BASE + 4, 16, 2) + bytes(12)
    body += bytes(12) + _port(PM_BASE + 8, 32, 3) + _port(PM_BASE + 0xC, 32, 1) + bytes(12)
    return aml.table("FACP", 3, body)


def build_madt(platform: Platform) -> bytes:
    """Multiple APIC Description Table (section 5.2.12)."""
    pcat_compatible = 1
    entries = [struct.pack("<II", LOCAL_APIC, pcat_compatible)]
    entries += [struct.pack("<BBBBI", 0, 8, n, apic, 1) for n, apic in enumerate(platform.apic_ids)]
    entries.append(struct.pack("<BBBBII", 1, 12, 0, 0, IOAPIC, 0))
    entries.append(struct.pack("<BBBBIH", 2, 10, 0, 0, 2, 0))
    level_high = 0xD
    entries += [struct.pack("<BBBBIH", 2, 10, 0, line, line, level_high) for line in sorted({SCI_IRQ, *PIRQ_CHOICES})]
    all_processors, lint1 = 0xFF, 1
    entries.append(struct.pack("<BBBHB", 4, 6, all_processors, 0, lint1))
    return aml.table("APIC", 1, entries)


def build_hpet() -> bytes:
    """IA-PC HPET description (HPET specification 1.0a, section 3.2.4): vendor 8086, 3 comparators, 64-bit, legacy routing."""
    return aml.table("HPET", 1, struct.pack("<IBBBBQBHB", 0x8086A201, 0, 64, 0, 0, HPET, 0, 100, 0))


def build_waet() -> bytes:
    """Windows ACPI Emulated devices Table: the PM timer needs to be read only once."""
    return aml.table("WAET", 1, struct.pack("<I", 2))


def build_dsdt(platform: Platform) -> bytes:
    """Differentiated System Description Table."""
    soft_off = 0  # PMCNTRL.SUS_TYP for S5 on a PIIX4
    body = [
        aml.name("\\_S5", aml.package(soft_off, soft_off, 0, 0)),
        aml.scope("\\_SB", *map(_link, range(4)), _host_bridge(platform), *_processors(platform)),
        aml.scope("\\_SB.PCI0", _isa_bridge(platform)),
    ]
    return aml.table("DSDT", 2, body)


def _processors(platform: Platform) -> list[bytes]:
    return [aml.device(f"C{n:03X}", aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", n)) for n in range(len(platform.apic_ids))]


def _host_bridge(platform: Platform) -> bytes:
    windows = [
        aml.bus_numbers(0, 0xFF),
        aml.io(0xCF8, 8),
        aml.io_window(0, 0xCF7),
        aml.io_window(0xD00, 0xFFFF),
        aml.memory_window(VGA_WINDOW, 0xBFFFF, cacheable=True),
        aml.memory_window(platform.low_top, PCI_HOLE_END - 1),
    ]
    above = (platform.high_top + (1 << 30) - 1) & -(1 << 30)
    windows.append(aml.memory_window(above, above + (32 << 30) - 1))
    routes = []
    for slot in range(32):
        for pin in range(4):
            # the PIIX4's own slot: its INTA is the SCI, which is wired to IRQ 9
            source: tuple[aml.Term, int] = (aml.integer(0), SCI_IRQ) if (slot, pin) == (1, 0) else (f"LNK{'ABCD'[(slot + pin - 1) & 3]}", 0)
            routes.append(aml.package(slot << 16 | 0xFFFF, pin, *source))
    return aml.device(
        "PCI0",
        aml.name("_HID", aml.eisa_id("PNP0A03")),
        aml.name("_UID", 0),
        aml.name("_CRS", aml.resources(*windows)),
        aml.name("_PRT", aml.package(*routes)),
    )


def _link(pin: int) -> bytes:
    """A PCI interrupt link: PIRQRC[A:D] of the PIIX3 (datasheet section 2.2.9), bit 7 set means not routed."""
    label, register = f"LNK{'ABCD'[pin]}", f"\\_SB.PCI0.ISA_.PRQ{pin}"
    number_at = 5  # of the interrupt number in an extended interrupt descriptor
    return aml.device(
        label,
        aml.name("_HID", aml.eisa_id("PNP0C0F")),
        aml.name("_UID", pin + 1),
        aml.name("_PRS", aml.resources(aml.interrupt(*PIRQ_CHOICES))),
        aml.method("_STA", 0, aml.if_(aml.and_(register, 0x80), aml.return_(0x9)), aml.return_(0xB)),
        aml.method("_DIS", 0, aml.or_(register, 0x80, register)),
        aml.name("BUF0", aml.resources(aml.interrupt(0))),
        aml.method(
            "_CRS",
            0,
            aml.dword_field("BUF0", number_at, "NUM0"),
            aml.and_(register, 0xF, "NUM0"),
            aml.return_("BUF0"),
            serialized=True,
        ),
        aml.method("_SRS", 1, aml.dword_field(aml.ARG0, number_at, "NUM0"), aml.store("NUM0", register), serialized=True),
    )


def _isa_bridge(platform: Platform) -> bytes:
    def plug(label: str, identity: str, *descriptors: bytes, uid: int | None = None) -> bytes:
        names = [aml.name("_HID", aml.eisa_id(identity))]
        if uid is not None:
            names.append(aml.name("_UID", uid))
        return aml.device(label, *names, aml.name("_CRS", aml.resources(*descriptors)))

    fw_cfg = aml.name("_HID", aml.string("QEMU0002")), aml.name("_STA", 0xB), aml.name("_CRS", aml.resources(aml.io(*FW_CFG)))
    parts = [
        aml.name("_ADR", 0x10000),
        aml.operation_region("PIRQ", aml.PCI_CONFIG, 0x60, 4),
        aml.field("PIRQ", aml.BYTE_ACCESS, *((f"PRQ{pin}", 8) for pin in range(4))),
        plug("RTC_", "PNP0B00", aml.io(0x70, 2), aml.irq(8)),
        aml.device("FWCF", *fw_cfg),  # QEMU, docs/specs/fw_cfg.rst
    ]
    if platform.keyboard:
        parts.append(plug("KBD_", "PNP0303", aml.io(0x60, 1), aml.io(0x64, 1), aml.irq(1)))
        parts.append(plug("MOU_", "PNP0F13", aml.irq(12)))
    for n in platform.serial:
        port, line = COM_PORTS[n]
        parts.append(plug(f"COM{n + 1}", "PNP0501", aml.io(port, 8), aml.irq(line), uid=n + 1))
    if platform.hpet:
        parts.append(plug("HPET", "PNP0103", aml.memory32(HPET, 0x400)))
    return aml.device("ISA_", *parts)
