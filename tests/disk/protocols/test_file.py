"""The file protocol at places that no file has, which images may name all the same."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from exuvia.disk.graph import open_image
from exuvia.disk.node import ImageError
from exuvia.disk.protocols.file import File
from exuvia.disk.vector import Vector
from tests.disk.formats.interchange import make

FAR = ((1 << 63) - 4096, (1 << 63) - 1, 1 << 63, (1 << 64) - 512, 1 << 70)


@pytest.mark.parametrize("offset", FAR)
def test_places_past_what_the_host_can_count(tmp_path: Path, offset: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1024)
    with File(str(tmp_path / "file"), writable=True) as file:
        assert file.read(offset, 24) == bytes(24)
        buffer = bytearray(b"y" * 600)
        file.readv(offset, Vector((buffer,)))
        assert buffer == bytes(600)
        changes: list[Callable[[], None]] = [
            lambda: file.write(offset, b"z"),
            lambda: file.zero(offset, 512),
            lambda: file.resize(offset),
        ]
        for change in changes:
            with pytest.raises(OSError) as caught:
                change()
            assert caught.value.errno == errno.EFBIG
        file.discard(offset, 512)
        assert file.size == 1024


def test_an_image_whose_header_points_there(tmp_path: Path) -> None:
    """The descriptor of a sparse VMDK at sector 2^61."""
    path = tmp_path / "disk.vmdk"
    make("vmdk", path, 1 << 20, {})
    with open(path, "r+b") as file:
        file.seek(28)
        file.write((1 << 61).to_bytes(8, "little"))
    with pytest.raises(ImageError, match="disk.vmdk"):
        open_image(str(path), "vmdk")


def test_zeros_past_the_end_while_somebody_writes_behind_them(tmp_path: Path) -> None:
    class Raced(File):
        """Another thread writes behind what is being zeroed, once it was seen how long the file is."""

        raced = False

        @property
        def size(self) -> int:  # type: ignore[override]
            seen = super().size
            if not self.raced:
                self.raced = True
                self.write(8192, b"behind")
            return seen

    (tmp_path / "file").write_bytes(b"x" * 1024)
    with Raced(str(tmp_path / "file"), writable=True) as file:
        file.zero(512, 4096)
    assert (tmp_path / "file").read_bytes() == b"x" * 512 + bytes(7680) + b"behind"
