"""Guest memory: the TLB, what happens on a miss, and accesses in pieces (over a page's end, to devices, to code).

The fast look is at one entry only. Two pages that want the same one would miss in turn, each time with a walk; so who has to make room goes
to a second entry, from where a miss brings it back.
"""

from __future__ import annotations

from typing import Any

from exuvia.codegen.layout import (
    ACCESS_ALSO_READ,
    ACCESS_FETCH,
    ACCESS_SYSTEM,
    ACCESS_WRITE,
    ADDEND,
    BOUNCE,
    CACHE,
    CODE_BITS,
    CODE_COUNT,
    EMPTY,
    EXECUTE,
    JOURNAL,
    LARGE,
    LARGE_BITS,
    LARGE_COUNT,
    LIST_ENTRIES,
    LOCAL_LIST,
    MODE,
    MODE_ENTRY,
    PENDING_FAULT,
    PENDING_MMIO,
    READ,
    REASON,
    SLOT_ENTRY,
    TLB_ENTRIES,
    TLB_ENTRY,
    TLB_SIZE,
    TLBS,
    WRITE,
)  # fmt: skip
from exuvia.codegen.native import ARGS, Native, V
from exuvia.codegen.runtime import devices, tick
from exuvia.dsl.record import FIELDS, RECORD
from exuvia.dsl.state import (
    ACCESSES,
    ACCESSES_AT,
    BOUNCES,
    BOUNCES_AT,
    JUMP_TAG,
    JUMPS,
    JUMPS_AT,
    MMIO_RESULTS,
    MMIO_RESULTS_AT,
    MODE_BITS,
    WATCHES,
    WATCHES_AT,
    Layout,
)  # fmt: skip

PAGE = ~0xFFF
MISALIGNED = -3  # in `walk_error`, where a walk leaves -1 (no fault), -2 (walk again) or what is wrong
BESIDE = TLB_ENTRIES // 2  # of an entry's number, for the one to which a page goes whose entry another page wants


def function(name: str, *args: str) -> Native:
    return Native(f"define internal i64 @{name}({', '.join(['ptr %st', *(f'i64 %{a}' for a in args)])}) nounwind noinline")


def handler(name: str) -> Native:
    return Native(f"define internal preserve_nonecc i64 @{name}({ARGS}) nounwind noinline")


def words(layout: Layout) -> dict[str, int]:
    """Offsets of the single words of the state."""
    return {name: f.offset for name, f in layout.files.items() if f.count == 1}


def address_mask(b: Native, at: dict[str, int]) -> V:
    """The bits that a linear address has in the running mode: what lies behind the last address is the first."""
    return b.load(b.get(at["modes"]) + b.get(at["mode"]) * MODE_ENTRY + MODE["mask"])


def fence_if_shared(b: Native, at: dict[str, int]) -> None:
    """What was stored before is seen by the other processors, if there are any, before anything is read."""
    with b.if_(b.load(b.get(at["cache"]) + CACHE["processors"]) != 1, False):
        b.do("fence seq_cst")


def source(layout: Layout) -> str:
    """LLVM text of this part."""
    at = words(layout)
    parts = (phys, exchange, translate, watched, miss, refill, exact, flush, flush_page, hit_or_zero)
    return "".join(f(at) for f in parts) + devices.source(at) + access(at, layout) + finish(at, layout) + counter()


def half_of(linear: V) -> V:
    """The half of the address space, 0 or 1: by a bit that is an address's also where the top byte is a tag."""
    return (linear >> 55) & 1


def phys(at: dict[str, int]) -> str:
    """Guest-physical address -> its memory slot, or 0 where no RAM is."""
    b = function("slot_of", "address")
    address = b.arg("address")
    s = b.var(b.get(at["slots"]))
    with b.loop():
        size = b.load(s.v + 8)
        with b.if_(size == 0):
            b.ret(0)
        with b.if_((address - b.load(s.v)) < size):
            b.ret(s.v)
        s.v = s.v + SLOT_ENTRY
    text = b.text()
    b = function("phys", "address")
    slot = b.call("slot_of", b.arg("address"))
    with b.if_(slot == 0):
        b.ret(0)
    b.ret(b.arg("address") - b.load(slot) + b.load(slot + 16))
    text += b.text()
    b = function("page_of", "host")
    cache = b.get(at["cache"])
    b.ret(b.load(cache + CACHE["pages"]) + (((b.arg("host") - b.load(cache + CACHE["ram"])) >> 12) << 4))
    return text + b.text()


