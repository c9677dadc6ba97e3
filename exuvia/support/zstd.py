"""zstd, with Python's own module where there is one (3.14), else the package zstandard."""

from importlib import import_module
from typing import Any, BinaryIO

from exuvia.support.errors import UserError


def _package() -> tuple[Any, bool]:
    """The package, and whether it is Python's own. UserError when there is none."""
    try:
        return import_module("zstandard"), False
    except ImportError:
        try:
            return import_module("compression.zstd"), True
        except ImportError:
            raise UserError("zstd needs the Python package zstandard: pip install zstandard") from None


def error() -> type[Exception]:
    """What is raised for damaged data."""
    found: type[Exception] = _package()[0].ZstdError
    return found


def compress(data: bytes | memoryview) -> bytes:
    """One frame that says how long it is."""
    package, own = _package()
    packed = package.compress(data) if own else package.ZstdCompressor(write_content_size=True).compress(data)
    return bytes(packed)


def reader(file: BinaryIO) -> Any:
    """All frames in `file`, to read."""
    package, own = _package()
    return package.ZstdFile(file) if own else package.ZstdDecompressor().stream_reader(file, read_across_frames=True)


def first_frame(data: bytes, limit: int) -> bytes:
    """What the first frame in `data` unpacks to. ValueError when it is damaged, cut off, or longer than `limit` bytes."""
    package, own = _package()
    try:
        if own:
            unpacker = package.ZstdDecompressor()
            found = unpacker.decompress(data, limit + 1)
            whole = unpacker.eof
        else:
            with package.ZstdDecompressor().stream_reader(data) as stream:
                found = stream.read(limit + 1)
            whole = package.frame_content_size(data) in (-1, len(found))
    except package.ZstdError as problem:
        raise ValueError(f"damaged zstd data: {problem}") from None
    if len(found) > limit or not whole:
        raise ValueError("unpacks to more than fits" if len(found) > limit else "truncated zstd data")
    return bytes(found)
