"""Exceptions and their return, register by register as the manual's pseudocode has them (DDI 0487, D1.3, D1.4, AArch64.TakeException)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from exuvia.codegen.layout import REASONS
from exuvia.isa.aarch64.state import DAIF, SP, SPSR_PAN, STRICT, USER, layout
from tests.isa.aarch64.machine import CODE, DATA, Case, Native

VECTORS, VECTORS2 = 0x40000, 0x48000
SVC, BRK, UDF, ERET, HVC = 0xD4000001 | 0x1234 << 5, 0xD4200000 | 7 << 5, 0, 0xD69F03E0, 0xD4000002
LDR, LDTR = 0xF9400000, 0xF8400800  # ldr x0, [x0]
BLR_X0 = 0xD63F0000
FLAGS = 0b1010


@pytest.fixture(scope="module")
def machine() -> Iterator[Native]:
    n = Native()
    n.let_exceptions_in()
    yield n
    n.close()


def step(n: Native, code: int, el: int = 1, spsel: int = 1, x0: int = 0, **words: int) -> Native:
    """One instruction at CODE."""
    n.reset()
    n.put(Case([code], [x0] + [0] * 30 + [0x7000], FLAGS, el=el))
    n["spsel"] = spsel if el else 0
    n["vbar_el1"], n["vbar_el2"], n["sp_el0"], n["sp_el1"], n["sp_el2"] = VECTORS, VECTORS2, 0x100, 0x200, 0x300
    n["daif"] = 0
    for name, value in words.items():
        n[name] = value
    n.step()
    return n


def sp(n: Native) -> int:
    """The stack pointer in use."""
    at = layout.offset("x", SP)
    return int.from_bytes(n.state.view[at : at + 8], "little")


def taken(n: Native, vector: int, spsr: int, elr: int, esr: int) -> None:
    """An exception to EL1."""
    assert (n["pc"], n["spsr_el1"], n["elr_el1"], n["esr_el1"]) == (vector, FLAGS << 28 | spsr, elr, esr)
    assert (n["el"], n["spsel"], n["daif"], n["mode"]) == (1, 1, DAIF, STRICT)


def test_svc_from_el0(machine: Native) -> None:
    n = step(machine, SVC, el=0)
    taken(n, VECTORS + 0x400, 0, CODE + 4, 0x15 << 26 | 1 << 25 | 0x1234)
    assert (sp(n), n["sp_el0"]) == (0x200, 0x7000)


def test_svc_from_el1(machine: Native) -> None:
    n = step(machine, SVC)
    taken(n, VECTORS + 0x200, 5, CODE + 4, 0x15 << 26 | 1 << 25 | 0x1234)
    assert sp(n) == 0x7000


def test_on_the_users_stack(machine: Native) -> None:
    n = step(machine, UDF, spsel=0, daif=0x80)
    taken(n, VECTORS, 0x84, CODE, 1 << 25)
    assert (sp(n), n["sp_el0"]) == (0x200, 0x7000)


def test_brk(machine: Native) -> None:
    taken(step(machine, BRK, el=0), VECTORS + 0x400, 0, CODE, 0x3C << 26 | 1 << 25 | 7)


@pytest.mark.parametrize(("el", "ec", "group"), [(0, 0x24, 0x400), (1, 0x25, 0x200)])
def test_data_abort(machine: Native, el: int, ec: int, group: int) -> None:
    """Beyond the physical address space: an address size fault of level 0."""
    n = step(machine, LDR, el=el, x0=1 << 45)
    taken(n, VECTORS + group, 5 * el, CODE, ec << 26 | 1 << 25)
    assert n["far_el1"] == 1 << 45


def test_jump_to_a_misaligned_address(machine: Native) -> None:
    n = step(machine, BLR_X0, x0=DATA + 2)
    assert n["pc"] == DATA + 2
    n.step()
    assert (n["pc"], n["esr_el1"], n["far_el1"], n["elr_el1"]) == (VECTORS + 0x200, 0x22 << 26 | 1 << 25, DATA + 2, DATA + 2)


def test_jump_to_a_misaligned_address_that_no_table_is_for(machine: Native) -> None:
    """The PC alignment fault comes before the instruction abort (D1.3.5)."""
    address = 1 << 60 | 2
    n = step(machine, BLR_X0, x0=address)
    assert (n["pc"], n["esr_el1"], n["far_el1"], n["elr_el1"]) == (VECTORS + 0x200, 0x22 << 26 | 1 << 25, address, address)


def test_pan_is_set(machine: Native) -> None:
    """SCTLR_EL1.SPAN clear, of a processor with PAN."""
    n = step(machine, SVC, el=0, has_pan=1)
    assert (n["pan"], n["spsr_el1"] & SPSR_PAN, n["tlb"]) == (1, 0, n["tlb_base"] + 2 * 4096 * 32)
    assert step(machine, SVC, el=0, has_pan=1, sctlr_el1=1 << 23)["pan"] == 0


def test_eret(machine: Native) -> None:
    n = step(machine, ERET, spsr_el1=0x6000_0340, elr_el1=0x1234)
    assert (n["pc"], n["el"], n["spsel"], n["daif"], n["mode"], sp(n)) == (0x1234, 0, 0, 0x340, USER | STRICT, 0x100)
    assert (n["nz"], n["cv"], n["sp_el1"]) == (0, 1 << 31, 0x7000)


def test_eret_arms_software_step(machine: Native) -> None:
    """MDSCR_EL1.SS, to EL0 whatever is masked, to EL1 with KDE and D clear; SPSR.SS counts where who returns is not stepped itself."""
    for spsr, mdscr, armed in (
        (1 << 21, 1, 1),
        (1 << 21, 0, 0),
        (1 << 21 | 5, 1, 0),
        (1 << 21 | 5, 1 | 1 << 13, 1),
        (1 << 21 | 0x205, 1 | 1 << 13, 0),
    ):
        n = step(machine, ERET, spsr_el1=spsr, elr_el1=CODE + 0x100, mdscr_el1=mdscr, os_locked=0, daif=0x200)
        assert (n["step_armed"], n["pstate_ss"]) == (armed, armed)
    n = step(machine, SVC, el=0, step_armed=1, pstate_ss=1, mdscr_el1=1, os_locked=0)
    assert (n["step_armed"], n["spsr_el1"] & 1 << 21) == (0, 0)


def test_dit_comes_back(machine: Native) -> None:
    """PSTATE.DIT is kept while an exception is taken, and is SPSR's after its return."""
    n = step(machine, SVC, el=0, dit=1)
    assert (n["dit"], n["spsr_el1"] >> 24 & 1) == (1, 1)
    for before, spsr in ((1, 0), (0, 1 << 24)):
        assert step(machine, ERET, spsr_el1=spsr, elr_el1=CODE + 0x100, has_dit=1, dit=before)["dit"] == spsr >> 24
    assert step(machine, ERET, spsr_el1=1 << 24, elr_el1=CODE + 0x100)["dit"] == 0


