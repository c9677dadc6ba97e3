"""Blocks: finding, decoding and dropping them. They are keyed by host address (so by guest-physical address) and mode.

A page of RAM that holds decoded code has no write tag in any TLB; a store there goes through the careful handler, which drops the blocks
whose 128-byte lines it touches. A dropped block's head decodes again when it is entered next; nothing that points to it has to be undone.

Other processors run meanwhile (codegen/runtime/sharing.py). Who decodes first marks the lines that may turn out to be code and takes the
write tags, then waits until no store is on its way that saw one, then reads the bytes. Who stores first stores, then looks at the marks.
With a fence in between on both sides, either the new bytes are decoded or the block is dropped.
"""

from __future__ import annotations

from exuvia.codegen.layout import (
    ACCESS_FETCH,
    ADDEND,
    BUCKETS,
    CACHE,
    EXECUTE,
    HEAD,
    HEAD_SIZE,
    INDEXED_SHIFT,
    LINK_EXIT,
    LINK_STUB,
    MODE,
    MODE_ENTRY,
    REASON,
    REGION_BLOCK,
    REGION_DOOR,
    REGION_HEADS,
    REGION_MASK,
    SPECIAL,
    TLB_AREA,
    TLB_ENTRIES,
    TLB_ENTRY,
    TLBS,
    WRITE,
    known_spot,
)  # fmt: skip
from exuvia.codegen.native import Native, V
from exuvia.codegen.runtime.memory import PAGE, address_mask, executed, fence_if_shared, function, handler, words
from exuvia.codegen.runtime.sharing import atomic, publish
from exuvia.dsl.record import FIELDS, LINK, RECORD
from exuvia.dsl.state import JUMP_TAG, JUMPS, JUMPS_AT, SCRATCH_AT, STEP_AT, WATCHES, Layout

LONGEST_BLOCK = 64  # instructions
LONGEST_INSTRUCTION = 15  # bytes
WANTED = 1024
OFF, SLOT, LEN, INDEX = (FIELDS[name][0] for name in ("off", "slot", "len", "index"))
ENDS, TARGET, CONDITIONAL = 1 << 8, 1 << 9, 1 << 10  # what the architecture's decoder says of an instruction, above its length
MORE, MOST_MORE = 12, 7  # the bit position of how many records it has besides the first, and what that can be


def source(layout: Layout, no_index: int) -> str:
    """LLVM text of this part."""
    at = words(layout)
    return "".join((cover(at), invalidate(at), find(at), decode(at, no_index), guard(at)))


def special(b: Native, at: dict[str, int], name: str) -> V:
    """A special handler's address."""
    return b.load(b.load(b.get(at["cache"]) + CACHE["special"]) + 8 * SPECIAL.index(name))


def usual_head(b: Native, at: dict[str, int]) -> V:
    """What stands in the heads of the running mode's blocks: `head`, or `limited`."""
    return b.load(b.get(at["modes"]) + b.get(at["mode"]) * MODE_ENTRY + MODE["head"])


def first_head(b: Native, at: dict[str, int]) -> V:
    """What stands there at first: `counting` instead of `head` where blocks are copied."""
    usual = usual_head(b, at)
    counts = (b.load(b.get(at["cache"]) + CACHE["copies_end"]) != 0) & (usual == special(b, at, "head"))
    return b.choose(counts, special(b, at, "counting"), usual)


def jump_entry(b: Native, pc: V) -> V:
    """Where the jump cache has this linear address, if it has it."""
    return b.arg("st", True) + JUMPS_AT + (((pc ^ (pc >> 12)) & (JUMPS - 1)) << 4)


def cover(at: dict[str, int]) -> str:
    """(host, mask): code may stand on these lines; the first on a page takes the write tags of every mapping of it. The marks before."""
    b = function("cover", "host", "mask")
    page = b.call("page_of", b.arg("host"))
    old = b.load(page, 32)
    b.store(page, old | b.arg("mask"), 32)
    with b.if_(old != 0):
        fence_if_shared(b, at)
        b.ret(old)
    tlb = b.var(b.load(b.get(at["cache"]) + CACHE["tlb"]))
    left = b.var(b.load(b.get(at["cache"]) + CACHE["processors"]))
    host = b.arg("host") & PAGE
    with b.loop():
        b.break_if(left.v == 0)
        i = b.var(0)
        i.v = 0
        with b.loop():
            b.break_if(i.v >= TLBS * TLB_ENTRIES)
            entry = tlb.v + (i.v << 5)
            with b.if_((b.load(entry + WRITE) + b.load(entry + ADDEND)) == host):
                b.store(entry + WRITE, -1)
            i.v = i.v + 1
        tlb.v = tlb.v + TLB_AREA
        left.v = left.v - 1
    b.call("settle", b.arg("st", True))
    b.ret(0)
    return b.text()


