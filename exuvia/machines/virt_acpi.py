"""The ACPI tables of `virt` for firmware (ACPI 6.5, chapter 5; Arm BBR, DEN 0044; IORT: DEN 0049; SPCR: Microsoft's specification)."""

from __future__ import annotations

import struct

from exuvia.boot import aml, table_loader
from exuvia.devices.irq.gic_v3 import affinity
from exuvia.machines.virt_tree import FIRST_PPI, FIRST_SPI, MAINTENANCE, POWER_PIN, TIMERS, Platform

HARDWARE_REDUCED = 1 << 20
PSCI_COMPLIANT, PSCI_USE_HVC = 1, 2
ALWAYS_ON = 4  # of a timer
PACKAGE, ID_VALID, THREAD, LEAF = 1, 2, 4, 8  # of a part of the topology
NOWHERE = (1 << 64) - 1


def files(platform: Platform) -> dict[str, bytes]:
    """What firmware finds in fw_cfg."""
    others = [_madt(platform), _gtdt(), _mcfg(platform), _spcr(platform), _pptt(platform)]
    if platform.gic_version == 3 and platform.messages is not None:
        others.append(_iort())
    return table_loader.files(_dsdt(platform), _fadt(platform), others)


def _fadt(platform: Platform) -> bytes:
    """Revision 6.0: hardware-reduced, PSCI."""
    arm = PSCI_COMPLIANT | (PSCI_USE_HVC if platform.conduit == "hvc" else 0)
    body = bytes(76) + struct.pack("<I", HARDWARE_REDUCED) + bytes(13) + struct.pack("<HB", arm, 0)
    return aml.table("FACP", 6, body.ljust(240, b"\0"))


def _madt(platform: Platform) -> bytes:
    """Multiple APIC Description Table, with what a GIC has of it (5.2.12.14 to 18)."""
    v2 = platform.gic_version == 2
    parts = [bytes(8), struct.pack("<BBHIQIB3x", 12, 24, 0, 0, platform.distributor[0], 0, platform.gic_version)]
    for number in range(platform.processors):
        interface = platform.interface[0] if v2 else 0
        maintenance = FIRST_PPI + MAINTENANCE if platform.virtualization and not v2 else 0
        words = struct.pack(
            "<BBHIIIIIQQQQIQQB3x", 11, 80, 0, number, number, 1, 0, 0, 0, interface, 0, 0, maintenance, 0, affinity(number), 0
        )
        parts.append(words)
    if v2 and platform.messages is not None:
        parts.append(struct.pack("<BBHIQIHH", 13, 24, 0, 0, platform.messages[0], 1, *platform.message_spis))
    if not v2:
        parts.append(struct.pack("<BBHQI", 14, 16, 0, *platform.interface))
        if platform.messages is not None:
            parts.append(struct.pack("<BBHIQI", 15, 20, 0, 0, platform.messages[0], 0))
    return aml.table("APIC", 4, parts)


def _pptt(platform: Platform) -> bytes:
    """Processor Properties Topology Table (5.2.30): sockets, clusters and threads where a part has several, cores. A leaf's ID is a UID."""
    made: dict[tuple[int, ...], int] = {}
    body = b""
    topology = platform.topology
    for number in range(platform.processors):
        socket, cluster, core, thread = topology.place(number)
        path: list[tuple[int, ...]] = [(socket,), (socket, cluster), (socket, cluster, core), (socket, cluster, core, thread)]
        if topology.threads == 1:
            path.pop()
        if topology.clusters == 1:
            del path[1]
        parent = 0
        for part in path:
            if part not in made:
                leaf = part is path[-1]
                flags = (PACKAGE if len(part) == 1 else 0) | (LEAF | ID_VALID if leaf else 0) | (THREAD if len(part) == 4 else 0)
                made[part] = 36 + len(body)
                body += struct.pack("<BBHIIII", 0, 20, 0, flags, parent, number if leaf else part[-1], 0)
            parent = made[part]
    return aml.table("PPTT", 2, body)


def _gtdt() -> bytes:
    """Generic Timer Description Table (5.2.25)."""
    timers = b"".join(struct.pack("<II", FIRST_PPI + number, ALWAYS_ON) for number in TIMERS)
    return aml.table("GTDT", 2, struct.pack("<QI", NOWHERE, 0) + timers + struct.pack("<QII", NOWHERE, 0, 0))


def _mcfg(platform: Platform) -> bytes:
    """Where PCI's configuration space is (PCI Firmware Specification 3.3, section 4.1.2)."""
    return aml.table("MCFG", 1, bytes(8) + struct.pack("<QHBB4x", platform.ecam[0], 0, 0, platform.buses - 1))


