"""Parts of L2 tables at once, against the same entry by entry."""

import random
from array import array

import pytest

from exuvia.disk.format import Snapshot
from exuvia.disk.formats.qcow2.check import Check
from exuvia.disk.formats.qcow2.counts import LARGEST, Counts
from exuvia.disk.formats.qcow2.digits import MANY, changes, every, joined, marked
from exuvia.disk.formats.qcow2.qcow2 import Qcow2
from exuvia.disk.formats.qcow2.refcounts import big_endian
from exuvia.disk.formats.qcow2.rows import ALL, COMPRESSED, COPIED, L2_RESERVED, OFFSET, ZERO, same, starts, units
from tests.disk.powercut import PowerCut

BITS = 16
SIZE = 1 << BITS
UNSOUND = L2_RESERVED | OFFSET & SIZE - 1


def table(seed: int, count: int, odd: int = 0) -> list[int]:
    """Runs of all kinds, in random order; of `odd` entries random words."""
    rng, found = random.Random(seed), list[int]()
    while len(found) < count:
        host, length = rng.randrange(1, 1 << 30) << BITS, rng.choice((1, 1, 1, 2, 5, 40))
        flags = rng.choice((COPIED, COPIED, 0))
        zero = [rng.choice((ZERO, host | COPIED | ZERO))] * length
        packed = [COMPRESSED | rng.getrandbits(62) for _ in range(length)]
        found += rng.choice(([0] * length, [host + at * SIZE | flags for at in range(length)], zero, packed))
    for _ in range(odd):
        found[rng.randrange(count)] = rng.getrandbits(64)
    return found[:count]


def packed(entries: list[int]) -> bytearray:
    return bytearray(big_endian(array("Q", entries)).tobytes())


def goes_on(before: int, entry: int, seen: int = ALL) -> bool:
    """Whether an entry is of the extent of the one before it."""
    if before & entry & COMPRESSED:
        return True
    return not (before | entry) & COMPRESSED and entry & seen == (before & seen) + (SIZE if before & OFFSET else 0)


@pytest.mark.parametrize("count", [1, 2, 511, 512, 700, MANY])
@pytest.mark.parametrize("seen", [ALL, OFFSET | ZERO | COMPRESSED])
def test_starts_of_extents(count: int, seen: int) -> None:
    for seed in range(5):
        entries = table(seed, count)
        begins, there, sound = starts(packed(entries), BITS, UNSOUND, seen)
        wanted = [at for at in range(count) if not at or not goes_on(entries[at - 1], entries[at], seen)]
        assert (begins, sound) == (wanted, True)
        assert there == [COMPRESSED if entries[at] & COMPRESSED else entries[at] for at in wanted]
        run = wanted[1] if len(wanted) > 1 else count
        if seen == ALL:
            assert same(packed(entries), entries[0], SIZE if entries[0] & OFFSET and not entries[0] & COMPRESSED else 0) == run


def test_what_is_unsound_is_told() -> None:
    for at, entry in ((0, 1 << 57), (300, 2), (511, 3 * SIZE + 512), (44, L2_RESERVED | COPIED | SIZE)):
        entries = table(1, 512)
        entries[at] = entry
        assert not starts(packed(entries), BITS, UNSOUND)[2]
        assert units(bytes(packed([0] * at + [entry] + [SIZE] * 20)), UNSOUND, 1) is None
    assert units(bytes(packed([0, COMPRESSED | 5])), UNSOUND, 1) is None


@pytest.mark.parametrize("each", [1, 2, 16, 512])
def test_units_that_have_data(each: int) -> None:
    for seed in range(5):
        entries = [0 if entry & COMPRESSED else entry for entry in table(seed, 1000)]
        has = [bool(entry & OFFSET) and not entry & ZERO for entry in entries]
        assert units(bytes(packed(entries)), UNSOUND, each) == sum(any(has[at : at + each]) for at in range(0, len(has), each))


def test_digits() -> None:
    rng = random.Random(3)
    words = [rng.choice((0, 1, 1 << 63, rng.getrandbits(64))) for _ in range(700)]
    number = joined(packed(words))
    assert [*map(bool, marked(number, 700))] == [*map(bool, words)]
    words = [at * 3 + (at > 9) for at in range(600)]
    assert changes(joined(packed(words)), every(3, 600), 600) >> 64 * 589 == words[10] ^ words[9] + 3


def test_counts_that_fill_a_byte() -> None:
    for clusters in (100, 1 << 30):
        counts = Counts(clusters)
        for _ in range(300):
            counts.add_each(array("Q", (7, 8, 7)))
        counts.add(0, 80)
        assert [counts.get(at) for at in (6, 7, 8, 79, 80)] == [1, 601, 301, 1, 0]
        assert counts.part(6, 3) == bytes((1, 255, 255))
        assert not counts.single()


def test_counts_against_a_list() -> None:
    """A chunk, several, few clusters of one and many; runs across the edge of chunks."""
    rng = random.Random(4)
    for clusters, runs in ((70_000, 40), (LARGEST + 5, 40), (LARGEST + 5, 4000)):
        counts, wanted = Counts(clusters), dict[int, int]()
        for _ in range(runs):
            first, length = rng.choice((rng.randrange(69_000), 65_500)), rng.choice((1, 1, 2, 600))
            counts.add(first, length)
            each = array("Q", (rng.randrange(70_000) for _ in range(3)))
            counts.add_each(each)
            for at in (*range(first, first + length), *each):
                wanted[at] = wanted.get(at, 0) + 1
        assert counts.part(0, 70_001) == bytes(min(wanted.get(at, 0), 255) for at in range(70_001))
        assert [counts.get(at) for at in wanted] == [*wanted.values()]
        assert counts.end() == max(wanted) + 1
        assert counts.single() == (max(wanted.values()) == 1)


def test_clusters_far_apart_take_little_memory() -> None:
    counts = Counts(1 << 40)
    for at in range(10_000):
        counts.add(at << 26, 2)
    assert len(counts.chunks) == 0
    assert counts.end() == (9999 << 26) + 2


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_check_finds_the_same_at_once_as_entry_by_entry(monkeypatch: pytest.MonkeyPatch, snapshot: bool) -> None:
    """Of tables that no writer would make: clusters in any order, used twice, frozen, zero, outside of the file."""
    for seed in range(12):
        rng, disk = random.Random(seed), PowerCut()
        Qcow2.create(disk, 64 << 20, {option.name: option.default for option in Qcow2.CREATE} | {"cluster_size": 4096})
        with Qcow2(disk, writable=True) as image:
            for number in range(300):
                if snapshot and number == 200:
                    image.create_snapshot(Snapshot("", "s", 0, 0, 0, 0))
                image.write(rng.randrange(64 << 8) * 4096, b"x")
            if seed % 3 == 0:
                image.zero(1 << 20, 5 << 20)
        with Qcow2(disk) as image:
            for number in rng.sample(range(len(image.map.l1)), seed % 4):
                if table := image.map.table(number):
                    cluster = rng.choice((rng.randrange(400), 1 << 20)) << 12
                    entry = cluster | rng.choice((0, COPIED)) | rng.choice((0, 0, ZERO, 512))
                    disk.write(table + rng.randrange(512) * 8, entry.to_bytes(8, "big"))
        found = []
        for at_once in (Check.at_once, lambda check, part, active: False):
            monkeypatch.setattr(Check, "at_once", at_once)
            with Qcow2(disk) as image:
                result = image.check()
            found.append([getattr(result, field) for field in result.FIELDS])
        assert found[0] == found[1]
