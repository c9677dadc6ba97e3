"""Blocks that are copied out of stencils: where they lie, which stencils there are, and who makes those that are missing."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from exuvia.codegen.area import Code
from exuvia.codegen.layout import CACHE, CAREFUL, COPIES_SIZE, INDEXED, MODE, MODE_ENTRY, PLAIN
from exuvia.codegen.stencil import OF_ALL, Forms, Stencils
from exuvia.codegen.store import ALIGNMENT

if TYPE_CHECKING:
    from exuvia.codegen.engine import Engine
    from exuvia.codegen.making import Making

STENCILS_SIZE = 64 << 20  # of the memory, for stencils; all those of one processor model are about that
OF_ALL_SIZE = 4096  # of it, what is kept for those of no instruction
LIST = 1024  # bytes at its end, in which who copies notes the stencils of a block
MANY = 48  # stencils that are made at once
Word = ctypes.c_uint64


class Copies:
    """Of one machine. Nothing is copied before `begin`, and nothing at all on hosts other than x86-64."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.ask: Callable[[Forms], None] = lambda forms: self.finished(forms, forms.make(engine.form, engine.architecture))
        self.stencils: dict[str, int] = {}  # by the names of the handlers
        self.tables: dict[int, dict[int, ctypes.Array[Word]]] = {}  # by mode and kind
        self.asked: set[str] = set()

    code: Code | None = None
    full = False  # stencils came for which there was no room

    def begin(self) -> None:
        """From now on blocks are copied."""
        if self.code is not None or os.uname().machine != "x86_64":
            return
        engine = self.engine
        self.code = Code(COPIES_SIZE)
        for blob, places in engine.stencil_store.batches():
            if not places.keys() <= self.stencils.keys():
                self.take(blob, places)
        if not self.stencils.keys() >= set(OF_ALL):
            from exuvia.codegen.cutting import make_of_all

            self.keep(make_of_all(engine.layout), {name: name for name in OF_ALL})
        words = {name: self.stencils[name] for name in OF_ALL}
        words |= dict(copies_first=self.code.address, copies_run=self.code.address - self.code.writable)
        for name, value in words.items():
            engine.cache[CACHE[name] // 8] = value
        self.clear()
        engine.cache[CACHE["copies_end"] // 8] = self.code.writable + COPIES_SIZE - LIST
        for mode in engine.tables:
            self.mode(mode)

    def clear(self) -> None:
        """All blocks are gone."""
        if self.code is not None:
            self.engine.cache[CACHE["copies"] // 8] = self.code.writable + STENCILS_SIZE

    @property
    def used(self) -> int:
        """Bytes of copied blocks."""
        return 0 if self.code is None else int(self.engine.cache[CACHE["copies"] // 8]) - self.code.writable - STENCILS_SIZE

    def has(self, address: int) -> bool:
        """Does a copy stand there?"""
        return self.code is not None and self.code.address <= address < self.code.address + COPIES_SIZE

    def take(self, blob: bytes, places: dict[str, int]) -> None:
        """Know stencils, while there is room."""
        assert self.code is not None
        kept = 0 if places.keys() <= set(OF_ALL) else OF_ALL_SIZE
        room = max(0, STENCILS_SIZE - kept - ALIGNMENT - self.code.used)
        if len(blob) > room:  # those that end inside: where the next begins
            self.full = True
            end = max((at for at in places.values() if at <= room), default=0)
            blob, places = blob[:end], {name: at for name, at in places.items() if at < end}
        base = self.code.place(blob)
        self.stencils |= {name: base + at for name, at in places.items()}

    def keep(self, made: Stencils, names: dict[str, str]) -> None:
        """Take and store what was made; `names` are theirs in the store."""
        places = {names[name]: at for name, at in made.places.items()}
        self.take(made.blob, places)
        self.engine.stencil_store.add((made.blob, places))

    # -- by mode
    def mode(self, mode: int) -> None:
        """The tables of a mode that is met; stencils that its handlers should have, and have not, are asked for."""
        engine, prefix, slots = self.engine, self.engine.prefixes[mode], self.engine.tables[mode].slots
        if self.code is None:
            return
        tables = self.tables[mode] = {kind: (Word * slots)() for kind in (PLAIN, INDEXED)}
        at = mode * MODE_ENTRY // 8
        engine.modes[at + MODE["stencils"] // 8] = ctypes.addressof(tables[PLAIN])
        engine.modes[at + MODE["stencils_indexed"] // 8] = ctypes.addressof(tables[INDEXED])

        def pair(name: str) -> tuple[int, int]:
            slot, _, kind = name[len(prefix) :].partition(".")
            return int(slot), int(kind)

        for name, address in self.stencils.items():
            if name.startswith(prefix):
                slot, kind = pair(name)
                tables[kind][slot] = address
        self.want(mode, [pair(name) for name in engine.symbols if name.startswith(prefix)])

    def want(self, mode: int, handlers: list[tuple[int, int]]) -> None:
        """There are these handlers in a mode, as pairs of slot and kind: ask for their stencils."""
        if self.code is None or self.full:
            return
        names = {self.engine.key(mode, *pair): pair for pair in handlers if pair[1] != CAREFUL}
        missing = [name for name in names if name not in self.stencils and name not in self.asked]
        self.asked.update(missing)
        for start in range(0, len(missing), MANY):
            self.ask(Forms(mode, tuple(names[name] for name in missing[start : start + MANY])))

    def finished(self, forms: Forms, made: Stencils | None, how: Making | None = None) -> None:
        """Stencils were made; None: they could not be."""
        if made is None:
            return
        engine, mode = self.engine, forms.mode
        self.keep(made, {forms.name(*pair): engine.key(mode, *pair) for pair in forms.pairs})
        for slot, kind in forms.pairs:
            self.tables[mode][kind][slot] = self.stencils.get(engine.key(mode, slot, kind), 0)
