"""Bytes from file to file: whatever way they take, they arrive, and what could not be moved is not counted."""

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from exuvia.disk import elsewhere
from exuvia.disk.elsewhere import MANY, NEAR, Elsewhere
from exuvia.disk.processors import share
from exuvia.disk.protocols.file import File

CONTENT = os.urandom(3 * MANY + 12345)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[File, File]:
    monkeypatch.setattr(elsewhere, "idle", lambda: True)
    (tmp_path / "source").write_bytes(CONTENT)
    return File(str(tmp_path / "source")), File(str(tmp_path / "target"), writable=True, create=True)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize(("start", "length", "offset"), [(0, len(CONTENT), 0), (4096, 2 * MANY, 8192), (7, MANY + 1, 13), (5, 600, 0)])
def test_bytes_arrive(files: tuple[File, File], on_device: bool, start: int, length: int, offset: int) -> None:
    source, target = files
    source.on_device = on_device
    target.on_device = True
    with source, target:
        target.writev(offset, Elsewhere(source, start, length))
        assert target.read(offset, length) == CONTENT[start : start + length]
        assert target.size == offset + length


def test_past_the_end_there_are_zeros(files: tuple[File, File]) -> None:
    source, target = files
    source.on_device = target.on_device = True
    with source, target:
        target.write(0, b"\xff" * (len(CONTENT) + MANY))
        assert Elsewhere(source, MANY, 3 * MANY).move(target, 0) == len(CONTENT) - MANY
        target.writev(0, Elsewhere(source, MANY, 3 * MANY))
        assert target.read(0, 3 * MANY) == CONTENT[MANY:].ljust(3 * MANY, b"\0")
        assert Elsewhere(source, len(CONTENT), MANY).move(target, 0) == 0


@pytest.mark.parametrize("bad", [0, NEAR, 2 * NEAR + 5, 2 * MANY])
def test_what_is_counted_is_there(files: tuple[File, File], bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full from `bad` on, for a thread that comes first and for one that comes later."""
    source, target = files
    source.on_device = target.on_device = True
    real, threads = os.pwrite, set()

    def full(fd: int, data: memoryview, offset: int) -> int:
        threads.add(threading.get_ident())
        if offset >= bad:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[: bad - offset], offset)

    monkeypatch.setattr(os, "pwrite", full)
    monkeypatch.setattr(elsewhere, "share", lambda work, _: share(work, 3))
    with source, target:
        assert Elsewhere(source, 0, 3 * MANY).move(target, 0) == bad
        assert target.read(0, bad) == CONTENT[:bad]
    assert len(threads) > 1


def test_blocks_are_shared_where_the_file_system_can(files: tuple[File, File], monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = files
    source.on_device = target.on_device = True
    asked: list[bytes] = []

    def shares(fd: int, number: int, request: bytes) -> int:
        asked.append(request)
        assert (fd, number) == (target.fd, 0x4020940D)
        if len(asked) != 2:
            raise OSError(errno.EINVAL if len(asked) == 1 else errno.EXDEV, "not so")
        return 0

    monkeypatch.setattr(fcntl, "ioctl", shares)
    with source, target:
        piece = Elsewhere(source, 4096, MANY)
        assert piece.move(target, 0) == MANY
        assert target.size == MANY  # read and written: those bytes could not be shared
        assert piece.move(target, 8192) == MANY
        assert target.size == MANY
        assert asked[1] == b"".join(n.to_bytes(8, "little") for n in (source.fd, 4096, MANY, 8192))
        for _ in range(2):
            assert piece.move(target, 8192) == MANY
        assert len(asked) == 3  # no more after it said that it never can
        assert target.size == MANY + 8192
