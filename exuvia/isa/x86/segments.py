"""Segment registers and descriptor tables (SDM vol. 3, chapters 3 and 5; vol. 2)."""

from __future__ import annotations

from typing import Any

from exuvia.dsl.trace import Var, when
from exuvia.dsl.values import Value, lift
from exuvia.isa.x86.cpu import Cpu, leave, protected, raise_
from exuvia.isa.x86.eflags import privileged, update_mode, virtual8086
from exuvia.isa.x86.forms import op
from exuvia.isa.x86.state import (
    ATTRIBUTE_DB,
    ATTRIBUTE_G,
    ATTRIBUTE_P,
    ATTRIBUTE_S,
    CR4_UMIP,
    CS,
    DS,
    ES,
    FS,
    GP,
    GS,
    INHIBIT_SS,
    LDTR,
    NP,
    SEGMENTS,
    SS,
    SS_FAULT,
    TR,
    UD,
    VM,
)  # fmt: skip

Slot = int | str


def unpack(d: Value) -> tuple[Value, Value, Value]:
    """Base, limit in bytes, attributes (64 bits each) of an 8-byte descriptor (SDM vol. 3, 3.4.5)."""
    base = (d.u >> 16) & 0xFFFFFF | (d.u >> 32) & 0xFF000000
    raw = d & 0xFFFF | (d.u >> 32) & 0xF0000
    attributes = (d.u >> 40) & 0xF0FF
    return base, ((attributes & ATTRIBUTE_G) != 0).choose((raw << 12) | 0xFFF, raw), attributes


def table_entry(cpu: Cpu, selector: Value) -> tuple[Value, Value]:
    """Linear address of a selector's descriptor, and whether it lies within its table."""
    local = selector.bit(2)
    base = local.choose(cpu.get(("seg_base", LDTR, 64)), cpu.gdt_base)
    limit = local.choose(cpu.get(("seg_limit", LDTR, 64)), cpu.gdt_limit)
    return base + (selector & 0xFFF8), (selector | 7).u <= limit


def set_segment(cpu: Cpu, slot: Slot, selector: Value, base: Value, limit: Value, attributes: Value) -> None:
    """Fill a segment register and what is derived from it (the twin of Processor.set_segment); `update_mode` comes after."""

    def test(mask: int, value: int) -> Value:
        return (attributes & mask) == value

    usable = test(ATTRIBUTE_P | ATTRIBUTE_S, ATTRIBUTE_P | ATTRIBUTE_S)
    code, second = test(8, 8), test(2, 2)
    readable = usable & (~code | second)
    writable = usable & ~code & second
    down = usable & test(12, 4)
    top = down.choose(test(ATTRIBUTE_DB, ATTRIBUTE_DB).choose(lift(0xFFFFFFFF, 64), lift(0xFFFF, 64)), limit)
    low = down.choose(limit + 1, lift(0, 64))
    for name, v in [
        ("selector", selector), ("base", base), ("limit", limit), ("attributes", attributes),
        ("low", readable.choose(low, lift(1, 64))), ("high", readable.choose(top, lift(0, 64))),
        ("write_low", writable.choose(low, lift(1, 64))), ("write_high", writable.choose(top, lift(0, 64))),
    ]:  # fmt: skip
        cpu.put(("seg_" + name, slot, 64), v)
    if slot in (FS, GS, LDTR, TR):
        return
    everything = (base == 0) & (limit == 0xFFFFFFFF)
    if slot != CS:
        everything = everything & writable & ~down
    number = cpu.field(slot) if isinstance(slot, str) else lift(slot, 64)
    bit = lift(1, 64) << number
    cpu.unflat = cpu.unflat & ~bit | (~everything).choose(bit, lift(0, 64)) & 15


def null_segment(cpu: Cpu, slot: Slot, selector: Any) -> None:
    """A segment register that no access may use."""
    zero = lift(0, 64)
    set_segment(cpu, slot, lift(selector, 64), zero, zero, zero)


