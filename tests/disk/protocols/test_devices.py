"""Block devices of the host, where a loop device can be had; and disks without a place."""

import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.disk.graph import open_image, open_protocol
from exuvia.disk.node import Kind, Unsupported
from exuvia.support.errors import UserError

MIB = 1 << 20


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    file = tmp_path / "file"
    file.write_bytes(random.Random(1).randbytes(2 * MIB))
    if shutil.which("losetup") is None:
        pytest.skip("losetup is not installed")
    done = subprocess.run(["losetup", "--find", "--show", str(file)], capture_output=True, text=True, timeout=20)
    if done.returncode:
        pytest.skip("no loop device can be had here")
    device = done.stdout.strip()
    yield device, file
    subprocess.run(["losetup", "--detach", device], check=True, timeout=20)


def test_a_device_is_read_written_and_zeroed(loop: tuple[str, Path]) -> None:
    device, file = loop
    content = bytearray(file.read_bytes())
    with open_image(device, "raw", writable=True) as node:
        assert node.file.name == "host_device" and node.size == 2 * MIB
        assert node.read(0, 2 * MIB) == content
        node.write(1000, b"xyz" * 1000)
        node.zero(MIB, 65536)
        node.discard(MIB + 65536, 4096)
        node.flush()
        content[1000:4000], content[MIB : MIB + 65536] = b"xyz" * 1000, bytes(65536)
        assert node.read(0, MIB + 65536) == content[: MIB + 65536]
        with pytest.raises(Unsupported, match="Cannot grow device files"):
            node.resize(3 * MIB)
    assert file.read_bytes()[: MIB + 65536] == content[: MIB + 65536]


def test_a_file_is_no_device(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UserError, match="to be a block device"):
        open_protocol(f"host_device:{tmp_path}/file")


@pytest.mark.parametrize("name", ["null-co", "null-aio"])
def test_a_disk_without_a_place(name: str) -> None:
    with open_protocol({"driver": name, "size": "3M", "read-zeroes": "on"}, writable=True) as node:
        node.write(0, b"gone")
        assert node.size == 3 * MIB and node.read(0, 4) == bytes(4)
        assert [extent.kind for extent in node.extents(0, MIB)] == [Kind.ZERO]
    with open_image(f"{name}://") as image:
        assert image.size == 1 << 30 and image.name == "raw"
