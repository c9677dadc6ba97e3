"""`regions=check`: it finds what is planted in regions, and nothing else, in loops, in the small guests and in a real boot."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from exuvia.codegen.engine import Engine
from exuvia.codegen.interpreter import Interpreter
from exuvia.codegen.layout import REASON
from exuvia.codegen.region import Region
from exuvia.codegen.stencil import Stencil
from exuvia.dsl.values import Node
from exuvia.guests import cache
from exuvia.guests.catalog import guest
from exuvia.isa.x86.architecture import architecture
from exuvia.isa.x86.cpus import model
from exuvia.isa.x86.state import CS
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from exuvia.support.errors import UserError
from exuvia.vcpu.clock import Clock
from exuvia.vcpu.sidebyside import Second
from tests.codegen.copying import begin, pairs, stencils
from tests.guests.console import PASS, assemble, expected, names, run
from tests.vcpu.software_x86 import SideBySideX86

SIZE = 2 << 20
# add eax, ecx; mov [ebx], eax; cmp al, 7; adc edx, 0; add [ebx+8], ecx; dec ecx; jnz -; out 80h, al; hlt
LOOP = bytes.fromhex("01 C8 89 03 3C 07 83 D2 00 01 4B 08 49 75 F1 E6 80 F4")
TIMES = 300_000


class Bench:
    """A processor in flat 32-bit code without paging; port 80h takes notes."""

    def __init__(self) -> None:
        self.ram = Ram(SIZE)
        self.engine = Engine(architecture(), (chosen := model("max")).features, self.ram.address, SIZE)
        self.second = Second(self.engine, self.ram, 1)
        self.second.engine.region_store.seal("regions of tests")
        self.second.engine.hot.known.clear()
        memory, ports = AddressSpace("memory"), AddressSpace("ports")
        memory.map_ram(0, SIZE, self.ram, 0)
        self.written: list[tuple[int, int]] = []
        ports.map_device(0x80, 1, self)
        slots = [(0, SIZE, self.ram.address, True)]
        self.engine.set_slots(slots)
        self.second.set_slots(slots)
        machine = SimpleNamespace(vcpus=[], request_reset=print, clock=Clock())
        whole = self.engine, chosen, 0, memory, ports, SimpleNamespace(base=0xFEE00900, task_priority=0), machine
        self.cpu = cpu = SideBySideX86(self.second, *whole)
        machine.vcpus.append(cpu)
        cpu.exit_handlers[REASON["budget"]] = cpu.kick
        cpu.reset()
        for i in range(6):
            cpu.set_segment(i, 8 if i == CS else 16, 0, 0xFFFFFFFF, 0xC09B if i == CS else 0xC093)
        cpu.cr0, cpu.pc = 0x11, 0x10000
        cpu.update_mode()
        cpu.flush_tlb(True)
        cpu.gpr[1], cpu.gpr[3] = TIMES, 0x20000
        self.ram.load(0x10000, LOOP)

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        self.written.append((offset, value))


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_loop_without_a_difference(bench: Bench) -> None:
    bench.cpu.run()
    total = TIMES * (TIMES + 1) // 2 & 0xFFFFFFFF
    assert bench.cpu.halted and bench.cpu.gpr[0] == total and bench.written == [(0, total & 0xFF)]
    assert int.from_bytes(bench.ram.view[0x20008:0x2000C], "little") == total
    assert bench.second.engine.hot.installed and not bench.engine.hot.made
    assert bench.second.stretches > 7 * TIMES // 100_000


def test_a_wrong_register_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    put = Region.put

    def wrong(self: Region, place: Any, v: Any) -> None:
        put(self, place, self.let(f"or i32 {v}, 256") if place == ("r", 0, 32) else self.let(f"or i64 {v}, 256") if place[1] == 0 else v)

    monkeypatch.setattr(Region, "put", wrong)
    with pytest.raises(UserError, match=r"differ in what follows 0x10000, .* r\[0\] "):
        bench.cpu.run()


def test_a_lost_store_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Region, "do_store", lambda self, n, i: None)
    with pytest.raises(UserError, match="memory at 0x2000"):
        bench.cpu.run()


def test_lost_flags_are_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Region, "value_cc", lambda self, n, i: 0 if isinstance(n, Node) else 1)
    with pytest.raises(UserError, match="differ"):
        bench.cpu.run()


def test_a_wrong_count_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive = Region.arrive
    monkeypatch.setattr(Region, "arrive", lambda self, k, ic: arrive(self, k, self.let(f"add i64 {ic}, 1")))
    with pytest.raises(UserError, match="icount"):
        bench.cpu.run()


def test_copied_blocks_are_compared(bench: Bench) -> None:
    copying(bench)
    bench.cpu.run()
    assert bench.cpu.halted and bench.second.engine.copies.used and bench.engine.copies.code is None


def test_a_wrong_copy_is_found(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stencil, "put", lambda self, place, v: Interpreter.put(self, place, 256 if place[0] == "r" else v))
    copying(bench)
    with pytest.raises(UserError, match=r"differ in what follows 0x10000, .* r\[0\] "):
        bench.cpu.run()


def copying(bench: Bench) -> None:
    """The second engine has no regions, but stencils for the loop."""
    cpu, ahead, engine = bench.cpu, bench.cpu.ahead, bench.second.engine
    engine.stencil_store.seal("stencils of tests")
    engine.hot.__dict__["sampled"] = lambda *_: None
    begin(engine)
    cpu.gpr[1] = 2
    cpu.run()
    ahead.pc = 0x10000
    head = engine.hot.head(engine.block(ahead.native.address))
    stencils(engine, head.mode, pairs(engine, head))
    cpu.gpr[0], cpu.gpr[1], cpu.gpr[2], cpu.pc, cpu.__dict__["halted"] = 0, 50_000, 0, 0x10000, False


def test_time_that_compiling_takes_is_no_difference(bench: Bench) -> None:
    """The interpreter compiles a handler in the middle of a stretch, and what that took is no time of the guest's."""
    bench.cpu.pass_time()
    before = bench.cpu.timestamp()
    bench.cpu.skip(1 << 50)
    assert bench.cpu.timestamp() == before
    bench.cpu.pass_time()
    assert bench.cpu.timestamp() - before & (1 << 64) - 1 > 1 << 63  # the skipped ticks never came


