"""Saved states of machines in internal snapshots, and many threads at once."""

import random
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from exuvia.disk.format import Snapshot
from exuvia.disk.formats.qcow2.qcow2 import Qcow2
from exuvia.disk.graph import open_image
from exuvia.disk.vector import Vector
from tests.disk.formats.interchange import create, make, needs_qemu, qemu
from tests.disk.powercut import PowerCut

SYSTEM = "qemu-system-x86_64"


def monitor(image: Path, *commands: str) -> str:
    """Give QEMU's monitor commands; what it said."""
    arguments = ["-M", "none", "-nodefaults", "-display", "none", "-S", "-monitor", "stdio", "-drive", f"if=none,id=d,file={image}"]
    done = subprocess.run(
        [SYSTEM, *arguments], input="\n".join([*commands, "quit", ""]), capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout + done.stderr


@needs_qemu
@pytest.mark.skipif(shutil.which(SYSTEM) is None, reason="qemu-system-x86 is not installed")
@pytest.mark.parametrize("cluster", [4096, 65536])
def test_a_state_that_qemu_saved_is_read_and_one_that_we_saved_is_loaded(tmp_path: Path, cluster: int) -> None:
    image = tmp_path / "disk.qcow2"
    make("qcow2", image, 3 << 20, {"cluster_size": cluster})
    monitor(image, "savevm theirs")
    with open_image(str(image), writable=True) as node:
        assert isinstance(node, Qcow2)
        theirs = node.snapshots()[0]
        assert theirs.vm_state > 0
        node.apply_snapshot(theirs)
        state = bytearray(theirs.vm_state)
        node.read_state(0, Vector((state,)))
        assert state[:4] == b"QEVM"
        node.write(0, b"disk")
        node.write_state(0, bytes(len(state)))
        for at in range(0, len(state), 1000):
            node.write_state(at, state[at : at + 1000])
        node.create_snapshot(Snapshot("", "ours", theirs.vm_state, theirs.seconds, 0, 0, 0))
        node.resize(5 << 20)  # what was a state's place is disk now
        assert not any(node.read(3 << 20, 2 << 20))
        assert not node.check().messages
    qemu("qemu-img", "check", image)
    qemu("qemu-img", "resize", "--shrink", image, "3M")
    said = monitor(image, "loadvm ours", "loadvm nothing")
    assert said.count("rror") == said.count("'nothing' does not exist") == 1
    with open_image(str(image)) as node:
        assert node.read(0, 4) == b"disk"


def test_threads_that_write_sectors_of_the_same_clusters() -> None:
    disk = PowerCut()
    create("qcow2", disk, 2 << 20, {"cluster_size": 4096, "extended_l2": False})
    node = Qcow2(disk, writable=True)
    node.write(0, b"\xee" * (1 << 20))
    node.create_snapshot(Snapshot("", "base", 0, 0, 0, 0))
    threads, failures = 4, []
    model = bytearray(node.read(0, node.size))

    def work(number: int) -> None:
        try:
            rng = random.Random(number)
            mine = range(number, (2 << 20) // 512, threads)
            for _ in range(400):
                at = rng.choice(mine) * 512
                action = rng.randrange(6)
                if action < 4:
                    data = rng.randbytes(512)
                    node.write(at, data)
                    model[at : at + 512] = data
                elif action < 5:
                    assert node.read(at, 512) == model[at : at + 512]
                else:
                    node.flush()
        except BaseException as error:
            failures.append(error)

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for each in running:
        each.start()
    for each in running:
        each.join()
    assert not failures
    assert node.read(0, node.size) == model
    node.close()
    node = Qcow2(PowerCut(bytes(disk.now)))
    assert node.read(0, node.size) == model
    assert not node.check().messages


def test_room_that_somebody_still_reads_is_given_to_nobody() -> None:
    class Slow(PowerCut):
        """Reads of the disk's content wait when they are told to."""

        stop = False

        def readv(self, offset: int, into: Vector) -> None:
            if self.stop and offset == host:
                reading.set()
                assert go_on.wait(20)
            super().readv(offset, into)

    host = -1
    reading, go_on = threading.Event(), threading.Event()
    disk = Slow()
    create("qcow2", disk, 1 << 20, {"cluster_size": 4096})
    node = Qcow2(disk, writable=True)
    node.write(0, b"old" + bytes(4093))
    node.flush()
    host = node.lookup(0, 4096).host or -1
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(node.read(0, 3)))
    disk.stop = True
    reader.start()
    assert reading.wait(20)
    disk.stop = False
    for _ in range(3):
        node.discard(0, 4096)
        node.flush()
    for at in range(4096, 200 * 4096, 4096):
        node.write(at, b"new" * 1365)
    go_on.set()
    reader.join()
    assert found == [b"old"]
    node.flush()
    node.flush()
    node.write(1 << 19, b"x")
    assert not node.check().messages
    for at in range(200 * 4096, 210 * 4096, 4096):
        node.write(at, b"new" * 1365)
    assert host in [extent.host for extent in node.extents(200 * 4096, 10 * 4096)]  # its room has another use at last
