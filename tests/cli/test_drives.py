"""The disks of a run: what is opened, refused, warned of, thrown away and kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exuvia.cli.drives import Drives
from exuvia.cli.system import parse
from exuvia.disk.graph import open_image
from exuvia.support.errors import UserError
from tests.disk.formats.interchange import needs_qemu

PROGRAM = "from exuvia.cli.system import x86_64; import sys; sys.argv[0] = 'exuvia-system-x86_64'; x86_64()"


def drives(*words: str) -> Drives:
    return Drives(parse("test", "x86_64", words).config().drives)


def image(path: Path, format: str = "qcow2", size: str = "1M") -> Path:
    from exuvia.cli.img.main import run

    assert run(["create", "-q", "-f", format, str(path), size]) == 0
    return path


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = image(tmp_path / "a.qcow2")
    with drives("-drive", f"file={path},if=virtio"):
        with pytest.raises(UserError) as caught:
            drives("-drive", f"file={path},if=virtio").__enter__()
        assert str(caught.value).startswith(f"-drive file={path},if=virtio: Could not open '{path}': ")
        assert str(caught.value).endswith(f'Failed to get "write" lock\nIs another process using the image [{path}]?')
    with drives("-drive", f"file={path},if=virtio,readonly=on"), drives("-drive", f"file={path},if=virtio,snapshot=on") as second:
        assert not second["virtio0"].read_only


def test_a_guessed_raw_image_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = image(tmp_path / "a.img", "raw")
    with drives("-drive", f"file={path},if=virtio") as opened:
        drive = opened["virtio0"]
        assert f"WARNING: Image format was not specified for '{path}' and probing guessed raw." in capsys.readouterr().err
        with pytest.raises(PermissionError):
            drive.write(0, [memoryview(b"QFI\xfb\0\0\0\3" + bytes(504))], False).result(10)
    with drives("-drive", f"file={path},if=virtio,format=raw") as opened:
        drive = opened["virtio0"]
        drive.write(0, [memoryview(b"QFI\xfb\0\0\0\3" + bytes(504))], False).result(10)
    assert capsys.readouterr().err == ""
    assert path.read_bytes()[:4] == b"QFI\xfb"


def test_a_snapshot_leaves_the_image_as_it_is(tmp_path: Path) -> None:
    path = image(tmp_path / "a.qcow2")
    before = path.read_bytes()
    with drives("-snapshot", "-drive", f"file={path},if=virtio") as opened:
        drive = opened["virtio0"]
        drive.write(512, [memoryview(b"x" * 512)], True).result(10)
        seen = bytearray(512)
        drive.read(512, [memoryview(seen)]).result(10)
        assert seen == b"x" * 512
    assert path.read_bytes() == before


@needs_qemu
def test_all_is_in_the_image_at_the_end(tmp_path: Path) -> None:
    """Also what nobody flushed, and what was under way; -blockdev reaches the same image."""
    path = image(tmp_path / "a.qcow2")
    words = ("-blockdev", f"qcow2,node-name=d,file.driver=file,file.filename={path}", "-device", "virtio-blk-pci,drive=d")
    with drives(*words) as opened:
        drive = opened["d"]
        for sector in range(1, 100):
            drive.write(sector * 512, [memoryview(bytes([sector]) * 512)], False)
    assert subprocess.run(["qemu-img", "check", "-q", str(path)], check=False).returncode == 0
    raw = tmp_path / "a.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(raw)], check=True)
    assert raw.read_bytes()[: 100 * 512 : 512] == bytes(range(100))


def test_discards_only_where_they_are_wanted(tmp_path: Path) -> None:
    for option, kept in (("", True), (",discard=unmap", False)):
        path = image(tmp_path / "a.raw", "raw")
        with drives("-drive", f"file={path},if=virtio,format=raw{option}") as opened:
            drive = opened["virtio0"]
            drive.write(0, [memoryview(b"y" * 65536)], True).result(10)
            drive.discard(0, 65536).result(10)
        assert (path.read_bytes()[:65536] == b"y" * 65536) is kept
        path.unlink()


def test_one_user_each(tmp_path: Path) -> None:
    path = image(tmp_path / "a.qcow2")
    with drives("-drive", f"file={path},if=none,id=a") as opened:
        assert opened["a"].size == 1 << 20
        with pytest.raises(UserError, match="drive 'a' is in use by another device"):
            opened["a"]
    with pytest.raises(UserError, match=r"there is a drive 'a' already"):
        drives("-drive", f"file={path},if=none,id=a", "-drive", f"file={path},if=none,id=a,readonly=on").__enter__()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-drive file=nothing.img,if=virtio", "-drive file=nothing.img,if=virtio: Could not open 'nothing.img'"),
        ("-drive file=k,if=virtio,format=qcow3", "unknown format 'qcow3'"),
        ("-drive file=k,if=virtio,format=qcow2", "k"),
        ("-device virtio-blk-pci,drive=d", "there is no drive 'd' (-drive file=FILE,if=none,id=d makes one)"),
        ("-device virtio-blk-pci", "-device virtio-blk-pci: it needs drive=ID"),
        (
            "-drive file=k,if=none,id=d -device virtio-blk-pci,drive=d -device virtio-blk-pci,drive=d",
            "drive 'd' is in use by another device",
        ),
    ],
)
def test_mistakes_are_one_line(words: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(bytes(1 << 20))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "-display", "none", "-kernel", "k", *words.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if "WARNING" not in line and not line.startswith(" ")]
    assert len(lines) == 1 and lines[0].startswith("exuvia-system-x86_64: ") and message in lines[0], done.stderr


def listens(pid: int) -> bool:
    """Whether the process has a handler for SIGTERM: the machine is there."""
    status = Path(f"/proc/{pid}/status").read_text()
    return bool(int(status.split("SigCgt:")[1].split()[0], 16) >> signal.SIGTERM - 1 & 1)


@needs_qemu
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.skipif(not (shutil.which("as") and shutil.which("ld")), reason="binutils (as, ld) is not installed")
def test_a_machine_that_is_ended_leaves_a_whole_image(number: int, tmp_path: Path) -> None:
    from tests.guests.console import assemble, names

    path = image(tmp_path / "a.qcow2")
    kernel = assemble(names()[0], tmp_path)
    words = ["-display", "none", "-kernel", str(kernel), "-S", "-drive", f"file={path},if=virtio"]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stderr=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 60
            while not listens(process.pid):
                assert time.monotonic() < end, "the machine never began"
                time.sleep(0.1)
            assert subprocess.run(["qemu-img", "info", str(path)], capture_output=True, check=False).returncode == 1, "it is locked"
            process.send_signal(number)
            assert process.wait(60) == (128 + number if number == signal.SIGTERM else -number)
        finally:
            process.kill()
    assert subprocess.run(["qemu-img", "check", "-q", str(path)], check=False).returncode == 0
    with open_image(str(path), writable=True):
        pass