def translate(at: dict[str, int]) -> str:
    """(tlb, linear, access) -> host address; 0: a fault (walk_error), 1: a device (walk_page). Fills the TLB for RAM."""
    b = function("translate", "tlb", "linear", "access")
    base, linear, acc = b.get(at["tlb_base"]), b.arg("linear"), b.arg("access")
    tlb = b.choose(b.arg("tlb") == base + EMPTY, base, b.arg("tlb"))
    entry = tlb + (((linear >> 12) & (TLB_ENTRIES - 1)) * TLB_ENTRY)
    vpage = linear & PAGE
    which = b.choose((acc & ACCESS_FETCH) != 0, EXECUTE, b.choose((acc & ACCESS_WRITE) != 0, WRITE, READ))
    with b.if_(b.load(entry + which) == vpage, True):
        b.ret(linear + b.load(entry + ADDEND))
    other = tlb + ((((linear >> 12) & (TLB_ENTRIES - 1)) ^ BESIDE) * TLB_ENTRY)
    with b.if_(b.load(other + which) == vpage):
        b.call("exchange", entry, other)
        with b.if_(b.load(entry + which) == vpage, True):
            b.ret(linear + b.load(entry + ADDEND))
    b.put(at["tlb_misses"], b.get(at["tlb_misses"]) + 1)
    index = (tlb - b.get(at["tlb_base"])) >> (TLB_SIZE.bit_length() - 1)
    with b.loop():
        b.call("walk", linear, acc, index)
        b.break_if(b.get(at["walk_error"]) != -2)
    with b.if_(b.get(at["walk_error"]) != -1):
        b.ret(0)
    ppage = b.get(at["walk_page"]) & PAGE
    b.put(at["walk_page"], ppage | (linear & 0xFFF))
    slot = b.call("slot_of", ppage)
    with b.if_(slot == 0):
        b.ret(1)
    rights = b.get(at["walk_rights"])
    host = ppage - b.load(slot) + b.load(slot + 16)
    writable = b.load(slot + 24)
    with b.if_((acc & ACCESS_WRITE) != 0):
        with b.if_(writable == 0):
            b.ret(1)  # a write to ROM goes where the device would be, and is ignored there
    journal = b.get(at["journal"])
    with b.if_((journal != 0) & ((acc & ACCESS_WRITE) != 0), False):  # who compares runs wants to know what is written
        n = b.get(at["journaled"])
        with b.if_(n < JOURNAL):
            b.store(journal + (n << 3), host)
        b.put(at["journaled"], n + 1)
    with b.if_(b.get(at["watching"]) != 0, False):
        with b.if_(b.call("watched", vpage, 0) != 0):
            b.ret(host + (linear & 0xFFF))
    held = b.load(entry + READ) & b.load(entry + WRITE) & b.load(entry + EXECUTE)
    with b.if_((held != -1) & (held != vpage)):
        b.call("exchange", entry, other)
    b.store(entry + READ, b.choose((rights & 32) != 0, vpage, -1))
    code = b.load(b.call("page_of", host), 32)
    may_write = b.choose(((rights & 1) & writable) != 0, b.choose(code == 0, vpage, -1), -1)
    may_write = b.choose((journal != 0) & ((acc & ACCESS_WRITE) == 0), -1, may_write)
    b.store(entry + WRITE, may_write)
    b.store(entry + EXECUTE, b.choose((rights & 4) != 0, vpage, -1))
    b.store(entry + ADDEND, host - vpage)
    with b.if_(may_write == vpage):  # another processor may be taking the write tags of this page: it has not seen ours
        fence_if_shared(b, at)
        with b.if_(b.load(b.call("page_of", host), 32) != 0, False):
            b.store(entry + WRITE, -1)
    with b.if_((rights & 8) == 0):  # not global: goes with the address space
        n = b.get(at["local_count"])
        with b.if_(n < LIST_ENTRIES):
            lst = b.get(at["tlb_base"]) + LOCAL_LIST
            b.store(lst + (n << 2), (entry - b.get(at["tlb_base"])) >> 5, 32)
        b.put(at["local_count"], n + 1)
    with b.if_((rights & 64) != 0):
        b.put(at["huge_pages"], b.get(at["huge_pages"]) | (b.const(1) << half_of(linear)))
    with b.if_((rights & 16) != 0):  # a piece of a large page: dropping any of it drops all
        word, bit = large(b, at, vpage)
        b.store(word, b.load(word) | bit)
    b.ret(host + (linear & 0xFFF))
    return b.text()


