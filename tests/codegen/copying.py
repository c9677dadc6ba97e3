"""Blocks copied where a test wants them, with the stencils that they need."""

from __future__ import annotations

from collections.abc import Iterable

from exuvia.codegen.copies import MANY
from exuvia.codegen.engine import Engine
from exuvia.codegen.heads import Head
from exuvia.codegen.layout import INDEXED, PLAIN
from exuvia.codegen.shapes import fields_of
from exuvia.codegen.stencil import Forms
from exuvia.dsl.record import RECORD


def begin(engine: Engine) -> None:
    """From now on blocks can be copied; stencils are made only by `stencils`."""
    engine.copies.ask = lambda forms: None
    engine.copies.begin()


def stencils(engine: Engine, mode: int, pairs: Iterable[tuple[int, int]]) -> None:
    """Have the stencils of these slots and kinds."""
    copies = engine.copies
    missing = [pair for pair in sorted(set(pairs)) if engine.key(mode, *pair) not in copies.stencils]
    for start in range(0, len(missing), MANY):
        forms = Forms(mode, tuple(missing[start : start + MANY]))
        copies.finished(forms, forms.make(engine.form, engine.architecture))


def pairs(engine: Engine, head: Head) -> list[tuple[int, int]]:
    """Slot and kind of a block's instructions, whose handlers there are by now."""
    found = []
    at = head.body - engine.arena.address
    for place in range(at, at + RECORD * head.n, RECORD):
        fields = fields_of(engine.arena.map[place : place + RECORD])
        pair = fields["slot"], INDEXED if fields["index"] != engine.architecture.no_index else PLAIN
        if engine.key(head.mode, *pair) in engine.symbols:
            found.append(pair)
    return found


def copy(engine: Engine, state: int, heads: Iterable[Head]) -> int:
    """Copy blocks; how many of them run as copies now."""
    some = list(heads)
    for mode in {h.mode for h in some}:
        stencils(engine, mode, (pair for h in some if h.mode == mode for pair in pairs(engine, h)))
    one = engine.native("copy", 2)
    for h in some:
        one(state, h.address)
    return sum(any(map(engine.copies.has, handlers(engine, h))) for h in some)


def handlers(engine: Engine, head: Head) -> list[int]:
    """Of a block's records."""
    at = (head.body - engine.arena.address) // 8
    return [engine.arena.words[at + RECORD // 8 * k] for k in range(head.n)]
