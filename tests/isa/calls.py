"""Guests that call their host: a program that makes calls from a table and keeps what they gave, here and on QEMU."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from exuvia.cli.system import run

QEMU = "qemu"
HERE = "exuvia"


class Memory:
    """A guest's data from `start` on: what `put` places there has the address that it returns."""

    def __init__(self, start: int, order: str = "little", size: int = 8) -> None:
        self.start, self.order, self.size, self.content = start, order, size, bytearray()

    def put(self, data: bytes) -> int:
        at = self.start + len(self.content)
        self.content += data + bytes(-len(data) % 8)
        return at

    def text(self, string: str | bytes) -> int:
        return self.put((string.encode() if isinstance(string, str) else string) + b"\0")

    def words(self, *values: int) -> int:
        return self.put(b"".join((v & (1 << 8 * self.size) - 1).to_bytes(self.size, self.order) for v in values))  # type: ignore[arg-type]


def results(data: bytes, order: str = "little", size: int = 8) -> list[int]:
    """Words of the guest's as signed numbers."""
    return [int.from_bytes(data[i : i + size], order, signed=True) for i in range(0, len(data), size)]  # type: ignore[arg-type]


def start(where: str, target: str, options: Sequence[str], typed: bytes = b"") -> int:
    """Run it; the exit status."""
    options = [*options, "-display", "none", "-monitor", "none", "-serial", "none", "-no-reboot"]
    if where == QEMU:
        program = shutil.which(f"qemu-system-{target}")
        if program is None:
            pytest.skip(f"no qemu-system-{target}")
        return subprocess.run([program, *options], input=typed, timeout=60).returncode
    ours, pipe = os.dup(0), os.pipe()
    os.dup2(pipe[0], 0)
    os.close(pipe[0])
    try:
        threading.Thread(target=_type, args=(pipe[1], typed)).start()
        return run("exuvia", target, options)
    finally:
        os.dup2(ours, 0)
        os.close(ours)


def _type(pipe: int, typed: bytes) -> None:
    os.write(pipe, typed)
    os.close(pipe)


def file(folder: Path, name: str, content: bytes) -> Path:
    """A file with that content."""
    path = folder / name
    path.write_bytes(content)
    return path
