"""Closing an image whose file fails: everything under it is let go of, and what failed first is told."""

import errno
from pathlib import Path

import pytest

from exuvia.disk.filter import Filter
from exuvia.disk.protocols.file import File


class Failing(Filter):
    """Nothing can be flushed."""

    def flush(self) -> None:
        raise OSError(errno.EIO, "bad", self.filename)


class Pair(Filter):
    """Two nodes that are both written."""

    CHILDREN = ("file", "other")


def test_all_is_closed_whatever_fails(tmp_path: Path) -> None:
    files = [File(str(tmp_path / name), writable=True, create=True) for name in "ab"]
    image = Pair(*(Failing(file) for file in files))
    with pytest.raises(OSError, match="bad") as failed:
        image.close()
    assert failed.value.filename == str(tmp_path / "a")
    assert [file.fd for file in files] == [-1, -1]
    image.close()
