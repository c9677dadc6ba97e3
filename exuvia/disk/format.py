"""The base of image formats: what every format says about itself, and what the commands ask of it."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from exuvia.disk.node import Node, Unsupported
from exuvia.disk.options import Option

Opener = Callable[[str, bool], Node]  # (name as written in the image, writable) -> the protocol node; raises UserError


@dataclass
class Snapshot:
    """An internal snapshot as `exuvia-img snapshot -l` lists it. Sizes in bytes, `seconds` since 1970, `clock` the machine's in ns."""

    id: str
    name: str
    vm_state: int
    seconds: int
    nanoseconds: int
    clock: int
    icount: int | None = None


@dataclass
class Found:
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
    messages: list[str] = field(default_factory=list)


@dataclass
class Measure:
    """Bytes that a new image's file would need: for the data that there is, and when everything is allocated."""

    required: int
    fully_allocated: int
    bitmaps: int | None = None


class Format(Node):
    """A node that gives a file's bytes meaning. `file` holds it, `backing` what it leaves out.

    A format is opened with `cls(file, writable=..., opener=..., **options)`: it reads its header, checks it, raises ImageError. It does not
    open its backing image: it sets `backing_file` and `backing_format` as they are written inside, and whoever opens it sets `backing`.
    """

    CREATE: ClassVar[tuple[Option, ...]] = ()  # options of creation, beside the size
    suffixes: ClassVar[tuple[str, ...]] = ()  # endings of file names that suggest it
    backing_file: str | None = None
    backing_format: str | None = None
    backing: Node | None = None
    cluster: int | None = None  # bytes, where it has clusters

    def __init__(self, file: Node, *, writable: bool = False, opener: Opener | None = None, **options: Any) -> None:
        self.file, self.writable, self.opener, self.options = file, writable, opener, options
        self.filename = file.filename
        self.lock = threading.RLock()  # guards tables
        self.placing = threading.Lock()  # held while room is given, filled and linked: two writers never make the same cluster twice
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
        raise Unsupported(f"Format driver '{cls.name}' does not support measuring size")

    def open(self) -> None:
        """Read and check the header; set `size` and whatever there is to know."""
        raise NotImplementedError

    def info(self) -> dict[str, Any]:
        """The `data` of `format-specific` in QMP's ImageInfoSpecific, {} when the format has none."""
        return {}

    def check(self, fix_leaks: bool = False, fix_errors: bool = False) -> Found:
        """Look whether tables make sense, and mend what is asked. Raises Unsupported where a format has nothing to check."""
        raise Unsupported("This image format does not support checks")

    def snapshots(self) -> list[Snapshot]:
        """Internal snapshots in the image's order."""
        return []

    def close(self) -> None:
        if not self.closed:
            try:
                if self.writable:
                    self.flush()
            finally:
                self.closed = True
                for _, child in self.children():
                    child.close()

    def children(self) -> Iterator[tuple[str, Node]]:
        yield "file", self.file
        if self.backing is not None:
            yield "backing", self.backing
