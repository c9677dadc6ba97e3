"""Our client and our server with one another: content, errors, status, threads, TLS, servers that go away and come back."""

import errno
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.disk import objects
from exuvia.disk.formats.raw import Raw
from exuvia.disk.nbd.export import Export
from exuvia.disk.nbd.handshake import Haggler
from exuvia.disk.nbd.tls import context
from exuvia.disk.nbd.wire import Flag
from exuvia.disk.node import Kind, Node, Unsupported
from exuvia.disk.protocols.file import File
from exuvia.disk.protocols.nbd import Nbd
from exuvia.disk.queue import Queue
from exuvia.disk.vector import Vector
from exuvia.support.errors import UserError
from tests.disk.nbd.serving import certificates, served
from tests.disk.powercut import PowerCut

MIB = 1 << 20


def disk(path: Path, content: bytes) -> Raw:
    path.write_bytes(content)
    return Raw(File(str(path), writable=True), writable=True)


def client(path: Path, **options: object) -> Nbd:
    return Nbd(server={"type": "unix", "path": str(path)}, **{"writable": True, **options})  # type: ignore[arg-type]


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "nbd"


def test_several_threads_against_a_model(at: Path, tmp_path: Path) -> None:
    """Reads, writes, zeroes and flushes of four threads over one connection."""
    content = random.Random(1).randbytes(4 * MIB)
    model = bytearray(content)
    with disk(tmp_path / "disk", content) as node, served(at, Export(node)), client(at) as far:
        queue, part = Queue(far), len(content) // 4
        failures: list[object] = []

        def work(number: int) -> None:
            rng = random.Random(number)
            for _ in range(200):
                length = rng.choice((1, 512, 4096, rng.randrange(1, 300_000)))
                offset = number * part + rng.randrange(part - length)
                what = rng.randrange(4)
                if what == 0:
                    data = rng.randbytes(length)
                    model[offset : offset + length] = data
                    queue.write(offset, Vector((data[: length // 3], data[length // 3 :]))).result(60)
                elif what == 1:
                    model[offset : offset + length] = bytes(length)
                    queue.zero(offset, length).result(60)
                elif what == 2:
                    queue.flush().result(60)
                else:
                    into = bytearray(length)
                    queue.read(offset, Vector((memoryview(into)[:7], memoryview(into)[7:]))).result(60)
                    if into != model[offset : offset + length]:
                        failures.append((offset, length))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert far.read(0, len(content)) == model
        queue.close()
    assert (tmp_path / "disk").read_bytes() == model


def test_status_and_sparse_reads(at: Path, tmp_path: Path) -> None:
    content = b"\1" * MIB + bytes(2 * MIB) + b"\2" * MIB
    with disk(tmp_path / "disk", b"") as node:
        node.resize(len(content))
        node.write(0, content[:MIB])
        node.write(3 * MIB, content[3 * MIB :])
        with served(at, Export(node)), client(at) as far:
            assert [(extent.kind, extent.length) for extent in far.extents(0, len(content))] == [
                (Kind.DATA, MIB), (Kind.ZERO, 2 * MIB), (Kind.DATA, MIB)]  # fmt: skip
            assert [(extent.kind, extent.length) for extent in far.extents(MIB - 5, 10)] == [(Kind.DATA, 5), (Kind.ZERO, 5)]
            assert far.read(0, len(content)) == content
            assert far.read(len(content) - 3, 10) == b"\2\2\2" + bytes(7)


def test_a_part_with_a_name_and_what_it_refuses(at: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", b"a" * MIB + b"b" * MIB) as node:
        part = Export(node, "the part", description="for tests", offset=MIB, writable=False)
        with served(at, part), client(at, export="the part", writable=False) as far:
            assert far.size == MIB and far.read(0, 10) == b"b" * 10
            assert far.told.description == "for tests" and far.told.flags & Flag.READ_ONLY
            with pytest.raises(OSError) as failed:
                far._write(0, Vector((b"x",)))
            assert failed.value.errno == errno.EPERM
            with pytest.raises(UserError, match="without write permission"):
                client(at, export="the part")
            with pytest.raises(UserError, match="Requested export not available.*'other' not present"):
                client(at, export="other", writable=False)
        with pytest.raises(UserError, match="would end past"):
            Export(node, offset=3 * MIB)


def test_resize_reaches_the_file(at: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", b"a" * MIB) as node:
        with served(at, Export(node)), client(at) as far:
            far.resize(2 * MIB)
            far.write(2 * MIB - 1, b"x")
            with client(at) as other:
                assert far.size == other.size == 2 * MIB
            with pytest.raises(OSError) as failed:
                far.write(2 * MIB, b"x")
            assert failed.value.errno == errno.ENOSPC
        with served(at, Export(node, length=MIB)), client(at) as far, pytest.raises(Unsupported, match="Cannot resize NBD nodes"):
            far.resize(3 * MIB)
    assert (tmp_path / "disk").stat().st_size == 2 * MIB


class Failing(PowerCut):
    """Fails as it is told."""

    number = errno.ENOSPC

    def writev(self, offset: int, data: Vector) -> None:
        raise OSError(self.number, "no")

    def readv(self, offset: int, into: Vector) -> None:
        if offset >= 100_000:
            raise OSError(errno.EIO, "no")
        into.clear()


@pytest.mark.parametrize(
    ("given", "want"), [(errno.ENOSPC, errno.ENOSPC), (errno.EDQUOT, errno.ENOSPC), (errno.EROFS, errno.EPERM), (errno.EPIPE, errno.EIO)]
)
def test_errors_have_the_numbers_of_the_protocol(given: int, want: int, at: Path) -> None:
    node = Failing(bytes(MIB))
    node.number = given
    with served(at, Export(node)), client(at) as far:
        with pytest.raises(OSError) as failed:
            far.write(0, b"x")
        assert failed.value.errno == want
        with pytest.raises(OSError) as failed:
            far.read(100_000, 80_000)
        assert failed.value.errno == errno.EIO
        assert far.read(0, 10) == bytes(10)


def test_a_flush_is_the_servers_flush(at: Path) -> None:
    node = PowerCut(bytes(MIB))
    with served(at, Export(node)), client(at) as far:
        far.write(0, b"kept")
        assert node.safe[:4] == bytes(4)
        far.flush()
        assert node.safe[:4] == b"kept"


def test_clients_beyond_the_number_wait(at: Path) -> None:
    node, second = PowerCut(bytes(MIB)), []
    with served(at, Export(node), shared=1):
        with client(at):
            thread = threading.Thread(target=lambda: second.append(client(at)))
            thread.start()
            time.sleep(0.2)
            assert not second
        thread.join(10)
        assert second[0].read(0, 1) == b"\0"
        second[0].close()


def test_the_last_client_ends_a_server_that_is_not_persistent(at: Path) -> None:
    with served(at, Export(PowerCut(bytes(MIB))), persistent=False) as server:
        with client(at), client(at):
            pass
        deadline = time.monotonic() + 10
        while server.sock.fileno() >= 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert server.sock.fileno() < 0


def test_a_server_that_comes_back(at: Path) -> None:
    node = PowerCut(bytes(MIB))
    with served(at, Export(node)):
        patient, hasty = client(at, **{"reconnect-delay": 20}), client(at)
        patient.write(0, b"one")
    with pytest.raises(OSError) as failed:
        hasty.read(0, 3)
    assert failed.value.errno == errno.EIO and str(at) in str(failed.value)
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(patient.read(0, 3)))
    thread.start()
    time.sleep(0.3)
    assert not got
    with served(at, Export(node)):
        thread.join(20)
        assert got == [b"one"]
        assert hasty.read(0, 3) == b"one"
        patient.close()
        hasty.close()
        patient.close()


def test_a_server_that_is_not_there_yet(at: Path) -> None:
    with pytest.raises(UserError, match="Failed to connect to '.*nbd': No such file"):
        client(at)
    late: list[Node] = []
    thread = threading.Thread(target=lambda: late.append(client(at, **{"open-timeout": 20})))
    thread.start()
    time.sleep(0.2)
    with served(at, Export(PowerCut(bytes(MIB)))):
        thread.join(20)
        assert late[0].size == MIB
        late[0].close()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("keys")
    certificates(folder)
    objects.define(f"tls-creds-x509,id=server,endpoint=server,dir={folder}")
    objects.define(f"tls-creds-x509,id=client,endpoint=client,dir={folder}")
    yield folder
    objects.remove("server")
    objects.remove("client")


def test_tls(at: Path, keys: Path) -> None:
    content = random.Random(3).randbytes(3 * MIB)
    node = PowerCut(content)
    with served(at, Export(node), tls=context("server", server=True), permits=lambda peer: peer == "CN=guest,O=Exuvia"):
        with client(at, **{"tls-creds": "client", "tls-hostname": "localhost"}) as far:
            assert far.read(0, len(content)) == content
            queue = Queue(far)
            writes = [queue.write(number * 70_000, Vector((bytes([number]) * 70_000,))) for number in range(40)]
            reads = [bytearray(1000) for _ in range(20)]
            done = [queue.read(2_900_000 + number * 1000, Vector((into,))) for number, into in enumerate(reads)]
            for future in (*writes, *done):
                future.result(60)
            queue.close()
            assert b"".join(reads) == content[2_900_000:2_920_000]
            assert far.read(0, 2_800_000) == b"".join(bytes([number]) * 70_000 for number in range(40))
        with pytest.raises(UserError, match="demands TLS"):
            client(at)
        with pytest.raises(UserError, match="(?i)hostname mismatch"):
            client(at, **{"tls-creds": "client", "tls-hostname": "elsewhere"})
    with served(at, Export(node), tls=context("server", server=True), permits=lambda peer: False), pytest.raises(UserError):
        client(at, **{"tls-creds": "client", "tls-hostname": "localhost"})
    with served(at, Export(node)), pytest.raises(UserError, match="STARTTLS refused"):
        client(at, **{"tls-creds": "client"})


def test_credentials_that_are_wrong(keys: Path, tmp_path: Path) -> None:
    objects.define(f"tls-creds-x509,id=nowhere,endpoint=client,dir={tmp_path}")
    try:
        with pytest.raises(UserError, match="ca-cert.pem: No such file"):
            context("nowhere", server=False)
        (tmp_path / "ca-cert.pem").write_text("nonsense")
        with pytest.raises(UserError, match=r"Unable to load credentials .*ca-cert.pem"):
            context("nowhere", server=False)
        for name in ("server", "bogus"):
            with pytest.raises(UserError):
                context(name, server=False)
    finally:
        objects.remove("nowhere")


def test_a_list_of_exports(at: Path) -> None:
    from exuvia.disk.nbd.address import Address

    node = PowerCut(bytes(MIB))
    with served(at, Export(node, "one"), Export(node, "two", description="second", depth=True)):
        haggler = Haggler(Address(path=str(at)))
        found = list(haggler.exports())
        haggler.close()
    assert [(export.name, export.description, export.size, list(export.contexts)) for export in found] == [
        ("one", "", MIB, ["base:allocation"]),
        ("two", "second", MIB, ["base:allocation", "qemu:allocation-depth"]),
    ]
