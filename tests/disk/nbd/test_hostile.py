"""Peers that lie, are silent or vanish: one error of the kinds that callers expect, soon; a server goes on serving the others."""

import os
import random
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from exuvia.disk.nbd import address, connection, server, wire
from exuvia.disk.nbd.export import Export
from exuvia.disk.protocols import nbd
from exuvia.disk.protocols.nbd import Nbd
from exuvia.support.errors import UserError
from tests.disk.nbd.serving import scripted, served, spoiling
from tests.disk.powercut import PowerCut

MIB = 1 << 20
HELLO = wire.GREETING.pack(wire.INIT, wire.OPTION_MAGIC, 3)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed within a second."""
    monkeypatch.setattr(address, "PATIENCE", 1.0)
    monkeypatch.setattr(nbd, "PATIENCE", 1.0)
    monkeypatch.setattr(connection, "SILENCE", 1.0)
    monkeypatch.setattr(server, "PATIENCE", 1.0)


def use(path: Path) -> str:
    """Everything that a client does; what went wrong."""
    began = time.monotonic()
    try:
        with Nbd(server={"type": "unix", "path": str(path)}) as node:
            node.read(0, min(node.size, 200_000))
            for _ in node.extents(0, min(node.size, 8 * MIB)):
                pass
            node.flush()
        return ""
    except (UserError, OSError) as error:
        return str(error)
    finally:
        assert time.monotonic() - began < 10


def reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return wire.OPTION_REPLY.pack(wire.REPLY_MAGIC, option, kind, len(data)) + data


def up_to_go(client: socket.socket, size: int = MIB) -> None:
    """A handshake of a server that grants everything."""
    client.sendall(HELLO)
    client.recv(4)
    while True:
        head = client.recv(16, socket.MSG_WAITALL)
        if not head:
            raise OSError
        _, option, length = wire.OPTION.unpack(head)
        client.recv(length, socket.MSG_WAITALL)
        if option == wire.Opt.SET_META_CONTEXT:
            client.sendall(reply(option, wire.Rep.META_CONTEXT, b"\0\0\0\1base:allocation"))
        if option == wire.Opt.GO:
            client.sendall(reply(option, wire.Rep.INFO, b"\0\0" + wire.EXPORT.pack(size, 0x3)))
        client.sendall(reply(option, wire.Rep.ACK))
        if option == wire.Opt.GO:
            return


def chunk(client: socket.socket, kind: int, content: bytes, flags: int = 1, cookie: int | None = None, length: int | None = None) -> None:
    """Answer the next request with one chunk."""
    asked: int = wire.REQUEST.unpack(client.recv(28, socket.MSG_WAITALL))[3]
    size = len(content) if length is None else length
    client.sendall(wire.CHUNK.pack(wire.CHUNK_MAGIC, flags, kind, asked if cookie is None else cookie, size) + content)
    time.sleep(0.05)


Script = Callable[[socket.socket], None]


def say(*content: bytes) -> Script:
    def script(client: socket.socket) -> None:
        for each in content:
            client.sendall(each)
        while content and client.recv(4096):
            pass

    return script


def after_go(*arguments: object, **named: object) -> Script:
    def script(client: socket.socket) -> None:
        up_to_go(client)
        chunk(client, *arguments, **named)  # type: ignore[arg-type]

    return script


def drip(client: socket.socket) -> None:
    for byte in HELLO + reply(8, 1) * 50:
        client.sendall(bytes([byte]))
        time.sleep(0.15)


def silent_after_go(client: socket.socket) -> None:
    up_to_go(client)
    time.sleep(3)


SCRIPTS: dict[str, tuple[Script, str]] = {
    "nothing": (say(), "closed"),
    "silence": (lambda client: time.sleep(3), "no answer in time"),
    "byte by byte": (drip, "no answer in time"),
    "no NBD": (say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "Bad initial magic"),
    "another magic": (say(struct.pack(">QQH", wire.INIT, 77, 3)), "Bad server magic"),
    "half a greeting": (say(HELLO[:11]), ""),
    "reply to another option": (say(HELLO, reply(77, 1)), "fits no question"),
    "endless reply": (say(HELLO, wire.OPTION_REPLY.pack(wire.REPLY_MAGIC, 8, 1, 1 << 31)), "2147483648 bytes"),
    "size of 2^64": (lambda client: up_to_go(client, (1 << 64) - 1), "claims an export of"),
    "silence after the handshake": (silent_after_go, "no answer in time"),
    "closed after the handshake": (up_to_go, "closed"),
    "unknown cookie": (after_go(wire.DATA, bytes(8) + b"x", cookie=99), "answer to nothing"),
    "bad magic": (lambda client: (up_to_go(client), client.sendall(b"x" * 64), time.sleep(0.1))[0], "magic 0x78787878"),  # type: ignore[func-returns-value]
    "content from elsewhere": (after_go(wire.DATA, (1 << 63).to_bytes(8, "big") + b"x"), "not asked for"),
    "content past the end": (after_go(wire.DATA, (199_999).to_bytes(8, "big") + b"xx"), "not asked for"),
    "4 GiB of content": (after_go(wire.DATA, bytes(8), length=(1 << 32) - 1), "not asked for"),
    "too little content": (after_go(wire.DATA, bytes(8) + b"x"), "1 of 200000 bytes"),
    "a hole of nothing": (after_go(wire.HOLE, bytes(12)), "not asked for"),
    "a hole too large": (after_go(wire.HOLE, bytes(8) + b"\xff" * 4), "not asked for"),
    "status for a read": (after_go(wire.STATUS, bytes(12)), "chunk of type 5"),
    "endless error": (after_go(wire.ERROR, b"", length=1 << 31), "chunk of type 32769"),
    "an error": (after_go(wire.ERROR, (28).to_bytes(4, "big") + bytes(2)), "No space"),
    "an unknown error": (after_go(wire.ERROR, (200).to_bytes(4, "big") + bytes(2)), "Invalid"),
    "half a chunk": (after_go(wire.DATA, bytes(8) + b"x" * 10, length=200_008), "closed"),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_hostile_server_gets(name: str, tmp_path: Path) -> None:
    script, text = SCRIPTS[name]
    with scripted(tmp_path / "nbd", script):
        assert text in use(tmp_path / "nbd") != ""


@pytest.mark.parametrize("extents", [b"", bytes(8), b"\0\0\0\0\0\0\0\3" * 3])
def test_statuses_that_make_no_sense(extents: bytes, tmp_path: Path) -> None:
    def script(client: socket.socket) -> None:
        up_to_go(client)
        chunk(client, wire.HOLE, bytes(8) + (200_000).to_bytes(4, "big"))
        chunk(client, wire.STATUS, b"\0\0\0\1" + extents)

    with scripted(tmp_path / "nbd", script):
        assert "status" in use(tmp_path / "nbd") or "chunk of type 5" in use(tmp_path / "nbd")


def test_a_list_without_an_end(tmp_path: Path) -> None:
    def script(client: socket.socket) -> None:
        client.sendall(HELLO)
        client.recv(4 + 16)
        client.sendall(reply(8, wire.Rep.ACK))
        client.recv(16)
        while True:
            client.sendall(reply(3, wire.Rep.SERVER, b"\0\0\0\1x") * 100)

    from exuvia.disk.nbd.handshake import Haggler

    with scripted(tmp_path / "nbd", script):
        haggler = Haggler(address.Address(path=str(tmp_path / "nbd")))
        with pytest.raises(UserError, match="list without an end"):
            list(haggler.exports())
        haggler.close()


@pytest.mark.parametrize("seed", range(12))
def test_bytes_that_were_changed_on_the_way(seed: int, tmp_path: Path) -> None:
    """Everything between two ends of ours is spoiled somewhere, or cut."""
    rng = random.Random(seed)
    content = random.Random(9).randbytes(MIB) + bytes(MIB)
    with served(tmp_path / "real", Export(PowerCut(content), description="d")):
        for _ in range(6):
            where, what = rng.randrange(700), rng.randrange(3)

            def spoil(offset: int, data: bytes, where: int = where, what: int = what) -> bytes | None:
                if not offset <= where < offset + len(data):
                    return data
                if what == 0:
                    return None
                changed = bytearray(data)
                changed[where - offset] ^= 1 << rng.randrange(8) if what == 1 else 0xFF
                return bytes(changed)

            with scripted(tmp_path / "nbd", spoiling(tmp_path / "real", spoil)):
                use(tmp_path / "nbd")


@pytest.mark.parametrize("seed", range(8))
def test_clients_that_talk_nonsense(seed: int, tmp_path: Path) -> None:
    """The server lives on, and keeps nobody's thread."""
    rng = random.Random(seed)
    content = random.Random(9).randbytes(MIB)
    node = PowerCut(content)
    with served(tmp_path / "nbd", Export(node, writable=False), shared=3):
        for _ in range(12):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(5)
                sock.connect(str(tmp_path / "nbd"))
                sock.recv(18)
                try:
                    sock.sendall(rng.choice((b"\0\0\0\3", b"\0\0\0\1", rng.randbytes(4))))
                    for _ in range(rng.randrange(6)):
                        option = rng.choice((*wire.Opt, rng.randrange(1 << 32)))
                        data = rng.choice((b"", rng.randbytes(rng.randrange(40)), struct.pack(">III", 0, 1, 15) + b"base:allocation",
                                           bytes(6), b"\xff" * 12))  # fmt: skip
                        length = rng.choice((len(data), len(data), len(data), rng.randrange(1 << 32)))
                        sock.sendall(wire.OPTION.pack(wire.OPTION_MAGIC, option, length) + data)
                    sock.sendall(wire.OPTION.pack(wire.OPTION_MAGIC, wire.Opt.EXPORT_NAME, 0))
                    for _ in range(rng.randrange(30)):
                        sock.sendall(wire.REQUEST.pack(rng.choice((wire.REQUEST_MAGIC,) * 9 + (5,)), rng.choice((0, 0, 1, 255)),
                            rng.randrange(10), 1, rng.choice((0, 1, MIB, 1 << 63)), rng.choice((0, 512, MIB, 4095 << 20))))  # fmt: skip
                    sock.shutdown(socket.SHUT_WR)
                    while sock.recv(1 << 16):
                        pass
                except OSError:
                    pass
        with Nbd(server={"type": "unix", "path": str(tmp_path / "nbd")}) as good:
            assert good.read(0, MIB) == content
    assert node.now == content


