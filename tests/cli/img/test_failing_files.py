"""A disk of the host that fails while an image on it is opened or looked at: one line that names the file, whatever the format."""

import errno
import os
import shlex
from pathlib import Path

import pytest

from exuvia.disk.graph import FORMATS
from exuvia.disk.protocols.file import File
from exuvia.disk.vector import Vector
from tests.cli.img.twins import ours

MADE = sorted(name for name, kind in FORMATS.items() if kind.can_create() and name != "luks")
LINES = (
    "info t",
    "check t",
    "map t",
    "snapshot -l t",
    "resize t 9M",
    "compare t t",
    "measure -O raw t",
    "convert -O raw t u",
    "dd if=t of=u",
)


@pytest.mark.parametrize("format", MADE)
def test_every_command(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads fail from the first, the second … on."""
    (tmp_path / "data").write_bytes(os.urandom(3 << 20))
    assert ours(tmp_path, "convert", "-O", format, "data", "t").status == 0
    read, readv, left, failed = File.read, File.readv, 0, False

    def count() -> None:
        nonlocal left, failed
        left -= 1
        if left < 0:
            failed = True
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def failing_read(self: File, offset: int, length: int) -> bytes:
        count()
        return read(self, offset, length)

    def failing_readv(self: File, offset: int, into: Vector) -> None:
        count()
        readv(self, offset, into)

    monkeypatch.setattr(File, "read", failing_read)
    monkeypatch.setattr(File, "readv", failing_readv)
    for line in LINES:
        for good in range(12):
            left, failed = good, False
            answer = ours(tmp_path, *shlex.split(line))
            if not failed:
                break
            assert answer.status, (line, good, answer)
            assert "t'" in answer.err or "t:" in answer.err or "of t" in answer.err, (line, good, answer)
            assert "Input/output error" in answer.err, (line, good, answer)
            assert answer.err.count("Input/output error") == 1, (line, good, answer)


@pytest.mark.parametrize("format", MADE)
def test_a_full_disk(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes fail from the first, the third … on, those when the image is closed too: what is told is the first, and of the target."""
    (tmp_path / "data").write_bytes(os.urandom(3 << 20))
    write, left = os.pwritev, 0

    def full(fd: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", full)
    for good in range(0, 40, 2):
        left = good
        answer = ours(tmp_path, "convert", "-O", format, "data", "t")
        if not answer.status:
            break
        assert answer.err.count("\n") == 1, (good, answer)
        assert answer.err.startswith("exuvia-img: t: "), (good, answer)
        assert answer.err.endswith(": No space left on device\n"), (good, answer)
    else:
        pytest.fail("it never had room enough")
