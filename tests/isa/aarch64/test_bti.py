"""Branch target identification (DDI 0487, D8.4.6; J1: BTypeCompatible_BTI, BTypeCompatible_PACIXSP, BR, BLR)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from exuvia.codegen.layout import REASON, REASONS
from exuvia.isa.aarch64.state import AWARE, GUARDS, LANDING, USER, layout
from tests.isa.aarch64.machine import Case, Native

TABLE, VECTORS, GUARDED, PLAIN = 0x40000, 0x50000, 0x20000, 0x21000
BR_X0, BR_X16, BLR_X0, NOP, RET, ERET = 0xD61F0000, 0xD61F0200, 0xD63F0000, 0xD503201F, 0xD65F0000, 0xD69F03E0
MSR_TTBR0_X0, B_HERE = 0xD5182000, 0x14000000
BTI, BTI_C, BTI_J, BTI_JC = (0xD503241F | targets << 6 for targets in range(4))
PACIASP, PACIBSP, HLT, BRK = 0xD503233F, 0xD503237F, 0xD4400020, 0xD4200000
EC_BTI, EC_BRK, EC_PC, EC_FETCH = 0x0D, 0x3C, 0x22, 0x21
BT0, BT1 = 1 << 35, 1 << 36


@pytest.fixture(scope="module")
def machine() -> Iterator[Native]:
    n = Native()
    n.let_exceptions_in()
    yield n
    n.close()


def begin(n: Native, user: int, code: dict[int, int], start: int, target: int, sctlr: int = 0) -> None:
    """Tables of the first 2 MiB, in which the page GUARDED is guarded; `code` by address."""
    n.reset()
    n.put(Case([BRK], [target] + [0] * 15 + [target] + [0] * 14 + [0x7000], el=1 - user))
    for page in range(256):
        d = page << 12 | 3 | 1 << 10 | (1 << 6 | 1 << 7) * user | 1 << 11  # user pages are read-only, so that EL1 may execute them
        struct.pack_into("<Q", n.ram.view, TABLE + 0x1000 + 8 * page, d | (1 << 50 if page == GUARDED >> 12 else 0))
    struct.pack_into("<Q", n.ram.view, TABLE, TABLE + 0x1000 | 3)
    for at, word in code.items():
        struct.pack_into("<I", n.ram.view, at, word)
        n.engine.written(n.at, n.ram.address + at, 4)
    n["ttbr0_el1"], n["tcr_el1"], n["mair_el1"], n["sctlr_el1"] = TABLE, 34, 0xFF, 1 | sctlr  # 30 bits: from level 2 on
    n["vbar_el1"], n["has_bti"], n["daif"], n["pc"] = VECTORS, 1, 0, start
    n.engine.flush(n.at, 1)


def run(n: Native, count: int = 8) -> tuple[int, int]:
    """Steps until an exception is there: its class, and BTYPE as the syndrome and SPSR have it."""
    for _ in range(count):
        if n["pc"] in range(VECTORS, VECTORS + 0x800):
            break
        n.step()
    assert n["pc"] in range(VECTORS, VECTORS + 0x800), f"no exception, at {n['pc']:#x}"
    assert (n["btype"], n["mode"] & LANDING) == (0, 0)
    return n["esr_el1"] >> 26, n["spsr_el1"] >> 10 & 3


def lands(n: Native, branch: int, pad: int, user: int = 0, from_: int = GUARDED, to: int = GUARDED + 0x100, sctlr: int = 0) -> bool:
    """Does this branch go there? Behind the landing pad stands a BRK."""
    begin(n, user, {GUARDED + 0x800: NOP, from_: branch, to: pad, to + 4: BRK}, GUARDED + 0x800, to, sctlr)
    n.step()  # GUARDED is met
    n["pc"] = from_
    ec, btype = run(n)
    if ec == EC_BRK:
        assert (n["elr_el1"], btype) == (to + 4, 0)
        return True
    assert (ec, n["esr_el1"] & 0x1FFFFFF, n["elr_el1"]) == (EC_BTI, btype, to)
    assert btype == (2 if branch == BLR_X0 else 1 if branch == BR_X16 or from_ == PLAIN else 3)
    return False


@pytest.mark.parametrize("user", [0, 1])
def test_landing_pads(machine: Native, user: int) -> None:
    """Each branch and each pad: BR to BTI j, BLR to BTI c, BR by x16 to either; PACIxSP as BTI jc, or BTI c under SCTLR_EL1.BT0, BT1."""
    kinds = {BR_X0: {BTI_J, BTI_JC}, BLR_X0: {BTI_C, BTI_JC}, BR_X16: {BTI_C, BTI_J, BTI_JC}}
    for branch, pads in kinds.items():
        for pad in (BTI, BTI_C, BTI_J, BTI_JC, NOP):
            assert lands(machine, branch, pad, user) == (pad in pads), (hex(branch), hex(pad))
        for pad in (PACIASP, PACIBSP):
            for sctlr in (0, BT0, BT1):
                ours = BT0 if user else BT1
                assert lands(machine, branch, pad, user, sctlr=sctlr) == (branch != BR_X0 or sctlr != ours), (hex(branch), hex(pad))


def test_pages_that_are_not_guarded(machine: Native) -> None:
    """They are no matter what is branched to; a BR from one is as good as one by x16."""
    for branch in (BR_X0, BLR_X0, BR_X16):
        assert lands(machine, branch, NOP, to=PLAIN)
        assert lands(machine, branch, NOP, from_=PLAIN, to=PLAIN + 0x100)
        assert not lands(machine, branch, NOP, from_=PLAIN)
    assert lands(machine, BR_X0, BTI_C, from_=PLAIN)
    assert not lands(machine, BR_X0, BTI_C)


def test_other_ways(machine: Native) -> None:
    """RET may go anywhere, and so may what was interrupted; BRK is a breakpoint, a misaligned target a PC alignment fault."""
    begin(machine, 0, {GUARDED: RET, GUARDED + 0x100: BRK}, GUARDED, GUARDED + 0x100)
    assert run(machine) == (EC_BRK, 0)
    begin(machine, 0, {GUARDED: BLR_X0, GUARDED + 0x100: BRK}, GUARDED, GUARDED + 0x100)
    assert run(machine) == (EC_BRK, 2)
    begin(machine, 0, {GUARDED: BLR_X0, GUARDED + 0x100: HLT}, GUARDED, GUARDED + 0x100)
    assert run(machine) == (0, 2)
    begin(machine, 0, {GUARDED: BLR_X0}, GUARDED, GUARDED + 0x102)
    assert run(machine) == (EC_PC, 2)
    begin(machine, 0, {GUARDED: BLR_X0}, GUARDED, 0x100000)
    assert run(machine) == (EC_FETCH, 2)


@pytest.mark.parametrize("user", [0, 1])
def test_return_to_a_target(machine: Native, user: int) -> None:
    """ERET takes BTYPE out of SPSR, where there is the feature."""
    for btype, pad, refused in ((2, NOP, 1), (2, BTI_C, 0), (0, NOP, 0), (3, BTI_C, 1)):
        for has in (0, 1):
            n = machine
            begin(n, user, {0x8000: ERET, GUARDED: pad, GUARDED + 4: BRK}, 0x8000, 0)
            n["el"], n["mode"], n["spsel"], n["has_bti"] = 1, 0, 1, has
            n["elr_el1"], n["spsr_el1"] = GUARDED, btype << 10 | (0 if user else 5)
            n.step()
            assert n["mode"] == (LANDING if btype and has else 0) | USER * user
            assert run(n)[0] == (EC_BTI if refused and has else EC_BRK)


def test_interrupted_before_the_target(machine: Native) -> None:
    n = machine
    begin(n, 1, {GUARDED: BLR_X0, GUARDED + 0x100: NOP}, GUARDED, GUARDED + 0x100)
    n.step()
    n.step()
    assert (n["pc"], n["mode"], n["btype"]) == (GUARDED + 0x100, LANDING | USER, 2)
    n["exception_kind"], n["exception_return"], n["resume"] = 0x80, n["pc"], n.at + n.entry
    while n["resume"]:
        n["budget_end"] = n["icount"]
        n.engine.run(n.at)
    assert (n["pc"], n["spsr_el1"] >> 10 & 3, n["elr_el1"]) == (VECTORS + 0x480, 2, GUARDED + 0x100)


@pytest.mark.parametrize("user", [0, 1])
def test_what_is_known_of_a_page_was_forgotten(machine: Native, user: int) -> None:
    """Another page has its place: the branch and its target have theirs walked to again, without steps between."""
    n, stop = machine, VECTORS + (0x400 if user else 0x200)
    at = layout.offset("guards", GUARDED >> 12 & GUARDS - 1)
    for pad, expected in ((BTI_J, (EC_BRK, 0)), (BTI_C, (EC_BTI, 3))):
        code = {GUARDED: NOP, GUARDED + 4: BR_X0, GUARDED + 0x100: pad, GUARDED + 0x104: BRK, stop: B_HERE}
        begin(n, user, code, GUARDED, GUARDED + 0x100)
        for _ in range(3):
            n.put(Case([BRK], [GUARDED + 0x100] * 32, el=1 - user))
            n["pc"], n["mode"], n["budget_end"] = GUARDED, USER * user | (AWARE if n["met_guarded"] else 0), 40
            n.state.view[at : at + 8] = (0x7777 << 12).to_bytes(8, "little")
            while (reason := n.engine.run(n.at)) != REASON["budget"]:
                getattr(n, "on_" + REASONS[reason])()
            assert run(n) == expected


def test_it_costs_nothing_until_a_guarded_page_is_met(machine: Native) -> None:
    """And again when EL0's tables change."""
    n = machine
    begin(n, 1, {PLAIN: BR_X0, PLAIN + 0x100: NOP, GUARDED: NOP}, PLAIN, PLAIN + 0x100)
    n.step()
    assert (n["mode"], n["btype"], n["met_guarded"]) == (USER, 0, 0)
    n["pc"] = GUARDED
    n.step()
    n.step()
    assert (n["pc"], n["mode"], n["met_guarded"]) == (GUARDED + 4, USER | AWARE, 1)
    for table, known in ((TABLE, 1), (TABLE | 1 << 48, 0)):  # the same, and those of another address space
        begin(n, 0, {PLAIN: MSR_TTBR0_X0}, PLAIN, table)
        n["met_guarded"] = 3
        n.step()
        assert (n["pc"], n["ttbr0_el1"], n["met_guarded"]) == (PLAIN + 4, table, 2 | known)