def invalidate(at: dict[str, int]) -> str:
    """(host, length) inside one page, whose bytes have been written: blocks on these lines decode again when they run next."""
    text = ""
    for name, take in (("invalidate", "take"), ("written", "hold")):  # the second is for stores that Python or a device did
        linkage = "internal" if name == "invalidate" else "dso_local"
        b = Native(f"define {linkage} i64 @{name}(ptr %st, i64 %host, i64 %length) nounwind noinline")
        fence_if_shared(b, at)
        first = b.arg("host") & 0xFFF
        mask = lines(b, first, first + b.arg("length") - 1)
        with b.if_((b.load(b.call("page_of", b.arg("host")), 32) & mask) == 0):
            b.ret(0)
        b.call(take)
        b.call("drop_lines", b.arg("host"), mask)
        b.call("give")
        b.ret(1)
        text += b.text()
    b = function("drop_lines", "host", "mask")
    host, mask = b.arg("host"), b.arg("mask")
    page = b.call("page_of", host)
    slot, left, head = b.var(page + 8), b.var(0), b.var(0)
    with b.loop():
        head.v = b.load(slot.v)
        b.break_if(head.v == 0)
        m = b.load(head.v + HEAD["mask"], 32)
        hit = (m & mask) != 0
        with b.if_(hit):
            with b.if_(b.load(head.v + HEAD["stands"], 8) != 0):
                b.call("drop_region", b.load(head.v + HEAD["region"]) & REGION_MASK)
            b.store(head.v + HEAD["mask"], 0, 32)
            b.call("divert", head.v)
            publish(b, head.v, special(b, at, "redecode"))
            b.store(slot.v, b.load(head.v + HEAD["sibling"]))
        with b.if_(~hit):
            left.v = left.v | m
            slot.v = head.v + HEAD["sibling"]
    b.store(page, left.v, 32)
    b.put(at["invalidated"], b.get(at["invalidated"]) + 1)
    b.ret(0)
    text += b.text()
    b = function("drop_region", "region")  # its entries are interpreted again
    region = b.arg("region")
    count, k = b.load(region), b.var(0)
    with b.loop():
        b.break_if(k.v == count)
        block = region + REGION_HEADS + (k.v * REGION_BLOCK)
        member = b.load(block)
        with b.if_((b.load(member + HEAD["region"]) & REGION_MASK) == region):
            b.store(member + HEAD["stands"], 0, 8)
            with b.if_(b.load(member) == b.load(block + REGION_DOOR)):
                publish(b, member, special(b, at, "head"))
        k.v = k.v + 1
    count = b.get(at["cache"]) + CACHE["dropped"]
    b.store(count, b.load(count) + 1)
    b.ret(0)
    return text + b.text()


