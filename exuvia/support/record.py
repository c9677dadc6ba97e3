"""Classes of a few named values, as `dataclasses` and `typing.NamedTuple` make them, without what those import: 7 and 8 ms of a
command's start.

class Found(Record):
    leaks: int = 0
    messages: list[str] = []        # each instance gets a list of its own

class Extent(NamedTuple):
    length: int
    host: int | None = None

Modules that commands import when they start say `from __future__ import annotations`, and import what only annotations name
under `if TYPE_CHECKING`, which is what type checkers call true.
"""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar, NamedTuple, Self, dataclass_transform
else:

    def dataclass_transform():
        """A word to type checkers."""
        return lambda kind: kind

    class _Named(type):
        def __new__(meta, name, bases, space):
            if not bases:
                return super().__new__(meta, name, bases, space)
            fields = space.pop("__annotations__")
            defaults = [space.pop(field) for field in fields if field in space]
            return type(name, (namedtuple(name, fields, defaults=defaults),), {"__slots__": (), **space})

    class NamedTuple(metaclass=_Named):
        """The base: a subclass's annotations are its fields, in order, its attributes their defaults."""


@dataclass_transform()
class Record:
    """The base: a subclass's annotations are its fields, in order, its attributes their defaults."""

    FIELDS: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.FIELDS = tuple(cls.__annotations__)

    def __init__(self, *given: Any, **named: Any) -> None:
        fields = self.FIELDS
        mine = self.__dict__
        mine.update(zip(fields, given), **named)
        if len(mine) < len(fields):
            kind = type(self)
            for name in fields:
                if name not in mine and hasattr(kind, name):
                    default = getattr(kind, name)
                    mine[name] = default.copy() if isinstance(default, list | dict) else default
        if len(given) > len(fields) or mine.keys() != set(fields) or not named.keys().isdisjoint(fields[: len(given)]):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(fields)}")

    def replaced(self, **changes: Any) -> Self:
        """A copy with other values in some fields."""
        return type(self)(**{**self.__dict__, **changes})

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


__all__ = ["NamedTuple", "Record"]