@pytest.mark.parametrize("spsr", [0x8, 0x1, 0x10, 0x2])
def test_illegal_return(machine: Native, spsr: int) -> None:
    """To a higher level, to EL0 with SP_EL0's neighbour, to AArch32, to what is reserved: an exception of the instruction there."""
    n = step(machine, ERET, spsr_el1=spsr, elr_el1=0x1234)
    assert (n["pc"], n["el"], n["spsel"], n["illegal"]) == (VECTORS + 0x200, 1, 1, 0)
    assert (n["esr_el1"], n["elr_el1"], n["spsr_el1"] & (1 << 20 | 0xF)) == (0x0E << 26 | 1 << 25, 0x1234, 1 << 20 | 5)
    for before, pan in ((0, SPSR_PAN), (1, 0)):  # which comes from SPSR nevertheless, as the flags and masks do
        assert step(machine, ERET, spsr_el1=spsr | pan, has_pan=1, pan=before)["spsr_el1"] & SPSR_PAN == pan


@pytest.mark.parametrize(
    ("sctlr", "mode"), [(0, USER | STRICT), (2, USER | STRICT), (1, USER), (3, USER | STRICT)], ids=["off", "off A", "on", "on A"]
)
def test_when_accesses_must_be_aligned(machine: Native, sctlr: int, mode: int) -> None:
    """SCTLR_EL1.A, or stage 1 off, which makes all memory a device's (D8.2.12); HCR_EL2.DC makes it normal memory then."""
    assert step(machine, ERET, elr_el1=CODE + 0x100, sctlr_el1=sctlr)["mode"] == mode
    n = step(machine, ERET, elr_el1=CODE + 0x100, sctlr_el1=0, hcr_el2=1 << 12, has_el2=1)
    assert n["mode"] == USER


