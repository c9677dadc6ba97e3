"""An initial RAM disk with programs of Debian's packages: a `cpio` archive (Linux's initramfs buffer format) that follows a guest's own.

Packages come by apt-get, which checks them against Debian's signed lists, and stay in the cache of guests.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from exuvia.guests import cache, deb, source

UNWANTED = ("./usr/share/", "./usr/lib/x86_64-linux-gnu/gconv/"), ".a"
"""How names begin and end that no program here reads."""


def packages(names: Sequence[str]) -> dict[str, Path]:
    """The packages' files, by name: the newest that the cache has, or else the one that apt-get finds. Raises UserError."""
    folder = cache.root() / "packages"
    folder.mkdir(parents=True, exist_ok=True)
    if missing := [name for name in names if not list(folder.glob(f"{name}_*.deb"))]:
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            source.apt_get(", ".join(missing), [f"{name}:amd64" for name in missing], Path(fresh))
            for path in Path(fresh).glob("*.deb"):
                path.rename(folder / path.name)
    return {name: max(folder.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime) for name in names}


def version(package: Path) -> str:
    """The version of a package, from its file's name."""
    return unquote(package.name.split("_")[1])


class Archive:
    """A cpio archive in the making, behind another; names are relative to the root. Folders that a name needs are made with it."""

    def __init__(self, other: bytes = b"") -> None:
        self.data = bytearray(other + bytes(-len(other) % 4))
        self.made: set[str] = set()

    def add(self, name: str, mode: int, content: bytes = b"") -> None:
        """One entry. A name that is there already stays as it is."""
        if name in self.made:
            return
        if "/" in name:
            self.add(name.rpartition("/")[0], 0o40755)
        self.made.add(name)
        self._entry(name, mode, content)

    def _entry(self, name: str, mode: int, content: bytes) -> None:
        path = name.encode() + b"\0"
        fields = [len(self.made), mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0]
        self.data += b"070701" + "".join(f"{field:08X}" for field in fields).encode() + path
        self.data += bytes(-len(self.data) % 4)
        self.data += content + bytes(-len(content) % 4)

    def unpack(self, package: Path) -> None:
        """Everything of a Debian package but what only people read. /lib and the like are links into /usr, as Debian has them."""
        with deb.members(package) as archive:
            for member in archive:
                unwanted = member.name.startswith(UNWANTED[0]) or member.name.endswith(UNWANTED[1])
                if not unwanted and (member.isfile() or member.issym() or member.islnk()):
                    self.add(_merged(member.name), *_content(archive, member))

    def end(self) -> bytes:
        """The archive, whole."""
        self._entry("TRAILER!!!", 0, b"")
        return bytes(self.data) + bytes(-len(self.data) % 512)


def _merged(name: str) -> str:
    plain = name.removeprefix("./")
    return f"usr/{plain}" if plain.split("/")[0] in ("bin", "sbin", "lib", "lib64") else plain


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[int, bytes]:
    if member.issym():
        return 0o120777, member.linkname.encode()
    if member.islnk():  # a second name of a file, as a link
        return 0o120777, f"/{_merged(member.linkname)}".encode()
    file = archive.extractfile(member)
    assert file is not None
    return 0o100000 | member.mode & 0o777, file.read()
