"""The script for firmware's loader, run as firmware runs it."""

from __future__ import annotations

import struct

from exuvia.boot import aml
from exuvia.boot.table_loader import ENTRY, RSDP, SCRIPT, TABLES, files

BASES = {TABLES: 0x5F00_0040, RSDP: 0x5E00_0010}


def loaded(given: dict[str, bytes]) -> dict[str, bytearray]:
    """The files after the script, as if they stood at BASES."""
    placed: dict[str, bytearray] = {}
    script = given[SCRIPT]
    assert len(script) % ENTRY == 0

    def text(raw: bytes) -> str:
        return raw.split(b"\0")[0].decode()

    for at in range(0, len(script), ENTRY):
        kind = int.from_bytes(script[at : at + 4], "little")
        if kind == 1:
            name, align, zone = struct.unpack_from("<56sIB", script, at + 4)
            assert BASES[text(name)] % align == 0 and zone in (1, 2)
            placed[text(name)] = bytearray(given[text(name)])
        elif kind == 2:
            name, other, offset, size = struct.unpack_from("<56s56sIB", script, at + 4)
            target = placed[text(name)]
            held = int.from_bytes(target[offset : offset + size], "little")
            assert held < len(placed[text(other)])
            target[offset : offset + size] = (held + BASES[text(other)]).to_bytes(size, "little")
        else:
            assert kind == 3
            name, result, start, length = struct.unpack_from("<56sIII", script, at + 4)
            target = placed[text(name)]
            target[result] = (target[result] - sum(target[start : start + length])) & 0xFF
    return placed


def follow(given: dict[str, bytes]) -> dict[str, bytes]:
    """The tables by signature, from the root pointer on, checksums checked."""
    placed = loaded(given)
    rsdp, blob = placed[RSDP], placed[TABLES]
    assert rsdp[:8] == b"RSD PTR " and sum(rsdp[:20]) & 0xFF == sum(rsdp) & 0xFF == 0

    def table(address: int) -> bytes:
        at = address - BASES[TABLES]
        content = bytes(blob[at : at + int.from_bytes(blob[at + 4 : at + 8], "little")])
        assert sum(content) & 0xFF == 0, content[:4]
        return content

    xsdt = table(struct.unpack_from("<Q", rsdp, 24)[0])
    assert xsdt[:4] == b"XSDT"
    found = {content[:4].decode(): content for content in (table(n) for (n,) in struct.iter_unpack("<Q", xsdt[36:]))}
    dsdt = table(struct.unpack_from("<Q", found["FACP"], 140)[0])
    return found | {"DSDT": dsdt}


def test_tables_are_linked_and_sum_up() -> None:
    dsdt, fadt, other = aml.table("DSDT", 2, b"x"), aml.table("FACP", 6, bytes(240)), aml.table("MCFG", 1, bytes(24))
    found = follow(files(dsdt, fadt, [other]))
    assert set(found) == {"DSDT", "FACP", "MCFG"}
    assert found["DSDT"] == dsdt and found["MCFG"] == other
