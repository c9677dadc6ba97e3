"""CRC-32C (Castagnoli), which every structure of VHDX carries ([MS-VHDX] 2.2.2; the polynomial is iSCSI's, RFC 3720 12.1).

Structures are zeros for the most part. Feeding a zero byte is a linear function of the checksum, so a run of 2**k of them is one matrix.
"""

import re
from functools import cache

POLYNOMIAL = 0x82F63B78  # reflected
ZEROS = re.compile(b"\0{64,}")


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


TABLE = _table()


@cache
def _zeros(k: int) -> list[int]:
    """What 2**k zero bytes make of each bit."""
    if not k:
        return [TABLE[1 << bit & 0xFF] ^ 1 << bit >> 8 for bit in range(32)]
    half = _zeros(k - 1)
    return [_times(half, each) for each in half]


def _times(matrix: list[int], value: int) -> int:
    result = 0
    for image in matrix:
        if value & 1:
            result ^= image
        value >>= 1
    return result


def crc32c(data: bytes | bytearray) -> int:
    """The checksum of `data`; some 10 MB/s of what is not zeros."""
    crc, table, at = 0xFFFFFFFF, TABLE, 0
    for run in (*ZEROS.finditer(data), None):
        for byte in data[at : run.start() if run else len(data)]:
            crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
        if run:
            at = run.end()
            length = at - run.start()
            for k in range(length.bit_length()):
                if length >> k & 1:
                    crc = _times(_zeros(k), crc)
    return crc ^ 0xFFFFFFFF


def seal(data: bytearray, at: int = 4) -> bytearray:
    """Put the checksum into the 4 bytes at `at`, which count as zeros."""
    data[at : at + 4] = bytes(4)
    data[at : at + 4] = crc32c(data).to_bytes(4, "little")
    return data


def sound(data: bytes, at: int = 4) -> bool:
    """Whether the checksum at `at` is right."""
    return crc32c(data[:at] + bytes(4) + data[at + 4 :]) == int.from_bytes(data[at : at + 4], "little")
