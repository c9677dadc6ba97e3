"""Compressed clusters (qcow2.txt, "Compressed Clusters Descriptor"): raw deflate, or zstd."""

import zlib
from importlib import import_module
from io import BytesIO
from typing import Any, Protocol, cast

from exuvia.support.errors import UserError

NAMES = ("zlib", "zstd")
WINDOW = -12  # of raw deflate, in bits: what QEMU's readers are prepared for


class Codec(Protocol):
    """One way to make a cluster smaller. Safe from several threads at once."""

    def compress(self, data: bytes | memoryview) -> bytes:
        """The packed bytes."""

    def decompress(self, data: bytes, size: int) -> bytes:
        """The first `size` bytes that `data`, with anything behind it, unpacks to. Raises ValueError when it does not."""


class Deflate:
    """Raw deflate with a 4 KiB window."""

    def compress(self, data: bytes | memoryview) -> bytes:
        packer = zlib.compressobj(-1, zlib.DEFLATED, WINDOW, 9)
        return packer.compress(data) + packer.flush()

    def decompress(self, data: bytes, size: int) -> bytes:
        try:
            found = zlib.decompressobj(-15).decompress(data, size)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        if len(found) != size:
            raise ValueError(f"{len(found)} bytes instead of {size}")
        return found


class Zstd:
    """zstd frames, with Python's own module where there is one (3.14), else the package zstandard."""

    def __init__(self) -> None:
        package: Any
        try:
            package = import_module("zstandard")
        except ImportError:
            try:
                package = import_module("compression.zstd")
            except ImportError:
                raise UserError("zstd clusters need the Python package zstandard: pip install zstandard") from None
            self._pack, self._reader = package.compress, package.ZstdFile
        else:
            self._pack = lambda data: package.ZstdCompressor(write_content_size=True).compress(data)
            self._reader = lambda file: package.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        self._error = package.ZstdError

    def compress(self, data: bytes | memoryview) -> bytes:
        return cast(bytes, self._pack(data))

    def decompress(self, data: bytes, size: int) -> bytes:
        found = b""
        try:
            reader = self._reader(BytesIO(data))
            while len(found) < size and (more := reader.read(size - len(found))):
                found += more
        except (self._error, EOFError) as error:
            raise ValueError(str(error)) from None
        if len(found) < size:
            raise ValueError(f"{len(found)} bytes instead of {size}")
        return found


def codec(number: int) -> Codec:
    """The codec of a header's compression_type. Raises UserError where a package is missing."""
    return Zstd() if number else Deflate()
