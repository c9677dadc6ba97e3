"""Device registers that are read (devices/polled.py) or written (devices/posted.py) without leaving native code.

A table has entries of four words: the address of the first byte, how many bytes there are, where the host has the value, and where the ring
that takes what is written, 0 for neither; 0 bytes end it. A value of all ones is the device's to say.
"""

from __future__ import annotations

from exuvia.codegen.native import Native, V
from exuvia.codegen.runtime.clock import host_time
from exuvia.support.ring import GOT, HERE, OPEN, PUT, ROOM, WAITING

ENTRY = 32
ASK = (1 << 64) - 1
WAIT = 1_000_000  # ns until Python takes what was posted, if it does not come by before


def answer(b: Native, at: dict[str, int], table: str, place: V, size: V) -> V:
    """What `size` bytes at `place` are, by the table that a word of the state points to; ASK if the device has to say it."""
    return b.call("polled", b.get(at[table]), place, size)


def post(b: Native, at: dict[str, int], table: str, place: V, size: V, value: V) -> V:
    """Not zero if the `size` bytes that are written to `place` may wait, and do."""
    return b.call("post", b.get(at[table]), place, size, value)


def source(at: dict[str, int]) -> str:
    """LLVM text of this part."""
    return polled() + posting(at)


def polled() -> str:
    """(table, place, size) -> the value, or ASK."""
    b = Native("define internal i64 @polled(ptr %st, i64 %table, i64 %place, i64 %size) nounwind noinline")
    place, size = b.arg("place"), b.arg("size")
    entry = b.var(0)
    entry.v = b.arg("table")
    with b.if_(entry.v == 0):
        b.ret(ASK)
    with b.loop():
        count = b.load(entry.v + 8)
        with b.if_(count == 0):
            b.ret(ASK)
        skip, shown = place - b.load(entry.v), b.load(entry.v + 16)
        with b.if_((skip < count) & (skip + size <= count) & (shown != 0)):
            value = b.load(shown)
            with b.if_(value == ASK):
                b.ret(ASK)
            b.ret((value >> (skip << 3)) & ((b.const(1) << (size << 3)) - 1))
        entry.v = entry.v + ENTRY
    b.ret(ASK)
    return b.text()


def posting(at: dict[str, int]) -> str:
    """(table, place, size, value) -> was it put into a ring? Other processors may be putting something there, and Python takes it out."""
    b = Native("define internal i64 @post(ptr %st, i64 %table, i64 %place, i64 %size, i64 %value) nounwind noinline")
    entry = b.var(0)
    entry.v = b.arg("table")
    with b.if_(entry.v == 0):
        b.ret(0)
    with b.loop():
        count, ring = b.load(entry.v + 8), b.load(entry.v + 24)
        with b.if_(count == 0):
            b.ret(0)
        with b.if_((b.load(entry.v) == b.arg("place")) & (b.arg("size") <= count) & (ring != 0)):
            with b.loop():
                put = V(b, b.let(f"load atomic i64, ptr {b.pointer(ring + 8 * PUT)} monotonic, align 8"))
                with b.if_((b.load(ring + 8 * OPEN) == 0) | (put - b.load(ring + 8 * GOT) >= ROOM)):
                    b.ret(0)
                place, more = b.pointer(ring + 8 * PUT), (put + 1).name
                pair = b.let(f"cmpxchg ptr {place}, i64 {put.name}, i64 {more} seq_cst seq_cst, align 8")
                with b.if_(V(b, b.let(f"extractvalue {{i64, i1}} {pair}, 1"), 1), True):
                    slot = ring + 8 * WAITING + ((put & (ROOM - 1)) << 3)
                    byte = (b.arg("value") & 0xFF) | HERE
                    b.do(f"store atomic i64 {byte.name}, ptr {b.pointer(slot)} release, align 8")
                    with b.if_(b.get(at["posted"]) == 0, False):
                        b.put(at["posted"], host_time(b, at) + WAIT)
                    b.ret(1)
        entry.v = entry.v + ENTRY
    b.ret(0)
    return b.text()
