"""From hot blocks to regions: which blocks go together, what is known of them already, and how finished code takes its place."""

from __future__ import annotations

import ctypes
import struct
import time
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from exuvia.codegen.area import Area
from exuvia.codegen.heads import HEAD_WORDS, Head
from exuvia.codegen.layout import (
    ACCESS_FETCH,
    CACHE,
    ENTRY_SHIFT,
    HEAD,
    HEAD_SIZE,
    KNOWN_BITS,
    NO_ENTRY,
    PAGE_ENTRY,
    REGION_BLOCK,
    REGION_CODE,
    REGION_HEADS,
    REGION_PAGE,
    SPECIAL,
    known_spot,
)  # fmt: skip
from exuvia.codegen.making import (
    GUARD,
    LEN,
    OFF,
    UNTOLD,
    Found,
    Made,
    Making,
    Part,
    Wanted,
    blank,
    crosses,
    leads,
    made_of,
    meanings,
    settled,
    sight,
)
from exuvia.codegen.shapes import PAGE, fields_of, fixed, ways, witnesses
from exuvia.dsl.record import LINK, RECORD
from exuvia.support import log
from exuvia.support.errors import UserError

if TYPE_CHECKING:
    from exuvia.codegen.engine import Engine, State

MOST_BLOCKS, MOST_INSTRUCTIONS, MOST_PAGES = 128, 1000, 16  # of a region
KEPT = 32 << 20  # bytes of regions that a build's store may hold: half of what there is room for
BUSY = 4  # times as many samples a block needs while others wait to be made
SPARING, SETTLED = 2, 16  # where most of what was hot had been made before: to be looked at; to be made whatever it is worth
WORTH = 1  # samples for each of its instructions that let a region be made earlier then: it costs a worker 10, and later runs have it
INVESTED = 1  # of the machine's own processor time that workers may take for that
OFTEN = 4  # samples of a block that shall be an entry when its region is made again
PATIENCE = 8  # how often the samples that a page needs are doubled where its regions are dropped again and again
BEGINNING = 3  # bytes of a block by which it is looked for
LONGEST = 32  # bytes behind a block that a decoder may look at
Near = Callable[[int], int]  # how far a page lies from one -> where the host has it, or 0


class Known(NamedTuple):
    """A region that has a block: what it is, where its code stands, and which of its blocks that is."""

    made: Made
    code: int
    number: int


