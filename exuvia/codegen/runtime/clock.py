"""What time it is, in native code."""

from __future__ import annotations

import time

from exuvia.codegen.layout import CACHE
from exuvia.codegen.native import Native, V
from exuvia.dsl.state import SCRATCH_AT


def host_time(b: Native, at: dict[str, int]) -> V:
    """The host's monotonic clock in nanoseconds, clock_gettime(2)."""
    f, scratch = b.pointer(b.load(b.get(at["cache"]) + CACHE["clock_gettime"])), b.arg("st", True) + SCRATCH_AT
    b.let(f"call i32 {f}(i32 {time.CLOCK_MONOTONIC}, ptr {b.pointer(scratch)})")
    return b.load(scratch) * 1_000_000_000 + b.load(scratch + 8)


def virtual_time(at: dict[str, int]) -> str:
    """Nanoseconds of virtual time: the host's, less what `time_offset` says; `time_offset` alone where a run is to be repeatable."""
    b = Native("define dso_local i64 @virtual_time(ptr %st) nounwind noinline")
    b.ret((host_time(b, at) & b.get(at["time_runs"])) - b.get(at["time_offset"]))
    return b.text()
