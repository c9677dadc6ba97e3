"""Character backends: what a device writes gets out, what comes in waits for room, and bad options are one clear line."""

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exuvia.backends.chardev.chardev import Chardev, chardevs
from exuvia.backends.chardev.mux import Mux
from exuvia.backends.chardev.socket import Socket
from exuvia.backends.chardev.stream import Stream
from exuvia.support.errors import UserError


class Loop:
    """A machine thread of a test's own: runs what was posted when the test waits."""

    def __init__(self) -> None:
        self.work: queue.Queue[Callable[[], None]] = queue.Queue()

    def post(self, work: Callable[[], None]) -> None:
        self.work.put(work)

    def until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < end, "it did not happen in 10 seconds"
            try:
                self.work.get(timeout=0.05)()
            except queue.Empty:
                continue


class Port:
    """A device with room for `limit` bytes at a time."""

    def __init__(self, chardev: Chardev, limit: int = 1 << 20) -> None:
        self.got = b""
        self.limit = limit
        self.breaks = 0
        chardev.connect(self.receive, lambda: self.limit, self.on_break)

    def receive(self, data: bytes) -> None:
        assert threading.current_thread() is threading.main_thread(), "devices are entered by the machine thread only"
        assert len(data) <= self.limit
        self.limit -= len(data)
        self.got += data

    def on_break(self) -> None:
        self.breaks += 1


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def made() -> Iterator[Callable[..., Chardev]]:
    """Makes backends that are closed after the test."""
    backends: list[Chardev] = []

    def make(kind: str, **options: str) -> Chardev:
        backends.append(chardevs[kind]("x", options))
        return backends[-1]

    yield make
    for backend in backends:
        backend.close()
        backend.close()


def test_the_registry() -> None:
    assert list(chardevs) == ["file", "null", "pty", "socket", "stdio"]


