"""Unpacking deflate, zlib streams and gzip files (RFC 1951, 1950, 1952): with isal, in 0.4 of the time, or zlib where that is missing."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import zlib as library
else:
    try:
        from isal import isal_zlib as library
    except ImportError:  # processors that it has no wheels for
        import zlib as library

RAW, GZIP = -15, 31  # the window's bits, negative where there is neither head nor sum, with 16 added for gzip's


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
