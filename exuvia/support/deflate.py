"""Deflate, zlib streams and gzip files (RFC 1951, 1950, 1952): unpacking with isal, in 0.4 of zlib's time, packing with libdeflate, in 0.5.

Where these are missing, zlib does the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import zlib as library
    from collections.abc import Callable
else:
    try:
        from isal import isal_zlib as library
    except ImportError:  # processors that it has no wheels for
        import zlib as library

RAW, GZIP = -15, 31  # the window's bits, negative where there is neither head nor sum, with 16 added for gzip's
LEVEL = 6  # what zlib takes, too, when it is not told


def packer(raw: bool) -> Callable[[bytes | bytearray | memoryview], bytes]:
    """What packs bytes, as raw deflate or as a zlib stream; several threads may call it at once, and it lets go of the interpreter."""
    try:
        import deflate
    except ImportError:  # as above
        import zlib

        return lambda data: zlib.compress(data, LEVEL, RAW if raw else -RAW)
    pack = deflate.deflate_compress if raw else deflate.zlib_compress
    return lambda data: bytes(pack(data, LEVEL))


def unpack(data: bytes, most: int, window: int = 15) -> bytes:
    """The first `most` bytes that `data`, with anything behind it, unpacks to; fewer where it ends early. Raises ValueError."""
    return stream(data, most, window)[0]


def stream(data: bytes, most: int, window: int = 15) -> tuple[bytes, bool]:
    """Likewise, and whether that is all of it."""
    unpacker = library.decompressobj(window)
    try:
        return unpacker.decompress(data, most), unpacker.eof
    except library.error as error:
        raise ValueError(str(error)) from None
