"""How a region is made: what is wanted, its code, and the name that says in the store what it is. Pure functions of guest code."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from exuvia.codegen.region import DOOR, Region
from exuvia.codegen.shapes import PAGE, Block, Record, destination, fields_of, fixed, meant, moving, ordinary
from exuvia.dsl.architecture import Architecture, Form
from exuvia.dsl.record import FIELDS, RECORD
from exuvia.dsl.values import signed

OFF, LEN = FIELDS["off"][0], FIELDS["len"][0]
GUARD = 2  # records before those of an instruction over two pages
SYMBOL = "region "
Part = tuple[int, bytes, tuple[tuple[int, int], ...]]  # a block of a region that was made: its place, its bytes, its gaps


class Found(NamedTuple):
    """A block of guest code: its place, its bytes, its records without their handlers, and where its links lead.

    Places are counted from the start of a page: the block's own, or the one from which a region counts.
    """

    offset: int
    code: bytes
    records: bytes
    links: tuple[int, ...]
    falls: bool

    @property
    def crosses(self) -> bool:
        """Does it stand over two pages? Such a block is one instruction."""
        return crosses(self.offset, self.code)

    def moved(self, by: int) -> Found:
        """The same, counted from another page."""
        return self._replace(offset=self.offset + by, links=tuple(to + by for to in self.links)) if by else self


def crosses(offset: int, code: bytes) -> bool:
    """Does the code stand over two pages?"""
    return offset % PAGE + len(code) > PAGE


class Wanted(NamedTuple):
    """A region to be made: `meaning` says what the records' slots are, `entries` where it has to be entered.

    `heads` are where the blocks' heads lie, in `flood`; they have no region, or the one that this is to replace. `page` is the linear
    address of the page from which places are counted, where that matters: None unless a block was `settled`.
    """

    mode: int
    meaning: str
    blocks: tuple[Found, ...]
    entries: tuple[int, ...]
    heads: tuple[int, ...]
    flood: int
    replaces: int = 0
    page: int | None = None

    def make(self, form: Callable[[int, int], Form], a: Architecture) -> Made:
        """Compile: a pure function."""
        from exuvia.codegen.build import compile_text
        from exuvia.codegen.division import define
        from exuvia.codegen.emit import PROFILE

        r = region(self, form, a)
        code, symbols = compile_text(r.text() + define(r.declares) + PROFILE)
        entries = tuple(k for k, b in enumerate(r.blocks) if b.entry)
        sights = [sight(b, self.mode, form) for b in self.blocks]
        blocks = tuple((b.offset, code, gaps) for b, (code, gaps, _) in zip(self.blocks, sights, strict=True))
        bound = self.page is not None
        decoded = meanings([s for s in sights if bound or s[1]])
        at = symbols[r.name]
        doors = tuple(symbols[f"{DOOR}{k}"] - at for k in entries)
        return Made(self.meaning, blocks, decoded, entries, doors, code, at, tuple(sorted(r.used)), bound)


class Made(NamedTuple):
    """A region: what it was made of, which of its blocks (by number) can be entered, where its code has their doors, and the code.

    A block is its offset, its bytes, and where it has constants that the region reads from the records: (place, bytes), zeros here. It is
    `bound` to the linear address at which it is put into place if a block was `settled`. `decoded` is the digest of what its bytes do not
    say: of blocks with gaps, or of all where it is bound.
    """

    meaning: str
    blocks: tuple[Part, ...]
    decoded: str
    entries: tuple[int, ...]
    doors: tuple[int, ...]
    code: bytes
    at: int
    functions: tuple[str, ...]
    bound: bool = False

    @property
    def symbol(self) -> str:
        """Its name in the store says all that has to be known."""
        return SYMBOL + json.dumps(
            [
                self.meaning,
                [[o, b.hex(), gaps] for o, b, gaps in self.blocks],
                self.decoded,
                self.entries,
                self.doors,
                self.functions,
                self.bound,
            ]
        )


def made_of(symbol: str) -> Made:
    """What a name in the store stands for."""
    meaning, blocks, decoded, entries, doors, functions, bound = json.loads(symbol[len(SYMBOL) :])
    parsed = tuple((o, bytes.fromhex(b), tuple(map(tuple, gaps))) for o, b, gaps in blocks)
    return Made(meaning, parsed, decoded, tuple(entries), tuple(doors), b"", 0, tuple(functions), bound)


def settled(b: Found, page: int | None, mode: int, form: Callable[[int, int], Form], a: Architecture) -> Found:
    """The block with the link of its last instruction, if that is a jump whose target is known where the jump's own place is.

    `page`: the linear address of the page from which places are counted, None where that is not known.
    """
    last = fields_of(b.records[-RECORD:])
    if page is None or not fixed(f := form(mode, last["slot"])):
        return b
    mask = a.address_mask(mode)
    return b._replace(links=(signed(destination(f, last, page + (b.offset & -PAGE) & mask) - page & mask, mask.bit_length()),))


def dissect(
    b: Found, mode: int, form: Callable[[int, int], Form], over: Sequence[int] | None = None
) -> Iterator[tuple[Record, int, dict[str, tuple[int, int]]]]:
    """The block's instructions, each with its place in the code and its constants that look like addresses; only those `over` places."""
    for k in range(0, len(b.records), RECORD):
        if over is not None:
            (off,) = struct.unpack_from("<H", b.records, k + OFF)
            at, size = off - b.offset % PAGE, b.records[k + LEN]
            if size and not any(at <= place < at + size for place in over):  # of several records for one instruction some have no size
                continue
        fields = fields_of(b.records[k : k + RECORD])
        f, at = form(mode, fields["slot"]), fields["off"] - b.offset % PAGE
        found = moving(f, fields, b.code[at : at + fields["len"]])
        yield Record(f, fields, frozenset(found)), at, found


