"""Files that a boot option names, read with clear errors and never more of them than fits."""

from __future__ import annotations

import os
import stat

from exuvia.boot.layout import MIB
from exuvia.support import deflate
from exuvia.support.errors import UserError


def read_image(option: str, path: str, limit: int) -> bytes:
    """The whole of the regular file `path`. UserError when it cannot be read, or is longer than `limit` bytes (the RAM it must fit in)."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{option} {path}: not a regular file")
            if status.st_size > limit:
                raise UserError(
                    f"{option} {path}: {status.st_size / MIB:.1f} MiB do not fit into the {limit / MIB:.1f} MiB of memory available for it"
                )
            return file.read(limit + 1)[:limit]
    except OSError as error:
        raise UserError(f"{option} {path}: {error.strerror}") from None


def must_be_readable(option: str, path: str) -> None:
    """UserError when a file that the user named cannot be opened: said before anything is built."""
    try:
        open(path, "rb").close()
    except OSError as error:
        raise UserError(f"{option} {path}: {error.strerror}") from None


def gunzip(option: str, path: str, data: bytes, limit: int) -> bytes:
    """`data` itself, or what it unpacks to when it is a gzip file. UserError when it is damaged or unpacks to more than `limit` bytes."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        unpacked, whole = deflate.stream(data, limit, deflate.GZIP)
    except ValueError:
        raise UserError(f"{option} {path}: damaged gzip data") from None
    if not whole:
        raise UserError(
            f"{option} {path}: " + ("unpacks to more than fits into memory" if len(unpacked) == limit else "truncated gzip data")
        )
    return unpacked
