"""Stream: a running disk's image gets what it has from its backing images, and stands on a lower one, or on none, afterwards."""

from exuvia.disk.chain import layers
from exuvia.disk.filters.copy_on_read import CopyOnRead
from exuvia.disk.format import Format
from exuvia.disk.jobs.job import Job
from exuvia.disk.node import Node
from exuvia.disk.queue import Queue

STEP = 1 << 20  # bytes, a multiple of every cluster's size up to it


class Stream(Job):
    """`queue.node` is the image; `base` is below it and stays below it. `named`: how the image is to call `base`, its own name if None.

    A cancelled job leaves an image that is right, and has what was copied. Raises ValueError for a base that is not below.
    """

    def __init__(self, queue: Queue, base: Format | None = None, named: str | None = None) -> None:
        super().__init__()
        image = queue.node
        if not isinstance(image, Format) or (base is not None and all(layer is not base for layer in layers(image.backing or image))):
            raise ValueError("the base is not among the backing images")
        self.queue, self.image, self.base, self.named = queue, image, base, named
        self.total = image.size

    def run(self) -> None:
        image = self.image
        keeper = CopyOnRead(image, writable=True)
        between = [layer for layer in self._between() if layer is not image]
        cut = min([layer.size for layer in between], default=0) if self.base is not None else self.total
        self.queue.exchange(lambda node: keeper)
        try:
            at = 0
            while at < self.total:
                count = min(STEP, self.total - at)
                if at < cut < at + count:
                    count = cut - at
                # past the end of an image in between, what is below it does not count: zeros are there
                copied = keeper.keep(at, count, self.base, False) if at < cut else keeper.keep(at, count)
                self.advance(count, costly=copied > 0)
                at += count
            image.flush()
            self.queue.exchange(lambda node: self._finish())
        except BaseException:
            self.queue.exchange(lambda node: image)
            raise
        for layer in between:
            close_alone(layer)

    def _between(self) -> list[Node]:
        found = []
        for layer in layers(self.image):
            if layer is self.base:
                break
            found.append(layer)
        return found

    def _finish(self) -> Node:
        base = self.base
        self.image.set_backing((self.named or base.filename) if base else None, base.name if base else None)
        self.image.flush()
        self.image.backing = base
        return self.image


def close_alone(layer: Node) -> None:
    """Close an image that left its chain; those under it stay open."""
    if isinstance(layer, Format):
        layer.backing = None
    layer.close()
