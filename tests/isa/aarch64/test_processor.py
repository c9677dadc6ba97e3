"""The processor in plain Python: interrupts, timers, PSCI, system registers that leave native code, models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from exuvia.isa import UnknownName
from exuvia.isa.aarch64 import load
from exuvia.isa.aarch64.cpus import MODELS, model
from exuvia.isa.aarch64.debug import MDSCR_SS
from exuvia.isa.aarch64.exceptions import FIQ, IRQ
from exuvia.isa.aarch64.faults import Fault, trap, undefined
from exuvia.isa.aarch64.paging import MDSCR_KDE
from exuvia.isa.aarch64.processor import Processor
from exuvia.isa.aarch64.state import DAIF_D, DAIF_F, DAIF_I, layout
from exuvia.vcpu.clock import Clock

load()
TICK = 16  # ns


class Alone(Processor):
    """One without an engine: what it asks of one is written down."""

    def __init__(self, index: int, machine: Any, controller: Any = None, name: str = "cortex-a57") -> None:
        super().__init__(memoryview(bytearray(layout.size)), model(name).numbered(index, 2))
        d = self.__dict__
        d["index"], d["machine"], d["controller"], d["clock"], d["halted"], d["asked"] = (
            index,
            machine,
            controller,
            machine.clock,
            False,
            [],
        )
        d["peers"], d["engine"], d["native"] = machine.vcpus, SimpleNamespace(settle=lambda at: 0), SimpleNamespace(address=0)
        machine.vcpus.append(self)

    def switch_tlb(self, index: int) -> None:
        self.asked.append(("tlb", index))

    def flush_tlb(self, everything: bool) -> None:
        self.asked.append(("flush", everything))

    def invalidate_page(self, linear: int) -> None:
        self.asked.append(("page", linear))

    def resume_at(self, routine: str) -> None:
        self.asked.append(("resume", routine))

    def attention(self, wanted: bool) -> None:
        self.__dict__["wanted"] = wanted

    asked: list[tuple[str, object]]


class Ticking(Clock):
    """Time that the test moves."""

    def __init__(self) -> None:
        self.at = 0
        super().__init__(lambda: self.at)
        self.resume()

    def go_to(self, at: int) -> None:
        self.at = at
        self.run_due()


class Gic:
    """A CPU interface that remembers."""

    def __init__(self) -> None:
        self.written: list[tuple[str, int]] = []

    def read_register(self, name: str) -> int:
        return len(name)

    def write_register(self, name: str, value: int) -> None:
        self.written.append((name, value))


@pytest.fixture
def board() -> Any:
    """A machine with two processors."""
    done: list[str] = []
    machine = SimpleNamespace(
        vcpus=[], clock=Ticking(), done=done, virtualization=False, attend=lambda vcpu: done.append(f"attend {vcpu.index}"),
        request_shutdown=lambda: done.append("off"), request_reset=lambda why: done.append("reset"),
    )  # fmt: skip
    for i in range(2):
        Alone(i, machine, Gic())
    for vcpu in machine.vcpus:
        vcpu.reset()
    return machine


def sys(text: str, read: bool = True, rt: int = 3) -> int:
    """MRS or MSR of S3_0_C1_C2_3, as an instruction."""
    op0, op1, n, m, op2 = (int(x.lstrip("SC")) for x in text.split("_"))
    return 0xD5000000 | read << 21 | op0 << 19 | op1 << 16 | n << 12 | m << 8 | op2 << 5 | rt


def read(p: Alone, text: str) -> int:
    p.rare["read_system_register"](p, sys(text))
    return p.x[3]


def write(p: Alone, text: str, value: int) -> None:
    p.rare["write_system_register"](p, sys(text, False), value)


def test_reset(board: Any) -> None:
    first, second = board.vcpus
    assert (first.el, first.halted, second.halted, second.mpidr_el1) == (1, False, True, 1 << 31 | 1)
    assert first.midr_el1 == MODELS["cortex-a57"].midr
    board.virtualization = True
    first.reset()
    assert (first.el, first.has_el2) == (2, 1)


@pytest.mark.parametrize(
    ("line", "el", "daif", "hcr", "expected"),
    [
        ("irq", 1, 0, 0, (IRQ, False)), ("irq", 1, DAIF_I, 0, None), ("fiq", 1, DAIF_I, 0, (FIQ, False)),
        ("irq", 0, DAIF_F, 0, (IRQ, False)), ("irq", 1, DAIF_I, 1 << 4, (IRQ, True)), ("irq", 2, DAIF_I, 1 << 4, None),
        ("irq", 2, 0, 1 << 4, (IRQ, True)), ("irq", 2, 0, 0, None), ("virq", 1, 0, 1 << 4, (IRQ, False)), ("virq", 1, 0, 0, None),
        ("virq", 2, 0, 1 << 4, None), ("vfiq", 1, 0, 1 << 3, (FIQ, False)),
    ],
)  # fmt: skip
def test_interrupts(board: Any, line: str, el: int, daif: int, hcr: int, expected: tuple[int, bool] | None) -> None:
    p = board.vcpus[0]
    p.has_el2, p.el, p.daif, p.hcr_el2, p.pc = 1, el, daif, hcr, 0x1234
    p.__dict__["halted"] = True
    p.signal(line, True)
    assert not p.halted
    assert p.wanted
    p.asked.clear()
    assert p.between()
    if expected is None:
        assert p.asked == []
    else:
        assert p.asked == [("resume", "exception")]
        assert (p.exception_kind, bool(p.exception_el2), p.exception_return) == (*expected, 0x1234)
    p.signal(line, False)
    p.rare["wait"](p)
    assert p.halted


def test_wait_with_an_interrupt_that_is_masked(board: Any) -> None:
    p = board.vcpus[0]
    p.signal("irq", True)
    p.rare["wait"](p)
    assert not p.halted


def test_software_step(board: Any) -> None:
    p = board.vcpus[0]
    steps: list[int] = []
    p.__dict__["single_step"], p.__dict__["host"] = lambda: steps.append(p.pc), lambda linear, access: 1
    p.step_armed, p.pstate_ss, p.pc, p.mdscr_el1, p.os_locked, p.el = 1, 1, 0x400, 1, 0, 0
    assert not p.between()
    assert (steps, p.pstate_ss) == ([0x400], 0)
    assert not p.between()
    assert (steps, p.step_armed, p.syndrome) == ([0x400], 0, 0x32 << 26 | 1 << 25 | 1 << 24 | 0x22)
    assert p.asked[-1] == ("resume", "exception")


def test_software_step_of_who_masks_it(board: Any) -> None:
    """EL1 that steps itself and sets PSTATE.D is not stepped any more, and no step is due."""
    p = board.vcpus[0]
    steps: list[int] = []
    p.__dict__["single_step"] = lambda: steps.append(p.pc)
    p.__dict__["host"] = lambda linear, access: 1
    p.mdscr_el1, p.os_locked, p.daif, p.pc = MDSCR_SS | MDSCR_KDE, 0, 0, 0x400
    p.step_armed, p.pstate_ss = 1, 1
    assert not p.between()
    p.daif = DAIF_D  # what was stepped is MSR DAIFSet, #8
    p.asked.clear()
    p.between()
    assert (steps, p.step_armed, p.asked) == ([0x400], 0, [])
    assert p.between()


def test_virtual_timer(board: Any) -> None:
    p = board.vcpus[0]
    levels: list[bool] = []
    p.timers.virtual.output = levels.append
    board.clock.go_to(1000 * TICK)
    p.cntvoff_el2 = 400
    write(p, "3_3_C14_C3_0", 100)  # TVAL
    assert read(p, "3_3_C14_C3_2") == 700
    write(p, "3_3_C14_C3_1", 1)
    assert (levels, read(p, "3_3_C14_C3_1"), read(p, "3_3_C14_C3_0")) == ([], 1, 100)
    board.clock.go_to(1099 * TICK)
    assert levels == []
    board.clock.go_to(1100 * TICK)
    assert (levels, read(p, "3_3_C14_C3_1")) == ([True], 5)
    write(p, "3_3_C14_C3_1", 3)
    assert levels == [True, False]
    write(p, "3_3_C14_C3_1", 1)
    write(p, "3_3_C14_C3_0", 0xFFFF_FFFF)  # -1: still met
    assert levels == [True, False, True]
    write(p, "3_3_C14_C3_2", (1 << 64) - 1)  # never
    assert levels[-1] is False
    assert board.clock.next_deadline() is None


def test_physical_timer_has_no_offset(board: Any) -> None:
    p = board.vcpus[0]
    levels: list[bool] = []
    p.timers.physical.output = levels.append
    p.cntvoff_el2 = 1 << 40
    write(p, "3_3_C14_C2_2", 50)
    write(p, "3_3_C14_C2_1", 1)
    board.clock.go_to(50 * TICK)
    assert levels == [True]


def test_timers_of_el0(board: Any) -> None:
    """CNTKCTL_EL1 says whether it has them; what it has not is trapped."""
    p = board.vcpus[0]
    p.el = 0
    with pytest.raises(Fault) as caught:
        read(p, "3_3_C14_C3_1")
    assert (caught.value.ec, caught.value.iss) == (0x18, 3 << 20 | 1 << 17 | 3 << 14 | 14 << 10 | 3 << 5 | 3 << 1 | 1)
    p.cntkctl_el1 = 1 << 8
    assert read(p, "3_3_C14_C3_1") == 0
    with pytest.raises(Fault):
        read(p, "3_3_C14_C2_1")


def test_interrupt_controller(board: Any) -> None:
    p = board.vcpus[0]
    assert read(p, "3_0_C12_C12_0") == len("ICC_IAR1_EL1")
    write(p, "3_0_C12_C12_1", 27)
    assert p.controller.written == [("ICC_EOIR1_EL1", 27)]
    for text in ("3_0_C12_C8_1", "3_0_C12_C11_1", "3_0_C12_C11_5"):  # EOIR0, DIR and SGI1R are only written
        with pytest.raises(Fault):
            read(p, text)
    for text in ("3_0_C12_C8_0", "3_0_C12_C11_3", "3_0_C12_C12_2"):  # IAR0, RPR and HPPIR1 are only read
        with pytest.raises(Fault):
            write(p, text, 0)
    p.el = 0
    with pytest.raises(Fault):
        read(p, "3_0_C12_C12_0")


def test_unknown_registers(board: Any) -> None:
    p = board.vcpus[0]
    said: list[str] = []
    p.__dict__["unknown"] = said.append
    for text in ("3_0_C15_C0_0", "3_4_C1_C5_0", "3_6_C1_C0_0"):
        with pytest.raises(Fault) as caught:
            read(p, text)
        assert caught.value.ec == 0
        with pytest.raises(Fault):
            write(p, text, 1)
    assert len(said) == 6
    assert read(p, "3_0_C0_C3_5") == 0  # reserved for identification


def test_what_el2_has(board: Any) -> None:
    """Nothing that belongs to an extension or to AArch32, but the saved states that are RES0 without it; the reset address, at the highest
    level only."""
    p = board.vcpus[0]
    p.__dict__["unknown"] = lambda text: None
    p.has_el2, p.el = 1, 2
    write(p, "3_4_C4_C3_0", 5)  # SPSR_irq
    assert (read(p, "3_4_C4_C3_0"), read(p, "3_4_C12_C0_1")) == (0, 0)
    for text in ("3_4_C2_C0_1", "3_4_C13_C0_1", "3_4_C3_C0_0", "3_0_C12_C0_1"):  # TTBR1_EL2, CONTEXTIDR_EL2, DACR32_EL2, RVBAR_EL1
        with pytest.raises(Fault):
            read(p, text)
    p.el = 1
    for text in ("3_4_C4_C3_0", "3_4_C12_C0_1"):
        with pytest.raises(Fault):
            read(p, text)
    p.has_el2 = 0
    assert read(p, "3_0_C12_C0_1") == 0


def test_what_waits(board: Any) -> None:
    """ISR_EL1: masked or not; EL1's are the virtual ones, where EL2 has the others."""
    p = board.vcpus[0]
    p.has_el2, p.el = 1, 1
    p.signal("irq", True)
    p.signal("vfiq", True)
    assert read(p, "3_0_C12_C1_0") == DAIF_I
    p.hcr_el2 = 1 << 3
    assert read(p, "3_0_C12_C1_0") == DAIF_I | DAIF_F
    p.hcr_el2 = 1 << 4 | 1 << 7
    assert read(p, "3_0_C12_C1_0") == DAIF_I
    p.signal("irq", False)
    assert read(p, "3_0_C12_C1_0") == DAIF_I
    p.el = 2
    assert read(p, "3_0_C12_C1_0") == 0


