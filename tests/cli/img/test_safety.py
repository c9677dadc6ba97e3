"""What must not be lost: by a full disk, wrong options, a target that is a source, an interrupt."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from exuvia.disk.graph import FORMATS
from tests.cli.img.twins import ours

ROOT = Path(__file__).parents[3]


def process(folder: Path, words: str, before: Callable[[], None] | None = None) -> "subprocess.Popen[str]":
    """`exuvia-img` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "exuvia.cli.img.main", *words.split()],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=before,
        env={"PYTHONPATH": str(ROOT)},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `source.raw`, 16 MiB of data."""
    (tmp_path / "source.raw").write_bytes(os.urandom(16 << 20))
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        "convert -O raw source.raw z",
        "convert -O qcow2 source.raw z",
        "convert -c -O qcow2 source.raw z",
        "convert -O vmdk source.raw z",
        "convert -O vhdx source.raw z",
        "resize -f raw source.raw 40M",
        "create -o preallocation=full y 20M",
        "create -f qcow2 -o preallocation=falloc y 20M",
        "create -f qcow2 -o preallocation=full y 20M",
        "dd if=source.raw of=z",
    ],
)
def test_a_full_disk_is_one_line(folder: Path, words: str) -> None:
    """A limit on the size of files stands for a full disk."""
    if any(word not in FORMATS for word in words.split() if word in ("qcow2", "vmdk", "vhdx")):
        pytest.skip("no such format yet")
    before = (folder / "source.raw").read_bytes()
    running = process(folder, words, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, 8 << 20)))
    _, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert err.count("\n") == 1 and "File too large" in err, err
    assert (folder / "source.raw").read_bytes() == before
    assert not (folder / "y").exists()


@pytest.mark.parametrize(
    "words",
    [
        "create -f qcow2 -o cluster_size=5 source.raw 1M",
        "create -f qcow2 -o nonsense=5 source.raw 1M",
        "create -f qcow2 -b nofile -F raw source.raw",
        "create -f vdi -o static=maybe source.raw 1M",
        "convert -O qcow2 -o cluster_size=5 other.raw source.raw",
        "convert -O qcow2 nofile source.raw",
        "convert -O raw source.raw source.raw",
        "convert -U -O raw source.raw source.raw",
        "convert -O raw link.raw source.raw",
        "dd if=nofile of=source.raw",
        "dd if=source.raw of=source.raw",
        "dd -U if=source.raw of=link.raw",
    ],
)
def test_what_is_there_stays_where_nothing_can_be_made(folder: Path, words: str) -> None:
    (folder / "other.raw").write_bytes(bytes(1 << 20))
    (folder / "link.raw").symlink_to("source.raw")
    before = (folder / "source.raw").read_bytes()
    answer = ours(folder, *words.split())
    assert answer.status == 1 and answer.err.startswith("exuvia-img: ")
    assert (folder / "source.raw").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["link.raw", "other.raw", "source.raw"]


def test_an_interrupt_ends_it_and_a_signal_asks_how_far(folder: Path) -> None:
    running = process(folder, "convert -O raw -r 1M source.raw z")
    try:
        end = time.monotonic() + 20
        while not (folder / "z").exists() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.5)
        running.send_signal(signal.SIGUSR1)
        time.sleep(2.5)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=20)
    finally:
        running.kill()
    assert running.returncode == 130
    assert "/100%)" in err and "Traceback" not in err
