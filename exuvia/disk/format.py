"""The base of image formats: what every format says about itself, and what the commands ask of it."""

from __future__ import annotations

import errno
import os
from _thread import RLock, allocate_lock  # threading imports functools

from exuvia.disk.node import Node, Unsupported
from exuvia.disk.options import Option
from exuvia.disk.vector import Buffer, Vector
from exuvia.support.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ClassVar, Self, TypeAlias

Opener: TypeAlias = "Callable[[str, bool], Node]"  # (name as written in the image, writable) -> the protocol node; raises UserError


class Snapshot(Record):
    """An internal snapshot as `exuvia-img snapshot -l` lists it. Sizes in bytes, `seconds` since 1970, `clock` the machine's in ns."""

    id: str
    name: str
    vm_state: int
    seconds: int
    nanoseconds: int
    clock: int
    icount: int | None = None


class Found(Record):
    """What a check found. Numbers of clusters; `end` is the image's end offset in bytes. `messages` are lines for people, in order."""

    corruptions: int = 0
    leaks: int = 0
    corruptions_fixed: int = 0
    leaks_fixed: int = 0
    errors: int = 0  # what kept the check from looking further
    allocated: int | None = None
    total: int | None = None
    compressed: int | None = None
    fragmented: int | None = None
    end: int | None = None
    messages: list[str] = []


class Bitmap(Record):
    """A persistent dirty bitmap: bit n (of byte n//8, from the lowest on) says that the n-th `granularity` bytes were written.

    `enabled`: it records ("auto" in QMP). `in_use`: whoever recorded last did not close it, so what it says is not complete.
    """

    name: str
    granularity: int
    enabled: bool = True
    in_use: bool = False

    def flags(self) -> list[str]:
        """As QMP's Qcow2BitmapInfoFlags lists them."""
        return [*(["in-use"] if self.in_use else []), *(["auto"] if self.enabled else [])]


class Measure(Record):
    """Bytes that a new image's file would need: for the data that there is, and when everything is allocated."""

    required: int
    fully_allocated: int
    bitmaps: int | None = None


