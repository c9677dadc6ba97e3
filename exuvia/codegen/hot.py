"""From hot blocks to regions: which blocks of a page go together, what is known of them already, and how finished code takes its place."""

from __future__ import annotations

import ctypes
import hashlib
import json
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from exuvia.codegen.area import Area
from exuvia.codegen.layout import CACHE, HEAD, HEAD_SIZE, KNOWN_BITS, NO_ENTRY, PAGE_ENTRY, REGION_HEADS, SPECIAL, known_spot
from exuvia.codegen.region import Region
from exuvia.codegen.shapes import Block, Record, fields_of, moving, ordinary, ways
from exuvia.dsl.architecture import Architecture, Form
from exuvia.dsl.record import FIELDS, LINK, RECORD
from exuvia.support import log
from exuvia.support.errors import UserError

if TYPE_CHECKING:
    from exuvia.codegen.engine import Engine, State

HEAD_WORDS = struct.Struct("<QQIHHQQQQIHBx")  # in the order of layout.HEAD
MOST_BLOCKS, MOST_INSTRUCTIONS = 48, 400  # of a region
KEPT = 32 << 20  # bytes of regions that a build's store may hold: half of what there is room for
PATIENCE = 8  # how often the samples that a page needs are doubled where its regions are dropped again and again
OFF, LEN = FIELDS["off"][0], FIELDS["len"][0]
SYMBOL = "region "


class Head(NamedTuple):
    """A block's head as it lies in memory (codegen/layout.py)."""

    address: int
    handler: int
    body: int
    samples: int
    n: int
    offset: int
    region: int
    key: int
    next: int
    sibling: int
    mask: int
    entry: int
    mode: int


class Found(NamedTuple):
    """A block of guest code: its place in the page, its bytes, its records without their handlers, and where its links lead."""

    offset: int
    code: bytes
    records: bytes
    links: tuple[int, ...]
    falls: bool


class Wanted(NamedTuple):
    """A region to be made: `meaning` says what the records' slots are. `heads` are where the blocks' heads lie, in `flood`."""

    mode: int
    meaning: str
    blocks: tuple[Found, ...]
    seed: int
    heads: tuple[int, ...]
    flood: int


class Made(NamedTuple):
    """A region: what it was made of, which of its blocks (by number) can be entered, and its code.

    A block is its offset, its bytes, and where it has constants that the region reads from the records: (place, bytes), zeros here.
    """

    meaning: str
    blocks: tuple[tuple[int, bytes, tuple[tuple[int, int], ...]], ...]
    decoded: str
    entries: tuple[int, ...]
    code: bytes
    at: int
    functions: tuple[str, ...]

    @property
    def symbol(self) -> str:
        """Its name in the store says all that has to be known."""
        return SYMBOL + json.dumps(
            [self.meaning, [[o, b.hex(), gaps] for o, b, gaps in self.blocks], self.decoded, self.entries, self.functions]
        )


def made_of(symbol: str) -> Made:
    """What a name in the store stands for."""
    meaning, blocks, decoded, entries, functions = json.loads(symbol[len(SYMBOL) :])
    parsed = tuple((o, bytes.fromhex(b), tuple(map(tuple, gaps))) for o, b, gaps in blocks)
    return Made(meaning, parsed, decoded, tuple(entries), b"", 0, tuple(functions))


def dissect(b: Found, mode: int, form: Callable[[int, int], Form]) -> Iterator[tuple[Record, int, dict[str, tuple[int, int]]]]:
    """The block's instructions, each with its place in the code and its constants that look like addresses."""
    for k in range(0, len(b.records), RECORD):
        fields = fields_of(b.records[k : k + RECORD])
        f, at = form(mode, fields["slot"]), fields["off"] - b.offset
        found = moving(f, fields, b.code[at : at + fields["len"]])
        yield Record(f, fields, frozenset(found)), at, found


