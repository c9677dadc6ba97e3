"""Queues of any virtio device: when requests are taken, and when not."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.devices.virtio.test_virtio_blk import DATA, HEADER, NEXT, OUT, SECTOR, STATUS, WRITE, Board


@pytest.fixture
def board() -> Board:
    made = Board()
    assert made.start() == 15
    return made


def test_a_driver_that_never_stops_adding_requests_has_its_turns(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another processor of the guest's does meanwhile."""
    served, serve = [0], board.device.serve

    def and_add(queue: Any, chain: Any) -> None:
        served[0] += 1
        assert served[0] < 10_000, "nobody else had the machine"
        serve(queue, chain)
        board.offer(0, notify=False)

    monkeypatch.setattr(board.device, "serve", and_add)
    struct.pack_into("<IIQ", board.ram.view, HEADER, 99, 0, 0)
    board.describe(0, HEADER, 16, NEXT, 1)
    board.describe(1, STATUS, 1, WRITE)
    board.offer(0)
    first = served[0]
    assert first and len(board.posted) == 1
    board.posted.popleft()()
    assert served[0] > first and len(board.posted) == 1


def test_settling_takes_no_new_requests(board: Board) -> None:
    board.disk.hold = True
    board.ram.view[HEADER : HEADER + 16] = struct.pack("<IIQ", OUT, 0, 0)
    board.describe(0, HEADER, 16, NEXT, 1)
    board.describe(1, DATA, SECTOR, NEXT, 2)
    board.describe(2, STATUS, 1, WRITE)
    board.offer(0)
    board.offer(0, notify=False)
    board.disk.release()
    board.device.settle()
    assert board.used() == (0, 1)
    assert board.used() is None and not board.disk.held
    board.run()
    assert len(board.disk.held) == 1, "it is taken when the machine goes on"
