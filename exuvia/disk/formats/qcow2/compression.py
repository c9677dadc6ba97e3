"""Compressed clusters (qcow2.txt, "Compressed Clusters Descriptor"): raw deflate, or zstd."""

from __future__ import annotations

from io import BytesIO

from exuvia.support import deflate, zstd


class Codec:
    """One way to make a cluster smaller. Safe from several threads at once."""

    def compress(self, data: bytes | memoryview) -> bytes:
        """The packed bytes."""
        raise NotImplementedError

    def decompress(self, data: bytes, size: int) -> bytes:
        """The first `size` bytes that `data`, with anything behind it, unpacks to. Raises ValueError when it does not."""
        raise NotImplementedError


class Deflate(Codec):
    """Raw deflate. QEMU says to zlib that the window has 4 KiB, which makes no difference to it: it unpacks a cluster with one call."""

    def __init__(self) -> None:
        self._pack = deflate.packer(raw=True)

    def compress(self, data: bytes | memoryview) -> bytes:
        return self._pack(data)

    def decompress(self, data: bytes, size: int) -> bytes:
        found = deflate.unpack(data, size, deflate.RAW)
        if len(found) != size:
            raise ValueError(f"{len(found)} bytes instead of {size}")
        return found


class Zstd(Codec):
    """zstd frames. UserError when there is no package for them."""

    def __init__(self) -> None:
        self._error = zstd.error()

    def compress(self, data: bytes | memoryview) -> bytes:
        return zstd.compress(data)

    def decompress(self, data: bytes, size: int) -> bytes:
        found = b""
        try:
            stream = zstd.reader(BytesIO(data))
            while len(found) < size and (more := stream.read(size - len(found))):
                found += more
        except (self._error, EOFError) as error:
            raise ValueError(str(error)) from None
        if len(found) < size:
            raise ValueError(f"{len(found)} bytes instead of {size}")
        return found


def codec(number: int) -> Codec:
    """The codec of a header's compression_type. Raises UserError where a package is missing."""
    return Zstd() if number else Deflate()
