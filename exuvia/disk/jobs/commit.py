"""Commit: what an image and those between it and a base hold more than the base goes into the base."""

from exuvia.disk.chain import stretches
from exuvia.disk.format import Format
from exuvia.disk.jobs.job import Job
from exuvia.disk.node import CHUNK, Kind
from exuvia.disk.vector import Vector


class Commit(Job):
    """`base`, which is writable, is in the chain under `top`. It grows where it is shorter. `top` stays as it is."""

    def __init__(self, top: Format, base: Format) -> None:
        super().__init__()
        self.top, self.base = top, base
        self.total = top.size

    def run(self) -> None:
        if self.base.size < self.top.size:
            self.base.resize(self.top.size)
        buffer = bytearray(CHUNK)
        for start, end, kind in stretches(self.top, 0, self.top.size, self.base):
            if kind is Kind.ABSENT:
                self.advance(end - start, costly=False)
            elif kind is Kind.ZERO:
                self.base.zero(start, end - start)
                self.advance(end - start, costly=False)
            else:
                for at in range(start, end, CHUNK):
                    part = Vector((memoryview(buffer)[: min(CHUNK, end - at)],))
                    self.top.readv(at, part)
                    self.base.writev(at, part)
                    self.advance(part.length)
        self.base.flush()


def make_empty(image: Format) -> None:
    """Let the image hold nothing of its own, after a commit. Raises UserError, OSError."""
    image.empty()
    image.flush()
