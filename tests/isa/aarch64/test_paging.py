"""Translations against a second walk, in plain Python and bit by bit as the manual has it (DDI 0487, D8), over random tables."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.isa.aarch64.machine import MASK, RAM_SIZE, Native

TABLES, TABLES_END = 0x40000, 0x80000  # 64 KiB apart at most
WRITE, FETCH, USER = 1, 4, 2
STAGE2, SIZE = 1 << 8, 8
ALIGNMENT = 0x21


@pytest.fixture(scope="module")
def machine() -> Iterator[Native]:
    n = Native()
    yield n
    n.close()


class Fault(Exception):
    """With the fault status code."""


@dataclass
class Regime:
    """What one stage's registers say."""

    base: int
    bits: int
    granule: int
    first: int
    output: int = 40


def descriptors(n: Native, r: Regime, address: int, stage2: Regime | None = None) -> tuple[int, int, int, list[int]]:
    """(leaf, physical address, level, table descriptors)."""
    stride, table = r.granule - 3, r.base
    above: list[int] = []
    for level in range(r.first, 4):
        shift = r.granule + stride * (3 - level)
        index = address >> shift
        if level != r.first:
            index &= (1 << stride) - 1
        where = table + 8 * index
        if stage2 is not None:
            where = second(n, stage2, where, 0, 1 << 7)[0]
        if where + 8 > RAM_SIZE:
            raise Fault(0x14 | level)
        (d,) = struct.unpack_from("<Q", n.ram.view, where)
        block = not d & 2
        if not d & 1 or (block and (level == 3 or level == 0 or level == 1 and r.granule != 12)):
            raise Fault(4 | level)
        size = shift if block else r.granule
        target = d & ((1 << 48) - 1) >> size << size
        if target >> r.output:
            raise Fault(level)
        if block or level == 3:
            if not d & 1 << 10:
                raise Fault(8 | level)
            size = shift if block else r.granule
            return d, target | address & (1 << size) - 1, level, above
        above.append(d)
        table = target
    raise AssertionError


def of_a_device(rights: int, address: int, access: int) -> int:
    """What is left of rights: each access is looked at, as it must be aligned."""
    if not access & FETCH and address % (access >> SIZE):
        raise Fault(ALIGNMENT)
    return rights & 4


def second(n: Native, r: Regime, address: int, access: int, more: int = 0) -> tuple[int, int]:
    """Stage 2: (physical address, which of read, write, execute)."""
    try:
        if address >> r.bits:
            raise Fault(4 | r.first)
        d, physical, level, _ = descriptors(n, r, address)
        rights = d >> 6 & 3 | (not d >> 54 & 1) << 2
        if not rights & (4 if access & FETCH else 2 if access & WRITE else 1):
            raise Fault(12 | level)
        if not more and not d >> 4 & 3:
            rights = of_a_device(rights, address, access)
    except Fault as fault:
        raise Fault(fault.args[0] | STAGE2 | more) from None
    return physical, rights


