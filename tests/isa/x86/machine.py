"""A processor on a little memory, slow and whole: texts run on the reference evaluator, translations are walks of the real page tables."""

from __future__ import annotations

from exuvia.dsl.trace import tracing
from exuvia.dsl.values import Node
from exuvia.isa.x86 import load
from exuvia.isa.x86.concrete import Fault, Processor, canonical
from exuvia.isa.x86.cpu import Cpu
from exuvia.isa.x86.cpus import CpuModel, model
from exuvia.isa.x86.decode import RESULT_SLOT
from exuvia.isa.x86.paging import AGAIN, FETCH, NO_FAULT, WRITE, walk_trace
from exuvia.isa.x86.state import AC, CR4_SMAP, GP, PF, layout
from exuvia.vcpu.evaluate import Ending, Evaluator
from tests.isa.x86.reference import Entered, Reference, decoder

BASE = 1 << 48  # pointers are physical addresses above this
SIZE = 1 << 20
load()
_WALK = walk_trace()
_ROUTINES: dict[str, Cpu] = {}


class System(Evaluator):
    """The evaluator with the effects that page walks and system texts have."""

    machine: Texts

    def do_phys(self, n: Node) -> int:
        address = self.value(n.args[0])
        return BASE + address if address + 8 <= SIZE else 0

    def do_switch_tlb(self, n: Node) -> None:
        self.machine.processor.tlb = self.value(n.args[0])

    def do_flush_tlb(self, n: Node) -> None:
        self.machine.processor.events.append(("flush", self.value(n.args[0])))

    def do_invalidate_page(self, n: Node) -> None:
        self.machine.processor.events.append(("invalidate", self.value(n.args[0])))


class Texts(Reference):
    """The reference engine on a `Machine`."""

    def __init__(self, processor: Machine) -> None:
        super().__init__(processor.state, processor, rare=processor)
        self.processor = processor
        self.fields = dict(off=0, len=0, imm=0)