def region(w: Wanted, form: Callable[[int, int], Form], a: Architecture, kind: type[Region] = Region) -> Region:
    """The region, not yet written."""
    blocks = []
    for b in w.blocks:
        records = [r for r, _, _ in dissect(b, w.mode, form)]
        done = list(takewhile(lambda r: ordinary(r.form), records))
        block = Block(b.offset, done, list(b.links), b.offset in w.entries, len(records), b.falls, GUARD if b.crosses else 0)
        block.settled = w.page is not None and fixed(records[-1].form)
        blocks.append(block)
    return kind(a.layout, a.no_index, a.address_mask(w.mode), blocks, "region")


class Making(NamedTuple):
    """How the making of a region went: the seconds that it took, and why there is none."""

    seconds: float = 0.0
    why: str = ""


UNTOLD = Making(why="nobody said why")

Sight = tuple[bytes, tuple[tuple[int, int], ...], str]


def sight(b: Found, mode: int, form: Callable[[int, int], Form], over: Sequence[int] | None = None) -> Sight:
    """The block as regions see it: bytes with gaps where constants are that they read from the records, the gaps, and what else the bytes
    do not say: the rest of instructions with gaps, and where it leads.

    `over`: where gaps begin, if it is known to have no others: all other bytes are those of a block that has no others."""
    gaps, rest = [], []
    for r, at, found in dissect(b, mode, form, over):
        if not found:
            continue
        gaps += [(at + start, size) for start, size in found.values()]
        said = meant(r.form) if r.form.address is not None else r.fields.keys()
        rest.append([v for name, v in r.fields.items() if name in said and name not in found])
    return blank(b.code, gaps), tuple(gaps), repr((rest, b.links, b.falls))


def meanings(sights: list[Sight]) -> str:
    """A digest of blocks as regions see them."""
    return hashlib.blake2b("".join(rest for _, _, rest in sights).encode(), digest_size=16).hexdigest()


def blank(code: bytes, gaps: Iterable[tuple[int, int]]) -> bytes:
    """The code with zeros in the gaps."""
    for at, size in gaps:
        code = code[:at] + bytes(size) + code[at + size :]
    return code


def leads(b: Found) -> list[int]:
    """Offsets where the block may go on, behind a call too."""
    return [*b.links, b.offset + len(b.code)]
