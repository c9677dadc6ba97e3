"""Device registers that are read without leaving native code (devices/polled.py). A table has entries of three words: the address of the
first byte, how many bytes there are, and where the host has the value, all ones where the device is to be asked; 0 bytes end it."""

from __future__ import annotations

from exuvia.codegen.native import Native, V

ENTRY = 24
ASK = (1 << 64) - 1


def answer(b: Native, at: dict[str, int], table: str, place: V, size: V) -> V:
    """What `size` bytes at `place` are, by the table that a word of the state points to; ASK if the device has to say it."""
    return b.call("polled", b.get(at[table]), place, size)


def function() -> str:
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
        skip = place - b.load(entry.v)
        with b.if_((skip < count) & (skip + size <= count)):
            value = b.load(b.load(entry.v + 16))
            with b.if_(value == ASK):
                b.ret(ASK)
            b.ret((value >> (skip << 3)) & ((b.const(1) << (size << 3)) - 1))
        entry.v = entry.v + ENTRY
    b.ret(ASK)
    return b.text()
