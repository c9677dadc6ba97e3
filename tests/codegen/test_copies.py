"""Blocks copied out of stencils: every instruction against the host's processor, sequences against the interpreter at every count."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exuvia.codegen import copies as module
from exuvia.codegen import layout
from exuvia.codegen.copies import Copies
from exuvia.codegen.stencil import OF_ALL
from exuvia.codegen.store import Store
from tests.codegen.copying import begin, copy, handlers, stencils
from tests.codegen.native import CODE_AT, CODED, PLAIN, NativeMachine
from tests.codegen.test_regions import KINDS, Bench, attempt, templates
from tests.codegen.test_semantics import judge, mismatches
from tests.oracle.case import CODE, CODE_PAGE, Case
from tests.oracle.hostcpu import HostCpu, why_not

CODE_SIZE = 4096


class Copying(NativeMachine):
    """Runs each case's block as a copy."""

    copied = 0

    def go(self) -> None:
        if (address := self.engine.block(self.at)) and not self.what_is_missing():
            self.copied += copy(self.engine, self.at, [self.engine.hot.head(address)])
        super().go()

    def what_is_missing(self) -> bool:
        """Are there handlers to be compiled before the block can run?"""
        return bool(self.vcpu.wanted_count)


class Copied(Bench):
    """Where the benches of regions make these, this one copies all blocks."""

    copied = 0

    def __init__(self) -> None:
        super().__init__()
        begin(self.engine)

    def compile(self, offsets: list[int]) -> None:
        pc = self.cpu.pc
        for offset in offsets:
            self.cpu.pc = CODE_PAGE + offset
            self.engine.block(self.at)
        self.cpu.pc = pc
        self.copied += copy(self.engine, self.at, self.heads())

    @contextmanager
    def interpreted(self) -> Iterator[None]:
        self.engine.written(self.at, self.native.ram.address + CODE_AT, CODE_SIZE)
        yield


@pytest.fixture(scope="module")
def bench() -> Iterator[Copied]:
    b = Copied()
    yield b
    b.native.close()


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@pytest.mark.timeout(900)
def test_instructions_agree_with_the_host() -> None:
    native = Copying()
    begin(native.engine)
    with HostCpu() as host:
        some = judge(native, host, 11, 1)[::4]
        wanted: dict[int, set[tuple[int, int]]] = {}
        for g, _ in some:
            mode, slot = native.slot(g.case, None)
            wanted.setdefault(mode, set()).add((slot, layout.PLAIN))
        for mode, pairs in wanted.items():
            stencils(native.engine, mode, pairs)
        for window in (PLAIN, CODED):
            found = mismatches(native, some, window)
            assert not found, "\n".join([f"{len(found)} of {len(some)} differ", *found[:20]])
    assert native.copied > 1000
    native.close()


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_and_the_interpreter_agree(bench: Copied, kind: str) -> None:
    tried(bench, kind, False)


@pytest.mark.parametrize("kind", ["64", "32"])
def test_code_that_changes_itself(bench: Copied, kind: str) -> None:
    tried(bench, kind, True)


def tried(bench: Copied, kind: str, rewrites: bool) -> None:
    """Generated sequences, in all the ways in which regions are tried."""
    bench.native.become(PLAIN)
    mode, bench.template = templates(bench, kind)
    before, count = bench.copied, 0
    for seed in range(10):
        t = attempt(bench, seed, mode, rewrites=rewrites, many=1)
        assert not t.wrong, "\n".join([f"seed {seed}: {len(t.wrong)} of {t.count} differ", *t.wrong[:8]])
        count += t.count
    assert count > 100 and bench.copied - before > count


def test_a_number_too_large_for_a_gap(bench: Copied) -> None:
    """The instruction goes to its handler, those around it do not."""
    large = 0x123456789ABCDEF0
    code = bytes.fromhex("48 ff c1 48 b8") + large.to_bytes(8, "little") + bytes.fromhex("48 ff c1 48 ff c1 cc")
    bench.template = None
    bench.begin(case := Case(code, 64))
    bench.finish()  # now there are its handlers
    first = bench.begin(case)
    bench.compile([CODE & 0xFFF])
    (head,) = (h for h in bench.heads() if h.offset == CODE & 0xFFF)
    assert [bench.engine.copies.has(h) for h in handlers(bench.engine, head)] == [True, False, True, True, True]
    ended = bench.finish()
    assert ended.icount == 5 and bench.native.vcpu.gpr[0] == large
    assert bench.native.vcpu.gpr[1] == int.from_bytes(first.registers[8:16], "little") + 3


def test_stencils_are_kept(bench: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one machine made, the next finds; damaged files are made again."""
    store = Store("build", tmp_path).beside("stencils")
    monkeypatch.setattr(bench.engine, "stencil_store", store)
    assert made(bench) == set(OF_ALL)
    (file,) = store.path.glob("*.code")
    whole, when = file.read_bytes(), file.stat().st_mtime_ns
    assert made(bench) == set(OF_ALL) and file.stat().st_mtime_ns == when
    file.write_bytes(whole[:-1] + b"!")
    assert made(bench) == set(OF_ALL) and file.read_bytes() == whole


def test_a_store_with_more_than_there_is_room_for(bench: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fit are taken, no more are asked for, and those that every block needs have room."""
    monkeypatch.setattr(module, "STENCILS_SIZE", size := 2 * module.OF_ALL_SIZE)
    store = Store("build", tmp_path).beside("stencils")
    store.add((bytes(size - 64), {f"h.other.0.{slot}.0": slot * 1024 for slot in range(size // 1024)}))
    monkeypatch.setattr(bench.engine, "stencil_store", store)
    for _ in range(2):  # the second time those are in the store too
        found = made(bench)
        assert set(OF_ALL) < found and "h.other.0.0.0" in found and "h.other.0.7.0" not in found


def test_a_start_with_a_filled_store_needs_no_llvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes several times as long to be loaded as all the rest."""
    program = """
import sys
from exuvia.codegen.engine import Engine
from exuvia.isa.mips.architecture import architecture

engine = Engine(architecture(), frozenset(), 0, 4096)
engine.copies.begin()
print(len(engine.copies.stencils), "llvmlite.binding" in sys.modules)
"""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told = [subprocess.check_output([sys.executable, "-c", program], text=True).split() for _ in range(2)]
    assert told == [[str(len(OF_ALL)), "True"], [str(len(OF_ALL)), "False"]]


def made(bench: Copied) -> set[str]:
    """The stencils that a new machine has."""
    before = list(bench.engine.cache), list(bench.engine.modes)
    copies = Copies(bench.engine)
    copies.ask = lambda forms: None
    copies.begin()
    bench.engine.cache[:], bench.engine.modes[:] = before
    return set(copies.stencils)
