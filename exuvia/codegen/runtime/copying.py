"""Blocks written out: the stencils of their instructions (codegen/stencil.py) copied behind one another, with their records filled in.

A block that ran `TURNS` times, or was sampled once, is worth the copy, which takes as long as running it some fifty times. The head's
handler becomes the copy's entry, and the records' handlers the code of their instructions in it; so a block can be entered anywhere, and
whatever leaves it comes back. Where an instruction has no stencil, its copy goes to its handler, and that one comes back by the next
record.

Copies of blocks of one page that follow each other are *chained*: the exit is a jump to the other's entry, put there when it is taken for
the first time and the other is a copy. It stays. What a head stands for begins its copy's work; when the head is to stand for something
else, an indirect jump by the head is written over that (`divert`).
"""

from __future__ import annotations

from exuvia.codegen.layout import CACHE, COPIES_SIZE, HEAD, LINK_DELTA, LINK_EXIT, LINK_STUB, MODE, MODE_ENTRY
from exuvia.codegen.native import Native, V
from exuvia.codegen.runtime.blocks import INDEX, SLOT, special
from exuvia.codegen.runtime.memory import function, handler, words
from exuvia.codegen.runtime.sharing import cache_word, publish
from exuvia.codegen.stencil import DIVERTED, ENTERED, ENTRY_AT, GAP, HEADER, IN_COLD, KIND
from exuvia.dsl.record import RECORD
from exuvia.dsl.state import Layout

COLD_SIZE, GAPS, SIGNED = 4, 8, 12  # in a stencil, behind the size of its hot code
TURNS = 32  # runs of a block after which it is copied, or one sample
APART = 64  # bytes between the hot code of a block and its cold code, as copies are made in words


def source(layout: Layout, no_index: int) -> str:
    """LLVM text of this part."""
    at = words(layout)
    return (
        counting(at)
        + copy(at)
        + copy_block(at)
        + stencil_of(at, no_index)
        + value(at)
        + paste(at)
        + paste_far(at)
        + chain(at)
        + divert(at)
        + copy_words()
    )


def counting(at: dict[str, int]) -> str:
    """The handler of heads until their blocks have run often enough to be copied."""
    b = handler("h_counting")
    op = b.arg("op", True)
    turns = b.load(op + HEAD["turns"], 8) + 1
    b.store(op + HEAD["turns"], turns, 8)
    with b.if_(turns < TURNS, True):
        b.tail("@h_head")
    here, then = special(b, at, "counting"), special(b, at, "head")
    b.let(f"cmpxchg ptr {b.pointer(op)}, i64 {here.name}, i64 {then.name} seq_cst seq_cst, align 8")  # unless it was dropped just now
    b.call("copy", op)
    b.go(op)
    return b.text()


def copy(at: dict[str, int]) -> str:
    """(head): copy its block, unless that was done."""
    b = Native("define dso_local i64 @copy(ptr %st, i64 %head) nounwind noinline")
    head = b.arg("head")
    with b.if_((b.load(cache_word(b, at, "copies_end")) != 0) & (b.load(head + HEAD["copied"], 8) == 0), False):
        b.call("take")
        with b.if_((b.load(head + HEAD["copied"], 8) == 0) & (b.load(head + HEAD["mask"], 32) != 0)):
            b.call("copy_block", head)
        b.call("give")
    b.ret(0)
    return b.text()