def load_segment(cpu: Cpu, slot: Slot, selector: Value) -> None:
    """Load a data or stack segment register as MOV does (SDM vol. 2, MOV): all checks, the accessed bit, the mode."""
    selector = selector.zext(64)
    number = cpu.field(slot) if isinstance(slot, str) else lift(slot, 64)
    stack = number == SS
    error = selector & 0xFFFC
    rpl = selector & 3
    if cpu.code == 64:
        base, limit, attributes = Var(0), Var(0), Var(0)
        check = lift(1, 1)
    else:
        vm = virtual8086(cpu)
        kept = cpu.get(("seg_attributes", slot, 64)) & (ATTRIBUTE_DB | ATTRIBUTE_G) | 0x93
        base = Var(selector << 4)
        limit = Var(vm.choose(lift(0xFFFF, 64), cpu.get(("seg_limit", slot, 64))))
        attributes = Var(vm.choose(lift(0xF3, 64), kept))
        check = protected(cpu)
    null = error == 0
    if cpu.code == 64:
        with when(null & stack & ((cpu.cpl == 3) | (rpl != cpu.cpl))):
            raise_(GP, 0)
    else:
        with when(check & null & stack):
            raise_(GP, 0)
        with when(check & null):
            base.set(0)
            limit.set(0)
            attributes.set(0)
    with when(check & ~null):
        where, inside = table_entry(cpu, selector)
        with when(~inside):
            raise_(GP, error)
        d = cpu.system(where, 64).read()
        b, n, a = unpack(d)
        dpl = (a.u >> 5) & 3
        kind = a & 0x1F
        code = (kind & 8) != 0
        unfit = ((kind & ATTRIBUTE_S) == 0) | (code & ((kind & 2) == 0))
        for_stack = unfit | code | ((kind & 2) == 0) | (rpl != cpu.cpl) | (dpl != cpu.cpl)
        for_data = unfit | (((kind & 12) != 12) & ((rpl.u > dpl) | (cpu.cpl.u > dpl)))
        with when(stack.choose(for_stack, for_data)):
            raise_(GP, error)
        with when((a & ATTRIBUTE_P) == 0):
            with when(stack):
                raise_(SS_FAULT, error)
            with when(~stack):
                raise_(NP, error)
        with when((a & 1) == 0):
            cpu.system(where + 5, 8).set(a.low(8) | 1)
        base.set(b)
        limit.set(n)
        attributes.set(a | 1)
    loaded = attributes.read()
    set_segment(cpu, slot, selector, base.read(), limit.read(), loaded)
    # a slot that is a record's field may be SS, which a read of SS's words would not see
    update_mode(cpu, stack.choose(loaded, cpu.get(("seg_attributes", SS, 64))))


def hold_interrupts(cpu: Cpu, stack: Value) -> None:
    """After MOV or POP to SS the next instruction runs before an interrupt or a debug trap comes in, to load rSP (SDM vol. 3, 6.8.3)."""
    cpu.inhibit = stack.choose(lift(INHIBIT_SS, 64), cpu.inhibit)
    cpu.inhibit_pc = stack.choose(cpu.linear_next, cpu.inhibit_pc)


@op("8E Sw,Ew", "mov", ends=True)
def mov_to_segment(cpu: Cpu, segment: Any, source: Any) -> None:
    number = cpu.field("reg")
    with when((number == CS) | (number.u > GS)):
        raise_(UD)
    load_segment(cpu, "reg", source.read().low(16))
    hold_interrupts(cpu, number == SS)


@op("8C Ev,Sw", "mov", modifies=True)
def mov_from_segment(cpu: Cpu, destination: Any, segment: Any) -> None:
    with when(cpu.field("reg").u > GS):
        raise_(UD)
    selector = cpu.get(("seg_selector", "reg", 64))
    if cpu.mem:
        m = cpu.memory(destination.address, 16, "seg")
        m.will_write = True
        m.set(selector.low(16))
    else:
        destination.set(selector.low(cpu.osize))


def push_segment(code: str, slot: int, **facts: Any) -> None:
    """PUSH of a segment register: a whole operand's room, of which 16 bits are the selector."""

    @op(code, "push", osize=True, d64=True, **facts)
    def run(cpu: Cpu) -> None:
        cpu.push(cpu.get(("seg_selector", slot, 64)).low(cpu.osize))


