"""Checksums by polynomials, bits reversed, as functions: CRC-32 (ISO 3309, 04C11DB7) and CRC-32C (iSCSI, 1EDC6F41)."""

from __future__ import annotations

from exuvia.dsl.trace import Function, Var, function, loop
from exuvia.dsl.values import Value, lift


def checksum(name: str, reversed_polynomial: int, w: int) -> Function:
    """The checksum carried over w bits; a checksum of 32 bits, in 64 where data are."""
    total = max(w, 32)

    def text(crc: Value, data: Value) -> Value:
        crc = crc.low(32).zext(total)
        rest = Var((crc.low(w) ^ data).zext(total))
        with loop(lift(w, 64), rest):
            rest.set((rest.u >> 1) ^ (rest.low(1).sext(total) & reversed_polynomial))
        return rest ^ (crc.u >> w)

    text.__name__ = f"{name}_{w}"
    return function(total, w, returns=total)(text)


CRC32 = {w: checksum("crc32", 0xEDB88320, w) for w in (8, 16, 32, 64)}
CRC32C = {w: checksum("crc32c", 0x82F63B78, w) for w in (8, 16, 32, 64)}
