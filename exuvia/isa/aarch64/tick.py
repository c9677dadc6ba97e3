"""What the virtual timer's interrupt has done each time it comes, while its tick is lent (dsl/tick.py): the timer is set, a GICv3 told."""

from __future__ import annotations

from exuvia.dsl.tick import ACTIVE, AWAY, IDLE, NEVER, PENDING
from exuvia.dsl.trace import when
from exuvia.dsl.values import Value
from exuvia.isa.aarch64.cpu import Cpu, leave, undefined
from exuvia.isa.aarch64.exceptions import welcome
from exuvia.isa.aarch64.paging import pick, yes
from exuvia.isa.aarch64.system import counter, read, trapped, write
from exuvia.isa.aarch64.timers import EL0VTEN, ENABLE, FAR, IMASK, NS_SHIFT


def asked(cpu: Cpu) -> None:
    """Python does it, as long as the tick is not lent."""
    trapped(cpu, cpu.el0 and (cpu.cntkctl_el1 & EL0VTEN) == 0)
    with when(cpu.tick_state == AWAY):
        leave("write_system_register", cpu.instruction, cpu.X("Rt"))


def set_timer(cpu: Cpu, ctl: Value, cval: Value, now: Value) -> None:
    """`Timer.update` of timers.py. `now` is the physical counter."""
    count = now - cpu.cntvoff_el2
    on, met = (ctl & (ENABLE | IMASK)) == ENABLE, count.u >= cval
    left = cval - count
    cpu.tick_at = pick(on & ~met & (left.u < FAR >> NS_SHIFT), (now + left) << NS_SHIFT, NEVER)
    cpu.tick_line = yes(on & met, 1)
    cpu.tick_state = pick(cpu.tick_state == ACTIVE, ACTIVE, pick(on & met, PENDING, IDLE))
    cpu.cntv_ctl_el0, cpu.cntv_cval_el0 = ctl, cval
    welcome(cpu)


@write("3_3_C14_C3_1", "cntv_ctl_el0", ends=True)
def write_ctl(cpu: Cpu) -> None:
    asked(cpu)
    set_timer(cpu, cpu.X("Rt") & (ENABLE | IMASK), cpu.cntv_cval_el0, counter(cpu))


@write("3_3_C14_C3_2", "cntv_cval_el0", ends=True)
def write_cval(cpu: Cpu) -> None:
    asked(cpu)
    set_timer(cpu, cpu.cntv_ctl_el0, cpu.X("Rt"), counter(cpu))


@write("3_3_C14_C3_0", "cntv_tval_el0", ends=True)
def write_tval(cpu: Cpu) -> None:
    asked(cpu)
    now = counter(cpu)
    set_timer(cpu, cpu.cntv_ctl_el0, now - cpu.cntvoff_el2 + cpu.X("Rt", 32).sext(64), now)


@read("3_0_C12_C12_0", "icc_iar1_el1", ends=True)
def acknowledge(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    with when(cpu.tick_state == AWAY):
        leave("read_system_register", cpu.instruction)
    found = cpu.tick_state == PENDING
    cpu.set_X("Rt", pick(found, cpu.tick_number, cpu.tick_none))
    cpu.tick_state = pick(found, ACTIVE, cpu.tick_state)


@write("3_0_C12_C12_1", "icc_eoir1_el1", ends=True)
def end(cpu: Cpu) -> None:
    if cpu.el0:
        return undefined()
    with when((cpu.tick_state != ACTIVE) | (cpu.X("Rt", 32) != cpu.tick_number.low(32))):
        leave("write_system_register", cpu.instruction, cpu.X("Rt"))
    cpu.tick_state = pick(cpu.tick_line != 0, PENDING, IDLE)
    welcome(cpu)
