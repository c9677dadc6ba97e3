"""What a processor architecture gives the engines: one object, so that no engine knows an architecture by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from exuvia.dsl.processor import Processor
from exuvia.dsl.state import Layout
from exuvia.dsl.trace import Function, Trace, tracing


class Absolute(NamedTuple):
    """Where an instruction's bytes have an immediate that is an address, or its upper part, if it is at least `least`."""

    place: int
    size: int
    least: int


class Form(NamedTuple):
    """One instruction form in one mode: what it does, whether a block ends behind it, whether its record has a link for a target."""

    trace: Trace
    ends: bool
    targets: bool
    address: Absolute | None = None


class Model(Protocol):
    """A processor model."""

    @property
    def name(self) -> str:
        """As in -cpu NAME."""
        ...

    @property
    def features(self) -> frozenset[str]:
        """What it has; they choose among encodings."""
        ...

    def numbered(self, index: int, count: int) -> Model:
        """The same as processor `index` of `count`."""
        ...


class Tables(Protocol):
    """The decoder's tables of one mode. Slots number the instruction forms; slot 0 is what is undefined."""

    @property
    def blob(self) -> bytes:
        """What the decoder's third parameter points to."""
        ...

    @property
    def rows(self) -> Any:
        """Per slot: the encoding (with `name` and `text`) and the variant."""
        ...

    @property
    def slots(self) -> int:
        """How many slots there are, at most 65,536."""
        ...


def in_order(rows: Iterable[Any]) -> list[Any]:
    """Encodings as slots number them, whichever chapter was imported first: compile workers have to number them alike."""
    return sorted(rows, key=lambda row: (row.name, row.text))


def routine(text: Callable[[Any], None], new: Callable[[], Trace]) -> Callable[[], Trace]:
    """The trace of one of `Layout.routines`, on a trace that `new` makes: it belongs to no instruction and works in any mode."""

    def make() -> Trace:
        trace = new()
        with tracing(trace):
            text(trace)
        return trace

    return make


@dataclass(frozen=True)
class Architecture:
    """`module` is where a function `architecture` makes this again, in another process.

    `no_index` is the slot that a record without an index register names; it reads as zero.

    `decode`: (code, record, tables, offset in page) -> length | ends << 8 | target << 9 | conditional << 10 | shadow << 11.

    `walk()` is the page walk's trace (linear, access, tlb) -> state words; `routines` are the traces of `layout.routines`;
    `everyday(mode, tables)` are the
    slots that any guest will want; `modes` counts the modes that a block's meaning depends on;
    `processor` is the class of its processors in plain Python; `model(name, changes)` a processor model, changed by names of features with
    + or - in front (raises UnknownName); `disassemble(row, variant, fields, mode, address)` one instruction's text from its record.
    `address_mask(mode)` says how many bits a linear address has in one, `limited(mode)` whether its code segment can end
    (`Layout.code_limit`).
    """

    name: str
    module: str
    layout: Layout
    modes: int
    no_index: int
    decode: Function
    walk: Callable[[], Trace]
    tables: Callable[[int, frozenset[str]], Tables]
    form: Callable[[int, Any, int], Form]
    everyday: Callable[[int, Any], list[int]]
    routines: dict[str, Callable[[], Trace]]
    address_mask: Callable[[int], int]
    limited: Callable[[int], bool]
    processor: type[Processor]
    model: Callable[[str, Iterable[str]], Any]
    disassemble: Callable[[Any, Any, dict[str, int], int, int], str]
