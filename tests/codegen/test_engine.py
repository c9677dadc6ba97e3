"""What happens where memory for code or blocks ends, and what a second engine finds in the store."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exuvia.codegen import engine as module
from exuvia.codegen.area import Code
from exuvia.codegen.engine import changed_since_start, sources
from exuvia.codegen.layout import CACHE
from exuvia.codegen.store import Store, defined, read
from exuvia.isa.x86.architecture import architecture
from exuvia.support.errors import UserError
from exuvia.vcpu.clock import Clock
from tests.codegen.native import NativeMachine
from tests.oracle.case import CODE, CODE_PAGE, Case

SMALL = 32 << 10


@pytest.fixture
def native() -> Iterator[NativeMachine]:
    machine = NativeMachine()
    yield machine
    machine.close()


def jumps(count: int, rounds: int) -> Case:
    """`count` blocks of a JMP to the next one, `rounds` times: DEC ECX; JNZ start."""
    body = b"\xeb\x00" * count
    back = b"\xff\xc9\x0f\x85" + (-(len(body) + 8)).to_bytes(4, "little", signed=True)
    return Case(body + back, gprs=[0, rounds] + [0] * 14)


def test_blocks_are_dropped_when_the_arena_is_full(native: NativeMachine) -> None:
    engine = native.engine
    engine.cache[CACHE["arena_end"] // 8] = engine.arena.address + SMALL
    engine.drop_blocks()
    drops, original = [], engine.drop_blocks

    def drop() -> None:
        drops.append(native.vcpu.pc)
        original()

    engine.drop_blocks = drop  # type: ignore[method-assign]
    case = jumps(600, 4)
    got = native.run(case)
    assert got.fault is None and got.gprs[1] == 0 and got.rip == CODE + len(case.code)
    assert native.vcpu.icount == 4 * 602 + 1
    assert 3 < len(drops) < 60
    assert engine.cache[CACHE["arena"] // 8] <= engine.arena.address + SMALL


def test_single_steps_need_no_room(native: NativeMachine) -> None:
    """A thousand single steps use the arena's end again and again."""
    engine = native.engine
    engine.cache[CACHE["arena_end"] // 8] = engine.arena.address + SMALL
    engine.drop_blocks()
    native.put(jumps(100, 10))
    before = engine.cache[CACHE["arena"] // 8]
    for _ in range(1000):
        native.vcpu.single_step()
    assert native.vcpu.icount == 1000 and CODE_PAGE < native.vcpu.pc < CODE_PAGE + 4096
    assert engine.cache[CACHE["arena"] // 8] == before


def test_the_memory_for_code_ends() -> None:
    code = Code(1 << 20)
    first = code.place(b"\xc3")
    assert code.place(b"\xc3") == first + 64
    with pytest.raises(UserError, match="1 MiB for generated code are full"):
        code.place(bytes(1 << 20))
    assert code.place(b"\xc3") == first + 128


def test_too_much_stored_code_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store("x86-1", tmp_path)
    for i in range(8):
        store.add((bytes([i]) * (1 << 20), {f"nothing.{i}": 0}))
    monkeypatch.setattr(module, "LOADED", 3 << 20)
    monkeypatch.setattr(module, "changed_since_start", lambda _: False)
    machine = NativeMachine(store)
    assert sum(name.startswith("nothing.") for name in machine.engine.symbols) == 2
    assert machine.run(Case(b"\xff\xc0")).gprs[0] == 1
    machine.close()


def test_a_second_engine_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "changed_since_start", lambda _: False)  # somebody may be editing
    case = Case(bytes.fromhex("FF C0 48 01 C3 89 05 00 04 00 00"))  # inc eax; add rbx, rax; mov [code page], eax
    counts, tables = [], []
    for _ in range(2):
        machine = NativeMachine(Store("x86-1", tmp_path))
        tables.append([name for name in machine.engine.symbols if name.startswith("d.")])
        assert machine.run(case).gprs[3] == 1
        counts.append(machine.engine.compiled)
        for t in machine.engine.tables.values():
            assert ctypes.string_at(machine.engine.decoders[id(t)], len(t.blob)) == t.blob
        machine.close()
    assert counts[0] >= 4 and counts[1] == 0
    assert not tables[0] and len(tables[1]) == len(machine.engine.tables)


def test_functions_that_the_store_has_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers are stored, and what they call is not any more, or a part of it: it is compiled again before anything runs."""
    monkeypatch.setattr(module, "changed_since_start", lambda _: False)
    case = Case(bytes.fromhex("D9 EB D9 FE D9 1D 00 04 00 00"))  # fldpi; fsin; fstp dword [...]
    seen, functions = [], []
    for step in (1, 2, 1):
        store = Store("x86-1", tmp_path)
        machine = NativeMachine(store)
        seen.append(machine.run(case))
        have = {file: defined(read(file)[1]).keys() for file in sorted(store.path.glob("*.code"))}
        functions.append({name: file for file, names in have.items() for name in names if name.startswith("f.")})
        machine.close()
        for name in sorted(functions[-1])[::step]:
            functions[-1][name].unlink()
    assert len(functions[0]) > 1 and functions[0].keys() == functions[1].keys() == functions[2].keys()
    assert seen[0] == seen[1] == seen[2]


def test_memory_for_code_is_given_back() -> None:
    """When nobody can run it any more: a function of the engine keeps all of it."""

    def mapped() -> int:
        gc.collect()
        return Path("/proc/self/maps").read_text().count("exuvia-code")

    before = mapped()
    machine = NativeMachine()
    assert machine.run(Case(b"\xff\xc0")).gprs[0] == 1
    counter = machine.engine.counter
    machine.close()
    assert mapped() == before + 4
    del machine
    assert mapped() == before + 4 and counter() < counter()
    del counter
    assert mapped() == before


def test_a_running_machine_compiles_out_of_time(tmp_path: Path) -> None:
    """What is missing is compiled inside `standstill`, what is there is not; and the TSC does not count meanwhile."""
    machine = NativeMachine(Store("x86-1", tmp_path))
    stood: list[int] = []

    clock = Clock()
    clock.beside, clock.skip = machine.engine.counter, machine.vcpu.skip
    clock.resume()

    @contextmanager
    def standstill() -> Iterator[None]:
        clock.pause()
        before = machine.engine.counter()
        yield
        stood.append(machine.engine.counter() - before)
        clock.resume()

    machine.engine.standstill = standstill
    case = Case(bytes.fromhex("FF C0 48 01 C3"))
    machine.put(case, None)
    start, ticks = machine.engine.counter(), machine.vcpu.timestamp()
    machine.go()
    all_of_it, seen = machine.engine.counter() - start, machine.vcpu.timestamp() - ticks
    assert stood and 0 < seen <= all_of_it - sum(stood)
    done = len(stood)
    machine.run(case)
    assert len(stood) == done
    machine.close()


def test_sources_that_change_while_we_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of the old text must not be stored under the new text's identity."""
    a = architecture()
    assert all(file.suffix == ".py" for file in sources(a)) and len(sources(a)) > 50
    file = tmp_path / "integer.py"
    monkeypatch.setattr(module, "sources", lambda _: [file])
    file.write_text("")
    assert changed_since_start(a)
    os.utime(file, (1, 1))
    assert not changed_since_start(a)
