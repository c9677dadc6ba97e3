"""A processor's tick: it wakes what is halted, however that came to stand, and leaves single steps alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from threading import Timer
from types import SimpleNamespace

import pytest

from exuvia.codegen.engine import Engine
from exuvia.codegen.layout import REASON
from exuvia.dsl.tick import PENDING
from exuvia.isa.x86.architecture import architecture
from exuvia.isa.x86.cpus import model
from exuvia.isa.x86.state import CR0_PE, CS, EFER_SCE, IF
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from exuvia.vcpu.clock import Clock
from exuvia.vcpu.software import NEVER
from tests.vcpu.software_x86 import SoftwareX86

SIZE, CODE, VECTOR = 1 << 20, 0x1000, 0x30
NOPS = b"\x90" * 64


class Bench:
    """An x86 processor in real mode on a clock that the test moves; native code's stands with it."""

    def __init__(self) -> None:
        self.at, self.attended = 1000, 0
        self.clock = Clock(lambda: self.at)
        self.clock.resume()
        self.ram, chosen = Ram(SIZE), model("max")
        self.engine = Engine(architecture(), chosen.features, self.ram.address, SIZE)
        memory = AddressSpace("memory")
        memory.map_ram(0, SIZE, self.ram, 0)
        self.engine.set_slots([(0, SIZE, self.ram.address, True)])
        machine = SimpleNamespace(vcpus=[], clock=self.clock, attend=self.attend)
        apic = SimpleNamespace(base=0xFEE00900, task_priority=0, intr=SimpleNamespace(level=False))
        self.cpu = SoftwareX86(self.engine, chosen, 0, memory, AddressSpace("ports"), apic, machine)
        machine.vcpus.append(self.cpu)
        self.cpu.reset()
        self.cpu.set_real_segment(CS, 0)
        self.cpu.pc = CODE
        self.cpu.time_runs = 0
        self.cpu.update_mode()
        self.ram.view[CODE : CODE + len(NOPS)] = NOPS
        self.go_to(0)

    def attend(self, vcpu: object) -> None:
        """The machine is told that a processor has something to do."""
        self.attended += 1

    def go_to(self, now: int) -> None:
        """Time goes on."""
        self.at = now + 1000
        self.cpu.time_offset = -now
        self.clock.run_due()

    def pending(self) -> bool:
        """Does the tick wait to be delivered?"""
        return self.cpu.tick_state == PENDING

    def halted(self) -> bool:
        """Does the processor sleep?"""
        return bool(self.cpu.__dict__["halted"])


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.ram.close()


def test_one_that_was_kicked_as_it_halted_is_woken(bench: Bench) -> None:
    bench.cpu.set_flags(IF)
    bench.cpu.tick.lend("idle", VECTOR)
    bench.cpu.tick.set(5000)
    bench.cpu.halt()
    bench.cpu.kick()
    bench.cpu.run()
    assert bench.halted() and not bench.cpu.kicked
    bench.go_to(4999)
    assert bench.halted()
    bench.go_to(5000)
    assert not bench.halted() and bench.attended == 1


def test_one_that_takes_a_halted_ones_place_is_woken(bench: Bench) -> None:
    """It was wired before, and never runs until then."""
    other, cpu = Bench().cpu, bench.cpu
    for of in other, cpu:
        of.__dict__["acknowledge"] = of.__dict__["numeric_error"] = lambda: 0
    other.set_flags(IF)
    other.halt()
    cpu.tick.lend("idle", VECTOR)
    cpu.tick.set(5000)
    cpu.adopt(other, None)
    assert bench.halted()
    bench.go_to(5000)
    assert not bench.halted()


def test_one_that_is_halted_is_woken_by_a_timer_that_is_set_meanwhile(bench: Bench) -> None:
    bench.cpu.set_flags(IF)
    bench.cpu.halt()
    bench.cpu.tick.lend("idle", VECTOR)
    bench.cpu.tick.set(5000)
    bench.go_to(5000)
    assert not bench.halted()


def test_an_alarm_that_is_of_no_use_any_more_rings_nothing(bench: Bench) -> None:
    tick = bench.cpu.tick
    bench.cpu.halt()
    bench.cpu.run()
    tick.lend("idle", VECTOR, period=3000)
    tick.set(5000)
    bench.at += 5000  # and the clock has not looked yet
    assert tick.take_back() == "pending" and tick.deadline == 8000
    tick.line = False
    tick.lend("idle", VECTOR, period=3000)
    bench.clock.run_due()
    assert not bench.pending() and not tick.line and tick.deadline == 8000
    bench.go_to(8000)
    assert bench.pending() and tick.deadline == 11000
    tick.cancel()
    assert tick.take_back() == "pending"
    tick.lend("idle", VECTOR)
    bench.go_to(20000)
    assert not bench.pending()


def test_rings_that_were_missed_are_one(bench: Bench) -> None:
    tick = bench.cpu.tick
    tick.lend("idle", VECTOR, period=3000)
    tick.set(5000)
    bench.go_to(12000)
    assert tick.take_back() == "pending" and tick.deadline == 14000


@pytest.mark.parametrize("flags", [0, IF], ids=["masked", "welcome"])
def test_a_single_step_is_one_instruction_while_it_waits(bench: Bench, flags: int) -> None:
    bench.cpu.set_flags(flags)
    bench.cpu.tick.lend("idle", VECTOR)
    bench.cpu.tick.set(0)
    late = Timer(5, bench.cpu.kick)
    late.start()
    bench.cpu.single_step()
    late.cancel()
    assert not bench.cpu.kicked, "it was in native code for ever"
    assert bench.cpu.pc == CODE + 1 and bench.pending()


def test_sysret_of_legacy_mode_lets_an_interrupt_in(bench: Bench) -> None:
    cpu = bench.cpu
    cpu.first_look, cpu.hot_after = 0, NEVER
    cpu.exit_handlers[REASON["budget"]] = cpu.kick
    bench.ram.view[CODE : CODE + 4] = bytes.fromhex("0f07 ebfe")
    taken = []

    def acknowledge() -> int:
        taken.append(cpu.pc)
        cpu.interrupt(False)
        cpu.kick()
        raise InterruptedError

    cpu.__dict__["acknowledge"] = acknowledge
    for waiting in False, True:  # at first everything is compiled
        cpu.cr0, cpu.efer, cpu.star, cpu.cpl = CR0_PE, EFER_SCE, 0x8 << 48, 0
        for segment in range(6):
            cpu.set_segment(segment, 8 if segment == CS else 16, 0, 0xFFFFFFFF, 0xC09B if segment == CS else 0xC093)
        cpu.set_flags(0)
        cpu.update_mode()
        cpu.pc, cpu.gpr[1] = CODE, CODE + 2
        cpu.interrupt(waiting)
        cpu.budget_end = cpu.icount + 1000
        with suppress(InterruptedError):
            cpu.run()
        assert cpu.pc == CODE + 2 and cpu.cpl == 3
    assert taken == [CODE + 2]


def test_one_that_is_asked_leaves_native_code_whatever_comes_after(bench: Bench) -> None:
    cpu, called = bench.cpu, []
    cpu.tick.wanted = lambda: called.append(cpu.tick.take_back())
    cpu.tick.lend("active", VECTOR)
    cpu.tick.elsewhere = lambda: True
    assert cpu.tick.take_back() is None
    cpu.nmi_blocked = 1
    cpu.nmi()
    cpu.tick.elsewhere = lambda: False
    assert cpu.native_run(cpu.native.address) == REASON["request"]
    cpu.kick()
    cpu.run()
    assert called == ["active"]
