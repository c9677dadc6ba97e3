"""Interrupts and exceptions: delivery through 32-bit and 64-bit gates, INT n and its kin, IRET (SDM vol. 3, chapter 6).

`ROUTINES["deliver"]` is what engines enter with the state words `vector`, `event`, `event_has_error`, `error` and `event_ip` set. What is
unusual (real mode, virtual-8086 mode, task and 16-bit gates, anything that would fault) leaves to rare/delivery with these words
untouched; so does an engine when a memory access of the routine faults: nothing has been stored by then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exuvia.dsl.tick import ACTIVE
from exuvia.dsl.trace import Var, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.cpu import Cpu, enter, leave, protected, raise_
from exuvia.isa.x86.eflags import flags_image, iopl_allows, load_flags, update_mode, virtual8086
from exuvia.isa.x86.flags import OF
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.segments import null_segment, set_segment, table_entry, unpack
from exuvia.isa.x86.state import (
    AC,
    ATTRIBUTE_DB,
    ATTRIBUTE_L,
    ATTRIBUTE_P,
    ATTRIBUTE_S,
    BR,
    CR0_PE,
    CS,
    DB,
    DS,
    EFER_LMA,
    ES,
    EXCEPTION,
    EXTERNAL,
    FS,
    GP,
    GS,
    ID,
    IF,
    IOPL,
    NT,
    RF,
    SOFTWARE,
    SS,
    TF,
    TR,
    UD,
    VM,
)  # fmt: skip

SP = 32  # slot of rSP


def word(cpu: Cpu, name: str) -> Value:
    """A word of the engine's part of the state."""
    return cpu.get((name, 0, 64))


def unusual(condition: Value) -> None:
    """Whatever this is, the plain-Python delivery knows it."""
    with when(condition):
        leave("deliver")


def code_target(cpu: Cpu, selector: Value, give_up: Callable[[Value], None]) -> tuple[Value, Value, Value]:
    """Base, limit and attributes of a present, non-conforming, accessed code segment; anything else gives up."""
    give_up((selector & 0xFFFC) == 0)
    where, inside = table_entry(cpu, selector)
    give_up(~inside)
    base, limit, attributes = unpack(cpu.system(where, 64).read())
    give_up((attributes & (ATTRIBUTE_P | ATTRIBUTE_S | 0xD)) != ATTRIBUTE_P | ATTRIBUTE_S | 9)
    return base, limit, attributes


def stack_target(cpu: Cpu, selector: Value, level: Value, give_up: Callable[[Value], None]) -> tuple[Value, Value, Value]:
    """Base, limit and attributes of a present, writable, accessed stack segment for a privilege level."""
    give_up(((selector & 0xFFFC) == 0) | ((selector & 3) != level))
    where, inside = table_entry(cpu, selector)
    give_up(~inside)
    base, limit, attributes = unpack(cpu.system(where, 64).read())
    give_up((attributes & (ATTRIBUTE_P | ATTRIBUTE_S | 0xB)) != ATTRIBUTE_P | ATTRIBUTE_S | 3)
    give_up(((attributes.u >> 5) & 3) != level)
    return base, limit, attributes


def pushed_flags(cpu: Cpu) -> Value:
    """EFLAGS as an event saves it: a fault sets RF, so that a breakpoint at the instruction does not strike again."""
    fault = (word(cpu, "event") == EXCEPTION) & (word(cpu, "vector") != DB)
    return flags_image(cpu) | fault.choose(lift(RF, 64), lift(0, 64))


def flags_in_handler(cpu: Cpu, gate: Value) -> None:
    """TF, NT, RF and VM are cleared, by an interrupt gate (an even type) IF too."""
    kept = cpu.eflags & ~(TF | NT | RF | VM)
    cpu.eflags = ((gate.u >> 40) & 1 == 0).choose(kept & ~IF, kept)