def copy_block(at: dict[str, int]) -> str:
    """(head): copy its block, if its instructions' handlers and stencils are there; for who owns the lock."""
    b = function("copy_block", "head")
    head = b.arg("head")
    body, mode = b.load(head + HEAD["body"]), b.load(head + HEAD["mode"], 8)
    with b.if_(b.load(body) == special(b, at, "guard")):
        b.store(head + HEAD["copied"], 1, 8)
        b.ret(0)
    end = body + (b.load(head + HEAD["n"], 16) << RECORD.bit_length() - 1)
    end = b.choose(b.load(end) == special(b, at, "fall"), end + RECORD, end)
    entry, bridge, chosen = (b.load(cache_word(b, at, name)) for name in ("entry", "bridge", "copies_end"))
    hot, cold = b.var(b.load(entry, 32)), b.var(b.load(entry + COLD_SIZE, 32))
    record, own, k = b.var(body), b.var(0), b.var(chosen)
    with b.loop():
        b.break_if(record.v == end)
        stencil = b.call("stencil_of", record.v, mode)
        with b.if_((stencil == 0) | (b.load(record.v) == special(b, at, "lazy"))):
            b.ret(0)
        own.v = own.v + (stencil != bridge).to(64)
        b.store(k.v, stencil)
        hot.v = hot.v + b.load(stencil, 32)
        cold.v = cold.v + b.load(stencil + COLD_SIZE, 32)
        record.v = record.v + RECORD
        k.v = k.v + 8
    b.store(head + HEAD["copied"], 1, 8)
    with b.if_(own.v == 0):
        b.ret(0)
    first = (b.load(cache_word(b, at, "copies")) + 15) & ~15
    behind = first + hot.v + APART
    last = behind + cold.v + APART
    with b.if_(last > chosen):
        b.ret(0)
    b.store(cache_word(b, at, "copies"), last)
    b.call("paste", entry, head, first, behind)
    hot.v, cold.v = first + b.load(entry, 32), behind + b.load(entry + COLD_SIZE, 32)
    record.v, k.v = body, chosen
    with b.loop():
        b.break_if(record.v == end)
        stencil = b.load(k.v)
        b.call("paste", stencil, record.v, hot.v, cold.v)
        hot.v = hot.v + b.load(stencil, 32)
        cold.v = cold.v + b.load(stencil + COLD_SIZE, 32)
        record.v = record.v + RECORD
        k.v = k.v + 8
    run = b.load(cache_word(b, at, "copies_run"))
    hot.v, record.v, k.v = first + run + b.load(entry, 32), body, chosen
    with b.loop():
        b.break_if(record.v == end)
        stencil = b.load(k.v)
        with b.if_((stencil != bridge) & (b.load(record.v) != special(b, at, "fall"))):
            publish(b, record.v, hot.v)
        hot.v = hot.v + b.load(stencil, 32)
        record.v = record.v + RECORD
        k.v = k.v + 8
    runs = b.load(head)
    with b.if_((runs == special(b, at, "head")) | (runs == special(b, at, "counting"))):
        publish(b, head, first + run + ENTRY_AT)
    b.ret(0)
    return b.text()


def stencil_of(at: dict[str, int], no_index: int) -> str:
    """(record, mode): its stencil, 0 where that is not made yet; where one of its fields is too large, the bridge to its handler."""
    b = function("stencil_of", "record", "mode")
    record = b.arg("record")
    with b.if_(b.load(record) == special(b, at, "fall")):
        b.ret(b.load(cache_word(b, at, "fall")))
    entry = b.get(at["modes"]) + b.arg("mode") * MODE_ENTRY
    table = b.choose(b.load(record + INDEX, 8) != no_index, MODE["stencils_indexed"], MODE["stencils"])
    stencil = b.load(b.load(entry + table) + (b.load(record + SLOT, 16) << 3))
    with b.if_(stencil == 0):
        b.ret(0)
    with b.if_(b.load(stencil + SIGNED, 32) != 0):
        gap = b.var(stencil + HEADER.size)
        end = gap.v + b.load(stencil + GAPS, 32) * GAP.size
        with b.loop():
            b.break_if(gap.v == end)
            with b.if_(b.load(gap.v + 2, 8) == KIND["signed"]):
                with b.if_(((b.call("value", gap.v, record) + 0x80000000) >> 32) != 0):
                    b.ret(b.load(cache_word(b, at, "bridge")))
            gap.v = gap.v + GAP.size
    b.ret(stencil)
    return b.text()


def value(at: dict[str, int]) -> str:
    """(gap, record): a field, times the stride, and the addend."""
    b = function("value", "gap", "record")
    gap = b.arg("gap")
    left = b.load(gap + 4, 8)
    x = b.load(b.arg("record") + b.load(gap + 3, 8)) << left
    signed = V(b, b.let(f"ashr i64 {x.name}, {left.name}"))
    plain = x >> left
    b.ret(b.choose(b.load(gap + 2, 8) == KIND["signed"], signed, plain) * b.load(gap + 6, 16) + b.load(gap + 8))
    return b.text()


