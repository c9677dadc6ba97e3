"""Checking and mending images that were damaged on purpose, beside qemu-img check: numbers, lines and the outcome."""

import json
import subprocess
import time
from pathlib import Path

import pytest

from exuvia.disk.format import Snapshot
from exuvia.disk.formats.qcow2.qcow2 import Qcow2
from exuvia.disk.formats.qcow2.rows import COPIED, OFFSET
from exuvia.disk.graph import open_image
from exuvia.disk.node import ImageError
from tests.disk.formats.interchange import create, make, needs_qemu, qemu
from tests.disk.powercut import PowerCut

Patch = tuple[int, bytes]


def damage(name: str, node: Qcow2, data: bytes) -> list[Patch]:
    """What is written where."""
    fields = node.header.fields
    table, block = fields.refcount_table_offset, node.refcounts.table[0]
    l1, l2 = fields.l1_table_offset, node.map.l1[0] & OFFSET
    first = node.map.entries(0, 1)[0]
    cluster, end = (first & OFFSET) >> 16, len(data) >> 16

    def count(cluster: int, value: int) -> Patch:
        return block + 2 * cluster, value.to_bytes(2, "big")

    def entry(at: int, value: int) -> Patch:
        return at, value.to_bytes(8, "big")

    return {
        "sound": [],
        "leak": [count(cluster + 40, 1)],
        "count too large": [count(cluster, 2)],
        "count missing": [count(cluster, 0)],
        "counts wrong": [count(cluster, 0), count(cluster + 2, 5), count(end + 3, 1)],
        "two uses": [(l2 + 8, data[l2 : l2 + 8])],
        "two uses counted": [(l2 + 8, data[l2 : l2 + 8]), count(cluster, 2), count(cluster + 1, 1)],
        "copied flag": [entry(l2, first & ~COPIED)],
        "copied flag of a table": [entry(l1, node.map.l1[0] & ~COPIED)],
        "unaligned data": [entry(l2, first + 512)],
        "unaligned room of zeros": [entry(l2, first + 513)],
        "data outside": [entry(l2, COPIED | 1 << 30)],
        "reserved bits": [entry(l2, first | 1 << 57)],
        "reserved bits in L1": [entry(l1, node.map.l1[0] | 1 << 57)],
        "table outside": [entry(l1, COPIED | 1 << 30)],
        "block used twice": [entry(table + 8, block)],
        "block missing": [entry(table, 0)],
        "dirty": [(79, b"\1")],
        "corrupt": [(79, b"\2")],
        "copied flag of a packed cluster": [entry(l2 + 32 * 8, node.map.entries(32, 1)[0] | COPIED)],
        "a table as data": [entry(l2 + 160, COPIED | l1)],
    }[name]


NAMES = (
    "sound,leak,count too large,count missing,counts wrong,two uses,two uses counted,copied flag,copied flag of a table,unaligned data,"
    "unaligned room of zeros,data outside,reserved bits,reserved bits in L1,table outside,block used twice,block missing,dirty,corrupt,"
    "copied flag of a packed cluster,a table as data"
).split(",")


@needs_qemu
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mend", ["", "leaks", "all"])
def test_beside_qemu(tmp_path: Path, name: str, mend: str) -> None:
    image = tmp_path / "disk.qcow2"
    make("qcow2", image, 8 << 20)
    with open_image(str(image), writable=True) as node:
        node.write(0, b"a" * (1 << 20))
        node.write_compressed(2 << 20, b"b" * 65536)
        node.write_compressed((2 << 20) + 65536, b"c" * 65536)
        node.write(5 << 20, b"d" * 65536)
        node.write(4 << 20, b"e" * 65536)
    data = bytearray(image.read_bytes())
    with open_image(str(image)) as node:
        assert isinstance(node, Qcow2)
        for at, patch in damage(name, node, bytes(data)):
            data[at : at + len(patch)] = patch
    image.write_bytes(data)
    other = tmp_path / "other.qcow2"
    other.write_bytes(data)
    options = ["-r", mend] if mend else []
    done = subprocess.run(["qemu-img", "check", *options, "--output=json", other], capture_output=True, text=True, timeout=60)
    with open_image(str(image), writable=bool(mend)) as node:
        found = node.check(mend != "", mend == "all")
    if "need to rebuild" in done.stderr:
        assert found.errors
        assert found.messages[-1] in done.stderr
        return
    theirs = json.loads(done.stdout)
    if not mend:
        assert done.stderr.splitlines() == found.messages
        assert theirs["image-end-offset"] == found.end
        for key, number in (
            ("corruptions", found.corruptions),
            ("leaks", found.leaks),
            ("allocated-clusters", found.allocated),
            ("compressed-clusters", found.compressed),
            ("fragmented-clusters", found.fragmented),
        ):
            assert theirs.get(key, 0) == number, key
        return
    assert theirs.get("leaks-fixed", 0) == found.leaks_fixed
    assert theirs.get("corruptions-fixed", 0) == found.corruptions_fixed
    again = subprocess.run(["qemu-img", "check", other], capture_output=True, text=True, timeout=60).returncode
    assert subprocess.run(["qemu-img", "check", image], capture_output=True, text=True, timeout=60).returncode == again


