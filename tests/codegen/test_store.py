"""Generated code on disk: damaged, shared, unwritable, too much of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exuvia.codegen import store as module
from exuvia.codegen.store import ELSEWHERE, Batch, Store, joined, read

ONE: Batch = (b"\x90" * 100 + b"\xc3", {"h.x.0.1.0": 0, "h.x.0.2.0": 64})
TWO: Batch = (b"\xcc" * 10, {"f.float": 3})


def contents(store: Store) -> list[Batch]:
    return sorted(store.batches(), key=lambda b: b[0])


def test_what_was_added_comes_back(tmp_path: Path) -> None:
    store = Store("x86-1", tmp_path)
    assert store.add(ONE) and store.add(TWO) and store.add(ONE)
    assert contents(store) == contents(Store("x86-1", tmp_path)) == [ONE, TWO]
    assert contents(Store("x86-2", tmp_path)) == []
    assert len(list(store.path.iterdir())) == 2  # the same batch is the same file, and nothing is left over


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "longer", "another file", "digest of nonsense"])
def test_damaged_files_are_removed(tmp_path: Path, damage: str) -> None:
    import hashlib

    store = Store("x86-1", tmp_path)
    store.add(ONE)
    store.add(TWO)
    file = next(f for f in store.path.iterdir() if b"h.x" in f.read_bytes())
    data = bytearray(file.read_bytes())
    if damage == "cut":
        data = data[:-1]
    elif damage == "empty":
        data = bytearray()
    elif damage == "flipped":
        data[60] ^= 1
    elif damage == "longer":
        data += b"\0"
    elif damage == "another file":
        data = bytearray(os.urandom(1000))
    else:
        data = bytearray(hashlib.blake2b(b"no pickle", digest_size=32).digest() + b"no pickle")
    file.write_bytes(data)
    assert contents(store) == [TWO]
    assert not file.exists()
    assert store.add(ONE) and contents(store) == [ONE, TWO]


def test_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    store = Store("x86-1", tmp_path)
    store.add(ONE)
    (store.path / "folder.code").mkdir()
    (store.path / "half.123").write_bytes(b"another process writes this")
    assert contents(store) == [ONE] and len(list(store.path.iterdir())) == 3


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = Store("x86-1", tmp_path / "file")
    assert store.problem and "file" in store.problem
    assert not store.add(ONE) and contents(store) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    Store("x86-1", tmp_path).add(ONE)
    (tmp_path / "x86-1").chmod(0o500)
    store = Store("x86-1", tmp_path)
    assert store.problem and not store.add(TWO) and contents(store) == [ONE]
    (tmp_path / "x86-1").chmod(0o700)


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("x86-1", tmp_path)
    store.add(ONE)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert not store.add(TWO) and store.problem and "No space left" in store.problem
    monkeypatch.undo()
    assert contents(store) == [ONE] and len(list(store.path.iterdir())) == 1
    assert not store.add(TWO)  # not tried again


def test_an_emptied_cache_is_filled_again(tmp_path: Path) -> None:
    store = Store("x86-1", tmp_path / "exuvia")
    store.add(ONE)
    shutil.rmtree(tmp_path / "exuvia")
    assert contents(store) == []
    assert store.add(TWO) and contents(store) == [TWO]


def test_sealed_it_neither_reads_nor_writes(tmp_path: Path) -> None:
    store = Store("x86-1", tmp_path)
    store.add(ONE)
    store.seal("sources changed")
    assert contents(store) == [] and not store.add(TWO) and contents(Store("x86-1", tmp_path)) == [ONE]


def test_many_files_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY", 20)
    store = Store("x86-1", tmp_path)
    batches = [(bytes([i]) * (1 + i * 7), {f"h.{i}": i % 5, f"h.{i}b": i}) for i in range(40)]
    for batch in batches:
        store.add(batch)
    assert sorted(store.batches()) == sorted(batches)  # this one still sees them all
    ((code, symbols),) = store.batches()
    assert len(list(store.path.iterdir())) == 1 and len(symbols) == 80
    for i in range(40):
        assert code[symbols[f"h.{i}"]] == i and symbols[f"h.{i}b"] - symbols[f"h.{i}"] == i - i % 5
        assert (symbols[f"h.{i}"] - i % 5) % 64 == 0


def test_joined_has_each_function_once() -> None:
    code, symbols = joined([ONE, TWO, ONE, (b"\x01", {"f.float": 0, "new": 0})])
    assert symbols == {"h.x.0.1.0": 0, "h.x.0.2.0": 64, "f.float": 131, "new": 192}
    assert code[131:138] == TWO[0][3:] and len(code) == 193


def test_joined_knows_what_is_called_elsewhere() -> None:
    """A function that another of the batches has stands in the whole, whichever comes first. What is left out calls nothing."""
    caller: Batch = (b"\xc3", {"h.1": 0, "f.float": ELSEWHERE, "f.other": ELSEWHERE})
    again: Batch = (b"\x90", {"h.1": 0, "f.more": ELSEWHERE})
    for batches in ([caller, TWO, again], [TWO, caller]):
        _, symbols = joined(batches)
        assert symbols["f.other"] == ELSEWHERE != symbols["f.float"] and symbols.keys() == {"h.1", "f.float", "f.other"}


def test_what_is_called_elsewhere_is_no_function_here(tmp_path: Path) -> None:
    store = Store("x86-1", tmp_path)
    store.add((b"\xc3", {"h.1": 0, "f.float": ELSEWHERE}))
    assert module.contents(store.path)[0] == 1


def test_files_that_another_process_joins_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("x86-1", tmp_path)
    for i in range(10):
        store.add((bytes([i]), {f"h.{i}": 0}))
    todo = sorted(store.path.iterdir())[3:]

    def meanwhile(file: Path) -> Batch:
        batch = read(file)
        if todo:
            store.add(joined([read(f) for f in todo]))
            while todo:
                todo.pop().unlink()
        return batch

    monkeypatch.setattr(module, "read", meanwhile)
    assert {name for _, symbols in store.batches() for name in symbols} == {f"h.{i}" for i in range(10)}


def test_old_builds_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIMIT", 5000)
    for i in range(5):
        store = Store(f"x86-{i}", tmp_path)
        store.add((bytes(2000), {"a": i}))
        os.utime(store.path, (1000 + i, 1000 + i))
    Store("x86-2", tmp_path)  # used again: the newest by now
    Store("x86-new", tmp_path)
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["x86-2", "x86-4", "x86-new"]


def test_too_many_builds_go(tmp_path: Path) -> None:
    for i in range(30):
        Store(f"x86-{i:02}", tmp_path)
    assert len(list(tmp_path.iterdir())) == module.BUILDS


WRITER = """
import sys
from pathlib import Path
from exuvia.codegen.store import Store
store, number = Store("x86-1", Path(sys.argv[1])), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for i in range(300):
    assert store.add((bytes([i & 255]) * 500, {f"h.{i}": 0}))
    assert store.add((bytes([number]) * 300, {f"own.{number}.{i}": i}))
    if i % 50 == 0:
        for code, symbols in store.batches():
            assert code and symbols
"""


def test_two_processes_at_once(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in (1, 2)
    ]
    for w in writers:
        assert w.stdout and w.stdout.readline() == "ready\n"
    for w in writers:
        assert w.stdin
        w.stdin.write("go\n")
        w.stdin.flush()
    for w in writers:
        w.communicate(timeout=60)
        assert w.returncode == 0
    symbols: set[str] = set()
    for _, s in Store("x86-1", tmp_path).batches():
        symbols |= s.keys()
    expected = {f"h.{i}" for i in range(300)} | {f"own.{n}.{i}" for n in (1, 2) for i in range(300)}
    assert symbols == expected
