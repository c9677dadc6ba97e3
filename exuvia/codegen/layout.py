"""Byte layouts and numbers that the runtime, compiled handlers and Python share.

Block: a *head* (64 bytes, never moved or freed before a full flush; everything chains to heads) and a *body* of op records (dsl/record.py).
A head's first word is what runs when the block is entered: the head's own handler, a compiled region's door, or `redecode` after its bytes
changed; `mask` is 0 then. Bodies are never written again: a processor may still be in an old one.
"""

from __future__ import annotations

from typing import Any

from exuvia.dsl.state import ROUTINES_AT, RUNTIME_AT, Layout

HEAD = dict(
    handler=0, body=8, samples=16, n=20, off=22, region=24, key=32, next=40, sibling=48, mask=56, mode=60, stands=61, copied=62, turns=63
)
HEAD_SIZE = 64
# a region in memory: how many heads, its code, where it ends, the linear address of the page that it counts from if it is bound to that;
# then of each block the head, the body that it was made of, and where the code is entered for it, or 0
REGION_CODE, REGION_END, REGION_PAGE, REGION_HEADS, REGION_BLOCK, REGION_DOOR = 8, 16, 24, 32, 24, 16
# a head's `region` is one word, so that what another processor changes meanwhile is seen whole: the region's address, above it the
# number of the block, or NO_ENTRY where the region cannot be entered. It is the region if `stands`, else what was one.
ENTRY_SHIFT, NO_ENTRY = 48, 0xFFFF
REGION_MASK = (1 << ENTRY_SHIFT) - 1
# in a link of 32 bytes: the target, a stub record {handler, delta}, and where a copy jumps there, or 0
LINK_STUB, LINK_DELTA, LINK_EXIT = 8, 16, 24

TLB_ENTRIES, TLB_ENTRY = 4096, 32
READ, WRITE, EXECUTE, ADDEND = 0, 8, 16, 24
TLB_SIZE = TLB_ENTRIES * TLB_ENTRY
TLBS = 3  # user, supervisor, supervisor with access to user pages forbidden: whatever the architecture numbers so
EMPTY = TLBS * TLB_SIZE  # one more that is never filled stands for the user's while every access has to be checked for its alignment
LOCAL_LIST = EMPTY + TLB_SIZE  # behind the TLBs: indices of entries that a change of address space drops
LIST_ENTRIES = 8192
LARGE = 4 << 20  # bytes: of a part of the address space that large pages lie in, up to this size, and which are dropped as one
LARGE_BITS = LOCAL_LIST + 4 * LIST_ENTRIES  # behind that: a bit for the parts of which there may be pieces of large pages in a TLB
LARGE_COUNT = 4096
CODE_BITS = LARGE_BITS + LARGE_COUNT // 8  # a bit for the pages that the jump cache may know, by a hash of their numbers
CODE_COUNT = 16384
TLB_AREA = CODE_BITS + CODE_COUNT // 8

JOURNAL = 4096  # host pages in a processor's journal of what was written (vcpu/sidebyside.py)

# the block cache, shared by the processors of a machine: words
# copies: where the next copied block goes; where that ends, 0 for none; how far behind it can run; where that begins; stencils
WORDS = """ram ram_size pages hash arena arena_end special tlb processors dropped known lock states let_others clock_gettime
    copies copies_end copies_run copies_first entry bridge fall far""".split()
CACHE = {name: 8 * i for i, name in enumerate(WORDS)}
BUCKETS = 1 << 18
COPIES_SIZE = 200 << 20  # for stencils, and behind them for blocks that are written out
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: multiples of it spread evenly
KNOWN_BITS = 23  # of the number under which the decoder looks whether a region is known that has a block (`known_spot`)
PAGE_ENTRY = 16  # per page of RAM: mask of 128-byte lines that hold code, then the list of heads

MODE_ENTRY = 64  # per mode: handlers of records without an index register, careful handlers, decode table, handlers with an index
# mask: bits that a linear address has; head: the handler of heads
MODE = dict(table=0, careful=8, decode=16, mask=24, indexed=32, head=40, stencils=48, stencils_indexed=56)
SLOT_ENTRY = 32  # guest-physical memory slots: start, size, host address, writable; size 0 ends

ACCESS_WRITE, ACCESS_SYSTEM, ACCESS_FETCH, ACCESS_ALSO_READ = 1, 2, 4, 8  # bits of the access word; the size in bytes from bit 8
SEGMENT_SHIFT = 24  # the segment, for the architecture's choice of fault

REASONS = "budget request leave pio_in pio_out mmio_read mmio_write lazy careful full mode fetch step watch hot alarm tick".split()
REASON = {name: i for i, name in enumerate(REASONS)}
PENDING_FAULT, PENDING_MMIO = 1, 2

RUNTIME = """miss jump fresh leave leave_out fault finish access careful_leave again io_in flush flush_page h_head relax virtual_time
    refill""".split()  # entry points for code compiled apart
SPECIAL = "head redecode link far fall lazy guard careful_lazy limited known counting".split()  # handlers that no instruction has


def known_spot(offset: Any, size: Any, begins: Any) -> Any:
    """That number: of a block's place in the page, its size, and its first three bytes, zeros for those that it does not have."""
    return (((begins + (offset << 24) + (size << 36)) * GOLDEN) & (1 << 64) - 1) >> (64 - KNOWN_BITS)


def runtime_at(name: str) -> int:
    """Where the state holds the pointer to an entry point of the runtime."""
    return RUNTIME_AT + 8 * RUNTIME.index(name)


def routine_at(layout: Layout, name: str) -> int:
    """Where the state holds the record of a routine."""
    return ROUTINES_AT + 32 * layout.routines.index(name)


# software.on_mmio_write reads these in this order
BOUNCE = dict(write=0, bytes=8, a1=16, n1=24, k1=32, a2=40, n2=48, k2=56)  # one access in pieces: kinds 0 RAM, 1 MMIO, 2 RAM with code

PLAIN, CAREFUL, INDEXED = range(3)  # the handlers that one instruction form can have
INDEXED_SHIFT = 16  # in a wanted slot: the record has an index register