@pytest.mark.parametrize("order", range(7))
def test_counts_of_every_width_are_written_anew(order: int) -> None:
    disk = PowerCut()
    create("qcow2", disk, 4 << 20, {"refcount_bits": 1 << order, "cluster_size": 512})
    with Qcow2(disk, writable=True) as node:
        node.write(1 << 20, b"x" * (1 << 20))
        fields = node.header.fields
    disk.write(fields.refcount_table_offset, bytes(16))
    with Qcow2(disk, writable=True) as node:
        found = node.check(True, True)
        assert found.corruptions == found.corruptions_fixed > 0
        assert node.check().messages == []
        node.write(3 << 20, b"y" * 300_000)
        assert node.read(1 << 20, 1 << 20) == b"x" * (1 << 20)
    assert Qcow2(disk).check().messages == []


def test_an_image_marked_corrupt_is_not_written_until_it_is_mended() -> None:
    disk = PowerCut()
    create("qcow2", disk, 1 << 20)
    disk.write(79, b"\2")
    with Qcow2(disk, writable=True) as node:
        with pytest.raises(Exception, match="Image is corrupt; cannot be opened read/write"):
            node.write(0, b"x")
        node.check(False, True)
        node.write(0, b"x")


@needs_qemu
def test_amend_and_back(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    qemu("qemu-img", "create", "-f", "qcow2", "-o", "compat=0.10", image, "4M")
    qemu("qemu-io", "-c", "write -P 7 1M 1M", image)
    told: list[float] = []
    for given in (
        {"compat": "1.1", "lazy_refcounts": True},
        {"refcount_bits": 64},
        {"refcount_bits": 1},
        {"refcount_bits": 16, "lazy_refcounts": False},
        {"size": 8 << 20},
        {"compat": "v2"},
    ):
        with open_image(str(image), writable=True) as node:
            node.zero(3 << 20, 1 << 20)
            node.amend(given, False, told.append)
        qemu("qemu-img", "check", image)
        qemu("qemu-io", "-r", "-c", "read -P 7 1M 1M", "-c", "read -P 0 3M 1M", image)
    assert told[-1] == 1.0
    assert "compat: 0.10" in qemu("qemu-img", "info", image)


@pytest.mark.parametrize("cluster", [512, 65536])
def test_a_table_whose_count_is_lost_is_not_given_out(cluster: int) -> None:
    disk = PowerCut()
    create("qcow2", disk, 8 << 20, {"cluster_size": cluster})
    with Qcow2(disk, writable=True) as node:
        node.write(0, b"a" * cluster)
        block, table = node.refcounts.table[0], (node.map.l1[0] & OFFSET) // cluster
    disk.write(block + 2 * table, bytes(2))
    node = Qcow2(disk, writable=True)
    with pytest.raises(ImageError, match="Preventing invalid allocation"):
        node.write(cluster, b"b" * (20 * cluster))
    assert node.info()["corrupt"]
    with pytest.raises(ImageError, match="Image is corrupt; cannot be opened read/write"):
        Qcow2(disk, writable=True).write(0, b"c")
    node = Qcow2(disk, writable=True)
    assert node.read(0, cluster) == b"a" * cluster
    node.check(True, True)
    assert not node.check().messages
    node.write(cluster, b"b" * cluster)
    assert node.read(0, 2 * cluster) == b"a" * cluster + b"b" * cluster


def test_a_table_that_is_used_a_million_times_is_looked_at_once() -> None:
    disk = PowerCut()
    create("qcow2", disk, 1 << 40, {"cluster_size": 4096})
    with Qcow2(disk, writable=True) as node:
        node.write(0, b"a" * (2 << 20))
        fields = node.header.fields
        entry = node.map.l1[0].to_bytes(8, "big")
    disk.write(fields.l1_table_offset, entry * fields.l1_size)
    began = time.process_time()
    found = Qcow2(disk).check()
    assert found.corruptions
    with pytest.raises(OSError, match="Invalid argument"):
        Qcow2(disk, writable=True).create_snapshot(Snapshot("", "no", 0, 0, 0, 0))
    assert time.process_time() - began < 20