class Format(Node):
    """A node that gives a file's bytes meaning. `file` holds it, `backing` what it leaves out.

    A format is opened with `cls(file, writable=..., opener=..., **options)`: it reads its header, checks it, raises ImageError. It does not
    open its backing image: it sets `backing_file` and `backing_format` as they are written inside, and whoever opens it sets `backing`.
    """

    CREATE: ClassVar[tuple[Option, ...]] = ()  # options of creation, as `create` tells them; `size` stands first unless it is here
    suffixes: ClassVar[tuple[str, ...]] = ()  # endings of file names that suggest it
    backing_file: str | None = None
    backing_format: str | None = None
    backing: Node | None = None
    cluster: int | None = None  # bytes, where it has clusters
    encrypted: bool = False  # `info` says so
    compresses: bool | None = None  # whether all that is written is compressed, or nothing ever; None: what is asked for
    guarded: bool = False  # what lies verbatim in the file must be read through the image all the same
    recurse: bool = False  # data may lie on holes of the file, because the format gives room in advance
    dirty: bool | None = False  # not closed cleanly; None: `info` speaks neither of that nor of clusters
    supports_backing: ClassVar[bool] = False  # an image under it may have what it lacks (as CREATE's backing_file says too)
    AMEND: ClassVar[tuple[Option, ...]] = ()  # options that `amend` changes

    def __init__(self, file: Node, *, writable: bool = False, opener: Opener | None = None, **options: Any) -> None:
        self.file, self.writable, self.opener, self.options = file, writable, opener, options
        self.said: dict[str, Any] = {}  # the options as the description has them
        self.filename = file.filename
        self.lock = RLock()  # guards tables
        self.placing = allocate_lock()  # held while room is given, filled and linked: two writers never make the same cluster twice
        self.closed = False
        self.open()

    @classmethod
    def probe(cls, head: bytes, filename: str) -> int:
        """0 to 100: how sure it is that a file that begins with `head` (64 KiB at most) is of this format."""
        return 0

    @classmethod
    def create(cls, file: Node, size: int, options: dict[str, Any], opener: Opener | None = None) -> None:
        """Make an empty image of `size` bytes in `file`, which is empty and writable. `options` has a value for each of CREATE.

        `opener` makes and opens the further files of formats that have several. Raises UserError before anything is written where it can.
        """
        raise Unsupported(f"{file.filename}: {cls.name} images cannot be created")

    @classmethod
    def measure(cls, size: int, options: dict[str, Any], source: Node | None) -> Measure:
        """What `create` and a copy of `source` (or, without one, of nothing) would need."""
        raise Unsupported(f"Block driver '{cls.name}' does not support size measurement")

    def open(self) -> None:
        """Read and check the header; set `size` and whatever there is to know."""
        raise NotImplementedError

    def unlock(self) -> None:
        """See to it that an encrypted image can be read. Raises UserError without its secret."""

    def info(self) -> dict[str, Any]:
        """The `data` of `format-specific` in QMP's ImageInfoSpecific, {} when the format has none."""
        return {}

    def check(self, fix_leaks: bool = False, fix_errors: bool = False) -> Found:
        """Look whether tables make sense, and mend what is asked. Raises Unsupported where a format has nothing to check."""
        raise Unsupported("This image format does not support checks")

    def read_state(self, offset: int, into: Vector) -> None:
        """Fill `into` from the saved state of a machine, which lies behind the disk. Raises Unsupported."""
        raise Unsupported(f"{self.filename}: {self.name} images do not keep the state of a machine")

    def write_state(self, offset: int, data: Buffer) -> None:
        """Write a part of a machine's saved state. Raises Unsupported."""
        raise Unsupported(f"{self.filename}: {self.name} images do not keep the state of a machine")

    def snapshots(self) -> list[Snapshot]:
        """Internal snapshots in the image's order. A format that keeps snapshots defines all five methods of them."""
        return []

    @classmethod
    def can_create(cls) -> bool:
        """Whether `create` is there."""
        return cls.create.__func__ is not Format.create.__func__  # type: ignore[attr-defined]

    @classmethod
    def can_rebase(cls) -> bool:
        """Whether `set_backing` is there."""
        return cls.set_backing is not Format.set_backing

    @classmethod
    def can_compress(cls) -> bool:
        """Whether `write_compressed` is there."""
        return cls.write_compressed is not Format.write_compressed

    @classmethod
    def can_keep_bitmaps(cls) -> bool:
        """Whether images of this format keep dirty bitmaps."""
        return cls.add_bitmap is not Format.add_bitmap

    @classmethod
    def can_snapshot(cls) -> bool:
        """Whether images of this format keep snapshots."""
        return cls.create_snapshot is not Format.create_snapshot

    def create_snapshot(self, snapshot: Snapshot) -> None:
        """Keep what the image holds now; `snapshot.id` is "" and is set by this. Raises OSError(EEXIST), ENOSPC ..."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def apply_snapshot(self, snapshot: Snapshot) -> None:
        """Go back: the image holds what the snapshot holds."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def delete_snapshot(self, snapshot: Snapshot) -> None:
        """Forget one and give up its room."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def show_snapshot(self, snapshot: Snapshot) -> None:
        """From now on this node (opened read-only) reads as the snapshot, `size` with it; the image does not change."""
        raise Unsupported(f"Device '{self.filename}' does not support internal snapshots")

    def bitmaps(self) -> list[Bitmap]:
        """Persistent dirty bitmaps in the image's order. A format that keeps bitmaps defines all of the methods of them."""
        return []

    def add_bitmap(self, bitmap: Bitmap) -> None:
        """A new one, all clear. Raises UserError for a name that is taken or too long and for a granularity that cannot be."""
        raise Unsupported(f"Block format '{self.name}' does not support persistent bitmaps")

    def remove_bitmap(self, name: str) -> None:
        """Forget one, which may be in use."""
        raise Unsupported(f"Block format '{self.name}' does not support persistent bitmaps")

    def read_bitmap(self, name: str) -> bytes:
        """Its bits. (A new image's worth for a 2 TiB disk is 4 MiB at 64 KiB granularity.) Raises UserError where it is in use."""
        raise Unsupported(f"Block format '{self.name}' does not support persistent bitmaps")

    def write_bitmap(self, name: str, bits: Buffer, enabled: bool) -> None:
        """Replace its bits and whether it records. `clear` and `merge` of the commands are done with this."""
        raise Unsupported(f"Block format '{self.name}' does not support persistent bitmaps")

    def amend(self, options: dict[str, Any], force: bool, progress: Callable[[float], None]) -> None:
        """Change properties of an existing image to `options` (those of AMEND that were given); `progress` is told shares of 1."""
        raise Unsupported(f"Format driver '{self.name}' does not support option amendment")

    def set_backing(self, file: str | None, format: str | None) -> None:
        """Write another backing file's name into the image, None for none. `backing` stays as it is."""
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def write_compressed(self, offset: int, data: Buffer) -> None:
        """Write one cluster (less at the end of the image) that was not written before, compressed where that saves room.

        Several threads call this at once, for different units: the work of compressing belongs outside of `lock`.
        """
        raise Unsupported(f"{self.filename}: Compression not supported for this file format")

    def empty(self) -> None:
        """Forget all content, so that everything is ABSENT, as after a commit. A format without this is emptied by `discard`."""
        raise Unsupported(f"{self.filename}: {self.name} images cannot be emptied")

    def __enter__(self) -> Self:
        return self

    def finish(self) -> None:
        """Called once by `close` where it can be written: flush, and say in the file that it was left in order."""
        self.flush()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        first: BaseException | None = None
        for step in (*([self.finish] if self.writable else ()), *(child.close for _, child in self.children())):
            try:
                step()
            except BaseException as error:
                if isinstance(error, OSError):
                    error.filename = error.filename or self.filename
                first = first or error
        if first is not None:
            raise first

    def children(self) -> Iterator[tuple[str, Node]]:
        yield "file", self.file
        if self.backing is not None:
            yield "backing", self.backing
