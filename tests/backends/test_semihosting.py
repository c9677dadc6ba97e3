"""The host's side of semihosting: files and their handles, a console that is a chardev, who waits for input."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from exuvia.backends.chardev.chardev import CHUNK, Chardev
from exuvia.backends.chardev.stdio import Stdio
from exuvia.backends.semihosting import FIRST, MOST_FILES, Semihosting


class Terminal(Chardev):
    """What was written to it."""

    name = "terminal"
    written = b""

    def write(self, data: bytes) -> None:
        self.written += data


def host(console: Chardev | None = None) -> Semihosting:
    return Semihosting(lambda work: work(), console, ["one"], False)


def never() -> None:
    raise AssertionError("nothing came")


def test_handles_are_used_again_and_are_not_without_end(tmp_path: Path) -> None:
    made, path = host(), os.fsencode(tmp_path / "file")
    handles = [made.open(path, os.O_RDWR | os.O_CREAT) for _ in range(MOST_FILES)]
    assert handles[0] == FIRST and len(set(handles)) == MOST_FILES
    with pytest.raises(OSError) as raised:
        made.open(path, os.O_RDONLY)
    assert raised.value.errno == errno.EMFILE
    made.close(handles[7])
    assert made.standard(1) == handles[7]
    made.close_all()
    with pytest.raises(OSError) as raised:
        made.read(handles[0], 1, never)
    assert raised.value.errno == errno.EBADF


def test_output_is_not_read() -> None:
    """A terminal would keep the machine waiting."""
    made = host()
    for stream in (1, 2):
        with pytest.raises(OSError) as raised:
            made.read(made.standard(stream), 1, never)
        assert raised.value.errno == errno.EBADF


def test_a_fifo_without_a_peer_stops_nobody(tmp_path: Path) -> None:
    made, path = host(), os.fsencode(tmp_path / "fifo")
    os.mkfifo(path)
    with pytest.raises(OSError) as raised:
        made.open(path, os.O_WRONLY)
    assert raised.value.errno == errno.ENXIO
    handle = made.open(path, os.O_RDWR)
    with pytest.raises(BlockingIOError):
        made.read(handle, 1, never)
    made.close_all()


def test_the_console_is_the_chardev() -> None:
    terminal = Terminal("c")
    made = host(terminal)
    made.show(b"a")
    assert made.write(1, b"b") == 1 and terminal.written == b"ab"
    woken: list[str] = []

    def wake() -> None:
        woken.append("once")

    assert made.type(1, wake) is None and made.read(0, 2, wake) is None
    terminal.deliver(b"xyz")
    assert woken == ["once"]
    assert (made.type(1, never), made.read(0, 9, never)) == (b"x", b"yz")
    made.close(1)
    assert made.is_terminal(1)
    with pytest.raises(OSError) as raised:
        made.seek(1, 0)
    assert raised.value.errno == errno.EBADF


def test_what_is_typed_ahead_has_an_end() -> None:
    terminal = Terminal("c")
    made = host(terminal)
    terminal.deliver(bytes(2 * CHUNK))
    assert made.type(2 * CHUNK, never) == bytes(CHUNK)
    assert made.type(2 * CHUNK, never) == bytes(CHUNK)
    assert made.type(1, lambda: None) is None


def test_standard_input_that_a_chardev_has_is_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stdio, "in_use", True)
    made = host()
    assert made.type(1, never) == b""
    assert made.read(made.standard(0), 1, never) == b""


def test_remove_takes_files_and_empty_directories(tmp_path: Path) -> None:
    made = host()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for name in ("folder", "file"):
        made.remove(os.fsencode(tmp_path / name))
    assert not list(tmp_path.iterdir())