class Around:
    """Blocks that a region could have, by their place, as they are asked for. `page`: the first one's linear address."""

    def __init__(self, hot: Hot, seed: Head, near: Near | None, page: int | None) -> None:
        self.hot, self.mode, self.near, self.page = hot, seed.mode, near, page
        self.pages = {0: seed.key - seed.offset}  # where the host has them
        self.found: dict[int, Head | None] = {}
        self.words = (ctypes.c_uint64 * (HEAD_SIZE // 8))()

    def head(self, offset: int) -> Head | None:
        """The block at a place, unless it is in a region or shall be in one."""
        if offset not in self.found:
            self.found[offset] = self.look(offset)
        return self.found[offset]

    def look(self, offset: int) -> Head | None:
        """The same, looked up: a page further than `MOST_PAGES` has none."""
        page = offset & -PAGE
        if page not in self.pages:
            if self.near is None or len(self.pages) == MOST_PAGES:
                return None
            self.pages[page] = self.near(page)
        e, host = self.hot.engine, self.pages[page]
        if not host or not (address := e.head_at(e.states[0], host + offset % PAGE, self.mode, ctypes.addressof(self.words))):
            return None
        h = Head._make((address, *HEAD_WORDS.unpack_from(self.words)))
        if not h.mask or h.region or address in self.hot.asked or self.near is None and self.hot.block(h).crosses:
            return None
        return h

    def warm(self, offset: int, seen: set[int]) -> bool:
        """Was the block at a place sampled, or copied as it runs often, or does it lead to one that was sampled, or that the region has?"""
        if (h := self.head(offset)) is None:
            return False
        if h.samples or h.copied:
            return True
        ways = leads(self.hot.placed_at(h, offset, self.page))
        return any(w in seen or (o := self.head(w)) is not None and bool(o.samples) for w in ways)


class Hot:
    """The regions of one machine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.arena = engine.arena
        self.known: dict[tuple[str, int, bytes], list[Known]] = {}  # by meaning, and a block's place in its page and how it begins
        self.placed: dict[int, Made] = {}  # what was made, by where its code stands
        self.blocks: dict[int, Found] = {}  # what was read, by the address of its records
        self.asked: set[int] = set()  # heads in regions that are being made, or could not be
        self.stood: dict[int, int] = {}  # heads that had a region, and which
        self.dropped: dict[int, set[int]] = {}  # regions that were dropped, by page: the guest writes there
        self.poor: dict[int, int] = {}  # heads of what was not worth making -> samples at which it is to be looked at again
        self.flood = 0  # counts how often all blocks were dropped
        self.ask: Callable[[Wanted], None] = self.make_now
        self.busy: Callable[[], bool] = lambda: False  # do others wait to be made?
        self.remind: Callable[[], None] = lambda: None  # what was asked for is still seen
        self.made = self.installed = self.late = self.failed = self.found = self.missed = 0  # what `info jit` shows
        self.seconds = 0.0  # that regions took to be made
        self.spots = Area((1 << KNOWN_BITS) // 8)  # a bit for each block of known regions, which the decoder asks (`known_spot`)
        engine.cache[CACHE["known"] // 8] = self.spots.address
        self.linear: dict[int, int] = {}  # where a page of code, by its host address, was seen last
        self.standing: dict[int, tuple[int, tuple[int, ...]]] = {}  # where a region's code was put last: its table, the heads of its blocks
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
        return Head._make((address, *HEAD_WORDS.unpack_from(self.arena.map, address - self.arena.address)))

    def block(self, head: Head) -> Found:
        """The head's block, counted from its page."""
        if head.body not in self.blocks:
            self.blocks[head.body] = self.read(head)
        return self.blocks[head.body]

    def placed_at(self, head: Head, offset: int, page: int | None) -> Found:
        """The head's block at a place of a region, and the linear address of the page from which that is counted."""
        e = self.engine
        return settled(self.block(head).moved(offset - head.offset), page, head.mode, e.form, e.architecture)

    def read(self, head: Head) -> Found:
        """The head's block, from its records."""
        e, at = self.engine, head.body - self.arena.address
        raw = self.arena.map[at : at + RECORD * (head.n + 1 + GUARD) + 2 * LINK]
        second = b""  # the bytes on the next page, as the guard has them
        if int.from_bytes(raw[:8], "little") == e.special[SPECIAL.index("guard")]:
            second, raw = raw[RECORD : RECORD + 16], raw[GUARD * RECORD :]
        (behind,) = struct.unpack_from("<Q", raw, RECORD * head.n)
        falls = behind == e.special[SPECIAL.index("fall")]
        last = fields_of(raw[RECORD * (head.n - 1) : RECORD * head.n])
        count = 1 if falls else ways(e.form(head.mode, last["slot"]))
        links = tuple(struct.unpack_from("<q", raw, RECORD * (head.n + falls) + LINK * k + 16)[0] for k in range(count))
        records = b"".join(bytes(8) + raw[RECORD * k + 8 : RECORD * (k + 1)] for k in range(head.n))
        size = last["off"] + last["len"] - head.offset
        own = ctypes.string_at(head.key, min(size, PAGE - head.offset))
        return Found(head.offset, own + second[: size - len(own)], records, links, falls)

    # -- choosing
    def grow(self, address: int, near: Near | None = None, page: int | None = None) -> Wanted | None:
        """The region around a hot head: blocks of its page that ran often, and of others that `near` finds, and what lies between them.

        `page` is the linear address of the head's page: without it nothing is known of jumps to an address."""
        seed = self.head(address)
        if not seed.mask:
            return None
        around = Around(self, seed, near, page)
        chosen: dict[int, Found] = {}
        todo, seen, instructions = [seed.offset], {seed.offset}, 0
        while todo and len(chosen) < MOST_BLOCKS and instructions < MOST_INSTRUCTIONS:
            offset = todo.pop(0)
            head = around.head(offset)
            if head is None:
                continue
            chosen[offset] = b = self.placed_at(head, offset, page)
            instructions += head.n
            for way in leads(b):
                if way not in seen and around.warm(way, seen):
                    seen.add(way)
                    todo.append(way)
        for offset in [o for o, b in chosen.items() if b.crosses and not any(witnesses(o, other) for other in chosen)]:
            del chosen[offset]
        if seed.offset not in chosen:
            return None
        order = sorted(chosen)
        heads = tuple(head.address for o in order if (head := around.head(o)))
        if not any(fixed(self.engine.form(seed.mode, fields_of(chosen[o].records[-RECORD:])["slot"])) for o in order):
            page = None
        meaning = self.engine.prefixes[seed.mode]
        return Wanted(seed.mode, meaning, tuple(chosen[o] for o in order), (seed.offset,), heads, self.flood, 0, page)

    def again(self, head: Head) -> Wanted | None:
        """The region that a head is in, to be made with it, and others that are met often, as entries."""
        (code,) = struct.unpack_from("<Q", self.arena.map, head.region - self.arena.address + REGION_CODE)
        table, standing = self.standing.get(code, (0, ()))
        made, heads = self.placed.get(code), [self.head(a) for a in standing]
        if made is None or table != head.region or not all(h.mask for h in heads):
            return None
        page = self.arena.words[(head.region - self.arena.address + REGION_PAGE) // 8] if made.bound else None
        blocks = tuple(self.placed_at(h, offset, page) for h, (offset, _, _) in zip(heads, made.blocks, strict=True))
        met = {k for k, h in enumerate(heads) if h.region == table and h.entry == NO_ENTRY and h.samples >= OFTEN} | set(made.entries)
        entries = tuple(made.blocks[k][0] for k in sorted(met))
        return Wanted(head.mode, made.meaning, blocks, entries, tuple(h.address for h in heads), self.flood, head.region, page)

    # -- what happens
    def sampled(self, state: State, address: int, pc: int, enough: int) -> None:
        """A block may have a known region, or runs often: look whether there is one; have one made if it was seen `enough` times."""
        if address in self.asked:
            self.remind()
            return
        head = self.head(address)
        if not head.mask:
            return
        settled, busy = self.found > self.made, self.busy()
        if head.region:
            enough *= SETTLED if settled else BUSY if busy else 1
            if head.entry == NO_ENTRY and head.samples % enough == 0:
                self.want(self.again(head))
            return
        page = head.key & -PAGE
        self.linear[page] = pc & -PAGE
        if log.hot.on:
            self.tell_dropped()
        if address in self.stood:
            self.dropped.setdefault(page, set()).add(self.stood.pop(address))
        if self.known and self.remembered(state, head, pc):
            self.found += 1
            return
        always = enough * SETTLED
        enough = enough * (BUSY if busy else SPARING if settled else 1) << min(PATIENCE, len(self.dropped.get(page, ())))
        if head.samples % enough or head.samples < self.poor.get(address, 0):
            return
        needed = not settled or head.samples >= always
        if not needed and (busy or self.seconds > INVESTED * time.process_time()):
            return
        if (wanted := self.grow(address, self.near(state, head, pc), pc & -PAGE)) is None and log.hot.on:
            log.hot.once((pc, self.flood), f"hot: no region at {pc:#x} ({head.samples} samples): it has a part on the next page")
        if needed or wanted is not None and self.pays(wanted, head):
            self.want(wanted)

    def pays(self, wanted: Wanted, seed: Head) -> bool:
        """Were the blocks of a region seen often enough, for how long it takes to make it? If not, none is looked at soon again."""
        worth = self.heat(wanted) >= WORTH * sum(len(b.records) // RECORD for b in wanted.blocks)
        if not worth:
            self.poor.update(dict.fromkeys(wanted.heads, 2 * seed.samples))
        return worth

    def want(self, wanted: Wanted | None) -> None:
        """Ask for it, unless its code is being written right now: the bytes may be new then, and the records not yet dropped."""
        if wanted is None:
            return
        if not all(self.agrees(wanted.mode, b) for b in wanted.blocks):
            for address in wanted.heads:
                self.blocks.pop(self.head(address).body, None)
            return
        self.missed += 1
        self.asked.update(wanted.heads)
        self.ask(wanted)

    def agrees(self, mode: int, b: Found) -> bool:
        """Are a block's records those of its bytes?"""
        e, code, records = self.engine, b.code + bytes(LONGEST), b.records
        at, those = (ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value for data in (code, records))
        return bool(e.agrees(e.states[0], at, those, len(records) // RECORD, b.offset % PAGE, mode))

    def near(self, state: State, head: Head, pc: int) -> Near | None:
        """Finds pages by how far they lie from that of a head at `pc`. None where code has a limit: there a region keeps to its page."""
        a = self.engine.architecture
        if a.limited(head.mode):
            return None

        def page(by: int) -> int:
            host = self.engine.translate(state.address, (pc & -PAGE) + by & a.address_mask(head.mode), ACCESS_FETCH | 1 << 8)
            return host & -PAGE if host > 1 else 0

        return page

    def remembered(self, state: State, head: Head, pc: int) -> bool:
        """Install a known region that has this block, if all of it is what the pages hold."""
        meaning, near = self.engine.prefixes[head.mode], self.near(state, head, pc)
        mask = self.engine.architecture.address_mask(head.mode)
        begins = ctypes.string_at(head.key, min(BEGINNING, PAGE - head.offset))
        for made, code, k in [x for size in range(len(begins), -1, -1) for x in self.known.get((meaning, head.offset, begins[:size]), ())]:
            base = made.blocks[k][0] - head.offset
            pages = {base: head.key - head.offset}
            page = (pc & -PAGE) - base & mask
            if not self.holds(made.blocks[k : k + 1], pages) and not crosses(*made.blocks[k][:2]):
                continue
            for offset in {o & -PAGE for o, _, _ in made.blocks} - pages.keys():
                pages[offset] = near(offset - base) if near else 0
            if all(pages.values()) and self.holds(made.blocks, pages):
                heads = self.decoded(state, head.mode, [pc - head.offset - base + o for o, _, _ in made.blocks], pc)
                with self.engine.held():
                    fits = all(heads) and self.holds(made.blocks, pages) and self.fits(made, heads) and self.same(made, heads, page)
                    done = fits and self.install(heads, code, made, page)
                if fits:
                    self.tell("found" if done else "found, and the block cache is full", heads)
                    return True
        return False

    def holds(self, blocks: Sequence[Part], pages: dict[int, int]) -> bool:
        """Is this code there? `pages` says where the host has the region's."""
        for offset, text, gaps in blocks:
            own, rest = text[: PAGE - offset % PAGE], text[PAGE - offset % PAGE :]
            second = pages.get((offset & -PAGE) + PAGE)
            if rest and not second:
                return False
            there = ctypes.string_at(pages[offset & -PAGE] + offset % PAGE, len(own)) + (
                ctypes.string_at(second, len(rest)) if rest and second else b""
            )
            if blank(there, gaps) != text:
                return False
        return True

    def decoded(self, state: State, mode: int, places: list[int], pc: int) -> list[int]:
        """The heads of blocks at linear addresses; 0 for what is none."""
        words, at, mask = state.words, state.index, self.engine.architecture.address_mask(mode)
        heads = []
        for linear in places:
            words[at["pc"]] = linear & mask
            heads.append(self.engine.block(state.address))
        words[at["pc"]] = pc
        return heads

    def fits(self, made: Made, heads: list[int]) -> bool:
        """Are the blocks as long as they were, and would one be entered? At a page's end it depends on what follows where a block ends."""
        for (offset, text, _), address in zip(made.blocks, heads, strict=True):
            h = self.head(address)
            if not h.mask:
                return False
            last = h.body + RECORD * (h.n - 1 + (GUARD if crosses(offset, text) else 0)) - self.arena.address
            (off,) = struct.unpack_from("<H", self.arena.map, last + OFF)
            if off + self.arena.map[last + LEN] != offset % PAGE + len(text):
                return False
        return any(not self.head(heads[k]).region for k in made.entries)

    def same(self, made: Made, heads: list[int], page: int) -> bool:
        """Are constants that differ the only difference? Where a block has none, equal bytes mean equal records."""
        bound, form = made.bound, self.engine.form
        varied = [(self.head(at), offset, gaps) for at, (offset, _, gaps) in zip(heads, made.blocks, strict=True) if bound or gaps]
        found = [
            sight(self.placed_at(h, offset, page if bound else None), h.mode, form, [at for at, _ in gaps]) for h, offset, gaps in varied
        ]
        return not found or meanings(found) == made.decoded

    def make_now(self, wanted: Wanted) -> None:
        """Compile here and now."""
        start = time.monotonic()
        made = wanted.make(self.engine.form, self.engine.architecture)
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
        with self.engine.held():
            heads = [self.head(a) for a in wanted.heads]
            pages = {b.offset & -PAGE: h.key - h.offset for h, b in zip(heads, wanted.blocks, strict=True)}
            fits = self.holds([(b.offset, b.code, ()) for b in wanted.blocks], pages) and all(
                h.mask and h.n * RECORD == len(b.records) for h, b in zip(heads, wanted.blocks, strict=True)
            )
            fits = fits and any(heads[k].region == wanted.replaces for k in made.entries)
            done = fits and self.install(wanted.heads, code, made, wanted.page or 0, wanted.replaces)
        if fits:
            self.tell("made" if done else "made, and the block cache is full", wanted.heads, cost)
        else:
            self.late += 1
            self.tell("made too late, its code has changed", wanted.heads, cost)

    def remember(self, made: Made, code: int) -> None:
        """Know a region by its blocks."""
        self.engine.compile_functions(set(made.functions))
        self.placed[code] = made = made._replace(code=b"")
        for k, (offset, text, gaps) in enumerate(made.blocks):
            begins = text[: min([BEGINNING, PAGE - offset % PAGE, *(at for at, _ in gaps)])]
            known = self.known.setdefault((made.meaning, offset % PAGE, begins), [])
            known.append(Known(made, code, k))
            known.sort(key=lambda x: -len(x.made.entries))  # what was made again, because it has to be entered elsewhere too, comes first
            if not any(at < BEGINNING for at, _ in gaps):
                spot = known_spot(offset % PAGE, len(text), int.from_bytes(text[:BEGINNING], "little"))
                self.spots.map[spot >> 3] |= 1 << (spot & 7)

    def install(self, heads: list[int] | tuple[int, ...], code: int, made: Made, page: int, replaces: int = 0) -> bool:
        """Put code into the heads of the entries; where code has a limit, their own handler finds it (codegen/runtime/limit.py).

        A block that another region has, but for the one that this `replaces`, stays that one's; `follow` sees to it that this falls too
        when the block does. False where there is no room to say which heads. For who holds the blocks; other processors run, so that what
        they read of a head is written word by word, and last.
        """
        limited = self.engine.architecture.limited(self.head(heads[0]).mode)
        end = max(offset + len(text) for offset, text, _ in made.blocks)
        before = [self.head(a) for a in heads]
        own = [k for k, h in enumerate(before) if h.region in (0, replaces)]
        size = REGION_HEADS + REGION_BLOCK * len(heads)
        if not (table := self.engine.allot(size + HEAD_SIZE * (len(heads) - len(own)))):
            return False
        self.standing[code] = table, tuple(heads)
        words, start = self.arena.words, self.arena.address
        place = (table - start) // 8
        words[place : place + REGION_HEADS // 8] = array("Q", (len(heads), code, end, page))
        doors = {k: code + door for k, door in zip(made.entries, made.doors, strict=True)}
        for k, h in enumerate(before):
            at = place + (REGION_HEADS + REGION_BLOCK * k) // 8
            words[at : at + 3] = array("Q", (h.address, h.body, doors.get(k, 0)))
        for i, k in enumerate(set(range(len(heads))).difference(own)):
            self.follow(table, table + size + HEAD_SIZE * i, before[k])
        if any(before[k].word for k in own):
            usual = self.engine.special[SPECIAL.index("limited" if limited else "head")]
            for h in (before[k] for k in own):
                if h.stands:
                    self.divert(h)
                    words[(h.address - start) // 8] = usual
            self.engine.settle(self.engine.states[0])  # a processor may have read the old handler of a head, and not yet its old region
        for k in own:
            h = before[k]
            at = h.address - start
            words[(at + HEAD["region"]) // 8] = table | (k if k in doors else NO_ENTRY) << ENTRY_SHIFT
            self.arena.map[at + HEAD["stands"]] = 1
            self.stood[h.address] = table
            if k in doors and not limited:
                self.divert(h)
                words[at // 8] = doors[k]
        self.installed += 1
        return True

    def divert(self, head: Head) -> None:
        """Copies that jump to this block's shall do what its head says."""
        self.engine.divert(self.engine.states[0], head.address)

    def follow(self, table: int, at: int, block: Head) -> None:
        """Let a region fall with a block that is another region's: a head that nothing finds or runs, without instructions, stands beside
        the block's in the list of its page."""
        e = self.engine
        first = ((block.key & -PAGE) - e.cache[CACHE["ram"] // 8] >> 12) * PAGE_ENTRY // 8 + 1
        beside = block._replace(samples=0, n=0, word=table | NO_ENTRY << ENTRY_SHIFT, next=0, sibling=e.pages.words[first], stands=1)
        HEAD_WORDS.pack_into(self.arena.map, at - self.arena.address, *beside[1:])
        e.pages.words[first] = at

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
        for code, (table, heads) in list(self.standing.items()):
            if not any(self.head(a).region == table for a in heads):
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
        self.placed.clear()
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
        self.poor.clear()
