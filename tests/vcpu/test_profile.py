"""`exuvia profile`: samples of programs whose hot code is known, accesses to devices whose count is known."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from exuvia.codegen.layout import REASONS
from exuvia.codegen.store import Store
from exuvia.devices.serial.uart16550 import Uart16550
from exuvia.isa.x86.state import layout
from exuvia.memory.space import AddressSpace
from exuvia.support.errors import UserError
from exuvia.vcpu.hostcode import disassemble
from exuvia.vcpu.profile import FUNCTIONS, IN_PYTHON, INTERPRETER, REGIONS, Accounted, Profile
from exuvia.vcpu.software import NEVER
from exuvia.vcpu.symbols import Symbols, load
from tests.codegen.native import STOPPED, NativeMachine
from tests.codegen.test_blocks import registers
from tests.oracle.case import CODE, WINDOW, Case

LOOP = bytes.fromhex("48 01 C8 48 89 0B 48 FF C9 75 F5")  # add rax, rcx; mov [rbx], rcx; dec rcx; jnz
LEAST = 20  # samples that a run has to bring: 0.08 s where the kernel looks 250 times a second


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeMachine]:
    machine = NativeMachine(Store("profile", tmp_path_factory.mktemp("store")))
    machine.engine.region_store.seal("each test makes its own")
    yield machine
    machine.close()


def profiled(native: NativeMachine, code: bytes, seconds: float, hot_after: int) -> Profile:
    """Run an endless loop for so long, in processor time; its handlers are compiled before."""
    cpu = native.vcpu
    native.put(Case(code, gprs=registers(rcx=1 << 62, rbx=WINDOW)))
    cpu.hot_after = NEVER
    while cpu.icount < 1000:
        cpu.budget_end = 1000
        cpu.exit_handlers[native.engine.run(native.at)]()
    native.engine.drop_blocks()
    cpu.forget_blocks()
    native.put(Case(code, gprs=registers(rcx=1 << 62, rbx=WINDOW)))
    cpu.hot_after = hot_after
    run = cpu.native_run
    profile = Profile(SimpleNamespace(vcpus=[cpu], devices={}, at_end=[]))
    end = time.thread_time() + seconds
    try:
        while time.thread_time() < end:
            cpu.budget_end = cpu.icount + 1_000_000
            reason = cpu.native_run(native.at)
            assert reason != STOPPED
            cpu.exit_handlers[reason]()
    finally:
        profile.end()
        cpu.__dict__["native_run"] = run
        cpu.__dict__["memory"], cpu.__dict__["ports"] = native.memory, native.ports
    return profile


def test_a_loop_in_the_interpreter(native: NativeMachine) -> None:
    profile = profiled(native, LOOP, 0.5, NEVER)
    total = profile.shares.total()
    assert total > LEAST and profile.shares[REGIONS] == 0
    assert profile.shares[INTERPRETER] > 0.7 * total
    (spent,) = profile.hottest(1)
    assert spent.linear == CODE and not spent.code and spent.total > 0.7 * total
    assert [text for _, text in profile.guest(spent)] == ["add rax, rcx", "mov qword ptr [rbx], rcx", "dec rcx", f"jne {CODE:#x}"]
    assert profile.counted["instructions"] > 1_000_000 and 0.4 < profile.cpu_seconds < 2


def test_a_loop_in_a_region(native: NativeMachine) -> None:
    """Its samples lie on host instructions that were made for the guest's own."""
    profile = profiled(native, LOOP, 1.0, 16)
    (spent,) = profile.hottest(1)
    assert spent.linear == CODE and spent.code and spent.total > 0.3 * profile.shares.total()
    found = profile.host(spent)
    assert found is not None
    host, lines = found
    assert lines is not None
    hit = {line and line.place for line, h in zip(lines, host, strict=True) for at in spent.samples if h.at <= at < h.at + h.size}
    places = {CODE % 4096 + offset for offset in (0, 3, 6, 9)}
    assert hit & places
    loop = sum(
        spent.samples[at] for line, h in zip(lines, host, strict=True) if line and line.place in places for at in range(h.at, h.at + h.size)
    )
    assert loop > 0.4 * spent.total  # a skid of one instruction puts some on the look at the deadline, which is no guest line