def region(w: Wanted, form: Callable[[int, int], Form], a: Architecture, kind: type[Region] = Region) -> Region:
    """The region, not yet written."""
    blocks = []
    for b in w.blocks:
        records = [r for r, _, _ in dissect(b, w.mode, form)]
        done = list(takewhile(lambda r: ordinary(r.form), records))
        blocks.append(Block(b.offset, done, list(b.links), b.offset == w.seed, len(records), b.falls))
    return kind(a.layout, a.no_index, a.address_mask(w.mode), blocks, "region")


def make(w: Wanted, form: Callable[[int, int], Form], a: Architecture) -> Made:
    """Compile: a pure function of the wanted blocks."""
    from exuvia.codegen.build import compile_text
    from exuvia.codegen.division import define
    from exuvia.codegen.emit import PROFILE

    r = region(w, form, a)
    code, symbols = compile_text(r.text() + define(r.declares) + PROFILE)
    entries = tuple(k for k, b in enumerate(r.blocks) if b.entry)
    sights = [sight(b, w.mode, form) for b in w.blocks]
    blocks = tuple((b.offset, code, gaps) for b, (code, gaps, _) in zip(w.blocks, sights, strict=True))
    return Made(w.meaning, blocks, meanings(sights), entries, code, symbols[r.name], tuple(sorted(r.used)))


class Making(NamedTuple):
    """How the making of a region went: the seconds that it took, and why there is none."""

    seconds: float = 0.0
    why: str = ""


UNTOLD = Making(why="nobody said why")

Sight = tuple[bytes, tuple[tuple[int, int], ...], str]


def sight(b: Found, mode: int, form: Callable[[int, int], Form]) -> Sight:
    """The block as regions see it: bytes with gaps where constants are that they read from the records, the gaps, and all the rest."""
    gaps, rest = [], []
    for r, at, found in dissect(b, mode, form):
        gaps += [(at + start, size) for start, size in found.values()]
        rest.append([v for name, v in r.fields.items() if name not in found])
    return blank(b.code, gaps), tuple(gaps), repr((rest, b.links, b.falls))


def meanings(sights: list[Sight]) -> str:
    """A digest of what was decoded."""
    return hashlib.blake2b("".join(rest for _, _, rest in sights).encode(), digest_size=16).hexdigest()


def blank(code: bytes, gaps: Iterable[tuple[int, int]]) -> bytes:
    """The code with zeros in the gaps."""
    for at, size in gaps:
        code = code[:at] + bytes(size) + code[at + size :]
    return code