def _spcr(platform: Platform) -> bytes:
    """The console: a PL011."""
    address = struct.pack("<BBBBQ", 0, 32, 0, 3, platform.uart[0])
    body = struct.pack("<B3x", 3) + address + struct.pack("<BBI", 8, 0, FIRST_SPI + platform.uart[2])
    body += struct.pack("<BBBBBBHHBBBIBI", 3, 0, 1, 2, 0, 0, 0xFFFF, 0xFFFF, 0, 0, 0, 0, 0, 0)
    return aml.table("SPCR", 2, body)


def _iort() -> bytes:
    """I/O Remapping Table: the requester IDs of PCI are the ITS's device IDs."""
    its_at = 48
    its = struct.pack("<BHBIIIII", 0, 24, 0, 0, 0, 0, 1, 0)
    coherent, memory_flags = 1, 3 << 24
    root = struct.pack("<BHBIIIIIIIB3x", 2, 56, 1, 0, 1, 36, coherent, memory_flags, 0, 0, 64)  # of 64 address bits
    mapping = struct.pack("<IIIII", 0, 0xFFFF, 0, its_at, 0)
    return aml.table("IORT", 0, struct.pack("<III", 2, its_at, 0) + its + root + mapping)


def _device(label: str, identity: str, uid: int, window: tuple[int, int], spi: int | None, *more: bytes) -> bytes:
    resources = [aml.memory32(*window)] + ([aml.interrupt(FIRST_SPI + spi)] if spi is not None else [])
    names = (
        aml.name("_HID", aml.string(identity)),
        aml.name("_UID", uid),
        aml.name("_CCA", 1),
        aml.name("_CRS", aml.resources(*resources)),
    )
    return aml.device(label, *names, *more)


def _dsdt(platform: Platform) -> bytes:
    """The devices that nobody can look for."""
    processors = [
        aml.device(f"C{number:03X}", aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", number))
        for number in range(platform.processors)
    ]
    address, size, spi = platform.uart
    devices = [_device("COM0", "ARMH0011", 0, (address, size), spi), _device("FWCF", "QEMU0002", 0, platform.fw_cfg, None)]
    first, size, spi, count = platform.virtio
    devices += [_device(f"VR{n:02X}", "LNRO0005", n, (first + n * size, size), spi + n) for n in range(count)]
    if platform.flash is not None:
        start, size = platform.flash
        devices += [_device(f"FLS{bank}", "LNRO0015", bank, (start + bank * size, size), None) for bank in range(2)]
    button = aml.device("PWRB", aml.name("_HID", aml.string("PNP0C0C")), aml.name("_UID", 0))
    return aml.table("DSDT", 2, aml.scope("\\_SB", *processors, *devices, _gpio(platform), button, _pci(platform)))


def _gpio(platform: Platform) -> bytes:
    """The controller tells of the button by itself (5.6.5.3)."""
    address, size, spi = platform.gpio
    events = aml.name("_AEI", aml.resources(aml.gpio_interrupt(POWER_PIN, "GPO0")))
    return _device("GPO0", "ARMH0061", 0, (address, size), spi, events, aml.method(f"_E{POWER_PIN:02X}", 0, aml.notify("\\_SB.PWRB", 0x80)))


def _pci(platform: Platform) -> bytes:
    routes = []
    for slot in range(32):
        for pin in range(4):
            gsi = FIRST_SPI + platform.pci_interrupt + (slot + pin) % 4
            routes.append(aml.package(slot << 16 | 0xFFFF, pin, 0, gsi))
    windows = [aml.bus_numbers(0, platform.buses - 1)]
    windows += [aml.memory_window(address, address + size - 1) for address, size in platform.windows]
    windows.append(aml.translated_io_window(0, platform.ports[1] - 1, platform.ports[0]))
    start, size = platform.ecam
    reserved = aml.device(
        "RES0",
        aml.name("_HID", aml.string("PNP0C02")),
        aml.name("_CRS", aml.resources(aml.memory_window(start, start + size - 1))),
    )
    return aml.device(
        "PCI0",
        aml.name("_HID", aml.string("PNP0A08")),
        aml.name("_CID", aml.string("PNP0A03")),
        *(aml.name(label, value) for label, value in (("_SEG", 0), ("_BBN", 0), ("_UID", 0), ("_CCA", 1), ("_CBA", start))),
        aml.name("_PRT", aml.package(*routes)),
        aml.name("_CRS", aml.resources(*windows)),
        reserved,
    )
