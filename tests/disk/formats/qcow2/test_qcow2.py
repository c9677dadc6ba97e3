"""qcow2 against qemu-img and qemu-io: every variant, both ways; power cuts; lies."""

import random
from pathlib import Path
from typing import Any

import pytest

from exuvia.disk.format import Snapshot
from exuvia.disk.formats.qcow2.qcow2 import Qcow2
from exuvia.disk.graph import open_image
from tests.disk.formats.interchange import approved, create, exercise, hostile, make, needs_qemu, ours, power_cuts, qemu, same, theirs
from tests.disk.powercut import PowerCut

MIB = 1 << 20

VARIANTS: list[dict[str, Any]] = [
    {},
    {"compat": "0.10"},
    {"cluster_size": 512},
    {"cluster_size": 2 << 20},
    {"refcount_bits": 1},
    {"refcount_bits": 2, "cluster_size": 512},
    {"refcount_bits": 8, "cluster_size": 1024},
    {"refcount_bits": 64, "cluster_size": 4096},
    {"lazy_refcounts": True},
    {"extended_l2": True},
    {"extended_l2": True, "cluster_size": 16384},
    {"preallocation": "metadata"},
    {"preallocation": "falloc", "extended_l2": True},
    {"preallocation": "full", "cluster_size": 2048},
]
NARROW = [
    {},
    {"cluster_size": 512},
    {"cluster_size": 512, "refcount_bits": 64},
    {"cluster_size": 1024, "compat": "0.10"},
    {"cluster_size": 16384, "extended_l2": True},
]


def said(given: dict[str, Any]) -> str:
    """Options as qemu-img's -o has them."""
    return ",".join(f"{key}={'on' if value is True else value}" for key, value in given.items())


def name(given: dict[str, Any]) -> str:
    return said(given) or "default"


@needs_qemu
@pytest.mark.parametrize("given", VARIANTS, ids=name)
def test_theirs(tmp_path: Path, given: dict[str, Any]) -> None:
    theirs("qcow2", tmp_path, (3 << 20) + 1536, said(given))


@needs_qemu
@pytest.mark.parametrize("given", VARIANTS, ids=name)
def test_ours(tmp_path: Path, given: dict[str, Any]) -> None:
    ours("qcow2", tmp_path, (3 << 20) + 1536, given)


@pytest.mark.parametrize("given", NARROW, ids=name)
def test_power_cuts(given: dict[str, Any]) -> None:
    power_cuts("qcow2", (1 << 20) + 512, given, rounds=12)


def test_lazy_counts_after_a_power_cut_are_mended_by_the_next_writer() -> None:
    disk = PowerCut()
    create("qcow2", disk, 1 << 20, {"lazy_refcounts": True, "cluster_size": 4096})
    node = Qcow2(disk, writable=True)
    node.write(0, b"a" * 100_000)
    node.flush()
    for seed in range(10):
        left = PowerCut(disk.disk(random.Random(seed)))
        node = Qcow2(left, writable=True)
        assert node.dirty
        node.write(200_000, b"b" * 1000)
        assert node.read(0, 100_000) == b"a" * 100_000
        node.close()
        node = Qcow2(PowerCut(bytes(left.now)))
        found = node.check()
        assert (found.corruptions, found.leaks, node.dirty) == (0, 0, False)


