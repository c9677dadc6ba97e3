"""Reads members out of a Debian package: an `ar` archive that holds a compressed `tar` (deb(5))."""

import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

from exuvia.support.errors import UserError

_GLOBAL, _HEADER = b"!<arch>\n", 60
_Mode = Literal["r|", "r|gz", "r|xz", "r|bz2"]
_MODES: dict[str, _Mode] = {"": "r|", ".gz": "r|gz", ".xz": "r|xz", ".bz2": "r|bz2"}


class _Window:
    """`size` bytes of `file` from `start`, as a file to read."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._left = file, size
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


@contextmanager
def members(package: Path) -> Iterator[tarfile.TarFile]:
    """The archive of the files that the package installs, to read in its order."""
    with package.open("rb") as file:
        if file.read(len(_GLOBAL)) != _GLOBAL:
            raise UserError(f"{package.name} is not a Debian package")
        while len(header := file.read(_HEADER)) == _HEADER and header[58:] == b"`\n":
            name, size = header[:16].decode("ascii", "replace").rstrip(" /"), int(header[48:58])
            start = file.tell()
            if name.startswith("data.tar"):
                with tarfile.open(fileobj=cast(BinaryIO, _Window(file, start, size)), mode=_mode(name)) as archive:
                    yield archive
                return
            file.seek(start + size + size % 2)
    raise UserError(f"{package.name} holds no data.tar")


def _mode(name: str) -> _Mode:
    compression = name.removeprefix("data.tar")
    if compression not in _MODES:
        raise UserError(f"Debian package compressed with {compression.removeprefix('.')}, which is not supported")
    return _MODES[compression]


def extract(package: Path, wanted: Mapping[str, Path]) -> None:
    """Write the members `wanted` (paths without a leading slash) to files; raises UserError when one is missing or damaged."""
    left = dict(wanted)
    try:
        with members(package) as archive:
            for member in archive:
                target = left.pop(member.name.removeprefix("./"), None) if member.isfile() else None
                if target is not None:
                    source = archive.extractfile(member)
                    if source is not None:
                        with target.open("wb") as out:
                            while chunk := source.read(1 << 20):
                                out.write(chunk)
                if not left:
                    return
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise UserError(f"{package.name} is damaged: {error}") from None
    raise UserError(f"{package.name} does not hold {next(iter(left))}")