def paste(at: dict[str, int]) -> str:
    """(stencil, record, hot, cold): copy one and fill its gaps."""
    b = function("paste", "stencil", "record", "hot", "cold")
    stencil, record, hot, cold = (b.arg(name) for name in ("stencil", "record", "hot", "cold"))
    first = stencil + HEADER.size
    end = first + b.load(stencil + GAPS, 32) * GAP.size
    hot_size, run = b.load(stencil, 32), b.load(cache_word(b, at, "copies_run"))
    b.call("copy_words", hot, end, hot_size)
    b.call("copy_words", cold, end + hot_size, b.load(stencil + COLD_SIZE, 32))
    gap = b.var(first)
    with b.loop():
        b.break_if(gap.v == end)
        place, kind, addend = b.load(gap.v, 16), b.load(gap.v + 2, 8), b.load(gap.v + 8)
        where = b.choose((place & IN_COLD) != 0, cold, hot) + (place & IN_COLD - 1)
        with b.if_(kind <= KIND["signed"]):
            b.store(where, b.call("value", gap.v, record), 32)
        with b.if_((kind == KIND["record"]) | (kind == KIND["handler"])):
            x = b.choose(kind == KIND["record"], record, b.load(record)) + addend
            b.do(f"store i64 {x.name}, ptr {b.pointer(where)}, align 1")
        with b.if_(kind == KIND["exit"]):
            link = record + addend
            b.store(where, 0, 32)
            with b.if_(b.load(link + LINK_STUB) == special(b, at, "far")):
                far = b.call("paste_far", link)
                with b.if_(far != 0):
                    b.store(where, far - where - 4, 32)
            b.store(link, link + LINK_STUB)
            b.store(link + LINK_EXIT, where)
        with b.if_((kind > KIND["handler"]) & (kind < KIND["exit"])):
            target = b.choose(kind == KIND["next"], hot + hot_size, b.choose(kind == KIND["hot"], hot, cold))
            target = b.choose(kind == KIND["stencil"], stencil - run, target)
            b.store(where, target + addend - where, 32)
        gap.v = gap.v + GAP.size
    b.ret(0)
    return b.text()


def paste_far(at: dict[str, int]) -> str:
    """(link): the code of one that leads to another page, 0 where there is no room or the way is too long."""
    b = function("paste_far", "link")
    link, far = b.arg("link"), b.load(cache_word(b, at, "far"))
    hot = (b.load(cache_word(b, at, "copies")) + 15) & ~15
    cold = hot + b.load(far, 32) + APART
    last = cold + b.load(far + COLD_SIZE, 32) + APART
    long = ((b.load(link + LINK_DELTA) + 0x80000000) >> 32) != 0
    with b.if_((last > b.load(cache_word(b, at, "copies_end"))) | long):
        b.ret(0)
    b.store(cache_word(b, at, "copies"), last)
    b.call("paste", far, link, hot, cold)
    b.ret(hot)
    return b.text()


def chain(at: dict[str, int]) -> str:
    """(stub, head) of a link and of the block on the same page to which it leads: the next time there is nothing to be found out.

    A copy's exit then jumps to the copy there. It is left as it is while that block waits for being copied.
    """
    b = function("chain", "stub", "head")
    link, head = b.arg("stub") - LINK_STUB, b.arg("head")
    place, runs = b.load(link + LINK_EXIT), b.load(head)
    with b.if_(place != 0):
        for name in ("counting", "known", "redecode"):
            with b.if_(runs == special(b, at, name)):
                b.ret(0)
        # another processor may be there: it sees all of a number that lies in one of the host's cache lines
        whole = ((place & 63) <= 60) | (b.load(b.get(at["cache"]) + CACHE["processors"]) == 1)
        with b.if_(copied(b, at, runs) & whole):
            behind = place + 4 + b.load(cache_word(b, at, "copies_run"))
            b.store(place, runs - (ENTRY_AT - ENTERED) - behind, 32)
    b.store(link, head)
    b.ret(0)
    return b.text()


def divert(at: dict[str, int]) -> str:
    """(head): if it is a copy that runs, exits that lead there shall do what the head says next."""
    b = Native("define dso_local i64 @divert(ptr %st, i64 %head) nounwind noinline")
    runs = b.load(b.arg("head"))
    with b.if_(copied(b, at, runs)):
        b.store(runs - b.load(cache_word(b, at, "copies_run")), DIVERTED, 32)
    b.ret(0)
    return b.text()


def copied(b: Native, at: dict[str, int], handler: V) -> V:
    """Is that the entry of a copy?"""
    return (handler - b.load(cache_word(b, at, "copies_first"))) < COPIES_SIZE


def copy_words() -> str:
    """(to, source, n): up to 7 bytes more."""
    b = function("copy_words", "to", "source", "n")
    k = b.var(0)
    with b.loop():
        b.break_if(k.v >= b.arg("n"))
        b.do(f"store i64 {b.load(b.arg('source') + k.v).name}, ptr {b.pointer(b.arg('to') + k.v)}, align 1")
        k.v = k.v + 8
    b.ret(0)
    return b.text()
