"""The disks of one run: opened from the configuration, handed to devices by id, closed together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from exuvia.machines.config import DriveConfig
from exuvia.support.errors import UserError

if TYPE_CHECKING:
    from exuvia.disk.format import Format
    from exuvia.disk.queue import Completion


class Drive:
    """A disk as devices use it: an open image behind a queue. See `Drive` of devices/virtio/virtio_blk.py."""

    def __init__(self, id: str, image: "Format", *, discard: bool, writeback: bool) -> None:
        from exuvia.disk.queue import Queue

        self.id, self.gives_up, self.writeback = id, discard, writeback
        self.queue = Queue(image)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.queue.node.size

    @property
    def read_only(self) -> bool:
        """Whether writes fail."""
        return not self.queue.node.writable

    @property
    def cluster(self) -> int:
        """Bytes that the image keeps together."""
        return getattr(self.queue.node, "cluster", None) or 512

    def read(self, offset: int, into: Sequence[memoryview]) -> "Completion":
        """Fill `into`."""
        from exuvia.disk.vector import Vector

        return self.queue.read(offset, Vector(into))

    def write(self, offset: int, data: Sequence[memoryview], through: bool) -> "Completion":
        """Write `data`, and flush it when it goes `through`."""
        from exuvia.disk.vector import Vector

        return self.queue.write(offset, Vector(data), through)

    def flush(self) -> "Completion":
        """Make completed writes safe."""
        return self.queue.flush()

    def discard(self, offset: int, length: int) -> "Completion":
        """Give bytes up, where that is wanted."""
        return self.queue.discard(offset, length if self.gives_up else 0)

    def zero(self, offset: int, length: int, unmap: bool, through: bool) -> "Completion":
        """Make bytes read as zeros."""
        return self.queue.zero(offset, length, unmap and self.gives_up, through)

    def close(self) -> None:
        """Finish what is under way; everything is in the image then."""
        self.queue.close()
        self.queue.node.close()


class Drives(Mapping[str, Drive]):
    """`with Drives(configs):` the disks by id. A look-up is a use: a disk has one user. UserError when an image cannot be opened."""

    def __init__(self, configs: Iterable[DriveConfig]) -> None:
        self._configs = list(configs)
        self._drives: dict[str, Drive] = {}
        self._used: set[str] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            for config in self._configs:
                if config.id in self._drives:
                    raise UserError(f"{config.option}: there is a drive '{config.id}' already")
                try:
                    self._open(config)
                except UserError as error:
                    raise UserError(f"{config.option}: {error}") from None
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _open(self, config: DriveConfig) -> None:
        from exuvia.cli.img.opening import open_named
        from exuvia.cli.overlay import overlay

        said = None if isinstance(config.image, str) else dict(config.image)
        writable = not config.read_only and not config.snapshot
        name = config.image if isinstance(config.image, str) else config.id
        image = open_named(name, config.format, described=said or False, writable=writable, cache=config.cache)
        try:
            if config.snapshot and not config.read_only:
                image = overlay(image)
            if not image.size:
                raise UserError(f"{image.filename} is empty")
        except BaseException:
            image.close()
            raise
        writeback = config.cache not in ("writethrough", "directsync")
        drive = Drive(config.id, image, discard=config.discard, writeback=writeback)
        self._stack.callback(drive.close)
        self._drives[config.id] = drive

    def __getitem__(self, id: str) -> Drive:
        """The disk for its user; raises UserError when it has one already."""
        drive = self._drives[id]
        if id in self._used:
            raise UserError(f"drive '{id}' is in use by another device")
        self._used.add(id)
        return drive

    def __contains__(self, id: object) -> bool:
        return id in self._drives

    def __iter__(self) -> Iterator[str]:
        return iter(self._drives)

    def __len__(self) -> int:
        return len(self._drives)
