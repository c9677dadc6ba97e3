"""Generated code on disk: a folder per build, a file per batch, each file verified when it is read.

Safe under several processes: a file is written under another name and renamed, and its name is a digest of its content, so that two
processes that compile the same thing write the same file. A new build removes folders of others, oldest first, while they are too many or
too big together.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LIMIT = 256 << 20  # bytes that all builds may occupy together
BUILDS = 24  # folders that are kept, three of a build
MANY = 256  # files of a build, above which they become one
ALIGNMENT = 64  # of a batch in memory
ELSEWHERE = -1  # in a batch's symbols: a function that its code calls, and that another batch may have
Batch = tuple[bytes, dict[str, int]]


def folder() -> Path:
    """Where generated code lies: $XDG_CACHE_HOME/exuvia/code."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "exuvia" / "code"


class Store:
    """The batches of one build: machine code with the offsets of its functions. Unusable folders make it forget, not fail."""

    def __init__(self, build: str, root: Path | None = None) -> None:
        self.path = (root or folder()) / build
        self.problem: str | None = None
        self.sealed = False
        try:
            new = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            os.utime(self.path)
            probe = self.path / f".probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
            if new:
                self.tidy()
        except OSError as error:
            self.problem = f"{error.filename or self.path}: {error.strerror}"

    def beside(self, kind: str) -> Store:
        """A store for another kind of code of the same build."""
        return Store(beside(self.path.name, kind), self.path.parent)

    def seal(self, why: str) -> None:
        """Neither read nor write from now on."""
        self.problem, self.sealed = why, True

    def batches(self) -> Iterator[Batch]:
        """Everything stored; damaged files are removed. Many small files become one.

        What was joined or removed meanwhile, or added since, may leave batches whose callees are not among them (`ELSEWHERE`).
        """
        if self.sealed:
            return
        seen: set[Path] = set()
        found: dict[Path, Batch] = {}
        again = True
        while again:  # what has gone stands in another file by now, if another process joined it
            again = False
            try:
                files = sorted(set(self.path.glob("*.code")) - seen)
            except OSError:
                return
            seen.update(files)
            for file in files:
                try:
                    found[file] = batch = read(file)
                except FileNotFoundError:
                    again = True
                except OSError:
                    continue
                except Exception:  # whatever a damaged file makes of unpickling
                    with suppress(OSError):
                        file.unlink(missing_ok=True)
                else:
                    yield batch
        if len(found) > MANY and self.add(whole := joined(list(found.values()))):
            for file, batch in found.items():
                if batch != whole:
                    with suppress(OSError):
                        file.unlink(missing_ok=True)

    def add(self, batch: Batch) -> bool:
        """Keep a batch; False if that cannot be."""
        if self.problem is not None:
            return False
        body = pickle.dumps(batch, protocol=5)
        digest = hashlib.blake2b(body, digest_size=32).digest()
        name = self.path / f"{digest[:16].hex()}.code"
        temporary = name.with_suffix(f".{os.getpid()}")
        try:
            try:
                temporary.write_bytes(digest + body)
            except FileNotFoundError:  # somebody emptied the cache meanwhile
                self.path.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(digest + body)
            os.replace(temporary, name)
        except OSError as error:
            self.problem = f"{temporary}: {error.strerror}"
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            return False
        return True

    def tidy(self) -> None:
        """Remove the oldest builds while all together are over the limits; never this one."""
        sizes: dict[Path, tuple[float, int]] = {}
        for p in self.path.parent.iterdir():
            with suppress(OSError):  # another process tidies too
                if p.is_dir() and p != self.path:
                    sizes[p] = p.stat().st_mtime, sum(f.stat().st_size for f in p.iterdir())
        for p in sorted(sizes, key=lambda p: sizes[p]):
            if sum(size for _, size in sizes.values()) <= LIMIT and len(sizes) < BUILDS:
                break
            shutil.rmtree(p, ignore_errors=True)
            del sizes[p]


def beside(build: str, kind: str) -> str:
    """The folder's name for another kind of code of a build."""
    return f"{build}.{kind}"


def read(file: Path) -> Batch:
    """A stored batch. Raises OSError where it cannot be read, anything else where it is damaged."""
    data = file.read_bytes()
    if hashlib.blake2b(data[32:], digest_size=32).digest() != data[:32]:
        raise ValueError(f"{file} is damaged")
    code, symbols = pickle.loads(data[32:])
    return code, symbols


def contents(path: Path) -> tuple[int, int]:
    """How many functions a build's folder holds, and how many bytes of files; what is damaged has no functions. Nothing is changed."""
    functions: set[str] = set()
    size = 0
    for file in path.glob("*.code"):
        with suppress(Exception):  # gone meanwhile, or damaged
            size += file.stat().st_size
            functions |= defined(read(file)[1]).keys()
    return len(functions), size


def defined(symbols: dict[str, int]) -> dict[str, int]:
    """The functions that stand in a batch."""
    return {name: offset for name, offset in symbols.items() if offset != ELSEWHERE}


def joined(batches: list[Batch]) -> Batch:
    """One batch with what all have, each function once."""
    blob, own, called = bytearray(), dict[str, int](), dict[str, int]()
    for code, symbols in batches:
        functions = defined(symbols)
        if functions.keys() <= own.keys():
            continue
        blob += b"\xcc" * (-len(blob) % ALIGNMENT)
        for name, offset in functions.items():
            own.setdefault(name, len(blob) + offset)
        called |= dict.fromkeys(symbols.keys() - functions.keys(), ELSEWHERE)
        blob += code
    return bytes(blob), called | own
