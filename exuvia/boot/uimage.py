"""uImage, U-Boot's legacy image format (its image.h): a 64-byte big-endian header, then an image, compressed or not."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from exuvia.boot.image import gunzip
from exuvia.support.errors import UserError

MAGIC = 0x27051956
HEADER = struct.Struct(
    ">7I4B32s"
)  # magic, header's checksum, time, size, load, entry, data's checksum; system, processor, type, compression
MIPS = 5
KERNEL = 2
UNCOMPRESSED, GZIP = 0, 1


@dataclass(frozen=True)
class UImage:
    """An unpacked image and where it belongs."""

    load: int
    entry: int
    content: bytes


def is_uimage(data: bytes) -> bool:
    """Whether `data` begins with the header's magic."""
    return len(data) >= HEADER.size and data.startswith(MAGIC.to_bytes(4, "big"))


def parse(path: str, data: bytes, processor: int, limit: int) -> UImage:
    """The kernel in `data`, of at most `limit` bytes. UserError when it is damaged, for another processor, or no kernel."""
    _, checksum, _, size, load, entry, data_checksum, _, found, kind, compression, _ = HEADER.unpack_from(data)
    header = data[: HEADER.size]
    if zlib.crc32(header[:4] + bytes(4) + header[8:]) != checksum:
        raise UserError(f"-kernel {path}: damaged uImage header")
    content = data[HEADER.size : HEADER.size + size]
    if len(content) < size:
        raise UserError(f"-kernel {path}: truncated uImage")
    if zlib.crc32(content) != data_checksum:
        raise UserError(f"-kernel {path}: damaged uImage")
    if found != processor:
        raise UserError(f"-kernel {path}: a uImage for another processor (architecture {found})")
    if kind != KERNEL:
        raise UserError(f"-kernel {path}: a uImage that holds no kernel (type {kind})")
    if compression not in (UNCOMPRESSED, GZIP):
        raise UserError(f"-kernel {path}: a uImage compressed in a way that is not supported ({compression})")
    return UImage(load, entry, gunzip("-kernel", path, content, limit) if compression == GZIP else content)