def deliver(cpu: Cpu) -> None:
    """IA-32e mode (SDM vol. 3, 6.14)."""
    with when((cpu.efer & EFER_LMA) == 0):
        enter("deliver_protected")
    vector = word(cpu, "vector")
    at = cpu.idt_base + vector * 16
    unusual((vector * 16 + 15).u > cpu.idt_limit)
    gate, high = cpu.system(at, 64).read(), cpu.system(at + 8, 32).read().zext(64)
    unusual(((gate.u >> 40) & 0x9E) != 0x8E)
    unusual((word(cpu, "event") == SOFTWARE) & (((gate.u >> 45) & 3).u < cpu.cpl))
    selector = (gate.u >> 16) & 0xFFFF
    offset = gate & 0xFFFF | (gate.u >> 32) & 0xFFFF0000 | (high << 32)
    unusual(offset.low(48).sext(64) != offset)
    base, limit, attributes = code_target(cpu, selector, unusual)
    level = (attributes.u >> 5) & 3
    unusual((level.u > cpu.cpl) | (level == 3) | ((attributes & (ATTRIBUTE_L | ATTRIBUTE_DB)) != ATTRIBUTE_L))
    inner = level != cpu.cpl
    ist = (gate.u >> 32) & 7
    old = cpu.get(("r", SP, 64))
    rsp = Var(old)
    with when(inner | (ist != 0)):
        place = (ist != 0).choose(ist * 8 + 28, level * 8 + 4)
        unusual((place + 7).u > cpu.get(("seg_limit", TR, 64)))
        rsp.set(cpu.system(cpu.get(("seg_base", TR, 64)) + place, 64).read())
    unusual(rsp.low(48).sext(64) != rsp.read())
    top = (rsp & ~15) - 40
    frame = [cpu.system(top + 8 * i, 64).writable() for i in range(5)]
    code, stack = cpu.get(("seg_selector", CS, 64)), cpu.get(("seg_selector", SS, 64))
    sp = Var(top)
    with when(word(cpu, "event_has_error") != 0):
        cpu.system(top - 8, 64).set(word(cpu, "error"))
        sp.set(top - 8)
    for m, v in zip(frame, (word(cpu, "event_ip"), code, pushed_flags(cpu), old, stack), strict=True):
        m.set(v)
    cpu.put(("r", SP, 64), sp.read())
    with when(inner):
        null_segment(cpu, SS, level)
    set_segment(cpu, CS, selector & 0xFFFC | level, base, limit, attributes)
    cpu.cpl = level
    flags_in_handler(cpu, gate)
    cpu.put(("pc", 0, 64), offset)
    update_mode(cpu)


def deliver_protected(cpu: Cpu) -> None:
    """Protected mode through 32-bit gates (SDM vol. 3, 6.12)."""
    unusual(((cpu.cr0 & CR0_PE) == 0) | ((cpu.eflags & VM) != 0))
    vector = word(cpu, "vector")
    unusual((vector * 8 + 7).u > cpu.idt_limit)
    gate = cpu.system(cpu.idt_base + vector * 8, 64).read()
    unusual(((gate.u >> 40) & 0x9E) != 0x8E)
    unusual((word(cpu, "event") == SOFTWARE) & (((gate.u >> 45) & 3).u < cpu.cpl))
    selector = (gate.u >> 16) & 0xFFFF
    offset = gate & 0xFFFF | (gate.u >> 32) & 0xFFFF0000
    base, limit, attributes = code_target(cpu, selector, unusual)
    level = (attributes.u >> 5) & 3
    unusual((level.u > cpu.cpl) | (level == 3) | ((attributes & ATTRIBUTE_DB) == 0) | (offset.u > limit))
    inner = level != cpu.cpl
    names = "selector base limit attributes".split()
    ss = {name: Var(cpu.get(("seg_" + name, SS, 64))) for name in names}
    old = cpu.get(("r", SP, 64))
    esp = Var(old)
    code, stack = cpu.get(("seg_selector", CS, 64)), cpu.get(("seg_selector", SS, 64))
    with when(inner):
        tss = cpu.get(("seg_base", TR, 64))
        place = level * 8 + 4
        unusual(((place + 7).u > cpu.get(("seg_limit", TR, 64))) | ((cpu.get(("seg_attributes", TR, 64)) & 0xF) != 11))
        esp.set(cpu.system(tss + place, 32).read().zext(64))
        chosen = cpu.system(tss + place + 4, 16).read().zext(64)
        ss["selector"].set(chosen)
        for name, v in zip(names[1:], stack_target(cpu, chosen, level, unusual), strict=True):
            ss[name].set(v)
    # an expand-down or 16-bit stack, or one whose limit is in the way, is for the patient version
    unusual((ss["attributes"] & (ATTRIBUTE_DB | ATTRIBUTE_P | 4)) != ATTRIBUTE_DB | ATTRIBUTE_P)
    unusual((esp.low(32).zext(64).u < 24) | ((esp.low(32).zext(64) - 1).u > ss["limit"].read()))
    linear = ss["base"] + esp.low(32).zext(64)
    has_error = word(cpu, "event_has_error") != 0
    error_size = has_error.choose(lift(4, 64), lift(0, 64))
    top = Var(linear - 12)
    with when(inner):
        top.set(linear - 20)

    def slot(n: int) -> Any:
        return cpu.system((top + 4 * n).low(32).zext(64), 32)

    frame = [slot(i).writable() for i in range(3)]
    with when(inner):
        slot(3).writable()
        slot(4).writable()
    with when(has_error):
        slot(-1).writable()
    with when(has_error):
        slot(-1).set(word(cpu, "error").low(32))
    with when(inner):
        slot(3).set(old.low(32))
        slot(4).set(stack.low(32))
    for m, v in zip(frame, (word(cpu, "event_ip"), code, pushed_flags(cpu)), strict=True):
        m.set(v.low(32))
    used = inner.choose(lift(20, 64), lift(12, 64)) + error_size
    cpu.put(("r", SP, 64), (esp.read() - used).low(32).zext(64))
    with when(inner):
        set_segment(cpu, SS, *(ss[name].read() for name in names))
    set_segment(cpu, CS, selector & 0xFFFC | level, base, limit, attributes)
    cpu.cpl = level
    flags_in_handler(cpu, gate)
    cpu.put(("pc", 0, 64), (base + offset).low(32).zext(64))
    update_mode(cpu)