def pop_segment(code: str, slot: int, **facts: Any) -> None:
    """POP into a segment register."""

    @op(code, "pop", osize=True, d64=True, ends=True, **facts)
    def run(cpu: Cpu) -> None:
        selector = cpu.memory(cpu.sSP, 16, SS).read()
        width = cpu.stack  # POP SS moves rSP by the old stack's width
        load_segment(cpu, slot, selector)
        if slot == SS:
            hold_interrupts(cpu, lift(1, 1))
        cpu.set_reg(32, cpu.reg(32, width) + cpu.osize // 8)


for _i, _code in (ES, "06"), (CS, "0E"), (SS, "16"), (DS, "1E"):
    push_segment(_code, _i, only=32)
for _i, _code in (FS, "0F A0"), (GS, "0F A8"):
    push_segment(_code, _i)
for _i, _code in (ES, "07"), (SS, "17"), (DS, "1F"):
    pop_segment(_code, _i, only=32)
for _i, _code in (FS, "0F A1"), (GS, "0F A9"):
    pop_segment(_code, _i)


def load_far(code: str, slot: int, **facts: Any) -> None:
    """LDS, LES, LFS, LGS, LSS: an offset and a selector from memory."""

    @op(f"{code} Gv,M", f"l{SEGMENTS[slot].lower()}", ends=True, **facts)
    def run(cpu: Cpu, register: Any, pointer: Any) -> None:
        offset = cpu.memory(pointer.address, cpu.osize, "seg").read()
        selector = cpu.memory((pointer.address + cpu.osize // 8).low(cpu.asize), 16, "seg").read()
        load_segment(cpu, slot, selector)
        register.set(offset)


load_far("C4", ES, only=32)
load_far("C5", DS, only=32)
load_far("0F B2", SS)
load_far("0F B4", FS)
load_far("0F B5", GS)


# -- descriptor tables
def table_width(cpu: Cpu) -> int:
    """Bits of base in a pseudo-descriptor's memory operand."""
    return 64 if cpu.code == 64 else 32


def load_table(code: str, name: str) -> None:
    """LGDT, LIDT; with 16-bit operands the base has 24 bits."""

    @op(f"0F 01/{code} M", f"l{name}", osize=True, ends=True)
    def run(cpu: Cpu, pointer: Any) -> None:
        privileged(cpu)
        limit = cpu.memory(pointer.address, 16, "seg").read()
        base = cpu.memory((pointer.address + 2).low(cpu.asize), table_width(cpu), "seg").read().zext(64)
        setattr(cpu, name + "_limit", limit)
        setattr(cpu, name + "_base", base & 0xFFFFFF if cpu.osize == 16 and cpu.code != 64 else base)


def store_table(code: str, name: str) -> None:
    """SGDT, SIDT."""

    @op(f"0F 01/{code} M", f"s{name}", osize=True, modifies=True)
    def run(cpu: Cpu, pointer: Any) -> None:
        user_mode_prevented(cpu)
        low = cpu.memory(pointer.address, 16, "seg").writable()
        high = cpu.memory((pointer.address + 2).low(cpu.asize), table_width(cpu), "seg").writable()
        low.set(getattr(cpu, name + "_limit").low(16))
        high.set(getattr(cpu, name + "_base").low(table_width(cpu)))


def user_mode_prevented(cpu: Cpu) -> None:
    """CR4.UMIP keeps SGDT, SIDT, SLDT, STR and SMSW from user code."""
    with when(((cpu.cr4 & CR4_UMIP) != 0) & (cpu.cpl != 0)):
        raise_(GP, 0)


load_table("2", "gdt")
load_table("3", "idt")
store_table("0", "gdt")
store_table("1", "idt")


def needs_protection(cpu: Cpu) -> None:
    """#UD in real and virtual-8086 mode."""
    with when(~protected(cpu)):
        raise_(UD)


def store_selector(code: str, name: str, slot: int) -> None:
    """SLDT, STR: 16 bits to memory, the operand's width to a register."""

    @op(f"0F 00/{code} Ev", name, modifies=True)
    def run(cpu: Cpu, destination: Any) -> None:
        needs_protection(cpu)
        user_mode_prevented(cpu)
        selector = cpu.get(("seg_selector", slot, 64))
        if cpu.mem:
            m = cpu.memory(destination.address, 16, "seg")
            m.will_write = True
            m.set(selector.low(16))
        else:
            destination.set(selector.low(cpu.osize))


store_selector("0", "sldt", LDTR)
store_selector("1", "str", TR)


def load_selector(code: str, name: str) -> None:
    """LLDT, LTR."""

    @op(f"0F 00/{code} Ew", name, ends=True)
    def run(cpu: Cpu, source: Any) -> None:
        needs_protection(cpu)
        privileged(cpu)
        leave(name, source.read().zext(64))


load_selector("2", "lldt")
load_selector("3", "ltr")


def ask(rows: str, name: str) -> None:
    """VERR, VERW: the answer is ZF."""

    @op(rows, name, ends=True)
    def run(cpu: Cpu, source: Any) -> None:
        needs_protection(cpu)
        leave(name, source.read().zext(64))


ask("0F 00/4 Ew", "verr")
ask("0F 00/5 Ew", "verw")


def ask_for(code: str, name: str) -> None:
    """LAR, LSL: the answer is ZF and a register (its byte offset and width go along)."""

    @op(f"0F {code} Gv,Ev", name, ends=True)
    def run(cpu: Cpu, destination: Any, source: Any) -> None:
        needs_protection(cpu)
        selector = cpu.memory(source.address, 16, "seg").read() if cpu.mem else source.read().low(16)
        leave(name, selector.zext(64), cpu.field("reg"), cpu.osize)


ask_for("02", "lar")
ask_for("03", "lsl")


@op("63 Ew,Gw", only=32, modifies=True)
def arpl(cpu: Cpu, destination: Any, source: Any) -> None:
    needs_protection(cpu)
    a, b = destination.read(), source.read()
    raised = (a & 3).u < (b & 3)
    destination.set(raised.choose(a & 0xFFFC | b & 3, a))
    image = [cpu.condition(f) for f in ("CF", "PF", "AF")]
    cpu.set_flags("six", *image, raised, cpu.condition("SF"), cpu.condition("OF"))


# -- far transfers: real and virtual-8086 mode here, the rest in rare/transfers
def real_target(cpu: Cpu, selector: Value, ip: Value) -> None:
    """Go on at selector:ip as real mode does; nothing is checked but the limit."""
    limit = cpu.get(("seg_limit", CS, 64))
    with when(ip.u > limit):
        raise_(GP, 0)
    base = selector << 4
    kept = cpu.get(("seg_attributes", CS, 64)) & (ATTRIBUTE_DB | ATTRIBUTE_G) | 0x93
    vm = (cpu.eflags & VM) != 0
    set_segment(cpu, CS, selector, base, limit, vm.choose(lift(0xF3, 64), kept))
    update_mode(cpu)
    cpu.put(("pc", 0, 64), (base + ip).low(32).zext(64))


def far(cpu: Cpu, selector: Value, ip: Value, call: bool) -> None:
    """JMP or CALL to selector:ip."""
    selector, ip = selector.zext(64), ip.zext(64)
    if cpu.code != 64:
        with when(protected(cpu)):
            leave("far_call" if call else "far_jump", selector, ip, cpu.osize)
        if call:
            n = cpu.osize // 8
            first, second = cpu.sSP - n, cpu.sSP - 2 * n
            high, low = cpu.memory(first, cpu.osize, SS).writable(), cpu.memory(second, cpu.osize, SS).writable()
            old, back = cpu.get(("seg_selector", CS, 64)).low(cpu.osize), cpu.next_pc.low(cpu.osize)
            real_target(cpu, selector, ip)
            high.set(old)
            low.set(back)
            cpu.sSP = second
        else:
            real_target(cpu, selector, ip)
    else:
        leave("far_call" if call else "far_jump", selector, ip, cpu.osize)


def far_direct(code: str, name: str, call: bool) -> None:
    """The pointer stands in the instruction: `imm` holds the offset in its lower half, the selector in its upper."""

    @op(f"{code} A", name, only=32, osize=True, ends=True)
    def run(cpu: Cpu, target: Any) -> None:
        imm = cpu.field("imm")
        far(cpu, imm.bits(47, 32), imm.low(cpu.osize), call)


def far_indirect(code: str, name: str, call: bool) -> None:
    """The pointer stands in memory."""

    @op(f"{code} M", name, osize=True, ends=True)
    def run(cpu: Cpu, pointer: Any) -> None:
        offset = cpu.memory(pointer.address, cpu.osize, "seg").read()
        selector = cpu.memory((pointer.address + cpu.osize // 8).low(cpu.asize), 16, "seg").read()
        far(cpu, selector, offset, call)


far_direct("EA", "jmpf", False)
far_direct("9A", "callf", True)
far_indirect("FF/5", "jmpf", False)
far_indirect("FF/3", "callf", True)


@op("CB | CA Iw", "retf", osize=True, ends=True)
def ret_far(cpu: Cpu, *drop: Any) -> None:
    more = drop[0].read().zext(64) if drop else lift(0, 64)
    if cpu.code == 64:
        leave("far_return", cpu.osize, more)
        return
    with when(protected(cpu)):
        leave("far_return", cpu.osize, more)
    n = cpu.osize // 8
    ip = cpu.memory(cpu.sSP, cpu.osize, SS).read().zext(64)
    selector = cpu.memory(cpu.sSP + n, 16, SS).read().zext(64)
    top = cpu.sSP + 2 * n + more.low(cpu.stack)
    real_target(cpu, selector, ip)
    cpu.set_reg(32, top)
