"""Near control transfer, loops, stack frames (SDM vol. 1, 5.1.7, 6.4)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import when
from exuvia.dsl.values import Value
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.cpu import leave as to_python
from exuvia.isa.x86.flags import ZF
from exuvia.isa.x86.forms import by_condition, op
from exuvia.isa.x86.state import SS


@by_condition("70+cc Jb | 0F 80+cc Jz", "j", branch=True, conditional=True, f64=True, osize=True)
def jcc(cpu: Cpu, c: Value, target: Any) -> None:
    with when(c):
        cpu.branch()


@op("E9 Jz | EB Jb", branch=True, f64=True, osize=True)
def jmp(cpu: Cpu, target: Any) -> None:
    cpu.branch()


@op("FF/4 Ev", "jmp", f64=True, ends=True)
def jmp_to(cpu: Cpu, a: Any) -> None:
    cpu.jump(a.read())


@op("E8 Jz", branch=True, f64=True, osize=True)
def call(cpu: Cpu, target: Any) -> None:
    top = cpu.sSP - cpu.osize // 8
    back = cpu.memory(top, cpu.osize, SS).writable()
    cpu.branch()
    back.set(cpu.next_pc.low(cpu.osize))
    cpu.sSP = top


@op("FF/2 Ev", "call", f64=True, ends=True)
def call_to(cpu: Cpu, a: Any) -> None:
    target = a.read()
    top = cpu.sSP - cpu.osize // 8
    back = cpu.memory(top, cpu.osize, SS).writable()
    cpu.jump(target)
    back.set(cpu.next_pc.low(cpu.osize))
    cpu.sSP = top


@op("C3", f64=True, ends=True, osize=True)
def ret(cpu: Cpu) -> None:
    cpu.jump(cpu.pop(cpu.osize))


@op("C2 Iw", "ret", f64=True, ends=True, osize=True)
def ret_and_drop(cpu: Cpu, n: Any) -> None:
    cpu.jump(cpu.pop(cpu.osize))
    cpu.sSP = cpu.sSP + cpu.field("imm").low(16).zext(64).low(cpu.stack)


def looping(code: str, name: str, also: Any = None) -> None:
    """LOOPcc and JrCXZ count in rCX of address size."""

    @op(f"{code} Jb", name, branch=True, conditional=True, f64=True, osize=True, asize=True)
    def run(cpu: Cpu, target: Any) -> None:
        if also == "zero":
            with when(cpu.aCX == 0):
                cpu.branch()
            return
        left = cpu.aCX - 1
        cpu.aCX = left
        c = left != 0
        with when(c if also is None else c & also()):
            cpu.branch()


looping("E0", "loopne", lambda: ~ZF)
looping("E1", "loope", ZF.read)
looping("E2", "loop")
looping("E3", "jrcxz", "zero")


@op("C9", d64=True, osize=True)
def leave(cpu: Cpu) -> None:
    frame = cpu.reg(40, cpu.stack)
    v = cpu.memory(frame, cpu.osize, SS).read()
    cpu.sSP = frame + cpu.osize // 8
    cpu.set_reg(40, v)


@op("C8 Iw,Ib", d64=True, osize=True)
def enter(cpu: Cpu, size: Any, level: Any) -> None:
    """Every access is tried before anything is stored (SDM vol. 2, ENTER). Beyond one nesting level it is rare."""
    n, w = cpu.osize // 8, cpu.osize
    imm = cpu.field("imm")
    depth, room = imm.bits(20, 16).zext(64), imm.low(16).zext(64)
    with when(depth.u > 1):
        to_python("nested_enter", room, depth, n)
    frame = cpu.sSP - n
    last = frame - (depth * n).low(cpu.stack)
    final = last - room.low(cpu.stack)
    value = frame.low(w) if w <= cpu.stack else frame.zext(w)
    saved = cpu.memory(frame, w, SS).writable()
    with when(depth != 0):
        cpu.memory(last, w, SS).writable()
    cpu.memory(final, 8, SS).writable().read()  # the new top must be writable
    saved.set(cpu.reg(40, w))
    with when(depth != 0):
        cpu.memory(last, w, SS).set(value)
    cpu.set_reg(40, value)
    cpu.sSP = final
