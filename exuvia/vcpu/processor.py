"""What the processors of every accelerator have in common: their place in a machine, and how one takes another's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from exuvia.dsl.processor import Processor
from exuvia.dsl.state import ISA_AT, PAGE_AT
from exuvia.vcpu.accelerators import Unavailable

if TYPE_CHECKING:
    from exuvia.memory.space import AddressSpace

P = TypeVar("P", bound="MachineProcessor")


class MachineProcessor(Processor):
    """A processor in a machine. An accelerator's class comes before the architecture's: see `combined`.

    `controller` is the part of the interrupt controller that each processor has (a local APIC, a GIC's CPU interface), or None."""

    index: int
    memory: AddressSpace
    ports: AddressSpace
    controller: Any
    machine: Any
    halted: bool
    kicked: bool
    alone: Callable[[Callable[[], object]], object]  # has something done while no processor runs
    ports_watched: bool

    def __init__(
        self, state: memoryview, model: Any, index: int, memory: AddressSpace, ports: AddressSpace, controller: Any, machine: Any
    ) -> None:
        super().__init__(state, model)
        d = self.__dict__
        d["index"], d["memory"], d["ports"], d["controller"], d["machine"] = index, memory, ports, controller, machine
        d["halted"], d["kicked"], d["ports_watched"] = False, False, False
        d["alone"] = lambda work: work()

    @property
    def clock(self) -> Any:
        """Virtual time (vcpu/clock.py)."""
        return self.machine.clock

    def read_physical(self, address: int, size: int) -> int:
        """Guest-physical memory."""
        return self.memory.read(address, size)

    # -- one in another's place
    def settle(self) -> Any:
        """Stand between two instructions, all of the state in its words; what is to be delivered before the next, for `begin`."""
        raise NotImplementedError

    def must_be_like(self, other: MachineProcessor) -> None:
        """Raises Unavailable where this one lacks something that the guest knows the other by."""
        if type(other.model) is not type(self.model):
            raise Unavailable(f"-cpu {other.model.name} is a processor that only its own accelerator has")
        if lacking := other.model.features - self.model.features:
            raise Unavailable(f"it lacks features that the guest was shown: {', '.join(sorted(lacking))}")
        if reason := other.bound():
            raise Unavailable(reason)

    def bound(self) -> str:
        """Why no other accelerator can take its place, if it is so."""
        return ""

    def adopt(self, other: MachineProcessor, pending: Any) -> None:
        """Go on where `other`, of another accelerator, has settled with what is `pending`. No processor may run."""
        self.state[ISA_AT : self.layout.size] = other.state[ISA_AT : self.layout.size]
        self.state[:PAGE_AT] = other.state[:PAGE_AT]
        self.pc = other.pc
        d = self.__dict__
        d["halted"], d["model"] = other.halted, other.model
        self.take_place(other)
        self.update_mode()
        self.flush_tlb(True)
        if pending is not None:
            self.begin(pending)


def combined(kind: type[P], architecture: type[Processor]) -> type[P]:
    """An accelerator's processor of an architecture: the class of both."""
    return type(kind.__name__, (kind, architecture), {"__doc__": kind.__doc__, "__module__": kind.__module__})