def test_debug_registers(board: Any) -> None:
    """As many as ID_AA64DFR0_EL1 announces; the others are not there."""
    p = board.vcpus[0]
    p.__dict__["unknown"] = lambda text: None
    announced = read(p, "3_0_C0_C5_0")
    breakpoints, watchpoints = (announced >> 12 & 15) + 1, (announced >> 20 & 15) + 1
    for number in range(16):
        for op2, count in ((4, breakpoints), (5, breakpoints), (6, watchpoints), (7, watchpoints)):
            text = f"2_0_C0_C{number}_{op2}"
            if number < count:
                write(p, text, 0x1234 << 5)
                assert read(p, text) & ~0x1E0 == 0x1234 << 5 & (0x00FFE007 if op2 == 5 else -1) & ~0x1E0
            else:
                with pytest.raises(Fault):
                    read(p, text)
    assert read(p, "2_0_C1_C1_4") == 0b1010  # locked after a reset
    write(p, "2_0_C1_C0_4", 0)
    assert read(p, "2_0_C1_C1_4") == 0b1000
    p.has_el2, p.mdcr_el2 = 1, 1 << 9
    with pytest.raises(Fault) as caught:
        write(p, "2_0_C0_C2_2", 1)
    assert (caught.value.ec, caught.value.el2) == (0x18, True)
    p.el = 2
    write(p, "2_0_C0_C2_2", 1)
    assert p.mdscr_el1 == 1