def test_file(made: Callable[..., Chardev], loop: Loop, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    for append, expected in (("off", b"one"), ("on", b"oneone")):
        backend = made("file", path=str(path), append=append)
        backend.open(loop.post)
        backend.write(b"one")
        assert path.read_bytes() == expected, "written at once"


def test_file_on_a_full_disk(made: Callable[..., Chardev], loop: Loop, capsys: pytest.CaptureFixture[str]) -> None:
    backend = made("file", path="/dev/full")
    backend.open(loop.post)
    backend.write(b"x")
    backend.write(b"y")
    assert capsys.readouterr().err == "exuvia: cannot write to /dev/full: No space left on device; output is lost\n"


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("file", {}, "chardev file needs path=FILE"),
        ("file", {"path": "x", "appendix": "on"}, r"unknown option of chardev file 'appendix' \(did you mean append\?\)"),
        ("file", {"path": "x", "append": "maybe"}, "option 'append' of chardev file is on or off, not 'maybe'"),
        ("socket", {}, "chardev socket needs either path=FILE or port=NUMBER"),
        ("socket", {"path": "x", "port": "1"}, "chardev socket needs either path=FILE or port=NUMBER"),
        ("socket", {"port": "99999"}, "port of chardev socket is a number below 65536, not '99999'"),
        ("socket", {"port": "1", "wait": "on"}, "option 'wait' of chardev socket is for a server"),
        ("null", {"path": "x"}, "unknown option of chardev null 'path'"),
        ("pipe", {}, r"unknown chardev backend 'pipe' \(did you mean file\?\)"),
    ],
)
def test_bad_options(kind: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        chardevs[kind]("x", options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("file", {"path": "/no/such/folder/x"}, "cannot write to /no/such/folder/x: No such file or directory"),
        ("socket", {"path": "/no/such/socket"}, "cannot connect to unix:/no/such/socket: No such file or directory"),
        ("socket", {"path": "/no/such/x", "server": "on"}, "cannot listen on unix:/no/such/x: No such file or directory"),
        ("pty", {"path": "/no/such/link"}, "cannot make the link /no/such/link: No such file or directory"),
    ],
)
def test_what_cannot_be_opened(made: Callable[..., Chardev], loop: Loop, kind: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        made(kind, **options).open(loop.post)


def test_pty(made: Callable[..., Chardev], loop: Loop, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = tmp_path / "link"
    backend = made("pty", path=str(link))
    port = Port(backend, 3)
    backend.open(loop.post)
    assert capsys.readouterr().err == f"char device redirected to {os.readlink(link)} (label x)\n"
    peer = os.open(link, os.O_RDWR | os.O_NOCTTY)
    os.write(peer, b"hello\n")
    loop.until(lambda: port.got == b"hel")
    port.limit = 10
    backend.resume()
    assert port.got == b"hello\n", "the rest came when there was room"
    backend.write(b"\x00\xffback\n")
    assert os.read(peer, 100) == b"\x00\xffback\n", "the line is raw"
    os.close(peer)
    peer = os.open(link, os.O_RDWR | os.O_NOCTTY)
    os.write(peer, b"again")
    loop.until(lambda: port.got.endswith(b"again"))
    os.close(peer)
    backend.close()
    assert not link.is_symlink()


def test_a_stream_begins_when_its_owner_has_it() -> None:
    """What is there already must not come back before the owner can answer it; and a stream that never began can be stopped."""
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"early")
        got: queue.Queue[bytes] = queue.Queue()
        stream = Stream(here.fileno(), got.put, lambda: None)
        with pytest.raises(queue.Empty):
            got.get(timeout=0.1)
        stream.start()
        assert got.get(timeout=10) == b"early"
        stream.stop()
        idle = Stream(here.fileno(), got.put, lambda: None)
        idle.stop()
        idle.start()
        assert got.empty()


def test_a_peer_that_does_not_read(made: Callable[..., Chardev], loop: Loop) -> None:
    backend = made("pty")
    backend.open(loop.post)
    begin = time.monotonic()
    for _ in range(64):
        backend.write(bytes(65536))
    assert time.monotonic() - begin < 2, "the guest is not stopped by its reader"


def test_unix_server(made: Callable[..., Chardev], loop: Loop, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    backend = made("socket", path=path, server="on", wait="off")
    port = Port(backend)
    backend.open(loop.post)
    backend.write(b"nobody hears")
    for turn in (b"first", b"second"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(path)
            client.sendall(turn)
            loop.until(lambda turn=turn: port.got.endswith(turn))  # type: ignore[misc]
            backend.write(turn * 2)
            assert client.recv(100) == turn * 2
    backend.close()
    assert not os.path.exists(path)


def test_a_server_that_waits(made: Callable[..., Chardev], loop: Loop, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    def client() -> None:
        while not os.path.exists(path):
            time.sleep(0.01)
        with socket.socket(socket.AF_UNIX) as made:
            made.settimeout(10)
            made.connect(path)
            received.append(made.recv(100))

    received: list[bytes] = []
    thread = threading.Thread(target=client)
    thread.start()
    backend = made("socket", path=path, server="on")
    backend.open(loop.post)
    backend.write(b"x")
    thread.join(10)
    assert received == [b"x"]
    assert "waiting for connection on: unix:" in capsys.readouterr().err


def test_tcp(made: Callable[..., Chardev], loop: Loop) -> None:
    server = made("socket", host="127.0.0.1", port="0", server="on", wait="off")
    assert isinstance(server, Socket)
    server.open(loop.post)
    client = made("socket", host="127.0.0.1", port=str(server.port), nodelay="on")
    here, there = Port(server), Port(client)
    client.open(loop.post)
    client.write(b"to the server")
    loop.until(lambda: here.got == b"to the server")
    data = os.urandom(300_000)
    server.write(data)
    loop.until(lambda: len(there.got) >= len(data))
    assert there.got == data


class Screen(Chardev):
    """A backend that the test holds in its hands."""

    def __init__(self) -> None:
        super().__init__("screen")
        self.shown = b""

    def write(self, data: bytes) -> None:
        self.shown += data


def test_mux_keys() -> None:
    screen, quits = Screen(), []
    mux = Mux(screen, lambda: quits.append(True))
    serial, monitor = Port(mux.port("serial")), Port(mux.port("monitor"))
    screen.deliver(b"ls\x01")
    assert serial.got == b"ls"
    screen.deliver(b"cinfo\x01cback\x01\x01\x01?")
    assert monitor.got == b"info"
    assert serial.got == b"lsback\x01"
    assert b"C-a x    exit" in screen.shown
    screen.deliver(b"\x01b\x01q")
    assert (serial.breaks, monitor.breaks) == (1, 0)
    screen.deliver(b"\x01x")
    assert quits == [True]


def test_mux_timestamps() -> None:
    screen = Screen()
    mux = Mux(screen, lambda: None)
    port = mux.port("serial")
    screen.deliver(b"\x01t")
    port.write(b"end of a line\nnext ")
    port.write(b"same\n")
    assert screen.shown.startswith(b"end of a line\n[00:00:00.")
    assert screen.shown.endswith(b"] next same\n")


def test_mux_lets_the_user_out_of_a_hung_guest() -> None:
    screen, quits = Screen(), []
    mux = Mux(screen, lambda: quits.append(True))
    port = Port(mux.port("serial"), 0)
    for _ in range(100):
        screen.deliver(bytes(1000).replace(b"\0", b"a"))
    screen.deliver(b"\x01x")
    assert quits == [True]
    port.limit = 1 << 20
    mux.ports[0].resume()
    assert port.got == b"a" * 65536, "what is kept is bounded"
