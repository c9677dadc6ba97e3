"""Unpacking deflate (RFC 1951) and zlib streams (RFC 1950): with isal, which takes 0.4 of zlib's time, where that is installed."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import zlib as library
else:
    try:
        from isal import isal_zlib as library
    except ImportError:  # processors that it has no wheels for
        import zlib as library

RAW = -15  # the window's bits, negative where there is neither head nor sum


def unpack(data: bytes, most: int, window: int = 15) -> bytes:
    """The first `most` bytes that `data`, with anything behind it, unpacks to; fewer where it ends early. Raises ValueError."""
    try:
        return library.decompressobj(window).decompress(data, most)
    except library.error as error:
        raise ValueError(str(error)) from None