@needs_qemu
@pytest.mark.parametrize("packing", ["zlib", "zstd"])
@pytest.mark.parametrize("cluster", [512, 65536, 2 << 20])
def test_compressed_clusters_both_ways(tmp_path: Path, packing: str, cluster: int) -> None:
    rng = random.Random(cluster)
    size = (4 << 20) + 512
    model = bytearray(b"".join(rng.randbytes(4) * 1024 for _ in range(size // 4096 + 1))[:size])
    (tmp_path / "raw").write_bytes(model)
    options = f"compression_type={packing},cluster_size={cluster}"
    qemu("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, tmp_path / "raw", tmp_path / "theirs")
    with open_image(str(tmp_path / "theirs"), writable=True) as node:
        same(node, model, rng)
        exercise(node, model, rng, 20)
    approved("qcow2", tmp_path / "theirs", model, tmp_path)
    make("qcow2", tmp_path / "ours", size, {"compression_type": packing, "cluster_size": cluster})
    with open_image(str(tmp_path / "ours"), writable=True) as node:
        for at in range(0, size, cluster):
            node.write_compressed(at, model[at : at + cluster])
        same(node, model, rng)
    assert (tmp_path / "ours").stat().st_size < size // 2 + 6 * cluster
    approved("qcow2", tmp_path / "ours", model, tmp_path)
    with open_image(str(tmp_path / "ours"), writable=True) as node:
        exercise(node, model, rng, 20)
        for at in range(0, size, cluster * 3):
            node.write_compressed(at, model[at : at + cluster])
    approved("qcow2", tmp_path / "ours", model, tmp_path)


@needs_qemu
@pytest.mark.parametrize(("kind", "options"), [("qcow2", {"cluster_size": 65536}), ("qcow2", {"cluster_size": 2 << 20}), ("qcow", {})])
def test_qemu_unpacks_what_repeats_far_behind(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    """It tells zlib of a window of 4 KiB."""
    rng = random.Random(7)
    model = bytearray(b"".join(rng.randbytes(each) * (MIB // each) for each in (1800, 30000))[: 2 * MIB].ljust(2 * MIB, b"x"))
    make(kind, tmp_path / "ours", len(model), options)
    with open_image(str(tmp_path / "ours"), writable=True) as node:
        cluster = node.cluster or 0
        for at in range(0, len(model), cluster):
            node.write_compressed(at, model[at : at + cluster])
    if cluster >= 65536:
        assert (tmp_path / "ours").stat().st_size < len(model) * 2 // 3 + 6 * cluster
    approved(kind, tmp_path / "ours", model, tmp_path)


@needs_qemu
@pytest.mark.parametrize("raw", [False, True])
def test_an_external_data_file(tmp_path: Path, raw: bool) -> None:
    rng = random.Random(raw)
    size = (2 << 20) + 512
    image, data = tmp_path / "disk.qcow2", tmp_path / "data"
    qemu("qemu-img", "create", "-f", "qcow2", "-o", f"data_file={data},data_file_raw={'on' if raw else 'off'}", image, size)
    model = bytearray(size)
    with open_image(str(image), writable=True) as node:
        exercise(node, model, rng, 60)
        assert node.info()["data-file"] == str(data)
    approved("qcow2", image, model, tmp_path)
    if raw:
        assert data.read_bytes()[:size] == model
    with open_image(str(image)) as node:
        same(node, model, rng)


@needs_qemu
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"compat": "0.10"},
        {"cluster_size": 512},
        {"extended_l2": True},
        {"refcount_bits": 64, "cluster_size": 4096, "lazy_refcounts": True},
    ],
    ids=name,
)
def test_snapshots_in_turns_with_qemu(tmp_path: Path, given: dict[str, Any]) -> None:
    rng = random.Random(len(given))
    size, image = 4 << 20, tmp_path / "disk.qcow2"
    make("qcow2", image, size, given)
    model = bytearray(size)
    kept: dict[str, bytes] = {}
    for step in range(14):
        label = rng.choice(sorted(kept)) if kept else ""
        action = rng.choice("ccad") if kept else "c"
        with open_image(str(image), writable=True) as node:
            exercise(node, model, rng, 12)
            if step % 2:
                found = next((each for each in node.snapshots() if each.name == label), None)
                if action == "c":
                    node.create_snapshot(Snapshot("", f"s{step}", 0, 1234567, 89, 5, None))
                elif action == "a" and found:
                    node.apply_snapshot(found)
                elif found:
                    node.delete_snapshot(found)
        if step % 2 == 0:
            qemu("qemu-img", "snapshot", f"-{action}", f"s{step}" if action == "c" else label, image)
        if action == "c":
            kept[f"s{step}"] = bytes(model)
        elif action == "a":
            model[:] = kept[label]
        else:
            del kept[label]
        approved("qcow2", image, model, tmp_path)
        with open_image(str(image)) as node:
            assert not node.check().messages
            assert [each.name for each in node.snapshots()] == list(kept)
            same(node, model, rng)
            for found in node.snapshots():
                node.show_snapshot(found)
                assert node.read(0, size) == kept[found.name]


def test_a_count_that_is_full_refuses_a_snapshot_and_changes_nothing() -> None:
    disk = PowerCut()
    create("qcow2", disk, 1 << 20, {"refcount_bits": 1, "cluster_size": 512})
    with Qcow2(disk, writable=True) as node:
        node.write(0, b"x" * 100_000)
        with pytest.raises(OSError, match="Invalid argument"):
            node.create_snapshot(Snapshot("", "one", 0, 0, 0, 0))
    with Qcow2(PowerCut(bytes(disk.now))) as node:
        found = node.check()
        assert (found.corruptions, found.leaks, node.snapshots()) == (0, 0, [])


@needs_qemu
@pytest.mark.parametrize("given", [{}, {"cluster_size": 512}, {"extended_l2": True, "cluster_size": 16384}], ids=name)
def test_resize(tmp_path: Path, given: dict[str, Any]) -> None:
    rng = random.Random(1)
    image, model = tmp_path / "disk.qcow2", bytearray(3 << 20)
    make("qcow2", image, len(model), given)
    for size in ((5 << 20) + 512, 20 << 20, (1 << 20) + 1024, 4 << 20, 512, 6 << 20):
        with open_image(str(image), writable=True) as node:
            exercise(node, model, rng, 20)
            node.resize(size)
            del model[size:]
            model.extend(bytes(size - len(model)))
            same(node, model, rng)
        approved("qcow2", image, model, tmp_path)


HOSTILE = [{"cluster_size": 512}, {"extended_l2": True, "cluster_size": 16384}, {"compression_type": "zstd", "cluster_size": 4096}]


@pytest.mark.parametrize("given", HOSTILE, ids=name)
def test_tables_that_lie(given: dict[str, Any]) -> None:
    rng = random.Random(2)
    disk = PowerCut()
    create("qcow2", disk, 1 << 20, given)
    with Qcow2(disk, writable=True) as node:
        exercise(node, bytearray(node.size), rng, 20)
        for at in range(0, 20 * node.cluster, node.cluster):
            node.write_compressed(at, rng.randbytes(1) * node.cluster)
        node.create_snapshot(Snapshot("", "kept", 0, 0, 0, 0))
        exercise(node, bytearray(node.size), rng, 5)
        fields = node.header.fields
        areas = [
            (0, 120),
            (fields.l1_table_offset, fields.l1_table_offset + 8 * fields.l1_size),
            (fields.refcount_table_offset, fields.refcount_table_offset + 16),
            (fields.snapshots_offset, fields.snapshots_offset + 60),
            *((node.map.table(number), node.map.table(number) + 512) for number in range(len(node.map.l1)) if node.map.table(number)),
        ]
    hostile("qcow2", bytes(disk.now), rounds=40, areas=areas)
