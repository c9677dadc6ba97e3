"""Live commit: images in the middle of a running disk's chain go into a lower one. (The top itself: `mirror.ActiveCommit`.)"""

from exuvia.disk.chain import layers
from exuvia.disk.format import Format
from exuvia.disk.jobs.commit import Commit
from exuvia.disk.jobs.stream import close_alone
from exuvia.disk.node import Node
from exuvia.disk.queue import Queue


class LiveCommit(Commit):
    """`top` and `base`, which is writable, are below the disk's image. `named`: how the image over `top` is to call `base`.

    The disk reads the same at every moment: what goes into `base` is hidden by where it comes from. Raises ValueError for a wrong chain.
    """

    def __init__(self, queue: Queue, top: Format, base: Format, named: str | None = None) -> None:
        chain = list(layers(queue.node))
        places = [next((at for at, layer in enumerate(chain) if layer is each), -1) for each in (top, base)]
        if not 0 < places[0] < places[1]:
            raise ValueError("top is below the disk's image and above base")
        if not base.writable:
            raise ValueError(f"{base.filename}: the base is not open for writing")
        super().__init__(top, base)
        self.queue, self.named = queue, named
        self.above, self.gone = chain[places[0] - 1], chain[places[0] : places[1]]

    def run(self) -> None:
        super().run()
        self.queue.exchange(self._finish)
        for layer in self.gone:
            close_alone(layer)

    def _finish(self, node: Node) -> Node:
        assert isinstance(self.above, Format)
        self.above.set_backing(self.named or self.base.filename, self.base.name)
        self.above.flush()
        self.above.backing = self.base
        return node
