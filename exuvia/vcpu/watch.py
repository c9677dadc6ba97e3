"""Instructions under data breakpoints: done by the reference engine, which tells what they touch (SDM vol. 3, 17.2.5)."""

from __future__ import annotations

from exuvia.isa.x86.concrete import Fault, Processor
from exuvia.vcpu.reference import Entered, Ports, Reference

PAGE = 4096


class Watched:
    """One processor's instruction, with a note of its accesses: (linear address, size in bytes, is it a write?).

    Pointers are indices of the notes: `translate` checks an access and notes it, `load` and `store` do it.
    """

    def __init__(self, cpu: Processor, ports: Ports | None) -> None:
        self.cpu = cpu
        self.notes: list[tuple[int, int, bool, bool]] = []
        self.engine = Reference(cpu.state, self, ports, cpu, cpu.model.features)

    @property
    def accesses(self) -> list[tuple[int, int, bool]]:
        """The program's own accesses, without those to descriptors."""
        return [(linear, size, write) for linear, size, write, system in self.notes if not system]

    def step(self) -> None:
        """Do the instruction at the pc; its fault is delivered."""
        here = self.cpu.pc
        try:
            self.engine.step()
        except Fault as fault:
            self.cpu.fault(fault, here)
        except Entered:
            self.cpu.perform("deliver", (), here)

    # -- the memory of the reference engine
    def fetch(self, linear: int, size: int) -> bytes:
        """Code; bytes beyond the page only where that one can be read."""
        code = bytearray()
        for i in range(size):
            try:
                code.append(self.cpu.read(linear + i, 1))
            except Fault:
                if not code:
                    raise
                break
        return bytes(code)

    def translate(self, linear: int, size: int, write: bool, system: bool) -> int:
        """Check an access by reading, or by writing back what is there."""
        for start in {linear, max(linear, (linear + size - 1) & ~(PAGE - 1))}:
            byte = self.cpu.read(start, 1, system)
            if write:
                self.cpu.write(start, 1, byte, system)
        self.notes.append((linear, size, write, system))
        return len(self.notes) - 1

    def load(self, pointer: int, size: int) -> int:
        """Read, 8 bytes a time."""
        linear, _, _, system = self.notes[pointer]
        return sum(self.cpu.read(linear + i, min(8, size - i), system) << 8 * i for i in range(0, size, 8))

    def store(self, pointer: int, size: int, value: int) -> None:
        """Write, 8 bytes a time."""
        linear, _, _, system = self.notes[pointer]
        for i in range(0, size, 8):
            n = min(8, size - i)
            self.cpu.write(linear + i, n, value >> 8 * i & (1 << 8 * n) - 1, system)