class Hot:
    """The regions of one machine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.arena = engine.arena
        self.known: dict[tuple[str, int, bytes], list[tuple[Made, int]]] = {}  # by meaning, and place and first byte of a block
        self.blocks: dict[int, Found | None] = {}  # what was read, by the address of its records
        self.asked: set[int] = set()  # heads in regions that are being made, or could not be
        self.stood: dict[int, int] = {}  # heads that had a region, and which
        self.dropped: dict[int, set[int]] = {}  # regions that were dropped, by page: the guest writes there
        self.flood = 0  # counts how often all blocks were dropped
        self.ask: Callable[[Wanted], None] = self.make_now
        self.made = self.installed = self.late = self.failed = self.found = self.missed = 0  # what `info jit` shows
        self.seconds = 0.0  # that regions took to be made
        self.spots = Area((1 << KNOWN_BITS) // 8)  # a bit for each block of known regions, which the decoder asks (`known_spot`)
        engine.cache[CACHE["known"] // 8] = self.spots.address
        self.linear: dict[int, int] = {}  # where a page of code, by its host address, was seen last
        self.standing: dict[int, tuple[int, ...]] = {}  # the heads into which a region's code was put last
        self.noticed = 0  # how many dropped regions the log was told of
        self.full = False  # no room for code: begin again where nothing runs
        self.kept = 0  # bytes of code in the store
        for blob, symbols in engine.region_store.batches():
            self.kept += len(blob)
            if self.kept <= KEPT:
                base = engine.region_code.place(blob)
                for symbol, at in symbols.items():
                    self.remember(made_of(symbol), base + at)

    # -- reading
    def head(self, address: int) -> Head:
        """A head, read."""
        return Head(address, *HEAD_WORDS.unpack_from(self.arena.map, address - self.arena.address))

    def page(self, head: Head) -> Iterator[Head]:
        """Decoded blocks of a head's page and mode."""
        e = self.engine
        entry = ((head.key - e.cache[CACHE["ram"] // 8]) >> 12) * PAGE_ENTRY
        (at,) = struct.unpack_from("<Q", e.pages.map, entry + 8)
        while at:
            found = self.head(at)
            if found.mode == head.mode and found.body and found.n:
                yield found
            at = found.sibling

    def block(self, head: Head) -> Found | None:
        """The head's block; None where it has a part on the next page."""
        if head.body not in self.blocks:
            self.blocks[head.body] = self.read(head)
        return self.blocks[head.body]

    def read(self, head: Head) -> Found | None:
        """The head's block, from its records."""
        e, at = self.engine, head.body - self.arena.address
        raw = self.arena.map[at : at + RECORD * (head.n + 1) + 2 * LINK]
        (first,) = struct.unpack_from("<Q", raw)
        if first == e.special[SPECIAL.index("guard")]:
            return None
        (behind,) = struct.unpack_from("<Q", raw, RECORD * head.n)
        falls = behind == e.special[SPECIAL.index("fall")]
        last = fields_of(raw[RECORD * (head.n - 1) : RECORD * head.n])
        count = 1 if falls else ways(e.form(head.mode, last["slot"]))
        links = tuple(struct.unpack_from("<q", raw, RECORD * (head.n + falls) + LINK * k + 16)[0] for k in range(count))
        records = b"".join(bytes(8) + raw[RECORD * k + 8 : RECORD * (k + 1)] for k in range(head.n))
        return Found(head.offset, ctypes.string_at(head.key, last["off"] + last["len"] - head.offset), records, links, falls)

    # -- choosing
    def grow(self, address: int) -> Wanted | None:
        """The region around a hot head: sampled blocks of the page, and what lies between them."""
        seed = self.head(address)
        if not seed.body or not seed.n:
            return None
        heads: dict[int, Head] = {}
        found: dict[int, Found] = {}
        for h in self.page(seed):
            if not h.region and h.offset not in heads and h.address not in self.asked and (b := self.block(h)) is not None:
                heads[h.offset], found[h.offset] = h, b
        if seed.offset not in found:
            return None
        warm = {offset for offset, h in heads.items() if h.samples}
        chosen: list[int] = []
        todo, seen, instructions = [seed.offset], {seed.offset}, 0
        while todo and len(chosen) < MOST_BLOCKS and instructions < MOST_INSTRUCTIONS:
            offset = todo.pop(0)
            chosen.append(offset)
            instructions += heads[offset].n
            for way in leads(found[offset]):
                if way in found and way not in seen and (way in warm or any(w in warm or w in seen for w in leads(found[way]))):
                    seen.add(way)
                    todo.append(way)
        chosen.sort()
        return Wanted(
            seed.mode,
            self.engine.prefixes[seed.mode],
            tuple(found[o] for o in chosen),
            seed.offset,
            tuple(heads[o].address for o in chosen),
            self.flood,
        )

    # -- what happens
    def sampled(self, state: State, address: int, pc: int, enough: int) -> None:
        """A block may have a known region, or runs often: look whether there is one; have one made if it was seen `enough` times."""
        head = self.head(address)
        if head.region or not head.body or address in self.asked:
            return
        page = head.key & -4096
        self.linear[page] = pc & -4096
        if log.hot.on:
            self.tell_dropped()
        if address in self.stood:
            self.dropped.setdefault(page, set()).add(self.stood.pop(address))
        if self.known and self.remembered(state, head, pc):
            self.found += 1
            return
        enough <<= min(PATIENCE, len(self.dropped.get(page, ())))
        if head.samples % enough:
            return
        if (wanted := self.grow(address)) is None:
            if log.hot.on:
                log.hot.once((pc, self.flood), f"hot: no region at {pc:#x} ({head.samples} samples): it has a part on the next page")
            return
        self.missed += 1
        self.asked.update(wanted.heads)
        self.ask(wanted)

    def remembered(self, state: State, head: Head, pc: int) -> bool:
        """Install a known region that has this block, if all of it is what the page holds."""
        meaning = self.engine.prefixes[head.mode]
        page = head.key - head.offset
        for made, code in self.known.get((meaning, head.offset, ctypes.string_at(head.key, 1)), ()):
            if all(blank(ctypes.string_at(page + o, len(b)), gaps) == b for o, b, gaps in made.blocks):
                words, at = state.words, state.index
                heads = []
                for offset, _, _ in made.blocks:
                    words[at["pc"]] = pc - head.offset + offset
                    heads.append(self.engine.block(state.address))
                words[at["pc"]] = pc
                if all(heads) and self.fits(made, heads) and self.same(made, heads):
                    done = self.install(heads, code, made)
                    self.tell("found" if done else "found, and the block cache is full", heads)
                    return True
        return False

    def fits(self, made: Made, heads: list[int]) -> bool:
        """Are the blocks as long as they were? Where one ends depends on what stands behind it at the page's end."""
        for (offset, text, _), address in zip(made.blocks, heads, strict=True):
            h = self.head(address)
            if h.region or not h.body:
                return False
            last = h.body + RECORD * (h.n - 1) - self.arena.address
            (off,) = struct.unpack_from("<H", self.arena.map, last + OFF)
            if off + self.arena.map[last + LEN] != offset + len(text):
                return False
        return True

    def same(self, made: Made, heads: list[int]) -> bool:
        """Are constants that differ the only difference? Where the region has none, equal bytes mean equal records."""
        if not any(gaps for _, _, gaps in made.blocks):
            return True
        found = [self.block(self.head(a)) for a in heads]
        if any(b is None for b in found):
            return False
        mode = self.head(heads[0]).mode
        return meanings([sight(b, mode, self.engine.form) for b in found if b is not None]) == made.decoded

    def make_now(self, wanted: Wanted) -> None:
        """Compile here and now."""
        start = time.monotonic()
        made = make(wanted, self.engine.form, self.engine.architecture)
        self.finished(wanted, made, Making(time.monotonic() - start))

    def finished(self, wanted: Wanted, made: Made | None, how: Making = UNTOLD) -> None:
        """A region was made; put it into place if its blocks are still what they were. None: it could not be, and is asked for no more."""
        self.seconds += how.seconds
        if made is None:
            self.failed += 1
            self.tell("not made", wanted.heads, f": {how.why}")
            return
        cost = f", {len(made.code)} bytes, {how.seconds * 1e3:.0f} ms"
        self.asked.difference_update(wanted.heads)
        self.made += 1
        if self.kept <= KEPT and self.engine.region_store.add((made.code, {made.symbol: made.at})):
            self.kept += len(made.code)
        try:
            code = self.engine.region_code.place(made.code) + made.at
        except UserError:
            self.full = True
            self.tell("made, and there is no room for its code", wanted.heads, cost)
            return
        self.remember(made, code)
        if wanted.flood != self.flood:
            self.tell("made for blocks that have been forgotten", (), cost)
            return
        heads = [self.head(a) for a in wanted.heads]
        if all(
            h.body and not h.region and h.n * RECORD == len(b.records) and ctypes.string_at(h.key, len(b.code)) == b.code
            for h, b in zip(heads, wanted.blocks, strict=True)
        ):
            done = self.install(wanted.heads, code, made)
            self.tell("made" if done else "made, and the block cache is full", wanted.heads, cost)
        else:
            self.late += 1
            self.tell("made too late, its code has changed", wanted.heads, cost)

    def remember(self, made: Made, code: int) -> None:
        """Know a region by its blocks."""
        self.engine.compile_functions(set(made.functions))
        for offset, text, gaps in made.blocks:
            self.known.setdefault((made.meaning, offset, text[:1]), []).append((made._replace(code=b""), code))
            if not any(at == 1 for at, _ in gaps):
                spot = known_spot(offset, text[0], text[1] if len(text) > 1 else 0)
                self.spots.map[spot >> 3] |= 1 << (spot & 7)

    def install(self, heads: list[int] | tuple[int, ...], code: int, made: Made) -> bool:
        """Put code into the heads of the entries; where code has a limit, their own handler finds it (codegen/runtime/limit.py).

        False where there is no room to say which heads.
        """
        limited = self.engine.architecture.limited(self.head(heads[0]).mode)
        end = max(offset + len(text) for offset, text, _ in made.blocks)
        if not (table := self.engine.allot(REGION_HEADS + 8 * len(heads))):
            return False
        self.standing[code] = tuple(heads)
        struct.pack_into(f"<{3 + len(heads)}Q", self.arena.map, table - self.arena.address, len(heads), code, end, *heads)
        for k, head in enumerate(heads):
            at = head - self.arena.address
            struct.pack_into("<Q", self.arena.map, at + HEAD["region"], table)
            self.stood[head] = table
            struct.pack_into("<H", self.arena.map, at + HEAD["entry"], k if k in made.entries else NO_ENTRY)
            if k in made.entries and not limited:
                struct.pack_into("<Q", self.arena.map, at + HEAD["handler"], code)
        self.installed += 1
        return True

    # -- telling
    def tell(self, what: str, heads: Sequence[int], rest: str = "") -> None:
        """A line of `-d hot` about a region that has, or should have had, these heads."""
        if log.hot.on:
            found = [self.head(a) for a in heads]
            counts = f" {self.place(found[0])}: {len(found)} blocks, {sum(h.n for h in found)} instructions" if found else ""
            log.hot(f"hot: {what}{counts}{rest}, {sum(h.samples for h in found)} samples")

    def place(self, head: Head) -> str:
        """Where a block stands in the guest: its linear address, as far as one was seen."""
        page = self.linear.get(head.key - head.offset)
        return (
            f"at {page + head.offset:#x}" if page is not None else f"at offset {head.key - self.engine.cache[CACHE['ram'] // 8]:#x} of RAM"
        )

    def tell_dropped(self) -> None:
        """Lines of `-d hot` about regions that were dropped since the last look."""
        count = self.engine.cache[CACHE["dropped"] // 8]
        if count == self.noticed:
            return
        self.noticed = count
        for code, heads in list(self.standing.items()):
            if not any(self.head(a).region for a in heads):
                del self.standing[code]
                self.tell("dropped, the guest wrote to its code", heads)

    def heat(self, wanted: Wanted) -> int:
        """How often the blocks of a region that is being asked for were seen by now; from any thread."""
        at = HEAD["samples"] - self.arena.address
        return sum(struct.unpack_from("<I", self.arena.map, head + at)[0] for head in wanted.heads) if wanted.flood == self.flood else -1

    def begin_again(self) -> None:
        """Give the room of all regions to new ones. All blocks have been dropped, and nothing runs."""
        log.hot("hot: all regions dropped, the room for their code was full")
        self.known.clear()
        self.spots.clear()
        self.standing.clear()
        self.engine.region_code.used = 0
        self.full = False

    def forget(self) -> None:
        """All blocks are gone."""
        if self.standing:
            log.hot(f"hot: {len(self.standing)} regions dropped, with all blocks")
        self.flood += 1
        self.standing.clear()
        self.linear.clear()
        self.blocks.clear()
        self.asked.clear()
        self.stood.clear()
        self.dropped.clear()


def leads(b: Found) -> list[int]:
    """Offsets where the block may go on, behind a call too."""
    return [*b.links, b.offset + len(b.code)]


assert HEAD_WORDS.size == HEAD_SIZE
