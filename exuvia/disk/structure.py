"""Vendors' structures on disk: a class whose fields are declared in order with `struct` codes.

class Header(Structure, order=">"):
    magic: bytes = at("4s", b"QFI\\xfb")
    version: int = at("I", 3)
"""

from __future__ import annotations

import struct

from exuvia.disk.vector import Buffer
from exuvia.support.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, Self


class Field(NamedTuple):
    """How a field is stored, and its value in a new structure."""

    code: str
    default: Any


def at(code: str, default: Any = 0) -> Any:
    """The next field: one `struct` code, such as `I` or `16s`, and its value in a new structure."""
    return Field(code, default)


class Structure:
    """The base: `order` is `<` or `>`, there is no padding. `SIZE` is in bytes. (A dataclass takes a millisecond to make, each.)"""

    NAMES: ClassVar[tuple[str, ...]]
    LAYOUT: ClassVar[struct.Struct]
    SIZE: ClassVar[int]

    def __init_subclass__(cls, order: str) -> None:
        declared = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        for name, value in declared.items():
            setattr(cls, name, value.default)
        cls.NAMES = tuple(declared)
        cls.LAYOUT = struct.Struct(order + "".join(value.code for value in declared.values()))
        cls.SIZE = cls.LAYOUT.size

    def __init__(self, *fields: Any, **named: Any) -> None:
        if len(fields) > len(self.NAMES) or not named.keys() <= set(self.NAMES[len(fields) :]):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(self.NAMES)}")
        self.__dict__.update(zip(self.NAMES, fields), **named)

    def replaced(self, **changes: Any) -> Self:
        """A copy with other values in some fields."""
        return type(self)(**{**self.__dict__, **changes})

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and all(getattr(self, name) == getattr(other, name) for name in self.NAMES)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.NAMES)})"

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        """The structure at `offset`; bytes that `data` lacks read as zeros."""
        return cls(*cls.LAYOUT.unpack(bytes(data[offset : offset + cls.SIZE]).ljust(cls.SIZE, b"\0")))

    def pack(self) -> bytes:
        """Its bytes."""
        return self.LAYOUT.pack(*[getattr(self, name) for name in self.NAMES])