def test_debug_communications_channel(board: Any) -> None:
    """Nobody is at its other end. EL0 has it, unless MDSCR_EL1.TDCC traps that (D19.3: MDCCSR_EL0, DBGDTR_EL0, DBGDTRTX_EL0)."""
    p = board.vcpus[0]
    for el in (0, 1):
        p.el, p.mdscr_el1 = el, 0
        assert [read(p, text) for text in ("2_3_C0_C1_0", "2_3_C0_C4_0", "2_3_C0_C5_0")] == [0, 0, 0]
        write(p, "2_3_C0_C5_0", 10)
        with pytest.raises(Fault) as caught:
            write(p, "2_3_C0_C1_0", 0)  # which can only be read
        assert caught.value.ec == 0
    p.el, p.mdscr_el1 = 0, 1 << 12
    with pytest.raises(Fault) as caught:
        read(p, "2_3_C0_C1_0")
    assert (caught.value.ec, caught.value.el2) == (0x18, False)
    with pytest.raises(Fault) as caught:
        read(p, "2_0_C0_C2_2")  # MDSCR_EL1
    assert caught.value.ec == 0


def test_registers_of_the_timers_at_el2(board: Any) -> None:
    """CNTHCTL_EL2 traps EL1's physical timer; CNTFRQ_EL0 is the highest level's."""
    p = board.vcpus[0]
    p.has_el2, p.cnthctl_el2 = 1, 1
    with pytest.raises(Fault) as caught:
        write(p, "3_3_C14_C2_0", 5)
    assert (caught.value.ec, caught.value.el2) == (0x18, True)
    write(p, "3_3_C14_C3_0", 5)
    p.cnthctl_el2 = 3
    write(p, "3_3_C14_C2_0", 5)
    p.__dict__["unknown"] = lambda text: None
    with pytest.raises(Fault) as caught:
        write(p, "3_3_C14_C0_0", 1)
    assert caught.value.ec == 0
    p.el = 2
    write(p, "3_3_C14_C0_0", 1)
    assert p.cntfrq_el0 == 1


