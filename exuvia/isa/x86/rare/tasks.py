"""Task switches (SDM vol. 3, chapter 7): by JMP, CALL, a task gate, or IRET with NT."""

from __future__ import annotations

from exuvia.isa.x86.concrete import Fault, Processor
from exuvia.isa.x86.rare.control import load_pointers
from exuvia.isa.x86.rare.descriptors import Descriptor, check_stack, fetch, load_data, load_ldt, set_code, set_stack
from exuvia.isa.x86.state import CR0_PG, CR0_TS, CR4_PAE, CS, DS, ES, FS, GP, GS, NP, NT, SS, TR, TS, VM

BUSY = 2
REGISTERS = range(8)  # EAX ECX EDX EBX ESP EBP ESI EDI, in a TSS's order
DEBUG_TRAP = 1 << 15  # DR6.BT


def switch_task(cpu: Processor, selector: int, how: str, external: int) -> None:
    """Go on in another task; `how` is jump, call (nested) or return. The old task goes on at `cpu.pc`."""
    vector = TS if how == "return" else GP
    if not selector & 0xFFFC or selector & 4:
        raise Fault(vector, selector & 0xFFFC | external)
    d = fetch(cpu, selector, vector, external)
    if d.kind & ~10 != 1 or bool(d.kind & BUSY) != (how == "return"):
        raise Fault(vector, selector & 0xFFFC | external)
    if not d.present:
        raise Fault(NP, selector & 0xFFFC | external)
    wide = bool(d.kind & 8)
    if d.limit < (103 if wide else 43):
        raise Fault(TS, selector & 0xFFFC | external)
    new = read_tss(cpu, d.base, wide)
    old = cpu.seg_selector[TR]
    flags = cpu.flags & ~(NT if how == "return" else 0)
    save(cpu, flags)
    if how in ("jump", "return"):
        at = cpu.gdt_base + (old & 0xFFF8) + 5
        cpu.write(at, 1, cpu.read(at, 1, True) & ~BUSY, True)
    if how == "call":
        cpu.write(d.base, 2, old, True)
        new["flags"] |= NT
    if how != "return":
        cpu.write(d.where + 5, 1, (d.attributes | BUSY) & 0xFF, True)
    enter(cpu, d, new, wide)


def return_from_task(cpu: Processor) -> None:
    """IRET with NT: back to the task that the link names."""
    switch_task(cpu, cpu.read(cpu.seg_base[TR], 2, True), "return", 0)


def read_tss(cpu: Processor, base: int, wide: bool) -> dict[str, int]:
    """The dynamic part of a TSS."""
    n = 4 if wide else 2
    at = 0x1C if wide else 0x0E
    words = [cpu.read(base + at + n * i, n, True) for i in range(18 if wide else 15)]
    names = ["cr3"] if wide else []
    names += ["ip", "flags", *(f"r{i}" for i in REGISTERS), *("es cs ss ds fs gs" if wide else "es cs ss ds").split(), "ldt"]
    new = dict(zip(names, words, strict=False))
    if wide:
        new["trap"] = cpu.read(base + 0x64, 2, True) & 1
    return new


def save(cpu: Processor, flags: int) -> None:
    """The old task's registers into its TSS (7.3, step 6)."""
    base, wide = cpu.seg_base[TR], bool(cpu.seg_attributes[TR] & 8)
    n, at = (4, 0x20) if wide else (2, 0x0E)
    values = [cpu.offset(cpu.pc), flags, *(cpu.gpr[i] for i in REGISTERS)]
    values += [cpu.seg_selector[i] for i in (ES, CS, SS, DS, *((FS, GS) if wide else ()))]
    for i, v in enumerate(values):
        cpu.write(base + at + n * i, n, v & (1 << 8 * n) - 1, True)


def enter(cpu: Processor, d: Descriptor, new: dict[str, int], wide: bool) -> None:
    """The new task's registers; faults from here on are the new task's, #TS mostly."""
    if wide and cpu.cr0 & CR0_PG:
        if cpu.cr4 & CR4_PAE:
            load_pointers(cpu, new["cr3"])
        cpu.cr3 = new["cr3"]
        cpu.flush_tlb(False)
    cpu.set_segment(TR, d.selector, d.base, d.limit, d.attributes | BUSY)
    cpu.cr0 |= CR0_TS
    if cpu.dr7 & 0x155:  # the local breakpoints (17.2.4)
        cpu.dr7 &= ~0x155
        cpu.watch()
    for i in REGISTERS:
        cpu.gpr[i] = new[f"r{i}"] if wide else cpu.gpr[i] & 0xFFFF0000 | new[f"r{i}"]
    cpu.set_flags(new["flags"] if wide else cpu.flags & 0xFFFF0000 | new["flags"])
    load_ldt(cpu, new["ldt"] & 0xFFFF, TS)
    names = {ES: "es", CS: "cs", SS: "ss", DS: "ds", FS: "fs", GS: "gs"}
    selectors = {i: new.get(name, 0) & 0xFFFF for i, name in names.items()}
    if cpu.eflags & VM:
        cpu.cpl = 3
        for i, s in selectors.items():
            cpu.set_real_segment(i, s)
    else:
        code = fetch(cpu, selectors[CS], TS)
        level = selectors[CS] & 3
        if not code.code or (code.dpl > level if code.conforming else code.dpl != level):
            raise Fault(TS, selectors[CS] & 0xFFFC)
        if not code.present:
            raise Fault(NP, selectors[CS] & 0xFFFC)
        cpu.cpl = level
        set_stack(cpu, check_stack(cpu, selectors[SS], level, TS))
        for i in ES, DS, FS, GS:
            load_data(cpu, i, selectors[i], TS)
        set_code(cpu, code, level)
    cpu.update_mode()
    if new.get("trap"):
        cpu.pending_db |= DEBUG_TRAP
    cpu.jump(new["ip"])
