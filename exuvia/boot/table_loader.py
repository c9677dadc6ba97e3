"""ACPI tables that firmware places: a script for its loader, in fw_cfg (QEMU, hw/acpi/bios-linker-loader, as EDK2 and SeaBIOS run it)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

TABLES, RSDP, SCRIPT = "etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"
ENTRY = 128  # bytes of a command
ALLOCATE, ADD_POINTER, ADD_CHECKSUM = 1, 2, 3
HIGH, F_SEGMENT = 1, 2  # zones
CHECKSUM_AT = 9
X_DSDT_AT = 140  # in the FADT


def _command(kind: int, layout: str, *values: bytes | int) -> bytes:
    return struct.pack(f"<I{layout}", kind, *values).ljust(ENTRY, b"\0")


def files(dsdt: bytes, fadt: bytes, others: Sequence[bytes]) -> dict[str, bytes]:
    """The files of fw_cfg by path: tables with offsets in place of addresses, and the script that makes addresses of them."""
    tables_file, rsdp_file = TABLES.encode(), RSDP.encode()
    blob = bytearray()
    script = _command(ALLOCATE, "56sIB", tables_file, 64, HIGH) + _command(ALLOCATE, "56sIB", rsdp_file, 16, F_SEGMENT)

    def put(content: bytes, *pointers: int) -> int:
        """A table whose 64-bit pointers stand at these offsets; where it is in the blob."""
        nonlocal script
        blob.extend(bytes(-len(blob) % 16))
        at = len(blob)
        blob.extend(content)
        blob[at + CHECKSUM_AT] = 0
        for pointer in pointers:
            script += _command(ADD_POINTER, "56s56sIB", tables_file, tables_file, at + pointer, 8)
        script += _command(ADD_CHECKSUM, "56sIII", tables_file, at + CHECKSUM_AT, at, len(content))
        return at

    at = put(dsdt)
    linked = fadt[:X_DSDT_AT] + at.to_bytes(8, "little") + fadt[X_DSDT_AT + 8 :]
    places = [put(linked, X_DSDT_AT), *(put(content) for content in others)]
    head = struct.pack("<4sIBB6s8sI4sI", b"XSDT", 36 + 8 * len(places), 1, 0, b"EXUVIA", b"EXUVIAVM", 1, b"EXUV", 1)
    xsdt = put(head + struct.pack(f"<{len(places)}Q", *places), *(36 + 8 * number for number in range(len(places))))
    rsdp = struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, b"EXUVIA", 2, 0, 36, xsdt, 0)
    script += _command(ADD_POINTER, "56s56sIB", rsdp_file, tables_file, 24, 8)
    script += _command(ADD_CHECKSUM, "56sIII", rsdp_file, 8, 0, 20) + _command(ADD_CHECKSUM, "56sIII", rsdp_file, 32, 0, 36)
    return {TABLES: bytes(blob), RSDP: rsdp, SCRIPT: script}
