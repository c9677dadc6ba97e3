"""Filters in descriptions: what stands behind them stays visible, errors come where rules want them."""

import errno
import json
import random
import threading
import time
from pathlib import Path

import pytest

from exuvia.disk.filters.blkdebug import BlkDebug, find
from exuvia.disk.filters.copy_on_read import CopyOnRead
from exuvia.disk.formats.raw import Raw
from exuvia.disk.graph import FORMATS, open_image
from exuvia.disk.node import Kind
from exuvia.disk.options import values
from exuvia.disk.queue import Queue
from exuvia.disk.ranges import Ranges
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError
from tests.disk.powercut import PowerCut

MIB = 1 << 20


def raw(path: Path, content: bytes) -> dict[str, object]:
    path.write_bytes(content)
    return {"driver": "raw", "file": {"driver": "file", "filename": str(path)}}


@pytest.mark.parametrize("filter", ["copy-on-read", "throttle", "blkdebug"])
def test_a_filter_passes_everything(filter: str, tmp_path: Path) -> None:
    role = {"blkdebug": "image"}.get(filter, "file")
    said = {"driver": filter, role: raw(tmp_path / "disk", b"a" * MIB)}
    if filter == "throttle":
        from exuvia.disk import objects

        objects.define("throttle-group,id=free")
        said["throttle-group"] = "free"
    try:
        with open_image(said, writable=True) as node:
            assert node.name == filter and node.size == MIB
            node.write(10, b"xyz")
            node.zero(4096, 4096)
            assert node.read(8, 7) == b"aaxyzaa"
            assert {extent.kind for extent in node.extents(0, MIB)} <= {Kind.DATA, Kind.ZERO}
            node.resize(2 * MIB)
            assert node.size == 2 * MIB
            node.flush()
        content = (tmp_path / "disk").read_bytes()
        assert len(content) == 2 * MIB and content[8:15] == b"aaxyzaa" and content[4096:8192] == bytes(4096) and content[8192:8193] == b"a"
    finally:
        if filter == "throttle":
            objects.remove("free")


def test_blkdebug_under_a_format_and_over_one(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(MIB))
    rule = {"event": "write_aio", "errno": errno.ENOSPC, "once": True}
    under = {"driver": "raw", "file": {"driver": "blkdebug", "inject-error": [rule], "image": {"driver": "file", "filename": str(path)}}}
    name = "json:" + json.dumps(under)
    with open_image(name, writable=True) as node:
        with pytest.raises(OSError) as failed:
            node.write(0, b"x")
        assert failed.value.errno == errno.ENOSPC
        node.write(0, b"y")
        assert isinstance(find(node), BlkDebug)
    assert path.read_bytes()[:1] == b"y"