def test_device_writes_reach_code_of_both(bench: Bench) -> None:
    """A loader puts other code where code has run."""
    bench.cpu.run()

    def written(at: int, length: int) -> None:
        bench.engine.written(bench.cpu.native.address, bench.ram.address + at, length)

    bench.ram.on_write.append(written)
    bench.ram.load(0x10000, LOOP[:1] + b"\xd0" + LOOP[2:])  # add eax, edx
    bench.cpu.gpr[0], bench.cpu.gpr[1], bench.cpu.gpr[2], bench.cpu.pc, bench.cpu.__dict__["halted"] = 0, 50000, 0, 0x10000, False
    bench.cpu.run()
    assert bench.cpu.halted and bench.written[-1][1] == bench.cpu.gpr[0] & 0xFF


@pytest.mark.skipif(not (shutil.which("as") and shutil.which("ld")), reason="binutils (as, ld) is not installed")
@pytest.mark.parametrize("name", names(processors=False))
def test_small_guests(name: str, tmp_path: Path) -> None:
    program = [sys.executable, "-c", "import sys; from exuvia.cli.system import x86_64; sys.exit(x86_64())", "-accel", "tcg,regions=check"]
    text, status = run(program, assemble(name, tmp_path), name, 60)
    assert text == expected(name)
    assert status == PASS


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["alpine", "debian-amd64", "debian-i386"])
def test_a_real_boot(name: str) -> None:
    try:
        files = cache.fetch(guest(name), lambda *_: None)
    except UserError as error:
        pytest.skip(str(error))
    program = [sys.executable, "-c", "import sys; from exuvia.cli.system import x86_64; sys.exit(x86_64())", "-accel", "tcg,regions=check"]
    kernel = ["-kernel", str(files["kernel"]), "-initrd", str(files["initrd"]), "-append", "rdinit=/bin/sh console=ttyS0"]
    words = [*program, *kernel, "-m", "512", "-display", "none", "-serial", "stdio", "-no-reboot"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as machine:
        assert machine.stdin and machine.stdout
        text = b""
        while b" # " not in text[-80:]:
            more = machine.stdout.read(1)
            assert more, text[-2000:]
            text += more
        machine.stdin.write(b"busybox poweroff -f || /bin/busybox poweroff -f\n")
        machine.stdin.flush()
        text += machine.stdout.read()
        assert machine.wait() == 0, text[-2000:]