LDRH, LDP, LDR_Q, LD1_S, LD1_B, STR_W, DC_ZVA = 0x79400001, 0xA9400801, 0x3DC00000, 0x4C407800, 0x4C407000, 0xB9000001, 0xD50B7420


@pytest.mark.parametrize(
    ("code", "offset", "faults"),
    [
        (LDR, 4, True), (LDR, 8, False), (LDRH, 1, True), (LDRH, 2, False), (LDP, 8, False), (LDP, 4, True), (LDR_Q, 8, True),
        (LDR_Q, 16, False), (LD1_S, 4, False), (LD1_S, 2, True), (LD1_B, 1, False), (STR_W, 2, True), (STR_W, 4, False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("user", [0, 1])
def test_alignment(machine: Native, user: int, code: int, offset: int, faults: bool) -> None:
    """By the size of what is loaded or stored, of pairs and structures by that of one element (B2.5.2, AArch64.MemSingle)."""
    n = step(machine, code, el=1 - user, x0=DATA + offset, mode=user | STRICT)
    if not faults:
        assert n["pc"] == CODE + 4
        return
    group, spsr, ec = (0x400, 0, 0x24) if user else (0x200, 5, 0x25)
    taken(n, VECTORS + group, spsr, CODE, ec << 26 | 1 << 25 | (code == STR_W) << 6 | 0x21)
    assert n["far_el1"] == DATA + offset
    assert step(machine, code, el=1 - user, x0=DATA + offset, mode=user)["pc"] == CODE + 4


BY_STACK = {
    "ldr x0, [sp]": 0xF94003E0, "ldr x0, [sp, 8]": 0xF94007E0, "str x0, [sp], 8": 0xF80087E0, "ldp x0, x1, [sp, -16]!": 0xA9FF07E0,
    "ldrb w0, [sp, x1]": 0x386163E0, "ldxr x0, [sp]": 0xC85F7FE0, "ldadd x0, x0, [sp]": 0xF82003E0, "ldr d0, [sp]": 0xFD4003E0,
    "st1 {v0.8b}, [sp], x1": 0x0C8173E0, "ld1 {v0.8b}, [sp], 8": 0x0CDF73E0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("el", "sctlr", "faults"), [(0, 1 << 4, 1), (0, 1 << 3, 0), (1, 1 << 3, 1), (1, 1 << 4, 0), (2, 1 << 3, 2), (2, 0, 0)]
)
@pytest.mark.parametrize("code", BY_STACK.values(), ids=BY_STACK)
def test_alignment_of_the_stack_pointer(machine: Native, code: int, el: int, sctlr: int, faults: int) -> None:
    """SCTLR_ELx.SA and SA0; the base register comes out unchanged, and FAR too."""
    n = machine
    for low in (8, 0):
        n.reset()
        n.put(Case([code], [DATA + 0x100, 0] + [0] * 29 + [DATA + 0x200 + low], FLAGS, el=el))
        n["has_el2"], n["vbar_el1"], n["vbar_el2"], n["daif"], n["cpacr_el1"], n["spsel"] = (
            int(el == 2),
            VECTORS,
            VECTORS2,
            0,
            3 << 20,
            min(el, 1),
        )
        n["sctlr_el2" if el == 2 else "sctlr_el1"], n["far_el1"], n["sp_el1"], n["sp_el2"] = sctlr, 5, 0x6000, 0x6000
        n.step()
        if low and faults:
            assert n["pc"] == (VECTORS2 if faults == 2 else VECTORS) + (0x200 if el else 0x400)
            assert (n[f"elr_el{faults}"], n[f"esr_el{faults}"], n["far_el1"]) == (CODE, 0x26 << 26 | 1 << 25, 5)
            assert (n["sp_el0"] if el == 0 else sp(n)) == DATA + 0x200 + low
        else:
            assert n["pc"] == CODE + 4


def test_alignment_of_the_stack_pointer_in_regions() -> None:
    """A frame is made and left: add sp, sp, x0 in between decides."""
    n = Native()
    n.regions = True
    frame = [0xA9BE7BFD, 0x8B2063FF, 0xF90003E1, 0xF94003E2, 0xCB2063FF, 0xA8C27BFD]
    for sctlr, x0, syndrome in ((1 << 3, 0, 0), (1 << 3, 8, 0x26 << 26 | 1 << 25), (1 << 4, 8, 0), (1 << 3, 16, 0)):
        n.reset()
        n["sctlr_el1"] = sctlr
        result = n.run(Case(frame, [x0, 0x1234] + [0] * 29 + [DATA + 0x200], 0, el=1))
        assert (result.syndrome, result.x[2]) == (syndrome, 0 if syndrome else 0x1234)
        assert result.x[31] == (DATA + 0x1E8 if syndrome else DATA + 0x200)
        assert result.pc == CODE + (8 if syndrome else 24)
    assert n.engine.hot.made
    n.close()


def test_unprivileged_load_at_el2(machine: Native) -> None:
    """LDTR is an LDR there (C6.2: LDTR): that EL1&0 have no tables is no matter."""
    n = step(machine, LDTR, el=2, x0=DATA, sctlr_el1=1, tcr_el1=32 | 1 << 7, has_el2=1)
    assert (n["pc"], n["el"]) == (CODE + 4, 2)


def test_zeroing_a_device(machine: Native) -> None:
    n = step(machine, DC_ZVA, x0=DATA, mode=STRICT)
    taken(n, VECTORS + 0x200, 5, CODE, 0x25 << 26 | 1 << 25 | 1 << 6 | 0x21)
    assert step(machine, DC_ZVA, x0=DATA, mode=STRICT, hcr_el2=1 << 12)["pc"] == CODE + 4


@pytest.mark.parametrize("code", [0xD5381000, 0xD5181000, ERET, HVC, 0xD5384000, 0xD508871F])
def test_not_for_el0(machine: Native, code: int) -> None:
    """MRS and MSR of SCTLR_EL1, ERET, HVC, a register of EL1, TLBI."""
    taken(step(machine, code, el=0), VECTORS + 0x400, 0, CODE, 1 << 25)


def test_to_el2(machine: Native) -> None:
    """HCR_EL2.TGE takes EL0's exceptions to EL2."""
    n = step(machine, SVC, el=0, hcr_el2=1 << 27, has_el2=1)
    assert (n["pc"], n["spsr_el2"], n["elr_el2"], n["esr_el2"]) == (
        VECTORS2 + 0x400, FLAGS << 28, CODE + 4, 0x15 << 26 | 1 << 25 | 0x1234,
    )  # fmt: skip
    assert (n["el"], sp(n)) == (2, 0x300)


def test_stack_pointers(machine: Native) -> None:
    """MSR SPSel changes banks; SP_EL0 is a register while it is not in use."""
    n = step(machine, 0xD50040BF)  # msr spsel, #0
    assert (sp(n), n["sp_el1"], n["spsel"]) == (0x100, 0x7000, 0)
    n = step(machine, 0xD5184100, x0=0x55)  # msr sp_el0, x0
    assert (sp(n), n["sp_el0"]) == (0x7000, 0x55)


def test_masks(machine: Native) -> None:
    assert step(machine, 0xD5034FDF)["daif"] == 0x3C0  # msr daifset, #15
    before = machine.requests
    n = step(machine, 0xD50342FF, daif=0x3C0, lines=0x80)  # msr daifclr, #2: the interrupt that waits is looked at
    assert (n["daif"], n.requests) == (0x340, before + 1)
    n = step(machine, 0xD50341FF, daif=0x3C0, lines=0x80)  # msr daifclr, #1 is for FIQ
    assert (n["daif"], n.requests) == (0x380, before + 1)


@pytest.mark.parametrize("word", ["virtual_lines", "hcr_el2"])
def test_unmasking_lets_a_hypervisors_interrupt_in(machine: Native, word: str) -> None:
    before = machine.requests
    assert step(machine, 0xD50342FF, daif=0x3C0, **{word: 0x80}).requests == before + 1  # msr daifclr, #2


@pytest.mark.parametrize("code", [0xD61F0000, BLR_X0, 0xD65F0000, ERET])
@pytest.mark.parametrize(
    ("target", "tcr", "lands"),
    [
        (0x12 << 56 | CODE + 0x100, 1 << 37, CODE + 0x100), (0x12 << 56 | CODE + 0x100, 0, None), (1 << 48 | CODE, 1 << 37, None),
        (0x12FF << 48 | CODE, 1 << 37, None), (0x12 << 56 | CODE + 0x100, 1 << 37 | 1 << 51, None),
    ],
)  # fmt: skip
def test_branches_to_where_no_table_leads(machine: Native, code: int, target: int, tcr: int, lands: int | None) -> None:
    """A tag is left out where TCR_EL1.TBI0 and TBID0 say so; an address with other bits above the 48th is a fault of level 0, there."""
    n = step(machine, code, x0=target, tcr_el1=tcr, elr_el1=target, spsr_el1=5)
    if lands is not None:
        assert n["pc"] == lands
        return
    if n["pc"] not in range(VECTORS, VECTORS + 0x800):
        n.step()
    assert (n["pc"], n["esr_el1"], n["elr_el1"], n["far_el1"]) == (VECTORS + 0x200, 0x21 << 26 | 1 << 25, target, target)


def test_halves_of_the_address_space(machine: Native) -> None:
    """Code at the same 48 bits is other code."""
    n = machine
    low, high, tables = 0xFFFF_0000_8000, 0xFFFF_FFFF_0000_8000, 0x60000
    n.reset()
    n.put(Case([0xD2800021]))  # mov x1, 1
    n.ram.view[CODE + 0x1000 : CODE + 0x1008] = 0xD2800041.to_bytes(4, "little") + BRK.to_bytes(4, "little")
    n.engine.written(n.at, n.ram.address + CODE + 0x1000, 8)
    for k, page in enumerate((CODE, CODE + 0x1000)):  # two sets of tables, which have that page everywhere
        for level in range(4):
            at = tables + 0x4000 * k + 0x1000 * level
            d = at + 0x1000 | 3 if level < 3 else page | 1 << 10 | 3
            n.ram.view[at : at + 4096] = d.to_bytes(8, "little") * 512
    n["ttbr0_el1"], n["ttbr1_el1"], n["mair_el1"] = tables, tables + 0x4000, 0xFF
    n["tcr_el1"], n["sctlr_el1"], n["vbar_el1"] = 16 | 16 << 16 | 2 << 30, 1, VECTORS
    n.engine.flush(n.at, 1)
    x1 = layout.offset("x", 1)
    for where, expected in ((low, 1), (high, 2), (low, 1)):
        n["pc"], n["budget_end"], n["icount"] = where, 1, 0
        n.state.view[x1 : x1 + 8] = bytes(8)
        while reason := n.engine.run(n.at):
            getattr(n, "on_" + REASONS[reason])()
        assert int.from_bytes(n.state.view[x1 : x1 + 8], "little") == expected
