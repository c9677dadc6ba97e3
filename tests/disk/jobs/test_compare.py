"""Comparing against plain bytes."""

import os
import random
from pathlib import Path

import pytest

from exuvia.disk.graph import open_image
from exuvia.disk.jobs.compare import Compare
from tests.disk.jobs.test_copy import Memory, sparse


@pytest.mark.parametrize("seed", range(20))
def test_the_first_sector_that_differs(seed: int) -> None:
    chance = random.Random(seed)
    one = bytearray(sparse(seed, 6 << 20))
    other = bytearray(one)
    places = [chance.randrange(len(one)) for _ in range(seed % 4)]
    for place in places:
        other[place] ^= 1 + chance.randrange(255)
    longer = chance.choice((0, 512, 3 << 20))
    other += bytes(longer)
    job = Compare(Memory(one), Memory(other))
    job.run()
    differing = [at for at in range(0, len(one), 512) if one[at : at + 512] != other[at : at + 512]]
    assert job.differs == (differing[0] if differing else None)
    assert job.past_common == (not differing and longer > 0)


def test_data_past_the_end_of_the_shorter() -> None:
    one = os.urandom(1 << 20)
    job = Compare(Memory(one), Memory(one + bytes(1 << 20) + b"\1" + bytes(511)))
    job.run()
    assert job.differs == 2 << 20 and job.past_common


def test_large_holes_cost_nothing(tmp_path: Path) -> None:
    for name in ("a.raw", "b.raw"):
        (tmp_path / name).write_bytes(b"same")
        os.truncate(tmp_path / name, 1 << 42)
    with open_image(str(tmp_path / "a.raw"), "raw") as one, open_image(str(tmp_path / "b.raw"), "raw") as other:
        job = Compare(one, other, strict=True)
        job.run()
        assert job.differs is None and job.status is None and job.done == 1 << 42