def test_soft_floats(native: NativeMachine) -> None:
    """Transcendental functions of the x87 are ours: no host has their exact results."""
    profile = profiled(native, bytes.fromhex("D9 EB D9 FE DD D8 EB F8"), 0.5, NEVER)  # fldpi; fsin; fstp st0; jmp
    assert profile.shares[FUNCTIONS] > 0
    assert profile.functions.total() == profile.shares[FUNCTIONS]


def test_accesses_to_devices(native: NativeMachine) -> None:
    profile = Profile(SimpleNamespace(vcpus=[native.vcpu], devices={"serial0": (uart := Uart16550())}, at_end=[]))
    native.vcpu.__dict__["native_run"] = native.engine.run
    ports = AddressSpace("ports")
    ports.map_device(0x3F8, 8, uart)
    seen = Accounted(ports, profile.accesses, profile.register)
    for _ in range(3):
        assert seen.read(0x3FD, 1) == ports.read(0x3FD, 1)
    seen.write(0x3FF, 1, 0x5A)
    assert ports.read(0x3FF, 1) == 0x5A
    seen.read(0x70, 1)
    assert {name: (a.reads, a.writes) for name, a in profile.accesses.items()} == {
        ("serial0", "lsr"): (3, 0),
        ("serial0", "scr"): (0, 1),
        ("ports, nothing there", "0x70"): (1, 0),
    }
    assert all(a.time > 0 for a in profile.accesses.values())


def test_every_reason_to_leave_native_code_has_a_name() -> None:
    assert set(IN_PYTHON) == set(REASONS)


def test_counters(native: NativeMachine) -> None:
    """TLB misses are those that there must be: after a flush, one for each page of data and one for the code."""
    cpu = native.vcpu
    touch = bytes.fromhex("8A 03 8A 83 00 10 00 00 8A 83 00 20 00 00 F4")  # mov al, [rbx]; [rbx + 4096]; [rbx + 8192]; hlt
    native.run(Case(touch, gprs=registers(rbx=WINDOW)))
    native.engine.flush(native.at, 1)
    before = cpu.counters()
    native.put(Case(touch, gprs=registers(rbx=WINDOW)))
    native.go()
    after = cpu.counters()
    assert after["TLB misses"] - before["TLB misses"] == 4
    assert after["handler code bytes"] == native.engine.code.used > 0
    assert after["exits hot"] == cpu.exits[-1]


def test_names(tmp_path: Path) -> None:
    symbols = Symbols(
        "ffffffff81000000 T _text\nffffffff81000100 t memset\n0000000000000010 A percpu\n                 U malloc".splitlines()
    )
    assert symbols.name(0xFFFFFFFF81000105) == "memset+0x5"
    assert symbols.name(0xFFFFFFFF81000000) == "_text+0x0"
    assert symbols.name(0x20) == symbols.name(0xFFFFFFFFFFFFFFFF) == ""
    for text in ("", "no symbols here", "0000000000000000 T _text\n", "xyz T name"):
        (tmp_path / "map").write_text(text)
        with pytest.raises(UserError, match="--symbols"):
            load(tmp_path / "map")
    with pytest.raises(UserError, match="No such file"):
        load(tmp_path / "none")


def test_host_code(monkeypatch: pytest.MonkeyPatch) -> None:
    found = disassemble(bytes.fromhex("48 01 C8 C3 90 06"))
    assert found is not None  # the extra is part of `dev`
    assert [(line.at, line.size, line.text) for line in found] == [(0, 3, "add rax, rcx"), (3, 1, "ret"), (4, 1, "nop")]
    monkeypatch.setitem(sys.modules, "capstone", None)  # not installed
    assert disassemble(b"\x90") is None


def test_other_machines_are_refused() -> None:
    assert layout.files["tlb_misses"].count == 1
    with pytest.raises(UserError, match="-accel software"):
        Profile(SimpleNamespace(vcpus=[object()], devices={}, at_end=[]))
