"""SMBIOS 2.8 tables (DMTF DSP0134): what a guest's dmidecode and Windows want to see of a machine."""

from __future__ import annotations

import struct
import uuid

from exuvia.boot.layout import EBDA, FOUR_GIB, GIB, KIB, MIB, SMBIOS, SMBIOS_SIZE, Memory, ram_below_4g

_ENTRY_SIZE = 32
_BIOS, _SYSTEM, _CHASSIS, _PROCESSOR = 0, 0x100, 0x300, 0x400
_ARRAY, _MODULE, _MAPPED, _BOOT, _END = 0x1000, 0x1100, 0x1300, 0x2000, 0x7F00
_MAX_MODULE = 16 * GIB


def _structure(kind: int, handle: int, body: bytes, *strings: str) -> bytes:
    texts = b"".join(text.encode("ascii", "replace") + b"\0" for text in strings) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(body), handle) + body + texts + b"\0"


def build(memory: int, processors: int, identity: uuid.UUID | None, version: str) -> tuple[bytes, int]:
    """(the structure table, its number of structures) for a machine with `memory` bytes of RAM, and `processors` in one socket, as CPUID
    has them."""
    who = "Exuvia"
    unknown, safe, other = 2, 3, 1
    virtual_machine = 1 << 4
    structures = [
        _structure(
            0,
            _BIOS,
            struct.pack("<BBHBBQBBBBBB", 1, 2, 0xE800, 3, 0, 1 << 3, 0, virtual_machine, 0, 0, 0xFF, 0xFF),
            who,
            version,
            "01/01/2026",
        ),
        _structure(
            1,
            _SYSTEM,
            struct.pack("<4B16sBBB", 1, 2, 3, 0, (identity or uuid.UUID(int=0)).bytes_le, 6, 0, 0),
            who,
            "PC (i440FX + PIIX)",
            version,
        ),
        _structure(3, _CHASSIS, struct.pack("<9BIBBBB", 1, other, 0, 0, 0, safe, safe, safe, unknown, 0, 0, 0, 0, 0), who),
    ]
    layout, count, several = "<4BQBBHHHBBHHHBBBBBBHH", processors, (processors > 1) << 3
    body = struct.pack(layout, 1, 3, 1, 2, 0, 0, 0, 0, 2000, 2000, 0x41, other, *[0xFFFF] * 3, 0, 0, 0, count, count, count, 4 | several, 1)
    structures.append(_structure(4, _PROCESSOR, body, "CPU 0", who))
    sizes = [min(_MAX_MODULE, memory - at) for at in range(0, memory, _MAX_MODULE)]
    capacity = memory // KIB
    no_error, system_memory, system_board, multi_bit = 0xFFFE, 3, 1, 6
    large = 0x80000000
    array = struct.pack(
        "<BBBIHHQ", system_board, system_memory, multi_bit, min(capacity, large), no_error, len(sizes), memory if capacity >= large else 0
    )
    structures.append(_structure(16, _ARRAY, array))
    for n, size in enumerate(sizes):
        in_mib = size // MIB
        short, extended = (in_mib, 0) if in_mib < 0x7FFF else (0x7FFF, in_mib)
        dimm, ram = 9, 7
        body = struct.pack(
            "<HHHHHBBBBBHHBBBBBIH", _ARRAY, no_error, 0xFFFF, 0xFFFF, short, dimm, 0, 1, 0, ram, other << 1, 0, 2, 0, 0, 0, 0, extended, 0
        )
        structures.append(_structure(17, _MODULE + n, body, f"DIMM {n}", who))
    low = ram_below_4g(memory)
    for n, (start, end) in enumerate([(0, low), (FOUR_GIB, FOUR_GIB + memory - low)][: 1 + (memory > low)]):
        first, last = start // KIB, end // KIB - 1
        # 32-bit kilobyte addresses reach to 4 TiB; past that the extended ones count
        narrow = (first, last) if last < 0xFFFFFFFF else (0xFFFFFFFF, 0xFFFFFFFF)
        wide = (0, 0) if last < 0xFFFFFFFF else (start, end - 1)
        structures.append(_structure(19, _MAPPED + n, struct.pack("<IIHBQQ", *narrow, _ARRAY, 1, *wide)))
    structures.append(_structure(32, _BOOT, bytes(7)))
    structures.append(_structure(127, _END, b""))
    return b"".join(structures), len(structures)


def place(memory: Memory, ram: int, processors: int, identity: uuid.UUID | None, version: str) -> None:
    """Write the entry point (section 5.2.1) and the table. ValueError when they do not fit into their area."""
    table, count = build(ram, processors, identity, version)
    if _ENTRY_SIZE + len(table) > SMBIOS_SIZE:
        raise ValueError(f"{len(table)} bytes of SMBIOS tables do not fit into {SMBIOS_SIZE}")
    largest = 0
    at = 0
    while at < len(table):
        end = table.index(b"\0\0", at + table[at + 1]) + 2
        largest = max(largest, end - at)
        at = end
    entry = bytearray(
        struct.pack("<4sBBBBHB5x5sBHIHB", b"_SM_", 0, 31, 2, 8, largest, 0, b"_DMI_", 0, len(table), SMBIOS + _ENTRY_SIZE, count, 0x28)
    )
    entry[0x15] = -sum(entry[0x10:31]) & 0xFF
    entry[4] = -sum(entry[:31]) & 0xFF
    memory.write_bytes(SMBIOS, bytes(entry).ljust(_ENTRY_SIZE, b"\0") + table)


def bios_data_area(memory: Memory) -> None:
    """The few words of the BIOS data area that kernels look at: the EBDA's segment and the kilobytes of base memory."""
    memory.write_bytes(0x40E, struct.pack("<H", EBDA >> 4))
    memory.write_bytes(0x413, struct.pack("<H", EBDA // KIB))
    memory.write_bytes(EBDA, b"\x01")  # its own size in KiB, first byte of an EBDA
