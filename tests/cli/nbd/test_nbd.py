"""exuvia-nbd with QEMU's and libnbd's clients, and our clients with qemu-nbd."""

import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exuvia.cli.nbd import device as nbd_device
from exuvia.cli.nbd import main
from exuvia.disk.graph import FORMATS, open_image
from tests.disk.nbd.serving import certificates

MIB = 1 << 20
OURS, IMG, IO = ([sys.executable, "-m", f"exuvia.cli.{name}.main"] for name in ("nbd", "img", "io"))
needs_qemu = pytest.mark.skipif(shutil.which("qemu-nbd") is None, reason="qemu-nbd is not installed")
needs_libnbd = pytest.mark.skipif(shutil.which("nbdinfo") is None, reason="nbdinfo is not installed")
needs_qcow2 = pytest.mark.skipif("qcow2" not in FORMATS, reason="there is no qcow2 yet")


def out(*words: str) -> str:
    """Standard output of a command that must work."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    return done.stdout


def runs(number: int) -> bool:
    """Whether a process still runs (it is no child of ours: what nobody has waited for does not)."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def serving(program: list[str], folder: Path, *words: str, unix: bool = True) -> Iterator[str]:
    """A server in the background, by --fork; its URI (or where it listens) with @ where the export's name belongs."""
    socket, pid = folder / "socket", folder / "pid"
    where = ["-k", str(socket)] if unix else []
    done = subprocess.run([*program, "--fork", "--pid-file", str(pid), *where, *words], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    number = int(pid.read_text())
    try:
        yield f"nbd+unix:///@?socket={socket}"
    finally:
        try:
            os.kill(number, signal.SIGTERM)
        except ProcessLookupError:
            pass
        end = time.monotonic() + 20
        while runs(number) and time.monotonic() < end:
            time.sleep(0.02)
        assert not runs(number)
        if program is OURS:
            assert not pid.exists() and not socket.exists()


def qcow2(path: Path, size: int = 4 * MIB) -> bytes:
    """An image with data and holes; its content."""
    out("qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size))
    rng, content = random.Random(5), bytearray(size)
    commands = []
    for _ in range(12):
        at, length, byte = rng.randrange(size - 200_000), rng.randrange(1, 200_000), rng.randrange(1, 256)
        content[at : at + length] = bytes([byte]) * length
        commands += ["-c", f"write -P {byte} {at} {length}"]
    out("qemu-io", "-f", "qcow2", *commands, str(path))
    return bytes(content)


def lines(uri: str, folder: Path) -> list[str]:
    """What every client must see: content, map, list."""
    copy = folder / "copy"
    out("qemu-img", "convert", "-f", "raw", "-O", "raw", uri, str(copy))
    return [copy.read_bytes().hex()[:100], out("qemu-img", "map", "-f", "raw", "--output=json", uri)]


@needs_qemu
@needs_qcow2
def test_qemus_clients_see_the_same_as_with_qemu_nbd(tmp_path: Path) -> None:
    content = qcow2(tmp_path / "disk")
    base = ["-t", "-e", "3", "-f", "qcow2", "-x", "name", "-D", "for tests", "-A", "-r", str(tmp_path / "disk")]
    seen = []
    for program in (["qemu-nbd"], OURS):
        with serving(program, tmp_path, *base) as uri:
            name = uri.replace("@", "name")
            seen.append([*lines(name, tmp_path), out("qemu-nbd", "-L", "-k", str(tmp_path / "socket"))])
            assert (tmp_path / "copy").read_bytes() == content
            assert out(*OURS, "-L", "-k", str(tmp_path / "socket")) == seen[-1][-1]
            if shutil.which("nbdinfo"):
                seen[-1] += [out("nbdinfo", "--map", name), out("nbdinfo", "--map=qemu:allocation-depth", name)]
                assert json.loads(out("nbdinfo", "--json", name))["exports"][0]["export-size"] == len(content)
    theirs, ours = seen
    assert theirs == ours


@needs_qemu
@needs_qcow2
def test_writes_arrive_and_the_image_is_sound(tmp_path: Path) -> None:
    content = bytearray(qcow2(tmp_path / "disk"))
    with serving(OURS, tmp_path, "-t", "-e", "0", "--discard", "unmap", "-f", "qcow2", str(tmp_path / "disk")) as uri:
        rng = random.Random(6)
        name = uri.replace("@", "")
        for program in (["qemu-io"], IO):
            commands = []
            for _ in range(15):
                at, length, byte = rng.randrange(3 * MIB), rng.randrange(1, 300_000), rng.randrange(1, 256)
                what = rng.choice(("write -P {b} {a} {n}", "write -f -P {b} {a} {n}", "write -z {a} {n}", "write -zu {a} {n}"))
                content[at : at + length] = bytes(length) if "z" in what else bytes([byte]) * length
                commands += ["-c", what.format(a=at, n=length, b=byte)]
            out(*program, "-f", "raw", *commands, name)
        out("qemu-io", "-f", "raw", "-c", "discard 0 64k", name)
        content[:65536] = bytes(65536)
    out("qemu-img", "check", "-q", str(tmp_path / "disk"))
    with open_image(str(tmp_path / "disk"), "qcow2") as image:
        assert image.read(0, len(content)) == content


@needs_qemu
@needs_qcow2
@pytest.mark.parametrize("words", [[], ["--discard", "unmap"], ["--discard", "off"]])
def test_discards_are_passed_on_where_that_is_asked_for(tmp_path: Path, words: list[str]) -> None:
    seen = []
    for program in (["qemu-nbd"], OURS):
        qcow2(tmp_path / "disk")
        out("qemu-io", "-f", "qcow2", "-c", "write -q -P 5 0 256k", str(tmp_path / "disk"))
        with serving(program, tmp_path, "-t", *words, "-f", "qcow2", str(tmp_path / "disk")) as uri:
            out("qemu-io", "-f", "raw", "-c", "discard 0 128k", uri.replace("@", ""))
            facts = [json.loads(out(*img, "info", "--output=json", uri.replace("@", ""))) for img in (["qemu-img"], IMG)]
            assert facts[0] == facts[1]
        seen.append(json.loads(out("qemu-img", "map", "--output=json", str(tmp_path / "disk")))[0]["data"])
    assert seen == [words[1:] != ["unmap"]] * 2


@needs_libnbd
@needs_qemu
def test_libnbd_copies_in_parallel(tmp_path: Path) -> None:
    content = random.Random(7).randbytes(24 * MIB) + bytes(8 * MIB)
    (tmp_path / "disk").write_bytes(content)
    (tmp_path / "empty").write_bytes(bytes(len(content)))
    with serving(OURS, tmp_path, "-t", "-e", "0", "-r", "-f", "raw", str(tmp_path / "disk")) as uri:
        out("nbdcopy", uri.replace("@", ""), str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == content
    with serving(OURS, tmp_path, "-t", "-e", "0", "-f", "raw", str(tmp_path / "empty")) as uri:
        out("nbdcopy", "--flush", str(tmp_path / "copy"), uri.replace("@", ""))
    assert (tmp_path / "empty").read_bytes() == content


@needs_qemu
@needs_qcow2
def test_our_client_with_qemu_nbd(tmp_path: Path) -> None:
    content = qcow2(tmp_path / "disk")
    with serving(["qemu-nbd"], tmp_path, "-t", "-e", "0", "-f", "qcow2", str(tmp_path / "disk")) as uri:
        name = uri.replace("@", "")
        assert out(*IMG, "map", "-f", "raw", "--output=json", name) == out("qemu-img", "map", "-f", "raw", "--output=json", name)
        assert out(*IMG, "info", "-f", "raw", name) == out("qemu-img", "info", "-f", "raw", name)
        out(*IMG, "convert", "-f", "raw", "-O", "raw", name, str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == content
        out(*IO, "-f", "raw", "-c", "write -P 9 1M 1M", "-c", "write -z 100 5000", "-c", "read -P 9 1M 1M", name)
        changed = bytearray(content)
        changed[MIB : 2 * MIB], changed[100:5100] = b"\x09" * MIB, bytes(5000)
        with open_image(name, "raw") as node:
            assert node.read(0, len(changed)) == changed


@needs_qemu
@needs_qcow2
def test_dirty_bitmaps(tmp_path: Path) -> None:
    disk = str(tmp_path / "disk")
    out("qemu-img", "create", "-q", "-f", "qcow2", disk, "8M")
    out("qemu-img", "bitmap", "--add", disk, "b")
    out("qemu-io", "-f", "qcow2", "-c", "write 1M 200k", "-c", "write 5000k 1k", "-c", "write 8191k 1k", disk)
    out("qemu-img", "bitmap", "--disable", disk, "b")
    maps = []
    for program in (["qemu-nbd"], OURS):
        with serving(program, tmp_path, "-t", "-r", "-e", "0", "-f", "qcow2", "-B", "b", disk) as uri:
            words = f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={tmp_path}/socket"
            bitmap = f"{words},file.x-dirty-bitmap=qemu:dirty-bitmap:b"
            maps.append(out("qemu-img", "map", "--output=json", "--image-opts", bitmap))
            if shutil.which("nbdinfo"):
                maps[-1] += out("nbdinfo", "--map=qemu:dirty-bitmap:b", uri.replace("@", ""))
    assert maps[0] == maps[1] and maps[0].count("start") == 6


@needs_qemu
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_with_qemus_ends(tmp_path: Path) -> None:
    """GnuTLS there, OpenSSL here."""
    certificates(tmp_path)
    content = random.Random(8).randbytes(3 * MIB)
    disk = tmp_path / "disk"
    disk.write_bytes(content)
    creds = f"tls-creds-x509,id=tls,dir={tmp_path},endpoint="
    far = f"driver=nbd,server.type=unix,server.path={tmp_path}/socket,tls-creds=tls,tls-hostname=localhost".replace(
        "server.", "file.server.").replace("driver=nbd", "driver=raw,file.driver=nbd").replace(",tls-", ",file.tls-")  # fmt: skip
    for server, clients in ((["qemu-nbd"], [IMG]), (OURS, [["qemu-img"], IMG])):
        words = ["-t", "-e", "0", "-f", "raw", "--object", f"{creds}server", "--tls-creds", "tls", str(disk)]
        with serving(server, tmp_path, *words):
            for program in clients:
                out(*program, "convert", "--object", f"{creds}client", "--image-opts", far, "-O", "raw", str(tmp_path / "copy"))
                assert (tmp_path / "copy").read_bytes() == content
            for lister in (["qemu-nbd"], OURS):
                seen = out(*lister, "-L", "-k", f"{tmp_path}/socket", "--object", f"{creds}client", "--tls-creds", "tls",
                           "--tls-hostname", "localhost")  # fmt: skip
                assert "exports available: 1" in seen


@needs_qemu
def test_tcp_ports_parts_and_the_end_of_the_last_client(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"a" * MIB + b"b" * MIB)
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    words = ["-b", "127.0.0.1", "-p", port, "-r", "-f", "raw", "-o", "1M", str(tmp_path / "disk")]
    with serving(OURS, tmp_path, *words, unix=False):
        out("qemu-io", "-r", "-f", "raw", "-c", "read -P 98 0 1M", f"nbd://127.0.0.1:{port}")
        end = time.monotonic() + 10
        while (tmp_path / "pid").exists() and time.monotonic() < end:
            time.sleep(0.02)
        assert not (tmp_path / "pid").exists()


@needs_qcow2
def test_a_snapshot_leaves_the_image_alone(tmp_path: Path) -> None:
    content = qcow2(tmp_path / "disk") if shutil.which("qemu-img") else pytest.skip("qemu-img is not installed")
    before = (tmp_path / "disk").read_bytes()
    with serving(OURS, tmp_path, "-t", "-s", "-f", "qcow2", str(tmp_path / "disk")) as uri:
        out(*IO, "-f", "raw", "-c", "write -P 1 0 1M", "-c", "read -P 1 0 1M", uri.replace("@", ""))
        out(*IO, "-f", "raw", "-c", "read -P 1 0 1M", uri.replace("@", ""))
    assert (tmp_path / "disk").read_bytes() == before and len(content)


@needs_qemu
@needs_qcow2
def test_an_image_inside_an_export(tmp_path: Path) -> None:
    """The server has the bytes of a qcow2 file, the client gives them meaning; and copies from one server to another."""
    content = qcow2(tmp_path / "disk")
    with serving(OURS, tmp_path, "-t", "-e", "0", "-f", "raw", str(tmp_path / "disk")) as uri:
        name = uri.replace("@", "")
        assert json.loads(out(*IMG, "info", "--output=json", name))["format"] == "qcow2"
        assert out(*IMG, "map", "--output=json", name) == out("qemu-img", "map", "--output=json", name)
        (tmp_path / "second").mkdir()
        out("qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "copy"), "4M")
        with serving(OURS, tmp_path / "second", "-t", "-f", "qcow2", str(tmp_path / "copy")) as target:
            out(*IMG, "convert", "-n", "-f", "qcow2", "-O", "raw", name, target.replace("@", ""))
        out(*IO, "-f", "qcow2", "-c", "write -P 7 0 64k", name)
    out("qemu-img", "check", "-q", str(tmp_path / "disk"))
    out("qemu-io", "-f", "qcow2", "-c", "read -P 7 0 64k", str(tmp_path / "disk"))
    with open_image(str(tmp_path / "copy"), "qcow2") as image:
        assert image.read(0, len(content)) == content


@needs_qemu
@needs_qcow2
def test_an_internal_snapshot_and_zeros_that_are_found(tmp_path: Path) -> None:
    content = qcow2(tmp_path / "disk")
    out("qemu-img", "snapshot", "-c", "before", str(tmp_path / "disk"))
    words = ["-f", "qcow2", "--discard", "unmap", "--detect-zeroes", "unmap", str(tmp_path / "disk")]
    with serving(OURS, tmp_path, "-t", *words) as uri:
        out("qemu-io", "-f", "raw", "-c", "write -P 0 0 2M", "-c", "write -P 5 2M 2M", uri.replace("@", ""))
    mapped = json.loads(out("qemu-img", "map", "--output=json", str(tmp_path / "disk")))
    assert all(each["data"] is (each["start"] >= 2 * MIB) for each in mapped)
    with serving(OURS, tmp_path, "-t", "-l", "before", "-f", "qcow2", str(tmp_path / "disk")) as uri:
        with open_image(uri.replace("@", ""), "raw") as node:
            assert node.read(0, len(content)) == content
        done = subprocess.run(["qemu-io", "-f", "raw", "-c", "write 0 1k", uri.replace("@", "")], capture_output=True, timeout=60)
        assert done.returncode
    out("qemu-img", "check", "-q", str(tmp_path / "disk"))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "Invalid number of arguments"),
        (["a", "b"], "Invalid number of arguments"),
        (["--bogus", "a"], "unrecognized option"),
        (["-f", "raw", "nothing"], "Could not open 'nothing': No such file"),
        (["-f", "raw", "-k", "/nowhere/s", "disk"], "Failed to bind socket to /nowhere/s: No such file"),
        (["-f", "raw", "-p", "99999", "disk"], "'99999' is no port"),
        (["-f", "raw", "-o", "1G", "disk"], "would end past"),
        (["-e", "x", "disk"], "Invalid shared"),
        (["-k", "/s", "-p", "1", "disk"], "mutually exclusive"),
        (["-P", "1", "disk"], "-P is gone"),
        (["--aio", "bogus", "disk"], "Invalid aio mode"),
        (["--detect-zeroes", "unmap", "disk"], "not allowed without"),
        (["-n", "--cache", "none", "disk"], "can only be specified once"),
        (["--tls-creds", "x", "disk"], "No TLS credentials with id 'x'"),
        (["--tls-authz", "x", "disk"], "not permitted without"),
        (["-f", "raw", "-c", "/dev/nothing", "disk"], "Cannot open /dev/nothing"),
        (["-d", "/dev/nothing"], "Cannot open /dev/nothing"),
        (["-f", "raw", "-c", "disk", "disk"], "Cannot connect disk: Inappropriate ioctl"),
        (["-d", "disk"], "Cannot disconnect disk: Inappropriate ioctl"),
        (["-L", "disk"], "incompatible with a file name"),
        (["-L", "-r"], "per-device settings"),
        (["-L", "-k", "nothing"], "Failed to connect to 'nothing'"),
        (["-f", "raw", "-B", "b", "disk"], "Bitmap 'b' is not found"),
    ],
)
def test_wrong_use_is_one_line(words: list[str], text: str, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(512))
    done = subprocess.run([*OURS, *words], capture_output=True, text=True, timeout=60, cwd=tmp_path, env={"PYTHONPATH": str(Path.cwd())})
    assert done.returncode == 1
    assert text in done.stderr and re.match("exuvia-nbd: ", done.stderr) and done.stderr.count("\n") <= 2
    assert "Traceback" not in done.stderr


def test_the_kernels_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--connect with a kernel of ours: what it is told of the device, and requests of its over the socket that it was given."""
    content = os.urandom(MIB)
    (tmp_path / "disk").write_bytes(content)
    (tmp_path / "nbd0").touch()
    told: list[tuple[int, int]] = []
    kernels: list[socket.socket] = []

    def request(kind: int, offset: int = 0, length: int = 0, data: bytes = b"") -> bytes:
        kernels[0].sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, 77, offset, length) + data)
        if kind == 2:  # disconnects without an answer
            return b""
        assert kernels[0].recv(16, socket.MSG_WAITALL) == struct.pack(">IIQ", 0x67446698, 0, 77)
        return kernels[0].recv(length, socket.MSG_WAITALL) if kind == 0 else b""

    def ioctl(device: int, number: int, argument: int = 0) -> int:
        told.append((number, argument))
        if number == nbd_device.SET_SOCK:
            kernels.append(socket.socket(fileno=os.dup(argument)))
        if number == nbd_device.DO_IT:
            assert request(0, 4096, 8192) == content[4096:12288]
            request(1, 512, 1024, b"k" * 1024)
            request(3)
            request(2)
        return 0

    monkeypatch.setattr("exuvia.cli.nbd.device.fcntl.ioctl", ioctl)
    monkeypatch.setattr("exuvia.cli.nbd.device.signal.signal", lambda *_: None)
    assert main.run(["-f", "raw", "-c", str(tmp_path / "nbd0"), str(tmp_path / "disk")]) == 0
    kernels[0].close()
    assert (nbd_device.SET_BLKSIZE, 512) in told and (nbd_device.SET_SIZE_BLOCKS, MIB // 512) in told
    assert told[-1][0] == nbd_device.CLEAR_SOCK
    assert (tmp_path / "disk").read_bytes() == content[:512] + b"k" * 1024 + content[1536:]
