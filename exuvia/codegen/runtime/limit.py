"""Code segments with a limit: a block runs as such if all of it lies inside; else it is stepped through, to where the fault is.

In modes that can have one, `h_limited` is the usual handler of heads; it also stands before the regions there. Other modes pay nothing.
"""

from __future__ import annotations

from exuvia.codegen.layout import ENTRY_SHIFT, HEAD, NO_ENTRY, REASON, REGION_BLOCK, REGION_DOOR, REGION_END, REGION_HEADS, REGION_MASK
from exuvia.codegen.runtime.blocks import LEN, OFF, special
from exuvia.codegen.runtime.memory import address_mask, function, handler, words
from exuvia.dsl.record import RECORD
from exuvia.dsl.state import Layout


def source(layout: Layout) -> str:
    """LLVM text of this part."""
    at = words(layout)
    return outside(at, layout) + block_end(at) + limited(at)


def outside(at: dict[str, int], layout: Layout) -> str:
    """(first, end): is one of the bytes from `first` up to `end`, counted from the running page, beyond the limit?"""
    b = function("outside", "first", "end")
    if layout.code_limit is not None:
        base, limit = (b.get(layout.offset(*place)) for place in layout.code_limit)
        mask, page = address_mask(b, at), b.get(at["page"])
        with b.if_((((page + b.arg("first") - base) & mask) > limit) | (((page + b.arg("end") - base - 1) & mask) > limit)):
            b.ret(1)
    b.ret(0)
    return b.text()


def block_end(at: dict[str, int]) -> str:
    """(head): where its last instruction ends, in bytes from the page's start."""
    b = function("block_end", "head")
    body = b.load(b.arg("head") + HEAD["body"])
    last = body + ((b.load(b.arg("head") + HEAD["n"], 16) - 1) << RECORD.bit_length() - 1)
    last = b.choose(b.load(body) == special(b, at, "guard"), last + 2 * RECORD, last)
    b.ret(b.load(last + OFF, 16) + b.load(last + LEN, 8))
    return b.text()


def limited(at: dict[str, int]) -> str:
    b = handler("h_limited")
    op = b.arg("op", True)
    first = b.load(op + HEAD["off"], 16)
    with b.if_(b.call("outside", first, b.call("block_end", op)) != 0, False):
        b.put(at["pc"], b.get(at["page"]) + first)
        b.put(at["resume"], 0)
        b.put(at["icount"], b.arg("ic"))
        b.ret(REASON["step"])
    word = b.load(op + HEAD["region"])
    region = word & REGION_MASK
    with b.if_(b.load(op + HEAD["stands"], 8) != 0):
        with b.if_((word >> ENTRY_SHIFT) != NO_ENTRY):
            with b.if_(b.call("outside", first, b.load(region + REGION_END)) == 0, True):
                block = region + REGION_HEADS + (word >> ENTRY_SHIFT) * REGION_BLOCK
                b.tail(b.pointer(b.load(block + REGION_DOOR)))
    b.tail("@h_head")
    return b.text()
