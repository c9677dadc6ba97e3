"""Generated code on disk: a folder per build, a file per batch, each file verified when it is read.

Safe under several processes: a file is written under another name and renamed, and its name is a digest of its content, so that two
processes that compile the same thing write the same file. Folders of other builds are removed, oldest first, while all are too big together.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

LIMIT = 256 << 20  # bytes that all builds may occupy together
Batch = tuple[bytes, dict[str, int]]


def folder() -> Path:
    """Where generated code lies: $XDG_CACHE_HOME/exuvia/code."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "exuvia" / "code"


class Store:
    """The batches of one build: machine code with the offsets of its functions. Unusable folders make it forget, not fail."""

    def __init__(self, build: str, root: Path | None = None) -> None:
        self.path = (root or folder()) / build
        self.problem: str | None = None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            os.utime(self.path)
            probe = self.path / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            self.problem = f"{error.filename or self.path}: {error.strerror}"

    def batches(self) -> Iterator[Batch]:
        """Everything stored; damaged files are removed."""
        try:
            files = sorted(self.path.glob("*.code"))
        except OSError:
            return
        for file in files:
            try:
                data = file.read_bytes()
                if hashlib.blake2b(data[32:], digest_size=32).digest() != data[:32]:
                    raise ValueError
                code, symbols = pickle.loads(data[32:])
            except OSError:
                continue
            except Exception:  # whatever a damaged file makes of unpickling
                file.unlink(missing_ok=True)
                continue
            yield code, symbols

    def add(self, batch: Batch) -> None:
        """Keep a batch."""
        if self.problem is not None:
            return
        body = pickle.dumps(batch, protocol=5)
        digest = hashlib.blake2b(body, digest_size=32).digest()
        name = self.path / f"{digest[:16].hex()}.code"
        temporary = name.with_suffix(f".{os.getpid()}")
        try:
            temporary.write_bytes(digest + body)
            os.replace(temporary, name)
        except OSError as error:
            self.problem = f"{temporary}: {error.strerror}"
            temporary.unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove the oldest builds while all together are over the limit; never this one."""
        try:
            others = sorted((p for p in self.path.parent.iterdir() if p.is_dir() and p != self.path), key=lambda p: p.stat().st_mtime)
            sizes = {p: sum(f.stat().st_size for f in p.iterdir()) for p in [*others, self.path]}
            total = sum(sizes.values())
            for p in others:
                if total <= LIMIT and len(others) < 16:
                    break
                shutil.rmtree(p, ignore_errors=True)
                total -= sizes[p]
                others = others[1:]
        except OSError:
            return
