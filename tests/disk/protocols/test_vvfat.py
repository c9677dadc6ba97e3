"""vvfat: what mtools and fsck.fat make of a folder as a disk."""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from exuvia.disk.graph import describe, open_image
from exuvia.disk.node import Kind
from exuvia.disk.protocols.vvfat.names import Names
from exuvia.disk.protocols.vvfat.vvfat import Vvfat
from exuvia.support.errors import UserError

needs_mtools = pytest.mark.skipif(not shutil.which("mcopy"), reason="mtools is not installed")
needs_fsck = pytest.mark.skipif(
    not shutil.which("fsck.fat", path=f"{os.environ['PATH']}:/sbin:/usr/sbin"), reason="dosfstools is not installed"
)
NAMES = (
    "hello.txt", "A long file name with spaces.text", "a", "A", "b.tar.gz", ".hidden", "ünïcödé – 漢字", "README", "noext.", "x+y=z;[1],2",
    "12345678.123", "123456789.1234", "emoji 😀", "con fi g~1.sys", "thirteenchars", "twenty-six characters long",
)  # fmt: skip
FLOPPY = 2 * 80 * 36 * 512
DISK = 1024 * 16 * 63 * 512


def tree(folder: Path, rng: random.Random, depth: int = 2) -> None:
    """Files of many sizes and names, folders in folders."""
    for name in NAMES:
        (folder / name).write_bytes(rng.randbytes(rng.choice((0, 1, 511, 512, 8191, 8192, 8193, 30_000))))
    if depth:
        for name in ("sub", "Sub folder with a long name", "empty"):
            (folder / name).mkdir()
            if name != "empty":
                tree(folder / name, rng, depth - 1)


def copied(name: str, folder: Path) -> tuple[Path, int]:
    """The disk as a file, and where its file system begins."""
    path = folder / "disk.img"
    with open_image(name) as node, path.open("wb") as file:
        at = 0
        for extent in node.extents(0, node.size):
            if extent.kind is Kind.DATA:
                file.seek(at)
                file.write(node.read(at, extent.length))
            at += extent.length
        assert at == node.size
        file.truncate(node.size)
    return path, 0 if "floppy" in name else 63 * 512


@needs_mtools
@needs_fsck
@pytest.mark.parametrize("options", ["", "12:", "16:", "32:", "floppy:", "floppy:16:", "floppy:12:"])
def test_read_by_others(tmp_path: Path, options: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    tree(source, random.Random(options), 1 if "floppy" in options else 2)
    os.utime(source / "hello.txt", (1_000_000_000, 1_000_000_000))
    image, start = copied(f"fat:{options}{source}", tmp_path)
    assert image.stat().st_size == (FLOPPY if "floppy" in options else 64 * 16 * 63 * 512 if options == "12:" else DISK)
    part = tmp_path / "part.img"
    with image.open("rb") as whole, part.open("wb") as file:
        whole.seek(start)
        shutil.copyfileobj(whole, file)
    done = subprocess.run(
        ["fsck.fat", "-n", "-v", part], capture_output=True, text=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/sbin"}
    )
    assert done.returncode == 0, done.stdout
    target = tmp_path / "target"
    target.mkdir()
    environment = {**os.environ, "MTOOLS_SKIP_CHECK": "0", "LC_ALL": "C.UTF-8"}
    subprocess.run(["mcopy", "-s", "-m", "-n", "-i", f"{image}@@{start}", "::/", target], check=True, env=environment, capture_output=True)
    renamed = {"a": "a~1", "noext.": "noext", "emoji 😀": "emoji __"}  # mtools knows no letters of two units
    for path in sorted(source.rglob("*")):
        parts = [renamed.get(each, each) for each in path.relative_to(source).parts]
        there = target.joinpath(*parts)
        assert there.exists(), f"{there} is not among {os.listdir(there.parent)}"
        assert there.is_dir() if path.is_dir() else there.read_bytes() == path.read_bytes()
    assert abs((target / "hello.txt").stat().st_mtime - 1_000_000_000) < 3
    assert sum(1 for _ in target.rglob("*")) == sum(1 for _ in source.rglob("*"))
    label = subprocess.run(["mlabel", "-s", "-i", f"{image}@@{start}", "::"], capture_output=True, text=True, env=environment).stdout
    assert "QEMU VVFAT" in label


@needs_mtools
def test_a_partition_table_that_mtools_finds(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "x").write_text("here")
    image, start = copied(f"fat:{tmp_path}/source", tmp_path)
    head = image.read_bytes()[:512]
    assert head[510:] == b"\x55\xaa"
    assert int.from_bytes(head[454:458], "little") * 512 == start
    assert int.from_bytes(head[458:462], "little") * 512 == image.stat().st_size - start


def test_files_are_read_when_asked_for(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1" * 1000)
    with open_image(f"fat:{tmp_path}") as node:
        at = next(at for at in range(0, 1 << 20, 512) if node.read(at, 512) == b"1" * 512)
        (tmp_path / "x").write_bytes(b"2" * 600)
        assert node.read(at, 1000) == b"2" * 600 + bytes(400)


def test_a_folder_that_needs_more_becomes_fat32(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(3 << 30)
    with open_image(f"fat:{tmp_path}") as node:
        assert node.size > 3 << 30
        assert b"FAT32" in node.read(63 * 512, 512)
    with pytest.raises(UserError, match=r"Directory does not fit in FAT16 \(capacity 528.17 MB\)"):
        open_image(f"fat:16:{tmp_path}")
    with (tmp_path / "big").open("wb") as file:
        file.truncate(4 << 30)
    with pytest.raises(UserError, match="big is larger than a FAT file can be"):
        open_image(f"fat:{tmp_path}")


def test_links(tmp_path: Path) -> None:
    """Links are followed, but not round and round."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x").write_text("once")
    (tmp_path / "in" / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to("missing")
    os.mkfifo(tmp_path / "fifo")
    with open_image(f"fat:{tmp_path}") as node:
        node.read(0, 1 << 20)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fat:/nowhere", "/nowhere is not there"),
        ("fat:/etc/passwd", "/etc/passwd is no folder"),
        ("fat:floppy:32:/", "too small for FAT32"),
        ("fat:rw:/", "can only be read"),
        ('json:{"driver": "vvfat", "dir": "/", "fat-type": 13}', "Valid FAT types are only 12, 16 and 32"),
        ('json:{"driver": "vvfat", "dir": "/", "label": "much too long"}', "should be 11 ASCII letters at most"),
    ],
)
def test_wrong(name: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        open_image(name)


def test_too_many_names_at_the_top(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}").touch()
    with pytest.raises(UserError, match="more names in the folder than a FAT16 can have at the top"):
        open_image(f"fat:16:{tmp_path}")
    with open_image(f"fat:{tmp_path}") as node:
        assert b"FAT32" in node.read(63 * 512, 512)


def test_names() -> None:
    assert describe("fat:floppy:12:a:b") == {"driver": "vvfat", "floppy": True, "fat-type": 12, "dir": "a:b"}
    names = Names()
    made = [
        names.add(name)
        for name in [*NAMES, *(f"long name number {number}" for number in range(120)), "bad\udc80name", "a*b", "a?b", "x" * 300]
    ]
    assert len({long.upper() for long, _ in made}) == len({short for _, short in made}) == len(made)
    assert all(len(short) == 11 and short == short.upper() for _, short in made)
    assert Vvfat.name == "vvfat"