def fetch(b: Native, at: dict[str, int], linear: V) -> V:
    """Host address of code; 0 fault, 1 device."""
    tlb = b.get(at["tlb"])
    entry = tlb + (((linear >> 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY)
    host = b.var(0)
    hit = b.load(entry + EXECUTE) == (linear & PAGE)
    with b.if_(hit):
        host.v = linear + b.load(entry + ADDEND)
    with b.if_(~hit):
        host.v = b.call("translate", tlb, linear, ACCESS_FETCH | 1 << 8)
    found: V = host.v
    return found


def bucket_of(b: Native, at: dict[str, int], host: V, mode: V) -> V:
    """Where the list of heads begins that has a block of this address and mode."""
    return b.load(b.get(at["cache"]) + CACHE["hash"]) + ((((host ^ (host >> 14)) * 0x9E3779B1 + mode) & (BUCKETS - 1)) << 3)


def find(at: dict[str, int]) -> str:
    """The head for `pc`, made if need be, and put into the jump cache; 0 with `reason`, or with reason -1 for a fault (in `address`)."""
    b = function("find")
    pc = b.get(at["pc"])
    mode = b.get(at["mode"])
    with b.if_(b.load(b.get(at["modes"]) + mode * MODE_ENTRY) == 0):
        b.put(at["reason"], REASON["mode"])
        b.ret(0)
    with b.if_(b.get(at["watching"]) != 0, False):
        with b.if_(b.call("watched", pc & PAGE, WATCHES) != 0):
            b.put(at["reason"], REASON["step"])
            b.ret(0)
    host = fetch(b, at, pc)
    with b.if_(host <= 1):
        b.put(at["address"], pc)
        b.put(at["reason"], b.choose(host == 0, -1, REASON["fetch"]))
        b.ret(0)
    word, bit = executed(b, at, pc)
    b.store(word, b.load(word) | bit)
    entry = jump_entry(b, pc)
    before = b.load(entry + 8)  # what stood at this address before translations were dropped: mostly it still does
    with b.if_(((b.load(entry) >> JUMP_TAG) == ((pc << JUMP_TAG) >> JUMP_TAG)) & (before != -1)):
        with b.if_((b.load(before + HEAD["key"]) == host) & (b.load(before + HEAD["mode"], 8) == mode)):
            b.store(entry, (pc << JUMP_TAG) | b.get(at["generation"]) | mode)
            b.ret(before)
    bucket = bucket_of(b, at, host, mode)
    head = b.var(b.call("look", bucket, host, mode))
    with b.if_(head.v == 0):
        b.call("take")
        head.v = b.call("look", bucket, host, mode)
        with b.if_(head.v == 0):
            head.v = b.call("new_head", pc, host, mode, b.load(bucket))
            with b.if_(head.v != 0):
                publish(b, bucket, head.v)
        b.call("give")
        with b.if_(head.v == 0):
            b.ret(0)
    b.store(entry + 8, head.v)
    b.store(entry, (pc << JUMP_TAG) | b.get(at["generation"]) | mode)
    b.ret(head.v)
    text = b.text()
    b = function("look", "bucket", "host", "mode")
    head = b.var(atomic(b, b.arg("bucket")))
    with b.loop():
        b.break_if(head.v == 0)
        b.break_if((b.load(head.v + HEAD["key"]) == b.arg("host")) & (b.load(head.v + HEAD["mode"], 8) == b.arg("mode")))
        head.v = b.load(head.v + HEAD["next"])
    b.ret(head.v)
    text += b.text()
    b = function("new_head", "pc", "host", "mode", "next")
    cache = b.get(at["cache"])
    new = (b.load(cache + CACHE["arena"]) + 63) & ~63
    with b.if_(new + 8192 >= b.load(cache + CACHE["arena_end"])):
        b.put(at["reason"], REASON["full"])
        b.ret(0)
    b.store(cache + CACHE["arena"], new + HEAD_SIZE)
    b.ret(b.call("empty_head", new, b.arg("pc"), b.arg("host"), b.arg("mode"), b.arg("next")))
    text += b.text()
    b = function("empty_head", "new", "pc", "host", "mode", "next")
    new = b.arg("new")
    b.store(new, special(b, at, "redecode"))
    for name, value in dict(body=0, samples=0, region=0, sibling=0, key=b.arg("host"), next=b.arg("next")).items():
        b.store(new + HEAD[name], value)
    b.store(new + HEAD["n"], 0, 16)
    b.store(new + HEAD["off"], b.arg("pc") & 0xFFF, 16)
    b.store(new + HEAD["mask"], 0, 32)
    b.store(new + HEAD["mode"], b.arg("mode"), 8)
    b.store(new + HEAD["stands"], 0, 8)
    b.ret(new)
    return text + b.text() + head_at(at) + block(at) + agrees(at) + step(at)


def head_at(at: dict[str, int]) -> str:
    """(host, mode, out): the head of the block there, for Python, and what it says, as it is while nobody changes it; 0 for none."""
    b = Native("define dso_local i64 @head_at(ptr %st, i64 %host, i64 %mode, i64 %out) nounwind")
    b.call("hold")
    head = b.call("look", bucket_of(b, at, b.arg("host"), b.arg("mode")), b.arg("host"), b.arg("mode"))
    with b.if_(head != 0):
        for word in range(0, HEAD_SIZE, 8):
            b.store(b.arg("out") + word, b.load(head + word))
    b.call("give")
    b.ret(head)
    return b.text()


def block(at: dict[str, int]) -> str:
    """The head of the block at `pc`, decoded, for those who look at code; 0 where there is none."""
    b = Native("define dso_local i64 @block(ptr %st) nounwind")
    head = b.call("find")
    with b.if_(head == 0):
        b.ret(0)
    b.put(at["page"], b.get(at["pc"]) & PAGE)
    with b.if_(b.call("decode", head) != 0):
        b.ret(0)
    b.ret(head)
    return b.text()


def agrees(at: dict[str, int]) -> str:
    """(code, records, count, off, mode): are these the records of these bytes? 1 or 0."""
    b = Native("define dso_local i64 @agrees(ptr %st, i64 %code, i64 %records, i64 %count, i64 %off, i64 %mode) nounwind")
    table = b.load(b.get(at["modes"]) + b.arg("mode") * MODE_ENTRY + MODE["decode"])
    out, place, k = b.arg("st", True) + SCRATCH_AT, b.var(0), b.var(0)
    with b.loop():
        b.break_if(k.v == b.arg("count"))
        code, off = b.arg("code") + place.v, b.arg("off") + place.v
        what = V(b, b.let(f"call i64 @decode_one(ptr %st, i64 {code.name}, i64 {out.name}, i64 {table.name}, i64 {off.name})"))
        end = k.v + 1 + more(what)
        part = b.var(out)
        part.v = out
        with b.loop():
            b.break_if(k.v == end)
            record = b.arg("records") + (k.v * RECORD)
            for word in range(8, RECORD, 8):
                with b.if_(b.load(part.v + word) != b.load(record + word)):
                    b.ret(0)
            part.v = part.v + RECORD
            k.v = k.v + 1
        place.v = place.v + (what & 0xFF)
    b.ret(1)
    return b.text()


def more(what: V) -> V:
    """How many records an instruction has besides the first."""
    return (what >> MORE) & MOST_MORE


def step(at: dict[str, int]) -> str:
    """Make `resume` a careful block of one instruction at `pc`, which comes back to Python behind it. 0, 1 with `reason`, 2 for a fault,
    3 where the code segment ends before it does.

    The block stands in the processor's state, until the next one does.
    """
    b = Native("define dso_local i64 @step(ptr %st) nounwind")
    pc, mode = b.get(at["pc"]), b.get(at["mode"])
    with b.if_(b.load(b.get(at["modes"]) + mode * MODE_ENTRY) == 0):
        b.put(at["reason"], REASON["mode"])
        b.ret(1)
    host = fetch(b, at, pc)
    with b.if_(host <= 1):
        b.put(at["address"], pc)
        b.put(at["reason"], REASON["fetch"])
        b.ret(b.choose(host == 0, 2, 1))
    head = b.call("empty_head", b.arg("st", True) + STEP_AT, pc, host, mode, 0)
    b.put(at["page"], pc & PAGE)
    b.put(at["stepping"], 1)
    done = b.call("decode_block", head)
    b.put(at["stepping"], 0)
    with b.if_(done == 0):
        with b.if_(usual_head(b, at) != special(b, at, "head")):
            with b.if_(b.call("outside", pc & 0xFFF, b.call("block_end", head)) != 0):
                b.ret(3)
        b.store(head + HEAD["n"], 0, 16)  # also where it faults it is over: `exact` takes nothing back
        b.put(at["current"], head)
        b.put(at["resume"], b.load(head + HEAD["body"]))
        b.put(at["icount"], b.get(at["icount"]) + 1)
        b.put(at["budget_end"], b.get(at["icount"]))
    b.ret(done)
    return b.text()


def decode(at: dict[str, int], no_index: int) -> str:
    """(head): make its body. 0 done, 1 `reason` says what is missing, 2 a fault while fetching the second page."""
    b = function("decode", "head")
    head = b.arg("head")
    b.call("take")
    with b.if_(b.load(head + HEAD["mask"], 32) != 0):  # another processor was here
        b.call("give")
        b.ret(0)
    key = b.load(head + HEAD["key"])
    start = key & 0xFFF
    longest = start + (LONGEST_BLOCK * LONGEST_INSTRUCTION - 1)
    before = b.call("cover", key, lines(b, start, b.choose(longest > 4095, 4095, longest)))
    done = b.call("decode_block", head)
    page = b.call("page_of", key)
    b.store(page, before | b.load(head + HEAD["mask"], 32), 32)
    with b.if_(done == 0):
        b.store(head + HEAD["sibling"], b.load(page + 8))
        b.store(page + 8, head)
    b.call("give")
    b.ret(done)
    return b.text() + decode_block(at, no_index)


def lines(b: Native, first: V, last: V) -> V:
    """The 128-byte lines of the bytes from `first` to `last` of a page, as bits."""
    low = first >> 7
    return (((b.const(2) << (last >> 7)) - 1) >> low) << low


def decode_block(at: dict[str, int], no_index: int) -> str:
    """(head): the same for who owns the lock, or steps; a block that is stepped through lies behind its head."""
    b = function("decode_block", "head")
    head = b.arg("head")
    cache = b.get(at["cache"])
    stepping = b.get(at["stepping"]) != 0
    first = b.choose(stepping, head + HEAD_SIZE, b.load(cache + CACHE["arena"]))
    with b.if_(~stepping & (first + (LONGEST_BLOCK + 8) * RECORD >= b.load(cache + CACHE["arena_end"]))):
        b.put(at["reason"], REASON["full"])
        b.ret(1)
    mode = b.load(b.get(at["modes"]) + b.get(at["mode"]) * MODE_ENTRY + MODE["decode"])
    table = b.load(b.get(at["modes"]) + b.get(at["mode"]) * MODE_ENTRY + b.choose(stepping, MODE["careful"], MODE["table"]))
    indexed = b.load(b.get(at["modes"]) + b.get(at["mode"]) * MODE_ENTRY + MODE["indexed"])
    lazy = special(b, at, "lazy")
    key = b.load(head + HEAD["key"])
    page = key & PAGE
    start = b.load(head + HEAD["off"], 16)
    out, off, n = b.var(first), b.var(start), b.var(0)
    stop, what = b.var(0), b.var(0)
    with b.loop():
        what.v = V(
            b, b.let(f"call i64 @decode_one(ptr %st, i64 {(page + off.v).name}, i64 {out.v.name}, i64 {mode.name}, i64 {off.v.name})")
        )
        length = what.v & 0xFF
        with b.if_(off.v + length > 4096):
            with b.if_(n.v != 0):  # leave it to a block of its own
                what.v = 0
                stop.v = 2
            with b.if_(n.v == 0):
                st = b.arg("st", True)
                linear = ((b.get(at["pc"]) & PAGE) + 4096) & address_mask(b, at)
                second = fetch(b, at, linear)
                with b.if_(second <= 1):
                    b.put(at["address"], linear)
                    b.put(at["reason"], b.choose(second == 0, -1, REASON["fetch"]))
                    b.ret(b.choose(second == 0, 2, 1))
                scratch = st + SCRATCH_AT  # bytes of both pages, side by side
                have = b.const(4096) - off.v
                b.call("copy_bytes", scratch, page + off.v, have)
                b.call("copy_bytes", scratch + have, second, 16)
                code = b.const(0) + scratch
                body = out.v + 2 * RECORD
                what.v = V(b, b.let(f"call i64 @decode_one(ptr %st, i64 {code.name}, i64 {body.name}, i64 {mode.name}, i64 {off.v.name})"))
                over = off.v + (what.v & 0xFF) - 4096
                # the guard: expected bytes of the second page, and which of them count
                for half in (0, 8):
                    take = b.choose(over > half, over - half, 0)
                    bits = b.choose(take >= 8, 64, take << 3)
                    mask = b.choose(bits == 64, -1, (b.const(1) << (bits & 63)) - 1)
                    b.store(out.v + RECORD + half, b.load(scratch + have + half) & mask)
                    b.store(out.v + RECORD + 16 + half, mask)
                b.store(out.v, special(b, at, "guard"))
                b.store(out.v + OFF, off.v, 16)
                b.store(out.v + LEN, 0, 8)
                out.v = body
                stop.v = 1
        b.break_if(stop.v == 2)
        records = b.var(0)
        records.v = more(what.v) + 1
        with b.loop():
            slot = b.load(out.v + SLOT, 16)
            has_index = b.load(out.v + INDEX, 8) != no_index
            h = b.load(b.choose(has_index & ~stepping, indexed, table) + (slot << 3))
            b.store(out.v, h)
            with b.if_(h == lazy):
                count = b.get(at["wanted_count"])
                with b.if_(count < WANTED):
                    b.store(b.get(at["wanted"]) + (count << 2), slot | (has_index.to(64) << INDEXED_SHIFT), 32)
                    b.put(at["wanted_count"], count + 1)
            n.v = n.v + 1
            out.v = out.v + RECORD
            records.v = records.v - 1
            b.break_if(records.v == 0)
        off.v = off.v + (what.v & 0xFF)
        b.break_if((what.v & (ENDS | TARGET)) != 0)
        b.break_if(stop.v != 0)
        b.break_if(n.v >= LONGEST_BLOCK)
        b.break_if(stepping)
        b.break_if(off.v >= 4096)
    link = special(b, at, "link")
    far = special(b, at, "far")

    def put_link(delta: V) -> None:
        """Signed bytes from the page's start; only a target on the page is linked, others go through the jump cache."""
        stub = out.v + LINK_STUB
        b.store(out.v, stub)
        b.store(stub, b.choose(delta < 4096, link, far))
        b.store(stub + 8, delta)
        b.store(out.v + LINK_EXIT, 0)
        out.v = out.v + LINK

    with b.if_((what.v & TARGET) != 0):
        put_link(off.v + b.load(out.v - RECORD + FIELDS["imm"][0]))
    follows = ((what.v & ENDS) == 0) | ((what.v & CONDITIONAL) != 0)
    with b.if_(follows):
        with b.if_((what.v & ENDS) == 0):
            b.store(out.v, special(b, at, "fall"))
            out.v = out.v + RECORD
        put_link(off.v)
    with b.if_(~stepping):
        b.store(cache + CACHE["arena"], out.v)
    b.store(head + HEAD["n"], n.v, 16)
    b.store(head + HEAD["copied"], 0, 8)
    b.store(head + HEAD["turns"], 0, 8)
    publish(b, head + HEAD["body"], first)
    b.store(head + HEAD["mask"], lines(b, start, b.choose(off.v > 4096, 4095, off.v - 1)), 32)
    b.put(at["decoded"], b.get(at["decoded"]) + n.v)
    unseen = (b.get(at["first_look"]) != 0) & (b.load(head + HEAD["samples"], 32) == 0)
    runs = b.var(first_head(b, at))
    with b.if_(unseen & ~stepping & (stop.v != 1)):
        size = off.v - start
        bits = b.choose(size > 2, 0xFFFFFF, b.choose(size > 1, 0xFFFF, 0xFF))
        spot = known_spot(start, size, b.load(key, 32) & bits)
        with b.if_(((b.load(b.load(cache + CACHE["known"]) + (spot >> 3), 8) >> (spot & 7)) & 1) != 0):
            runs.v = special(b, at, "known")
    publish(b, head, runs.v)
    b.ret(0)
    return b.text()


def guard(at: dict[str, int]) -> str:
    """Before an instruction over two pages: are the second page's bytes still those that were decoded?"""
    b = handler("h_guard")
    op = b.arg("op", True)
    here = b.get(at["page"]) + b.load(op + OFF, 16)
    linear = (b.get(at["page"]) + 4096) & address_mask(b, at)
    host = fetch(b, at, linear)
    with b.if_(host <= 1):
        b.put(at["address"], linear)
        with b.if_(host == 0):
            b.tail("@access_fault")
        b.put(at["pc"], here)
        b.put(at["resume"], 0)
        b.put(at["icount"], b.arg("ic"))
        b.ret(REASON["fetch"])
    same = ((b.load(host) & b.load(op + RECORD + 16)) == b.load(op + RECORD)) & (
        (b.load(host + 8) & b.load(op + RECORD + 24)) == b.load(op + RECORD + 8)
    )
    with b.if_(~same, False):
        head = b.get(at["current"])
        b.put(at["pc"], here)
        b.call("invalidate", b.load(head + HEAD["key"]), 1)
        b.tail("@fresh", None, b.arg("ic") - 1)
    b.go(op + 2 * RECORD)
    return b.text()
