"""vvfat: a folder of the host, read as a disk with a FAT file system: `fat:FOLDER`, `fat:floppy:FOLDER`, `fat:32:FOLDER`.

Folders and tables are made when it is opened; what files hold is read from the host when it is asked for. It cannot be written.
"""

import bisect
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from exuvia.disk.node import Extent, Kind, Node
from exuvia.disk.options import Option
from exuvia.disk.protocols.vvfat import names
from exuvia.disk.protocols.vvfat.layout import MOST_SECTORS, ROOT_ENTRIES, SECTOR, layout
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError

LARGEST = (1 << 32) - 1  # bytes of a file
DEEPEST = 64  # folders in folders


@dataclass
class Item:
    """A file or folder: `inside` for a folder. Its content is `size` bytes from `cluster` on."""

    path: str
    long: str
    short: bytes
    seconds: float
    size: int = 0
    read_only: bool = False
    inside: "list[Item] | None" = None
    cluster: int = 0
    clusters: int = 0


@dataclass
class Area:
    """`length` bytes of the disk from `start` on: `content`, or what the file at `path` holds."""

    start: int
    length: int
    content: bytes = b""
    path: str = field(default="")


class Vvfat(Node):
    """Raises UserError where the folder cannot be read or does not fit."""

    name = "vvfat"
    schemes = ("fat",)
    OPTIONS = (
        Option("dir", str, None, "the folder"),
        Option("fat-type", int, 0, "12, 16 or 32; 0 takes what fits"),
        Option("floppy", bool, False, "a floppy of 2.88 MB, without partitions"),
        Option("label", str, "QEMU VVFAT", "the volume's name, 11 letters at most"),
        Option("rw", bool, False, "accept writes, which this driver does not"),
    )

    @staticmethod
    def describe(name: str) -> dict[str, Any]:
        """`fat:[32:|16:|12:][floppy:][rw:]FOLDER`, the words in any order."""
        said: dict[str, Any] = {"driver": "vvfat"}
        rest = name.removeprefix("fat:")
        while True:
            word, colon, after = rest.partition(":")
            if not colon or word not in ("12", "16", "32", "floppy", "rw"):
                return {**said, "dir": rest}
            said.update({"fat-type": int(word)} if word.isdigit() else {word: True})
            rest = after

    def __init__(
        self,
        dir: str = "",
        *,
        floppy: bool = False,
        label: str = "QEMU VVFAT",
        rw: bool = False,
        writable: bool = False,
        share: bool = False,
        **said: Any,
    ) -> None:
        self.filename = f"fat:{dir}"
        kind = said.get("fat-type", 0)
        if rw or writable:
            raise UserError(f"Could not open '{self.filename}': a folder as a FAT disk can only be read")
        if kind not in (0, 12, 16, 32):
            raise UserError(f"Could not open '{self.filename}': Valid FAT types are only 12, 16 and 32")
        if floppy and kind == 32:
            raise UserError(f"Could not open '{self.filename}': a floppy is too small for FAT32, write fat-type 12 or 16")
        try:
            self.label = label.encode("ascii").ljust(11)
        except UnicodeError:
            self.label = b""
        if len(self.label) != 11:
            raise UserError(f"Could not open '{self.filename}': vvfat label '{label}' should be 11 ASCII letters at most")
        if not os.path.isdir(dir):
            raise UserError(f"Could not open '{self.filename}': {dir} is {'no folder' if os.path.exists(dir) else 'not there'}")
        try:
            inside = self._look(dir, ())
        except OSError as error:
            raise UserError(f"Could not open '{self.filename}': {error.filename}: {error.strerror}") from None
        self._make(inside, kind, floppy)
        self._starts = [area.start for area in self.areas]
        self.size = self.layout.total * SECTOR

    def _look(self, folder: str, above: tuple[tuple[int, int], ...]) -> list[Item]:
        """What is in a folder, links followed; what is neither file nor folder is left out, and so are links to a folder around it."""
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            return []
        if len(above) >= DEEPEST:
            raise UserError(f"Could not open '{self.filename}': more than {DEEPEST} folders stand in one another: {folder}")
        taken, found = names.Names(), []
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            try:
                status = os.stat(path)
            except FileNotFoundError:  # a link to nowhere
                continue
            if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
                continue
            item = Item(path, *taken.add(name), status.st_mtime, read_only=not status.st_mode & 0o200)
            if stat.S_ISDIR(status.st_mode):
                item.inside = self._look(path, (*above, here))
            elif status.st_size > LARGEST:
                raise UserError(f"Could not open '{self.filename}': {path} is larger than a FAT file can be (4 GiB)")
            else:
                item.size = status.st_size
            found.append(item)
        return found

    # --- making

    def _make(self, root: list[Item], kind: int, floppy: bool) -> None:
        """Tables and folders of the smallest kind that was asked for, or that fits."""
        top = names.SIZE + sum(names.length(item.long) for item in root)
        for candidate in [kind] if kind else [12, 16] if floppy else [16, 32]:
            need = top + sum(self._measure(item, 64 * SECTOR) for item in root)
            self.layout = place = layout(candidate, floppy, need)
            size = place.spc * SECTOR
            next = 2 + (-(-top // size) if candidate == 32 else 0)
            chains = [(2, next - 2)] if candidate == 32 else []
            for item in self._all(root):
                length = item.size if item.inside is None else self._folder_size(item.inside)
                item.clusters = -(-length // size)
                item.cluster = next if item.clusters else 0
                if item.clusters:
                    chains.append((next, item.clusters))
                next += item.clusters
            if next - 2 <= place.clusters and (candidate == 32 or top <= ROOT_ENTRIES * names.SIZE) and place.total <= MOST_SECTORS:
                break
        else:
            if candidate != 32 and top > ROOT_ENTRIES * names.SIZE:
                reason = f"more names in the folder than a FAT{candidate} can have at the top"
            else:
                reason = f"Directory does not fit in FAT{candidate} (capacity {place.clusters * size / 1e6:.2f} MB)"
            raise UserError(f"Could not open '{self.filename}': {reason}")
        table = place.table(chains)
        self.areas = [Area(at, len(data), data) for at, data in place.boot(self.label, next - 2)]
        self.areas += [Area(at, len(table), table) for at in place.fats]
        label = names.entry(self.label, names.LABEL, 0, 0, os.stat(self.filename[4:]).st_mtime)
        content = label + self._entries(root)
        self.areas.append(Area(place.at(2) if candidate == 32 else place.root_at, len(content), content))
        for item, parent in self._folders(root, 0):
            assert item.inside is not None
            content = (
                names.entry(b".          ", names.DIRECTORY, item.cluster, 0, item.seconds)
                + names.entry(b"..         ", names.DIRECTORY, parent, 0, item.seconds)
                + self._entries(item.inside)
            )
            self.areas.append(Area(place.at(item.cluster), len(content), content))
        for item in self._all(root):
            if item.inside is None and item.size:
                self.areas.append(Area(place.at(item.cluster), item.size, path=item.path))
        self.areas.sort(key=lambda area: area.start)

    def _measure(self, item: Item, cluster: int) -> int:
        """Bytes that it takes with what is in it, in clusters of `cluster` bytes."""
        own = item.size if item.inside is None else self._folder_size(item.inside)
        return own + -own % cluster + sum(self._measure(each, cluster) for each in item.inside or ())

    def _folder_size(self, inside: list[Item]) -> int:
        return 2 * names.SIZE + sum(names.length(item.long) for item in inside)

    def _all(self, items: list[Item]) -> Iterator[Item]:
        for item in items:
            yield item
            yield from self._all(item.inside or [])

    def _folders(self, items: list[Item], parent: int) -> Iterator[tuple[Item, int]]:
        for item in items:
            if item.inside is not None:
                yield item, parent
                yield from self._folders(item.inside, item.cluster)

    def _entries(self, items: list[Item]) -> bytes:
        return b"".join(
            names.entries(
                item.long,
                item.short,
                names.DIRECTORY if item.inside is not None else names.READ_ONLY if item.read_only else 0x20,
                item.cluster,
                item.size,
                item.seconds,
            )
            for item in items
        )

    # --- reading

    def _under(self, offset: int, length: int) -> Iterator[tuple[Area | None, int, int]]:
        """(area or nothing, offset in it, bytes) from `offset` on."""
        end = offset + length
        number = max(bisect.bisect_right(self._starts, offset) - 1, 0)
        while offset < end:
            area = self.areas[number] if number < len(self.areas) else None
            if area is not None and offset >= area.start + area.length:
                number += 1
                continue
            if area is None or offset < area.start:
                count = (end if area is None else min(end, area.start)) - offset
                yield None, 0, count
            else:
                count = min(end, area.start + area.length) - offset
                yield area, offset - area.start, count
            offset += count

    def readv(self, offset: int, into: Vector) -> None:
        at = 0
        for area, start, count in self._under(offset, into.length):
            part = into.slice(at, count)
            if area is None:
                part.clear()
            elif area.path:
                self._read_file(area.path, start, part)
            else:
                part.scatter(area.content[start : start + count])
            at += count

    def _read_file(self, path: str, offset: int, into: Vector) -> None:
        """A file that became shorter meanwhile reads as zeros there."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for part in into:
                done = 0
                while done < len(part) and (count := os.preadv(fd, [part[done:]], offset)):
                    done += count
                    offset += count
                part[done:] = bytes(len(part) - done)
        finally:
            os.close(fd)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        for area, _, count in self._under(offset, length):
            yield Extent(Kind.ZERO, count) if area is None else Extent(Kind.DATA, count, offset, self)
            offset += count
