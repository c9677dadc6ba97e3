"""The reference engine for x86: what its plain-Python engine looks at besides an instruction's text."""

from __future__ import annotations

from functools import cache

from exuvia.dsl.architecture import Architecture
from exuvia.isa import architecture
from exuvia.isa.x86.concrete import Fault, canonical
from exuvia.isa.x86.cpus import FEATURES
from exuvia.isa.x86.flags import FLAG_RULES
from exuvia.isa.x86.state import CS, GP, SS, SS_FAULT, UD, mode_facts
from exuvia.vcpu import reference
from exuvia.vcpu.reference import Decoder, Entered, Left, Memory, Ports, Rare

ALL = frozenset(FEATURES)


@cache
def x86() -> Architecture:
    """The architecture, loaded once."""
    return architecture("x86")


def decoder(mode: int, features: frozenset[str] = ALL) -> Decoder:
    """The decoder of a mode."""
    return reference.decoder(x86(), mode, features)


class Reference(reference.Reference):
    """An x86 processor."""

    def __init__(
        self, state: bytearray | memoryview, memory: Memory, ports: Ports | None = None, rare: Rare | None = None,
        features: frozenset[str] = ALL,
    ) -> None:  # fmt: skip
        super().__init__(x86(), state, memory, ports, rare, features)
        self.rules = FLAG_RULES

    def raised(self, vector: int, args: list[int]) -> Fault:
        return Fault(vector, args[0] if args else None)

    def before(self, here: int, length: int) -> None:
        """#GP(0) where code ends beyond its segment's limit."""
        if mode_facts(self.read("mode"))["flat"]:
            return
        offset, limit = here - self.read("seg_base", CS) & 0xFFFFFFFF, self.read("seg_limit", CS)
        if offset > limit or (offset + length - 1 & 0xFFFFFFFF) > limit:
            raise Fault(GP, 0)

    def translate(self, linear: int, access: str, size: int, seg: int | str) -> int:
        """A non-canonical address is #SS(0) on the stack, else #GP(0) (SDM vol. 1, 3.3.7.1)."""
        if self.read("mode") == 0 and not all(canonical(x) for x in (linear, linear + size - 1)):
            stack = seg == SS or seg == "seg" and self.fields["seg"] == SS
            raise Fault(SS_FAULT if stack else GP, 0)
        return super().translate(linear, access, size, seg)

    def step(self) -> None:
        """#UD where there is nobody who raises it."""
        here = self.read("pc")
        try:
            super().step()
        except Left as left:
            if left.name != "undefined":
                raise
            self.write("pc", 0, 64, here)
            raise Fault(UD) from None


__all__ = ["Decoder", "Entered", "Fault", "Left", "Reference", "decoder"]
