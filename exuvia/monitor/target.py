"""What the monitor needs of a machine and of its processors."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

# the physical address behind a virtual one on a processor, None where nothing is mapped; the last argument reads physical memory
Translate = Callable[[Any, int, Callable[[int, int], int]], int | None]


class Processor(Protocol):
    """A processor, as the monitor looks at it."""

    index: int
    halted: bool

    def describe(self) -> str:
        """The registers as lines of text."""

    def counters(self) -> dict[str, int]:
        """What it counted since the machine began, by name."""


class Space(Protocol):
    """The guest's physical memory."""

    @property
    def slots(self) -> Sequence[Any]:
        """The RAM in it."""

    def read(self, address: int, size: int) -> int:
        """A number of `size` bytes."""

    def read_bytes(self, address: int, length: int) -> bytes:
        """Bytes; where nothing is mapped they are 0xFF."""


class Target(Protocol):
    """A machine. The monitor runs in the machine thread."""

    @property
    def status(self) -> str:
        """prelaunch, running, paused or shutdown."""

    @property
    def vcpus(self) -> Sequence[Any]:
        """The processors."""

    @property
    def memory(self) -> Space:
        """The physical address space."""

    @property
    def devices(self) -> Mapping[str, Any]:
        """The devices by label."""

    @property
    def config(self) -> Any:
        """What the user asked for."""

    def pause(self) -> None:
        """Stop the processors."""

    def resume(self) -> None:
        """Let them go on."""

    def request_reset(self, reason: str = ...) -> None:
        """Reset."""

    def exit(self, status: int) -> None:
        """End the emulator."""