def test_a_client_that_says_nothing_is_sent_away(tmp_path: Path) -> None:
    with served(tmp_path / "nbd", Export(PowerCut(bytes(MIB))), shared=1), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "nbd"))
        # who comes next waits as long as the server has patience with anybody: either of both can end it
        ended = (f"{tmp_path / 'nbd'}: {how} during the handshake" for how in ("no answer in time", "the connection was closed"))
        assert use(tmp_path / "nbd") in ("", *ended)
        assert use(tmp_path / "nbd") == ""


def test_no_descriptors_stay_behind(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for name in ("no NBD", "too little content", "size of 2^64"):
        with scripted(tmp_path / "nbd", SCRIPTS[name][0]):
            use(tmp_path / "nbd")
    end = time.monotonic() + 5
    while (now := len(os.listdir("/proc/self/fd"))) > before and time.monotonic() < end:  # the scripts' own end soon
        time.sleep(0.05)
    assert now <= before


def test_a_client_that_speaks_byte_by_byte_is_sent_away(tmp_path: Path) -> None:
    with served(tmp_path / "nbd", Export(PowerCut(bytes(MIB))), shared=1), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "nbd"))
        began = time.monotonic()
        words = b"\0\0\0\3" + wire.OPTION.pack(wire.OPTION_MAGIC, wire.Opt.LIST, 0) * 20

        def speak() -> None:
            for byte in words:
                sock.sendall(bytes([byte]))
                time.sleep(0.15)

        with pytest.raises(OSError, match="Broken pipe|reset"):
            speak()
        assert 0.9 < time.monotonic() - began < 5
        assert use(tmp_path / "nbd") == ""
