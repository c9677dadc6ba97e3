"""Vendors' structures on disk: a class whose fields are declared in order with `struct` codes.

class Header(Structure, order=">"):
    magic: bytes = at("4s", b"QFI\\xfb")
    version: int = at("I", 3)
"""

import struct
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self

from exuvia.disk.vector import Buffer


def at(code: str, default: Any = 0) -> Any:
    """The next field: one `struct` code, such as `I` or `16s`, and its value in a new structure."""
    return field(default=default, metadata={"code": code})


class Structure:
    """The base: `order` is `<` or `>`, there is no padding. `SIZE` is in bytes."""

    LAYOUT: ClassVar[struct.Struct]
    SIZE: ClassVar[int]

    if TYPE_CHECKING:  # a dataclass's own; `dataclass_transform` would take `order` for the one of `dataclass`

        def __init__(self, *fields: Any, **named: Any) -> None: ...

    def __init_subclass__(cls, order: str) -> None:
        dataclass(cls)
        cls.LAYOUT = struct.Struct(order + "".join(each.metadata["code"] for each in fields(cls)))  # type: ignore[arg-type]
        cls.SIZE = cls.LAYOUT.size

    @classmethod
    def unpack(cls, data: Buffer, offset: int = 0) -> Self:
        """The structure at `offset`; bytes that `data` lacks read as zeros."""
        return cls(*cls.LAYOUT.unpack(bytes(data[offset : offset + cls.SIZE]).ljust(cls.SIZE, b"\0")))

    def pack(self) -> bytes:
        """Its bytes."""
        return self.LAYOUT.pack(*[getattr(self, each.name) for each in fields(self)])  # type: ignore[arg-type]