def first(n: Native, address: int, access: int, user: bool, forbidden: bool, stage2: Regime | None) -> tuple[int, int]:
    """Stage 1 of EL1&0: (address, rights)."""
    tcr, upper = n["tcr_el1"], address >> 55 & 1
    size = min(max(tcr >> (16 if upper else 0) & 63, 16), 39)
    bits = 64 - size
    granule = {1: 14, 2: 12, 3: 16}[tcr >> 30 & 3] if upper else {0: 12, 1: 16, 2: 14}[tcr >> 14 & 3]
    ignored = tcr >> (38 if upper else 37) & 1
    top = (address << 8 & MASK) >> 8 if ignored else address
    width = 56 if ignored else 64
    if user and n["has_e0pd"] and tcr >> (56 if upper else 55) & 1:
        raise Fault(4)
    if top >> bits != (((1 << width - bits) - 1) if upper else 0) or tcr >> (23 if upper else 7) & 1:
        raise Fault(4)
    level = 4 - -(-(bits - granule) // (granule - 3))
    ttbr = n["ttbr1_el1" if upper else "ttbr0_el1"]
    r = Regime(ttbr & (1 << 48) - 2, bits, granule, level, min(40, {0: 32, 1: 36, 2: 40}.get(tcr >> 32 & 7, 48)))
    d, physical, level, above = descriptors(n, r, address & (1 << bits) - 1, stage2)
    if tcr >> (42 if upper else 41) & 1:
        above = []
    el0 = d >> 6 & 1 and not any(t >> 61 & 1 for t in above)
    writable = not d >> 7 & 1 and not any(t >> 62 & 1 for t in above)
    uxn = d >> 54 & 1 or any(t >> 60 & 1 for t in above)
    pxn = d >> 53 & 1 or any(t >> 59 & 1 for t in above)
    read = bool(el0) if user else not (el0 and forbidden)
    execute = not uxn if user else not pxn and not (el0 and writable)
    if n["sctlr_el1"] >> 19 & 1 and writable and (el0 or not user):
        execute = False
    rights = read | (read and writable) << 1 | bool(execute) << 2
    if not rights & (4 if access & FETCH else 2 if access & WRITE else 1):
        raise Fault(12 | level)
    if not n["mair_el1"] >> 8 * (d >> 2 & 7) & 0xF0:
        rights = of_a_device(rights, address, access)
    return physical, rights


def expected(n: Native, address: int, access: int, index: int, stage2: Regime | None) -> tuple[int, int, int]:
    """walk_error, page, rights (1 read, 2 write, 4 execute)."""
    try:
        physical, rights = first(n, address, access, index == 0, index == 2, stage2)
        if stage2 is not None:
            physical, more = second(n, stage2, physical, access)
            rights &= more
    except Fault as fault:
        return fault.args[0], 0, 0
    return MASK, physical & ~0xFFF, rights


def fill(n: Native, rng: random.Random, granule: int) -> None:
    """Tables that lead to tables, blocks and pages, and sometimes nowhere."""
    for at in range(TABLES, TABLES_END, 8):
        kind = rng.choice((0, 1, 1, 3, 3, 3, 3, 3, 3))
        target = rng.randrange(TABLES, TABLES_END) if rng.random() < 0.9 else rng.getrandbits(48)
        d = target >> granule << granule if rng.random() < 0.9 else target & ~0xFFF
        d |= rng.getrandbits(4) << 2 | kind | (rng.random() < 0.95) << 10 | rng.getrandbits(1) << 11 | rng.getrandbits(2) << 6
        for bit in (53, 54, 59, 60, 61, 62):
            d |= (rng.random() < 0.15) << bit
        struct.pack_into("<Q", n.ram.view, at, d)


def address(rng: random.Random, n: Native) -> int:
    """Mostly within what the tables cover."""
    upper = rng.getrandbits(1)
    size = max(n["tcr_el1"] >> (16 if upper else 0) & 63, 16)
    low = rng.getrandbits(64 - min(size, 39))
    v = low | (MASK << 64 - min(size, 39) & MASK if upper else 0)
    if rng.random() < 0.2:
        v = v & (1 << 56) - 1 | rng.getrandbits(8) << 56
    return v ^ (1 << rng.randrange(40, 64) if rng.random() < 0.05 else 0)


@pytest.mark.parametrize("two", [False, True])
def test_random_tables(machine: Native, two: bool) -> None:
    n, rng, fine = machine, random.Random(two), 0
    for _ in range(12):
        n.reset()
        granules = rng.choice((12, 14, 16)), rng.choice((12, 14, 16))
        fill(n, rng, granules[0])
        tcr = rng.randrange(14, 42) | rng.randrange(14, 42) << 16 | {12: 0, 16: 1, 14: 2}[granules[0]] << 14
        tcr |= (
            {14: 1, 12: 2, 16: 3}[granules[1]] << 30 | rng.choice((0, 1, 2, 5)) << 32 | rng.getrandbits(2) << 37 | rng.getrandbits(2) << 41
        )
        n["has_e0pd"] = rng.getrandbits(1)
        n["tcr_el1"] = tcr | rng.getrandbits(1) << 55 | (rng.random() < 0.1) << 56 | (rng.random() < 0.1) << 7 | (rng.random() < 0.1) << 23
        n["mair_el1"] = int.from_bytes(rng.choice((b"\x00\xff", b"\x44\xff", b"\xbb\x04")) * 4, "little")
        n["ttbr0_el1"], n["ttbr1_el1"] = TABLES | 7 << 48, TABLES + 0x20000
        n["sctlr_el1"] = 1 | (rng.random() < 0.2) << 19
        stage2 = None
        if two:
            bits = rng.choice((32, 36, 39))
            n["vtcr_el2"] = 64 - bits | 1 << 6 | 2 << 16
            n["vttbr_el2"] = TABLES + 0x10000
            n["hcr_el2"], n["has_el2"] = 1, 1
            stage2 = Regime(TABLES + 0x10000, bits, 12, 1)
        for _ in range(100):
            where, access, index = address(rng, n), rng.choice((0, WRITE, FETCH)) | rng.choice((1, 2, 4, 8)) << SIZE, rng.randrange(3)
            n["el"] = int(index != 0)
            n["tlb"] = n["tlb_base"] + index * 4096 * 32
            n.engine.flush_page(n.at, where)
            n["walk_page"] = 0
            n.engine.translate(n.at, where, access)
            error, page, rights = expected(n, where, access, index, stage2)
            context = f"{where:#x} access {access} TLB {index} tcr {tcr:#x}"
            assert n["walk_error"] == error, context
            if error == MASK:
                fine += 1
                got = n["walk_rights"]
                assert (n["walk_page"] & ~0xFFF, got >> 5 & 1 | (got & 1) << 1 | got & 4) == (page, rights), context
    assert fine > (15 if two else 100)
