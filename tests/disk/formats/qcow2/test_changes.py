"""Power cuts in the middle of what changes an image as a whole: snapshots, sizes, bitmaps, names, widths."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from exuvia.disk.format import Bitmap, Snapshot
from exuvia.disk.formats.qcow2.qcow2 import Qcow2
from tests.disk.formats.interchange import create
from tests.disk.powercut import PowerCut

SIZE = 1 << 20
CHANGES: dict[str, tuple[Callable[[Qcow2], Any], Callable[[bytes, bytes], bytes]]] = {
    "create": (lambda node: node.create_snapshot(Snapshot("", "two", 0, 0, 0, 0)), lambda now, base: now),
    "apply": (lambda node: node.apply_snapshot(node.snapshots()[0]), lambda now, base: base),
    "delete": (lambda node: node.delete_snapshot(node.snapshots()[0]), lambda now, base: now),
    "grow": (lambda node: node.resize(40 * SIZE), lambda now, base: now + bytes(39 * SIZE)),
    "shrink": (lambda node: node.resize(SIZE // 2), lambda now, base: now[: SIZE // 2]),
    "add a bitmap": (lambda node: node.add_bitmap(Bitmap("c", 512)), lambda now, base: now),
    "remove a bitmap": (lambda node: node.remove_bitmap("b"), lambda now, base: now),
    "backing file": (lambda node: node.set_backing("other", "raw"), lambda now, base: now),
    "width": (lambda node: node.amend({"refcount_bits": 64}, False, lambda share: None), lambda now, base: now),
    "empty": (lambda node: node.empty(), lambda now, base: bytes(SIZE)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("given", [{"cluster_size": 512}, {}, {"cluster_size": 16384, "extended_l2": True}])
def test_power_cuts(change: str, given: dict[str, Any]) -> None:
    act, outcome = CHANGES[change]
    for seed in range(3):
        rng = random.Random(seed)
        disk = PowerCut()
        create("qcow2", disk, SIZE, given)
        node = Qcow2(disk, writable=True)

        def fill(node: Qcow2 = node, rng: random.Random = rng) -> None:
            for _ in range(10):
                at = rng.randrange(SIZE // 512) * 512
                node.write(at, rng.randbytes(min(rng.choice((512, 4096, 70_000)), SIZE - at)))

        fill()
        node.create_snapshot(Snapshot("", "base", 0, 0, 0, 0))
        base = node.read(0, SIZE)
        fill()
        node.add_bitmap(Bitmap("b", 4096))
        node.flush()
        before = node.read(0, SIZE)
        after = outcome(before, base)
        left: list[bytes] = []

        def look(left: list[bytes] = left, disk: PowerCut = disk, rng: random.Random = rng) -> None:
            if rng.random() < 0.4:
                left.append(disk.disk(rng))

        disk.before = look
        act(node)
        disk.before = lambda: None
        left.append(disk.disk(rng))
        for content in left:
            _sound(content, {before, after}, base)


def _sound(content: bytes, allowed: set[bytes], base: bytes) -> None:
    """It opens, holds the one or the other, the snapshot too; check finds leaks at worst, at once or after the next writer."""
    node = Qcow2(PowerCut(content))
    now = node.read(0, node.size)
    assert now in allowed
    for snapshot in node.snapshots():
        if snapshot.name == "base":
            node.show_snapshot(snapshot)
            assert node.read(0, SIZE) == base
    node = Qcow2(PowerCut(content), writable=True)
    found = node.check()
    assert not found.corruptions or node.dirty, found.messages
    node.write(0, b"on")
    found = node.check()
    assert not found.corruptions
    assert node.read(0, node.size) == b"on" + now[2:]
