"""What a software processor counts: `info jit` in the monitor, and the end of `exuvia profile`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exuvia.codegen.layout import CACHE, REASONS

if TYPE_CHECKING:
    from exuvia.vcpu.software import SoftwareVcpu


def counters(cpu: SoftwareVcpu) -> dict[str, int]:
    """Names, with units where there are some, and counts. Engine and store are the machine's, the rest is this processor's."""
    engine, hot = cpu.engine, cpu.engine.hot
    cache = engine.cache
    counts = {
        "handlers compiled now": engine.compiled,
        "handler code bytes": engine.code.used,
        "block cache bytes": cache[CACHE["arena"] // 8] - engine.arena.address,
        "copied block bytes": engine.copies.used,
        "stencils": len(engine.copies.stencils),
        "instructions decoded": cpu.decoded,
        "writes to decoded code": cpu.invalidated,
        "regions known": len(hot.placed),
        "regions installed": hot.installed,
        "regions made": hot.made,
        "regions made too late": hot.late,
        "regions not made": hot.failed,
        "regions dropped": cache[CACHE["dropped"] // 8],
        "region code bytes": engine.region_code.used,
        "region compile ms": int(hot.seconds * 1000),
        "store hits": hot.found,
        "store misses": hot.missed,
        "instructions": cpu.icount,
        "TLB misses": cpu.tlb_misses,
    }
    return counts | {f"exits {name}": count for name, count in zip(REASONS, cpu.exits, strict=True)}