def test_offset_of_the_virtual_timer(board: Any) -> None:
    """A write of CNTVOFF_EL2 moves its alarm."""
    p = board.vcpus[0]
    levels: list[bool] = []
    p.timers.virtual.output = levels.append
    write(p, "3_3_C14_C3_2", 1000)
    write(p, "3_3_C14_C3_1", 1)
    p.cntvoff_el2 = (1 << 64) - 900
    p.rare["timers_change"](p)
    board.clock.go_to(100 * TICK)
    assert levels == [True]
    p.cntvoff_el2 = 0
    p.rare["timers_change"](p)
    assert levels == [True, False]


def test_trap_and_undefined() -> None:
    assert undefined().ec == 0
    assert trap(sys("3_3_C14_C0_2"), el2=True).el2


# PSCI
def call(p: Alone, function: int, *arguments: int) -> int:
    for i, v in enumerate((function, *arguments)):
        p.x[i] = v
    p.rare["hypervisor_call"](p, 0)
    v = p.x[0]
    return v - (1 << 64) if v >> 63 else v


def test_psci(board: Any) -> None:
    first, second = board.vcpus
    assert call(first, 0x84000000) == 0x10001
    assert [call(first, 0x8400000A, f) for f in (0xC4000003, 0x84000008, 0x80000000)] == [0, 0, -1]
    assert call(first, 0xC4000004, 1, 0) == 1
    assert call(first, 0xC4000003, 5, 0x8000, 1) == -2
    assert call(first, 0xC4000003, 0, 0x8000, 1) == -4
    assert call(first, 0xC4000003, 1, 0x8000, 0x77) == 0
    assert (second.pc, second.x[0], second.el, second.halted, board.done) == (0x8000, 0x77, 1, False, ["attend 1"])
    assert call(first, 0xC4000004, 1, 0) == 0
    call(second, 0x84000002)
    assert second.halted
    second.signal("irq", True)
    assert second.halted
    assert call(first, 0x84001234) == -1
    call(first, 0x84000009)
    call(second, 0x84000008)
    assert board.done == ["attend 1", "reset", "off"]