def large(b: Native, at: dict[str, int], page: V) -> tuple[V, V]:
    """Where the bit of a page's part of the address space stands: the word's address, and the bit."""
    return bit_of(b, b.get(at["tlb_base"]) + LARGE_BITS, (page >> LARGE.bit_length() - 1) & (LARGE_COUNT - 1))


def executed(b: Native, at: dict[str, int], page: V) -> tuple[V, V]:
    """Where the bit of a page stands that says whether the jump cache may know blocks there."""
    return bit_of(b, b.get(at["tlb_base"]) + CODE_BITS, ((page >> 12) ^ (page >> 24)) & (CODE_COUNT - 1))


def bit_of(b: Native, bits: V, index: V) -> tuple[V, V]:
    """The word's address, and the bit."""
    return bits + ((index >> 6) << 3), b.const(1) << (index & 63)


def exchange(at: dict[str, int]) -> str:
    """(first, second): an entry that is wanted again, or one that is in the way, and what lies beside it."""
    b = function("exchange", "first", "second")
    entry, other = b.arg("first"), b.arg("second")
    words = [(b.load(entry + k), b.load(other + k)) for k in (READ, WRITE, EXECUTE, ADDEND)]
    for k, (mine, its) in zip((READ, WRITE, EXECUTE, ADDEND), words, strict=True):
        b.store(entry + k, its)
        b.store(other + k, mine)
    with b.if_(b.load(b.get(at["cache"]) + CACHE["processors"]) != 1, False):
        b.do("fence seq_cst")  # another processor may be taking the write tags of these pages: it has not seen ours
        for place in (entry, other):
            tag = b.load(place + WRITE)
            with b.if_(tag != -1), b.if_(b.load(b.call("page_of", tag + b.load(place + ADDEND)), 32) != 0, False):
                b.store(place + WRITE, -1)
    b.ret(0)
    return b.text()


def watched(at: dict[str, int]) -> str:
    """(page, first) -> is the linear page one of those watched for data (first = 0) or code (first = WATCHES)?"""
    b = function("watched", "page", "first")
    entry = b.arg("st", True) + WATCHES_AT + (b.arg("first") << 3)
    found = b.const(0)
    for k in range(WATCHES):
        found = b.choose(b.load(entry + 8 * k) == b.arg("page"), 1, found)
    b.ret(found)
    return b.text()


def miss(at: dict[str, int]) -> str:
    """A fast access did not hit: fill the TLB and do the instruction again, or do it with the careful handler, or fault."""
    b = handler("miss")
    acc, linear = b.get(at["access"]), b.get(at["address"])
    tlb = b.choose((acc & ACCESS_SYSTEM) != 0, b.get(at["tlb_system"]), b.arg("tlb", True))
    size = (acc >> 8) & 0xFFFF
    op = b.arg("op", True)
    with b.if_((((linear & 0xFFF) + size) > 4096) | (tlb == b.get(at["tlb_base"]) + EMPTY)):
        b.tail("@careful")
    with b.if_(b.get(at["watching"]) != 0, False):
        with b.if_(b.call("watched", linear & PAGE, 0) != 0):
            b.tail("@careful")
    # two accesses of one instruction can want the same entry: after a few rounds it is done piece by piece
    same = b.choose((b.get(at["miss_op"]) == op) & (b.get(at["miss_icount"]) == b.arg("ic")), b.get(at["miss_count"]) + 1, 0)
    b.put(at["miss_op"], op)
    b.put(at["miss_icount"], b.arg("ic"))
    b.put(at["miss_count"], same)
    with b.if_(same > 4, False):
        b.tail("@careful")
    host = b.call("translate", tlb, linear, acc)
    with b.if_(host == 0):
        b.tail("@access_fault")
    with b.if_(host == 1):
        b.tail("@careful")
    with b.if_((acc & ACCESS_WRITE) != 0):
        with b.if_(b.load(b.call("page_of", host), 32) != 0):
            b.tail("@careful")
    b.go(op)
    text = b.text()
    b = handler("careful")
    op = b.arg("op", True)
    table = b.load(b.get(at["modes"]) + b.get(at["mode"]) * MODE_ENTRY + MODE["careful"])
    in_routine = (op - b.arg("st", True)) < 16384
    with b.if_(in_routine):  # a routine's second handler stands behind the first
        b.tail(b.pointer(b.load(op + 24)))
    b.tail(b.pointer(b.load(table + (b.load(op + 22, 16) << 3))))
    return text + b.text()