def interrupt(cpu: Cpu) -> None:
    """The tick, if it is welcome at `pc`. What STI holds back for one instruction, Python does."""
    enabled = (cpu.eflags & IF) != 0
    held = (cpu.inhibit != 0) & (cpu.inhibit_pc == word(cpu, "pc"))
    with when(enabled & held):
        cpu.effect("poke", 0, lift(0, 64), lift(1, 64), attr="interrupt_pending")
        cpu.effect("poke", 0, lift(0, 64), lift(0, 64), attr="deadline")
    with when(enabled & ~held):
        base = cpu.get(("seg_base", CS, 64))
        ip = (word(cpu, "mode") == 0).choose(word(cpu, "pc"), (word(cpu, "pc") - base) & 0xFFFFFFFF)
        for name, value in ("vector", cpu.tick_number), ("error", lift(0, 64)):
            cpu.put((name, 0, 64), value)
        cpu.event, cpu.event_has_error, cpu.event_ip, cpu.event_start, cpu.inhibit = EXTERNAL, 0, ip, ip, 0
        cpu.tick_state, cpu.tick_line = ACTIVE, 0
        enter("deliver")


ROUTINES: dict[str, Callable[[Cpu], None]] = {"deliver": deliver, "deliver_protected": deliver_protected, "interrupt": interrupt}


def software_interrupt(cpu: Cpu, vector: Any, event: int = SOFTWARE) -> None:
    """Go on with the delivery of a trap that the instruction asks for; the saved IP is the next instruction's."""
    cpu.put(("vector", 0, 64), vector)
    cpu.put(("error", 0, 64), 0)
    cpu.event, cpu.event_has_error, cpu.event_ip, cpu.event_start = event, 0, cpu.next_pc, cpu.here
    enter("deliver")


@op("CD Ib", "int", ends=True)
def int_n(cpu: Cpu, vector: Any) -> None:
    with when(virtual8086(cpu) & ~iopl_allows(cpu)):
        raise_(GP, 0)
    software_interrupt(cpu, cpu.field("imm").low(8).zext(64))


@op("CC", ends=True)
def int3(cpu: Cpu) -> None:
    software_interrupt(cpu, 3)


@op("CE", only=32, ends=True)
def into(cpu: Cpu) -> None:
    with when(OF):
        software_interrupt(cpu, 4)


@op("F1", ends=True)
def int1(cpu: Cpu) -> None:
    software_interrupt(cpu, DB, EXCEPTION)


