"""A `virt` whose processors are the test: their inputs, and what they enter."""

from __future__ import annotations

from typing import Any

from exuvia.machines.config import MachineConfig
from exuvia.machines.virt import Virt


class Timer:
    """A processor's timer: `output` is where the machine wired it."""

    output: Any = None


class Timers:
    def __init__(self) -> None:
        self.virtual, self.physical, self.hypervisor = Timer(), Timer(), Timer()


class Inputs:
    """A processor that only remembers what its inputs are and how it would begin."""

    halted = False
    tick = None

    def __init__(self, index: int) -> None:
        self.index, self.timers, self.conduit = index, Timers(), ""
        self.lines: dict[str, bool] = {}
        self.entry: Any = None

    def signal(self, line: str, level: bool) -> None:
        self.lines[line] = level

    def run(self) -> None:
        raise AssertionError("nothing runs here")

    def kick(self) -> None: ...
    def reset(self) -> None: ...
    def enter(self, entry: Any) -> None:
        self.entry = entry


def make(config: MachineConfig, chardevs: Any = None, drives: Any = None) -> tuple[Virt, list[Inputs]]:
    """The machine, reset, and its processors."""
    processors: list[Inputs] = []

    def factory(machine: Any, index: int, controller: Any) -> Inputs:
        processors.append(Inputs(index))
        return processors[-1]

    made = Virt(config, chardevs, drives, vcpus=factory)
    made.reset()
    return made, processors