def refill(at: dict[str, int]) -> str:
    """(tlb, linear, access) of a region that did not hit: walk to the page, if a hit would do. The host's whole registers stay."""
    b = Native("define dso_local preserve_mostcc i64 @refill(ptr %st, ptr %tlb, i64 %linear, i64 %access) nounwind noinline")
    tlb, linear, acc = b.arg("tlb", True), b.arg("linear"), b.arg("access")
    over = (linear & 0xFFF) + ((acc >> 8) & 0xFFFF) > 4096
    with b.if_(~(over | (tlb == b.get(at["tlb_base"]) + EMPTY) | (b.get(at["watching"]) != 0)), True):
        b.call("translate", tlb, linear, acc)
    b.ret(0)
    return b.text()


def access(at: dict[str, int], layout: Layout) -> str:
    """(tlb, linear, access) for careful handlers -> an address to read or write; 0 with `pending` says why not.

    RAM inside one page is given as it is, so that what is atomic stays so; everything else through a bounce buffer, of which there are
    enough (`room` in dsl/check.py). `finish` writes out those whose `write` the handler set when it stored: `bounce_entry` tells it where.
    """
    b = function("access_in_pieces", "tlb", "linear", "access")
    tlb, linear, acc = b.arg("tlb"), b.arg("linear"), b.arg("access")
    tlb = b.choose((acc & ACCESS_SYSTEM) != 0, b.get(at["tlb_system"]), tlb)
    size = (acc >> 8) & 0xFFFF
    writes = acc & ACCESS_WRITE
    reads = (writes ^ 1) | (acc & ACCESS_ALSO_READ)
    b.put(at["access"], acc)
    with b.if_((tlb == b.get(at["tlb_base"]) + EMPTY) & (size <= 8) & ((linear & (size - 1)) != 0), False):
        b.put(at["address"], linear)
        b.put(at["walk_error"], MISALIGNED)
        b.put(at["pending"], PENDING_FAULT)
        b.ret(0)
    with b.if_(b.get(at["watching"]) != 0, False):
        with b.if_((b.call("watched", linear & PAGE, 0) | b.call("watched", (linear + size - 1) & PAGE, 0)) != 0):
            n = b.get(at["access_count"])
            entry = b.arg("st", True) + ACCESSES_AT + ((n & (ACCESSES - 1)) << 4)
            b.store(entry, linear)
            b.store(entry + 8, acc)
            b.put(at["access_count"], n + 1)
    room = b.const(4096) - (linear & 0xFFF)
    n1 = b.choose(size <= room, size, room)
    n2 = size - n1
    kinds, where = [], []
    rest = (acc & ~(0xFFFF << 8)) | (n2 << 8)  # of the second page a walk sees what is on it
    for start, n, wanted in ((linear, n1, acc), ((linear + n1) & address_mask(b, at), n2, rest)):
        kind, place = b.var(0), b.var(0)
        with b.if_(n != 0):
            host = b.call("translate", tlb, start, wanted)
            with b.if_(host == 0):
                b.put(at["address"], start)
                b.put(at["pending"], PENDING_FAULT)
                b.ret(0)
            place.v = host
            with b.if_(host == 1):
                kind.v = 1
                place.v = b.get(at["walk_page"])
            with b.if_(host != 1):
                with b.if_(writes != 0):
                    with b.if_(b.load(b.call("page_of", host), 32) != 0):
                        kind.v = 2
        kinds.append(kind)
        where.append(place)
    st = b.arg("st", True)
    with b.if_(n2 == 0):
        with b.if_(kinds[0].v == 0):
            b.put(at["bounce_entry"], st + at["bounce_none"])
            b.ret(where[0].v)
    k, used = b.get(at["bounce_count"]), b.get(at["bounce_used"])
    entry = st + BOUNCES_AT + (k << 6)
    in_place = (n2 == 0) & (kinds[0].v == 2)
    data = b.choose(in_place, where[0].v, st + (BOUNCES_AT + 64 * BOUNCES) + used)
    b.put(at["bounce_count"], k + 1)
    b.put(at["bounce_entry"], entry)
    b.put(at["bounce_used"], used + b.choose(in_place, 0, (size + 15) & ~15))
    values: dict[str, Any] = dict(write=0, bytes=data, a1=where[0].v, n1=n1, k1=kinds[0].v, a2=where[1].v, n2=n2, k2=kinds[1].v)
    for key, v in values.items():
        b.store(entry + BOUNCE[key], v)
    with b.if_(in_place):
        b.ret(data)
    for first, n, kind, place in ((b.const(0), n1, kinds[0], where[0]), (n1, n2, kinds[1], where[1])):
        with b.if_(kind.v != 1):  # also for a store: the text may decide against it after the check
            b.call("copy_bytes", data + first, place.v, n)
        with b.if_((kind.v == 1) & (reads != 0)):
            done = b.var(0)
            done.v = 0
            with b.loop():
                b.break_if(done.v >= n)
                left = n - done.v
                step = b.choose(left >= 8, 8, b.choose(left >= 4, 4, b.choose(left >= 2, 2, 1)))
                following = b.get(at["mmio_next"])
                if tick.takes_part(layout):  # answered as Python's answers are: what was read already is not read again
                    own = (place.v == b.get(at["tick_ack"])) & (n == 4) & (following == b.get(at["mmio_done"]))
                    with b.if_(own, False), b.if_(tick.lent(b, at)):
                        b.store(st + MMIO_RESULTS_AT + ((following & (MMIO_RESULTS - 1)) << 3), tick.acknowledge(b, at))
                        b.put(at["mmio_done"], following + 1)
                with b.if_(following >= b.get(at["mmio_done"])):
                    found = devices.answer(b, at, "mmio_registers", place.v + done.v, step)
                    with b.if_(found != devices.ASK):
                        b.store(st + MMIO_RESULTS_AT + ((following & (MMIO_RESULTS - 1)) << 3), found)
                        b.put(at["mmio_done"], following + 1)
                with b.if_(following >= b.get(at["mmio_done"])):
                    b.put(at["mmio_address"], place.v + done.v)
                    b.put(at["mmio_size"], step)
                    b.put(at["pending"], PENDING_MMIO)
                    b.ret(0)
                b.put(at["mmio_next"], following + 1)
                answer = st + MMIO_RESULTS_AT + ((following & (MMIO_RESULTS - 1)) << 3)
                b.call("copy_bytes", data + first + done.v, answer, step)
                done.v = done.v + step
    b.ret(data)
    text = b.text()
    b = function("copy_bytes", "to", "source", "n")
    i = b.var(0)
    with b.loop():
        b.break_if(i.v >= b.arg("n"))
        b.store(b.arg("to") + i.v, b.load(b.arg("source") + i.v, 8), 8)
        i.v = i.v + 1
    b.ret(0)
    text += b.text()
    b = Native("define dso_local i64 @access(ptr %st, ptr %tlb, i64 %linear, i64 %access) nounwind noinline")
    b.ret(b.call("access_in_pieces", b.arg("tlb", True), b.arg("linear"), b.arg("access")))
    text += b.text()
    b = handler("careful_leave")  # `access` gave 0
    with b.if_(b.get(at["pending"]) == PENDING_FAULT):
        b.tail("@access_fault")
    b.put(at["resume"], b.arg("op", True))
    b.put(at["icount"], b.arg("ic"))
    b.ret(REASON["mmio_read"])
    return text + b.text()