def test_calls_without_firmware(board: Any) -> None:
    """HVC and SMC are UNDEFINED where nobody answers; HVC is EL2's where that is."""
    p = board.vcpus[0]
    with pytest.raises(Fault):
        p.rare["secure_monitor_call"](p, 0)
    p.conduit = "smc"
    with pytest.raises(Fault):
        p.rare["hypervisor_call"](p, 0)
    p.has_el2, p.pc, p.el = 1, 0x104, 1
    p.rare["hypervisor_call"](p, 9)
    assert (p.syndrome, p.exception_return, p.exception_el2) == (0x16 << 26 | 1 << 25 | 9, 0x104, 1)


def test_invalidation_of_all_processors(board: Any) -> None:
    first, second = board.vcpus
    first.rare["invalidate"](first, 0, 0x5000)
    second.power_on(0x8000, 0, 1)
    first.asked.clear()
    second.asked.clear()
    first.rare["invalidate"](first, 0, 0x5000)
    first.rare["invalidate"](first, 2, 0)
    assert (first.asked, second.asked, second.wanted) == ([("page", 0x5000), ("flush", True)], [], True)
    second.between()
    assert second.asked == [("page", 0x5000), ("flush", True)]
    second.asked.clear()
    for page in range(0, 1000 << 12, 4096):
        first.rare["invalidate"](first, 0, page)
    second.between()
    assert second.asked[0] == ("flush", True)
    assert len(second.asked) < 40


# models
def test_models() -> None:
    for name in MODELS:
        m = model(name)
        identification = m.identification(False, False)
        assert identification["pfr0"] & 0xFF == 0x11  # AArch64 alone
        assert (identification["isar0"] >> 16 & 15 == 1) == ("crc32" in m)
    assert model("max").identification(True, True)["pfr0"] & 0x0F000F00 == 0x01000100
    assert model("cortex-a57", ["+lse", "-aes"]).features == frozenset("atomics sha1 sha2 crc32".split())
    assert model("neoverse-n1").numbered(17, 20).mpidr == 1 << 31 | 1 << 8 | 1


@pytest.mark.parametrize(("name", "features", "text"), [("cortex-a75", [], "cortex-a7"), ("max", ["+lsee"], "lse")])
def test_unknown_names(name: str, features: list[str], text: str) -> None:
    with pytest.raises(UnknownName, match=text):
        model(name, features)
