"""Where bytes lie, in images whose clusters lie scattered, or are parts of clusters, or holes of another file: as qemu-img says."""

import random
from pathlib import Path

import pytest

from tests.cli.img.twins import Twins, io_write, needs_qemu, theirs

pytestmark = needs_qemu
SCATTERED = (
    "",
    "cluster_size=64k",
    "cluster_size=4k",
    "cluster_size=512",
    "compat=0.10",
    "data_file=ext.raw",
    "refcount_bits=1",
    "preallocation=metadata",
)


@pytest.mark.parametrize("options", SCATTERED)
def test_scattered_clusters(tmp_path: Path, options: str) -> None:
    """Written in random order, some of them zeroed, some compressed, some of a snapshot's; then damaged."""
    twins, rng = Twins(tmp_path), random.Random(options)
    size = {"64k": 1 << 30, "4k": 4 << 20, "512": 600 << 10}.get(options.partition("=")[2], 48 << 20)
    unit = size // 700 & -4096 or 512
    assert theirs(twins.a, "create", "-q", "-f", "qcow2", *(("-o", options) if options else ()), "t", str(size)).status == 0
    words = [f"write -q {rng.randrange(size // unit) * unit} 512" for _ in range(300)]
    words += [f"write -q -z {rng.randrange(size // unit) * unit} {unit}" for _ in range(60) if "0.10" not in options]
    io_write(twins.a, "t", "qcow2", *words)
    twins.give()
    lines = ["check t", "check --output=json t", "map t", "map --output=json t", "map --output=json -s 70000 -l 9M t", "measure -O qcow2 t"]
    for line in lines:
        twins.same(*line.split())
    if "data_file" in options:
        return
    if "refcount_bits" not in options:
        assert theirs(twins.a, "snapshot", "-c", "before", "t").status == 0
        io_write(twins.a, "t", "qcow2", *words[:100])
    with open(twins.a / "t", "r+b") as file:
        file.seek(-(1 << 14) % 65536 + (size >> 4))
        file.write(rng.randbytes(8))
    twins.give()
    for line in lines[:2]:
        twins.same(*line.split(), errors=True)


def test_parts_of_clusters(tmp_path: Path) -> None:
    twins = Twins(tmp_path)
    assert theirs(twins.a, "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", "t", "8M").status == 0
    io_write(twins.a, "t", "qcow2", "write 1M 6k", "write -z 1032k 8k", "write 1100k 4k", "write 4M 200k", "write -z 5M 64k", "write 7M 2k")
    twins.give()
    for line in ("map t", "map --output=json t", "map --output=json -s 1049k t", "check t", "measure -O qcow2 t"):
        twins.same(*line.split())


@pytest.mark.parametrize("subformat", ["monolithicFlat", "twoGbMaxExtentFlat"])
def test_holes_of_flat_extents(tmp_path: Path, subformat: str) -> None:
    twins = Twins(tmp_path)
    assert theirs(twins.a, "create", "-q", "-f", "vmdk", "-o", f"subformat={subformat}", "t.vmdk", "8M").status == 0
    io_write(twins.a, "t.vmdk", "vmdk", "write 1M 64k", "write 5M 4k")
    twins.give()
    for line in ("map t.vmdk", "map --output=json t.vmdk", "check t.vmdk", "info t.vmdk"):
        twins.same(*line.split())