class Machine(Processor):
    """A processor with a megabyte of RAM."""

    def __init__(self, chosen: CpuModel | None = None) -> None:
        super().__init__(memoryview(bytearray(layout.size)), chosen or model("max"))
        self.ram = bytearray(SIZE)
        self.events: list[tuple[object, ...]] = []
        self.scattered: dict[int, list[int]] = {}
        self.texts = Texts(self)
        self.reset()
        self.events.clear()

    ram: bytearray
    events: list[tuple[object, ...]]
    scattered: dict[int, list[int]]
    texts: Texts

    def clone(self) -> Machine:
        """The same processor and memory once more."""
        other = Machine(self.model)
        other.state[:] = self.state
        other.ram[:] = self.ram
        return other

    # -- memory
    def walk(self, linear: int, access: int, index: int) -> tuple[int, int, int]:
        """error, page, rights."""
        e = System(self.texts, (linear, access, index))
        assert e.run(_WALK.body) is None
        for place, n in _WALK.env.items():
            if place[0] != "var":
                setattr(self, place[0], e.value(n))
        return self.walk_error, self.walk_page, self.walk_rights

    def physical(self, linear: int, access: int, system: bool) -> int:
        """The physical address of a byte, or Fault."""
        index = 0 if self.cpl == 3 and not system else 1
        if index and self.cr4 & CR4_SMAP and (system or not self.eflags & AC):
            index = 2
        if self.long64 and not canonical(linear):
            raise Fault(GP, 0)
        error, page, _ = self.walk(linear, access, index)
        assert error != AGAIN
        if error != NO_FAULT:
            raise Fault(PF, error, linear)
        if page + 4096 > SIZE:
            raise AssertionError(f"no memory at {page:#x}")
        return page | linear & 0xFFF

    def bytes_at(self, linear: int, size: int, access: int, system: bool) -> list[int]:
        mask = (1 << 64) - 1 if self.long64 else 0xFFFFFFFF
        return [self.physical(linear + i & mask, access, system) for i in range(size)]

    def fetch(self, linear: int, size: int) -> bytes:
        out = bytearray()
        for i in range(size):
            try:
                out.append(self.ram[self.physical(linear + i, FETCH, False)])
            except Fault:
                if not out:
                    raise
                break
        return bytes(out)

    def translate(self, linear: int, size: int, write: bool, system: bool) -> int:
        where = self.bytes_at(linear, size, WRITE if write else 0, system)
        if where[-1] == where[0] + size - 1:
            return BASE + where[0]
        pointer = 2 * BASE + 64 * len(self.scattered)
        self.scattered[pointer] = where
        return pointer

    def places(self, pointer: int, size: int) -> list[int]:
        return self.scattered[pointer][:size] if pointer in self.scattered else [pointer - BASE + i for i in range(size)]

    def load(self, pointer: int, size: int) -> int:
        return int.from_bytes(bytes(self.ram[i] for i in self.places(pointer, size)), "little")

    def store(self, pointer: int, size: int, value: int) -> None:
        for i, b in zip(self.places(pointer, size), value.to_bytes(size, "little"), strict=True):
            self.ram[i] = b

    def read(self, linear: int, size: int, system: bool = False) -> int:
        return int.from_bytes(bytes(self.ram[i] for i in self.bytes_at(linear, size, 0, system)), "little")

    def write(self, linear: int, size: int, value: int, system: bool = False) -> None:
        for i, b in zip(self.bytes_at(linear, size, WRITE, system), value.to_bytes(size, "little"), strict=True):
            self.ram[i] = b

    def read_physical(self, address: int, size: int) -> int:
        return int.from_bytes(self.ram[address : address + size], "little")

    def poke(self, address: int, value: int, size: int = 8) -> None:
        """Write physical memory."""
        self.ram[address : address + size] = value.to_bytes(size, "little")

    # -- what else an engine has
    def switch_tlb(self, index: int) -> None:
        self.tlb = index

    def flush_tlb(self, everything: bool) -> None:
        self.events.append(("flush", int(everything)))

    def invalidate_page(self, linear: int) -> None:
        self.events.append(("invalidate", linear))

    def timestamp(self) -> int:
        return 1000 + self.tsc_offset

    def halt(self) -> None:
        self.events.append(("halt",))

    def shutdown(self) -> None:
        self.events.append(("shutdown",))

    def task_priority(self, value: int | None = None) -> int:
        self.events.append(("task priority", value))
        return 5

    def unknown(self, text: str) -> None:
        self.events.append(("unknown", text))

    # -- texts
    def routine(self, name: str) -> Ending | None:
        """Run a routine's text; the way it left, or None after it committed. A fault commits nothing."""
        from exuvia.isa.x86.interrupts import ROUTINES

        if name not in _ROUTINES:
            _ROUTINES[name] = cpu = Cpu()
            with tracing(cpu):
                ROUTINES[name](cpu)
        trace = _ROUTINES[name]
        e = System(self.texts)
        end = e.run(trace.body)
        if end is None:
            self.texts.commit(e, trace.env, trace.flags)
        elif end.effect.op == "enter":
            return self.routine(end.effect.attr)
        return end

    def step(self, code: bytes) -> None:
        """Do one instruction placed at the pc; a fault is delivered by the plain-Python delivery."""
        here = self.pc
        for i, b in enumerate(code):
            self.ram[self.physical(here + i, 0, True)] = b
        try:
            self.texts.step()
        except Fault as fault:
            self.fault(fault, here)
        except Entered:
            if (end := self.routine("deliver")) is not None:
                self.perform("deliver", (), here)
                assert end.effect.op == "leave"

    def text(self, code: bytes) -> tuple[Ending | None, Fault | None]:
        """The text of the instruction at the pc: how it left, or what it raised; registers are written if it did neither."""
        t = self.texts
        here = self.pc
        d = decoder(self.mode)
        t.mask = d.mask
        result, t.fields = d.decode(code, here & 0xFFF)
        t.write("page", 0, 64, here & ~0xFFF)
        trace = d.trace(result >> RESULT_SLOT)
        e = System(t)
        try:
            end = e.run(trace.body)
        except Fault as fault:
            return None, fault
        if end is None:
            t.commit(e, trace.env, trace.flags)
        elif end.effect.op == "raise":
            return None, Fault(end.effect.attr, end.args[0] if end.args else None)
        return end, None

    def compared(self) -> dict[str, object]:
        """What two runs must agree in."""
        d: dict[str, object] = {}
        for name in layout.declared:
            f = layout.files[name]
            if name in ("r", "result", "aux", "eflags", "df") or name.startswith("event"):
                continue
            at = f.offset
            d[name] = [bytes(self.state[at + i * f.stride : at + i * f.stride + f.width // 8]) for i in range(f.count)]
        return d | dict(flags=self.flags, pc=self.pc, mode=self.mode, tlb=self.tlb, gpr=[self.gpr[i] for i in range(16)])
