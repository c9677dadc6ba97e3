"""What the monitor needs of a machine and of its processors."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Processor(Protocol):
    """A processor, as the monitor looks at it."""

    index: int
    halted: bool

    def registers(self) -> str:
        """The registers as lines of text."""

    def translate(self, address: int) -> int | None:
        """The guest-physical address behind a virtual one, None where nothing is mapped. Changes nothing in the guest."""


class Space(Protocol):
    """The guest's physical memory."""

    @property
    def slots(self) -> Sequence[Any]:
        """The RAM in it."""

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