@op("62 Gv,M", only=32)
def bound(cpu: Cpu, index: Any, bounds: Any) -> None:
    low = cpu.memory(bounds.address, cpu.osize, "seg").read()
    high = cpu.memory((bounds.address + cpu.osize // 8).low(cpu.asize), cpu.osize, "seg").read()
    i = index.read()
    with when((i.s < low) | (i.s > high)):
        raise_(BR)


@op("0F 0B", "ud2", ends=True)
def undefined(cpu: Cpu) -> None:
    raise_(UD)


@op("0F B9 Gv,Ev", "ud1", ends=True)
def undefined_1(cpu: Cpu, *operands: Any) -> None:
    raise_(UD)


@op("0F FF Gv,Ev", "ud0", ends=True)
def undefined_0(cpu: Cpu, *operands: Any) -> None:
    raise_(UD)


# -- IRET
def strict(cpu: Cpu) -> Callable[[Value], None]:
    """What gives up to rare/delivery's iret, which finds the right fault."""

    def give_up(condition: Value) -> None:
        with when(condition):
            leave("iret", cpu.osize)

    return give_up


def data_segments_stay(cpu: Cpu, level: Value, give_up: Callable[[Value], None]) -> None:
    """A return to an outer level must take away data segments that the level may not use; usually there are none."""
    for i in ES, DS, FS, GS:
        a = cpu.get(("seg_attributes", i, 64))
        give_up(((a & ATTRIBUTE_P) != 0) & ((a & 0xC) != 0xC) & (((a.u >> 5) & 3).u < level))


def restored_flags(cpu: Cpu, image: Value) -> None:
    """What IRET takes from the image, by the old CPL. RF only while breakpoints are armed: nothing else looks at it, or clears it."""
    mask = lift(TF | NT | (AC | ID if cpu.osize > 16 else 0), 64)
    if cpu.osize > 16:
        mask = mask | ((cpu.dr7 & 0xFF) != 0).choose(lift(RF, 64), lift(0, 64))
    mask = mask | iopl_allows(cpu).choose(lift(IF, 64), lift(0, 64)) | (cpu.cpl == 0).choose(lift(IOPL, 64), lift(0, 64))
    load_flags(cpu, image, mask)


def iret_long(cpu: Cpu) -> None:
    """IRETQ in 64-bit mode: five words always."""
    give_up = strict(cpu)
    give_up((cpu.eflags & NT) != 0)
    sp = cpu.get(("r", SP, 64))
    ip, selector, image, new_sp, stack = (cpu.memory(sp + 8 * i, 64, SS).read() for i in range(5))
    selector, stack = selector & 0xFFFF, stack & 0xFFFF
    base, limit, attributes = code_target(cpu, selector, give_up)
    level = selector & 3
    give_up((level.u < cpu.cpl) | (((attributes.u >> 5) & 3) != level))
    wide = (attributes & (ATTRIBUTE_L | ATTRIBUTE_DB)) == ATTRIBUTE_L
    give_up(wide.choose(ip.low(48).sext(64) != ip, ip.u > limit))
    give_up((attributes & (ATTRIBUTE_L | ATTRIBUTE_DB)) == ATTRIBUTE_L | ATTRIBUTE_DB)
    null = (stack & 0xFFFC) == 0
    give_up(null & (~wide | (level == 3) | (stack != level)))
    ss = [Var(0), Var(0), Var(0)]
    with when(~null):
        for v, x in zip(ss, stack_target(cpu, stack, level, give_up), strict=True):
            v.set(x)
    with when(level != cpu.cpl):
        data_segments_stay(cpu, level, give_up)
    restored_flags(cpu, image)
    set_segment(cpu, SS, stack, *(v.read() for v in ss))
    set_segment(cpu, CS, selector, base, limit, attributes)
    cpu.put(("r", SP, 64), wide.choose(new_sp, new_sp & 0xFFFFFFFF))
    cpu.cpl = level
    cpu.put(("pc", 0, 64), wide.choose(ip, (base + ip).low(32).zext(64)))
    update_mode(cpu)


def iret_protected(cpu: Cpu) -> None:
    """IRETD in protected mode, to the same or an outer level."""
    give_up = strict(cpu)
    give_up(~protected(cpu) | ((cpu.eflags & NT) != 0) | ((cpu.efer & EFER_LMA) != 0))
    sp = cpu.reg(SP, cpu.stack)

    def popped(i: int) -> Value:
        return cpu.memory(sp + 4 * i, 32, SS).read().zext(64)

    ip, selector, image = popped(0), popped(1) & 0xFFFF, popped(2)
    give_up((image & VM) != 0)
    base, limit, attributes = code_target(cpu, selector, give_up)
    level = selector & 3
    give_up((level.u < cpu.cpl) | (((attributes.u >> 5) & 3) != level) | (ip.u > limit))
    outer = level != cpu.cpl
    names = "selector base limit attributes".split()
    ss = {name: Var(cpu.get(("seg_" + name, SS, 64))) for name in names}
    after = (sp + 12).zext(64) if cpu.stack == 32 else cpu.get(("r", SP, 64)) & ~0xFFFF | (sp + 12).zext(64)
    new_sp = Var(after)
    with when(outer):
        new_sp.set(popped(3))
        ss["selector"].set(popped(4) & 0xFFFF)
        for name, x in zip(names[1:], stack_target(cpu, ss["selector"].read(), level, give_up), strict=True):
            ss[name].set(x)
        data_segments_stay(cpu, level, give_up)
    restored_flags(cpu, image)
    with when(outer):
        set_segment(cpu, SS, *(ss[name].read() for name in names))
    set_segment(cpu, CS, selector, base, limit, attributes)
    cpu.put(("r", SP, 64), new_sp.read())
    cpu.cpl = level
    cpu.put(("pc", 0, 64), (base + ip).low(32).zext(64))
    update_mode(cpu)


@op("CF", osize=True, ends=True)
def iret(cpu: Cpu) -> None:
    with when(cpu.nmi_blocked != 0):
        leave("iret_from_nmi", cpu.osize)
    if cpu.code == 64 and cpu.osize == 64:
        iret_long(cpu)
    elif cpu.code != 64 and cpu.osize == 32:
        iret_protected(cpu)
    else:
        leave("iret", cpu.osize)