def test_blkdebug_sectors_types_and_states(tmp_path: Path) -> None:
    said = raw(tmp_path / "disk", bytes(MIB))
    rules = [{"event": "none", "iotype": "read", "sector": 8}, {"event": "pwritev_zero", "state": 2, "iotype": "write-zeroes"}]
    over = {"driver": "blkdebug", "image": said, "inject-error": rules, "set-state": [{"event": "flush_to_disk", "new_state": 2}]}
    with open_image(over, writable=True) as node:
        node.read(0, 4096)
        node.write(4096, b"x")
        for offset, length in ((4096, 1), (4607, 1), (0, MIB)):
            with pytest.raises(OSError, match="Input/output error"):
                node.read(offset, length)
        node.read(4608, 512)
        node.zero(0, 512)
        node.flush()
        with pytest.raises(OSError):
            node.zero(0, 512)
        node.write(0, b"x")


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"driver": "blkdebug"}, "'image' is missing"),
        ({"driver": "blkdebug", "image": "disk", "config": "nothing"}, "nothing: No such file"),
        ({"driver": "blkdebug", "image": "disk", "inject-error": [{"event": "bogus"}]}, "unknown event 'bogus'"),
        ({"driver": "blkdebug", "image": "disk", "inject-error": 3}, "is a list of rules"),
        ({"driver": "copy-on-read", "file": "disk", "bogus": 1}, "bogus"),
        ({"driver": "throttle", "file": "disk"}, "throttle-group"),
        ({"driver": "throttle", "file": "disk", "throttle-group": "none"}, "none"),
        ("blkdebug:disk", "blkdebug:RULES:IMAGE"),
    ],
)
def test_what_is_wrong_is_one_line(said: object, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("disk").write_bytes(bytes(512))
    with pytest.raises(UserError) as failed:
        open_image(said)  # type: ignore[arg-type]
    assert text in str(failed.value)


def test_a_breakpoint_holds_one_request(tmp_path: Path) -> None:
    over = {"driver": "blkdebug", "image": raw(tmp_path / "disk", bytes(MIB))}
    with open_image(over, writable=True) as node:
        debug = find(node)
        assert debug is not None
        debug.breakpoint("pwritev", "A")
        queue = Queue(node)
        future = queue.write(0, Vector((b"x",)))
        debug.wait_stopped("A")
        assert not future.done() and node.read(0, 1) == b"\0"
        assert debug.resume("A")
        future.result(10)
        assert node.read(0, 1) == b"x" and not debug.resume("A")
        queue.close()


def test_blkverify_finds_the_first_byte_that_differs(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(MIB)
    both = {"driver": "blkverify", "test": raw(tmp_path / "one", content), "raw": raw(tmp_path / "other", content)}
    with open_image(both, writable=True) as node:
        node.write(5000, b"same")
        assert node.read(0, MIB) == content[:5000] + b"same" + content[5004:]
        (tmp_path / "other").write_bytes(content[:7000] + bytes([content[7000] ^ 1]) + content[7001:])
        with pytest.raises(OSError, match="differ at byte 7000"):
            node.read(6000, 4096)


@pytest.mark.skipif("qcow2" not in FORMATS, reason="there is no qcow2 yet")
def test_copy_on_read_beside_writers() -> None:
    """Readers copy while writers write: nobody's bytes get lost, and all of the backing image arrives."""
    rng = random.Random(2)
    content = rng.randbytes(4 * MIB)
    kind = FORMATS["qcow2"]
    file = PowerCut()
    file.writable = True
    kind.create(file, 4 * MIB, values(kind.CREATE, {}, "qcow2"))
    top = kind(file, writable=True)
    top.backing = Raw(PowerCut(content))
    node = CopyOnRead(top, writable=True)
    model = bytearray(content)
    quarter = len(content) // 4
    failures: list[object] = []

    def work(number: int) -> None:
        mine = random.Random(number)
        try:
            for step in range(150):
                length = mine.randrange(1, 9000)
                at = number * quarter + mine.randrange(quarter - length)
                if step % 3:
                    data = mine.randbytes(length)
                    node.write(at, data)
                    model[at : at + length] = data
                elif node.read(at, length) != model[at : at + length]:
                    failures.append(at)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert node.read(0, len(content)) == model
    assert all(extent.kind is not Kind.ABSENT for extent in top.extents(0, top.size))
    top.backing = None
    assert top.read(0, len(content)) == model


def test_ranges_wait_for_what_overlaps() -> None:
    ranges, order = Ranges(), []

    def other(start: int, end: int) -> None:
        with ranges.hold(start, end):
            order.append((start, end))

    with ranges.hold(100, 200):
        threads = [threading.Thread(target=other, args=pair) for pair in ((199, 300), (0, 101), (200, 210), (90, 100))]
        for thread in threads:
            thread.start()
        for thread in threads[2:]:
            thread.join(10)
        assert sorted(order) == [(90, 100), (200, 210)]
    for thread in threads:
        thread.join(10)
    assert len(order) == 4


def test_throttle_holds_its_rates(tmp_path: Path) -> None:
    """100 requests a second and 1 MiB a second of reading: what goes at once is a tenth of a second's worth."""
    from exuvia.disk import objects

    objects.define("throttle-group,id=slow,x-iops-write=100,limits.bps-read=1M")
    try:
        said = {"driver": "throttle", "throttle-group": "slow", "file": raw(tmp_path / "disk", bytes(MIB))}
        with open_image(said, writable=True) as one:
            began = time.monotonic()
            for _ in range(40):
                one.write(0, b"x")
            took = time.monotonic() - began
            assert 0.25 < took < 1
            began = time.monotonic()
            for _ in range(12):
                one.read(0, 64 << 10)
            assert 0.5 < time.monotonic() - began < 1.5
    finally:
        objects.remove("slow")


@pytest.mark.parametrize(
    "limits",
    ["x-iops-total-max=3", "x-bps-total=10,x-bps-read=3", "x-bps-total=10,x-bps-total-max=5", "x-bps-total=1x", "x-iops-read-max-length=2"],
)
def test_limits_that_contradict(limits: str, tmp_path: Path) -> None:
    from exuvia.disk import objects

    objects.define(f"throttle-group,id=odd,{limits}")
    try:
        with pytest.raises(UserError, match="throttle-group 'odd'"):
            open_image({"driver": "throttle", "throttle-group": "odd", "file": raw(tmp_path / "disk", bytes(512))})
    finally:
        objects.remove("odd")