def exact(at: dict[str, int]) -> str:
    """(op, icount, done): icount without those instructions of the running block that stand at and after the record (+ done)."""
    from exuvia.codegen.layout import HEAD

    b = function("exact", "at", "ic", "done")
    head = b.get(at["current"])
    n = b.load(head + HEAD["n"], 16)
    index = (b.arg("at") - b.load(head + HEAD["body"])) >> 5
    with b.if_(index >= n + 2):
        b.ret(b.arg("ic"))  # a routine's record
    with b.if_(index >= n):
        b.ret(b.arg("ic"))
    b.ret(b.arg("ic") - (n - index - b.arg("done")))
    return b.text()


def leave_slot(b: Native, at: dict[str, int], layout: Layout) -> None:
    """An instruction that stood in a delay slot is done in another way than by its last record: go on where the jump leads."""
    if layout.delayed is not None:
        then = b.get(at[layout.delayed])
        with b.if_(then != 0, False):
            b.put(at["pc"], then & address_mask(b, at))
            b.put(at[layout.delayed], 0)


def finish(at: dict[str, int], layout: Layout) -> str:
    """A careful handler has committed, and `pc` says where to go: write the bounced bytes out, then drop the code that stood there."""
    b = handler("finish")
    st = b.arg("st", True)
    written = b.var(0)
    count = b.get(at["bounce_count"])
    for drops in (False, True):  # who waits for the lock has no store on its way (codegen/runtime/sharing.py)
        i = b.var(0)
        with b.loop():
            b.break_if(i.v >= count)
            entry = st + BOUNCES_AT + (i.v << 6)
            with b.if_(b.load(entry + BOUNCE["write"]) != 0):
                data, n1 = b.load(entry + BOUNCE["bytes"]), b.load(entry + BOUNCE["n1"])
                for first, suffix in ((b.const(0), "1"), (n1, "2")):
                    kind, place, size = (b.load(entry + BOUNCE[x + suffix]) for x in "kan")
                    if drops:
                        with b.if_((kind == 2) & (size != 0)):
                            b.call("invalidate", place, size)
                        continue
                    with b.if_(kind == 1):
                        if tick.takes_part(layout):
                            word = tick.lent(b, at) & (size == 4) & (count == 1)
                            with b.if_(word & (place == b.get(at["tick_end"])), False), b.if_(tick.ends(b, at, b.load(data, 32))):
                                tick.end(b, at)
                                with b.if_(tick.pending(b, at)):
                                    b.put(at["deadline"], 0)
                                b.store(entry + BOUNCE["write"], 0)
                            arms = word & (place == b.get(at["tick_arm"])) & (b.get(at["tick_scale"]) != 0)
                            with b.if_(arms, False):
                                tick.arm(b, at, b.load(data, 32), b.call("virtual_time"))
                                b.store(entry + BOUNCE["write"], 0)
                        alone = (count == 1) & (b.load(entry + BOUNCE["n2"]) == 0)
                        with b.if_((b.load(entry + BOUNCE["write"]) != 0) & alone):
                            with b.if_(devices.post(b, at, "mmio_registers", place, size, b.load(data, 8)) != 0):
                                b.store(entry + BOUNCE["write"], 0)
                        written.v = written.v | b.load(entry + BOUNCE["write"])
                    with b.if_((kind != 1) & (size != 0) & (place != data + first)):
                        b.call("copy_bytes", place, data + first, size)
            i.v = i.v + 1
    b.put(at["mmio_done"], 0)
    if layout.delayed is not None:
        with b.if_(b.load(b.arg("op", True) + FIELDS["len"][0], 8) == 0):  # the rest of the instruction follows
            b.go(b.arg("op", True) + RECORD)
    leave_slot(b, at, layout)
    ic = b.call("exact", b.arg("op", True), b.arg("ic"), 1)
    b.put(at["icount"], ic)
    b.put(at["pc"], b.get(at["pc"]) & address_mask(b, at))  # a branch's target is a sum
    with b.if_(written.v != 0):
        b.put(at["resume"], 0)
        b.ret(REASON["mmio_write"])
    with b.if_(b.get(at["access_count"]) != 0, False):
        b.put(at["resume"], 0)
        b.ret(REASON["watch"])
    b.tail("@fresh", None, ic)
    return b.text()


