"""How a board wires a device to its bus: the order of bytes, the distance between registers, a window onto another bus."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from exuvia.memory.space import AddressSpace, Target


class Swapped(NamedTuple):
    """`target`, a device of 32-bit registers, with the four bytes of each word in reverse order."""

    target: Target

    def read(self, offset: int, size: int) -> int:
        """As a Target's."""
        if size > 4 or offset % size:
            part = min(size // 2, 4)
            return self.read(offset, part) | self.read(offset + part, part) << 8 * part
        return int.from_bytes(self.target.read(offset ^ 4 - size, size).to_bytes(size, "little"), "big")

    def write(self, offset: int, size: int, value: int) -> None:
        """As a Target's."""
        if size > 4 or offset % size:
            part = min(size // 2, 4)
            self.write(offset, part, value & (1 << 8 * part) - 1)
            self.write(offset + part, part, value >> 8 * part)
        else:
            value &= (1 << 8 * size) - 1
            self.target.write(offset ^ 4 - size, size, int.from_bytes(value.to_bytes(size, "little"), "big"))


class Strided(NamedTuple):
    """`target`, a device of 8-bit registers, with 2**`shift` bytes from one to the next; each answers at all of them."""

    target: Target
    shift: int

    def read(self, offset: int, size: int) -> int:
        """As a Target's: the register, in the lowest byte."""
        return self.target.read(offset >> self.shift, 1)

    def write(self, offset: int, size: int, value: int) -> None:
        """As a Target's: the lowest byte."""
        self.target.write(offset >> self.shift, 1, value & 0xFF)


class Window(NamedTuple):
    """What another space has from `base` on."""

    space: AddressSpace
    base: int = 0

    def read(self, offset: int, size: int) -> int:
        """As a Target's."""
        return self.space.read(self.base + offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        """As a Target's."""
        self.space.write(self.base + offset, size, value)

    def native_registers(self) -> Iterator[tuple[int, Any, Any]]:
        """Registers there that processors read or write without asking: offset, register, device."""
        return ((at - self.base, register, device) for at, register, device in self.space.native_registers() if at >= self.base)