def flush(at: dict[str, int]) -> str:
    """Forget translations: of the address space (0), or all (1)."""
    b = Native("define dso_local i64 @flush(ptr %st, i64 %all) nounwind noinline")
    tlb = b.get(at["tlb_base"])
    n = b.get(at["local_count"])
    whole = (b.arg("all") != 0) | (n > LIST_ENTRIES)
    with b.if_(whole):
        i = b.var(0)
        with b.loop():
            b.break_if(i.v >= TLBS * TLB_ENTRIES)
            for k in (READ, WRITE, EXECUTE):
                b.store(tlb + (i.v << 5) + k, -1)
            i.v = i.v + 1
        for k in range(LARGE_COUNT // 64):
            b.store(tlb + LARGE_BITS + 8 * k, 0)
        b.put(at["huge_pages"], 0)
    with b.if_(~whole):
        i = b.var(0)
        with b.loop():
            b.break_if(i.v >= n)
            index = b.load(tlb + LOCAL_LIST + (i.v << 2), 32)
            for entry in (tlb + (index << 5), tlb + ((index ^ BESIDE) << 5)):
                for k in (READ, WRITE, EXECUTE):
                    b.store(entry + k, -1)
            i.v = i.v + 1
    b.put(at["local_count"], 0)
    b.ret(b.call("flush_jumps"))
    text = b.text()
    b = function("flush_jumps")
    g = (b.get(at["generation"]) + (1 << MODE_BITS)) & ((1 << JUMP_TAG) - 1)
    b.put(at["generation"], g)
    bits = b.var(b.get(at["tlb_base"]) + CODE_BITS)
    end = bits.v + CODE_COUNT // 8
    with b.loop():
        b.break_if(bits.v == end)
        b.store(bits.v, 0)
        bits.v = bits.v + 8
    fence_if_shared(b, at)  # what changes translations is serializing (SDM vol. 3, 8.3)
    with b.if_(g == 0):  # the generations came round: old entries would look right again
        i = b.var(0)
        with b.loop():
            b.break_if(i.v >= JUMPS)
            b.store(b.arg("st", True) + JUMPS_AT + (i.v << 4), -1)
            i.v = i.v + 1
    b.ret(0)
    return text + b.text()


def flush_page(at: dict[str, int]) -> str:
    """Forget what is known of one linear page. The jump cache stays where it knows nothing there: mostly data are unmapped."""
    b = Native("define dso_local i64 @flush_page(ptr %st, i64 %linear) nounwind noinline")
    vpage = b.arg("linear") & PAGE
    with b.if_(((b.get(at["huge_pages"]) >> half_of(vpage)) & 1) != 0):
        b.let("call i64 @flush(ptr %st, i64 1)")
        b.ret(0)
    # a page that may have been part of a large one goes with all entries around it
    first, count = b.var(vpage), b.var(1)
    word, bit = large(b, at, vpage)
    with b.if_((b.load(word) & bit) != 0):
        first.v = vpage & -LARGE
        count.v = LARGE >> 12
    tlb, ran = b.get(at["tlb_base"]), b.var(0)
    with b.loop():
        b.break_if(count.v == 0)
        page = first.v
        word, bit = executed(b, at, page)
        ran.v = ran.v | (b.load(word) & bit)
        for k in range(TLBS):
            index = (page >> 12) & (TLB_ENTRIES - 1)
            for entry in (tlb + k * TLB_SIZE + (index << 5), tlb + k * TLB_SIZE + ((index ^ BESIDE) << 5)):
                for tag in (READ, WRITE, EXECUTE):
                    with b.if_(b.load(entry + tag) == page):
                        b.store(entry + tag, -1)
        first.v = page + 4096
        count.v = count.v - 1
    with b.if_(ran.v != 0):
        b.ret(b.call("flush_jumps"))
    fence_if_shared(b, at)
    b.ret(0)
    return b.text()


def hit_or_zero(at: dict[str, int]) -> str:
    """(linear, access) as debuggers and Python see memory -> host address, 0 for a fault, 1 for a device."""
    b = Native("define dso_local i64 @translate_for_python(ptr %st, i64 %linear, i64 %access) nounwind noinline")
    acc = b.arg("access")
    tlb = b.choose((acc & ACCESS_SYSTEM) != 0, b.get(at["tlb_system"]), b.get(at["tlb"]))
    b.ret(b.call("translate", tlb, b.arg("linear"), acc))
    return b.text()


def counter() -> str:
    """The host's cycle counter, that time-stamp counters show."""
    b = Native("define dso_local i64 @counter() nounwind")
    b.ret(b.let("call i64 @llvm.readcyclecounter()"))
    return b.text() + "declare i64 @llvm.readcyclecounter()\n"
