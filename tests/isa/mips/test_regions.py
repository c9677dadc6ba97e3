"""Sequences of instructions with a loop around them, as regions, by the interpreter and on Unicorn: what one leaves, the next finds."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from exuvia.isa.mips.forms import ROWS, Row
from exuvia.isa.mips.state import ADEL, ADES, BP
from tests.isa.mips.assembler import word
from tests.isa.mips.cases import CODE, WINDOW, Case, Oracle, differences, run
from tests.isa.mips.machine import BREAK, KSEG0, Machine

BASE, COUNT = 16, 17  # registers: where memory is, how often the loop goes round
LENGTH, SEQUENCES = 14, 24
LOADS, STORES = ("lw", "lh", "lhu", "lb", "lbu", "lwl", "lwr"), ("sw", "sh", "sb", "swl", "swr")
SIZES = {"lw": 4, "sw": 4, "lh": 2, "lhu": 2, "sh": 2}
OTHERS = """addu subu and or xor nor slt sltu addiu slti sltiu andi ori xori lui sll srl sra sllv srlv srav movz movn mult multu madd msubu
    mul mfhi mflo clz ext ins seb seh wsbh rotr""".split()


@pytest.fixture(scope="module", params=[False, True], ids=["little", "big"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Machine, Oracle]]:
    m = Machine(big=request.param)
    yield m, Oracle(request.param)
    m.close()


def one(r: random.Random, rows: dict[str, Row]) -> int:
    """An instruction that neither jumps nor writes the two registers."""
    name = r.choice([*OTHERS, *LOADS, *STORES, *LOADS])
    row = rows[name]
    fields = {f: r.randrange(1, 16) for f, (_, w) in row.fields.items() if w == 5}
    if "base" in fields:
        fields["base"] = BASE
        fields["offset"] = r.randrange(0, 64) & -SIZES.get(name, 1)
    for f in ("imm", "uimm", "upper"):
        if f in row.fields:
            fields[f] = r.getrandbits(16)
    if "again" in row.fields:
        fields["again"] = fields["rd"]
    if name in ("ins", "ext"):
        fields["sa"], fields["rd"] = 3, 9
    if "sa" in fields and name not in ("ins", "ext"):
        fields["sa"] = r.randrange(32)
    return word(name, **fields)


def sequence(r: random.Random, rows: dict[str, Row]) -> list[int]:
    """A loop with a branch and a jump over parts of it, full and empty slots."""
    body = [one(r, rows) for _ in range(LENGTH)]
    body.insert(4, word(r.choice(["beq", "bne", "beql", "bnel"]), rs=r.randrange(1, 16), rt=r.randrange(1, 16), branch=3))
    if r.random() < 0.5:
        body.insert(5, 0)
    body.insert(10, word("j", target=CODE + 4 * 13 >> 2))
    if r.random() < 0.5:
        body.insert(11, 0)
    body += [word("addiu", rt=BASE, rs=BASE, imm=r.choice([0, 4, 8])), word("addiu", rt=COUNT, rs=COUNT, imm=-1)]
    body += [word("bne", rs=COUNT, rt=0, branch=-len(body) - 1), r.choice([0, one(r, rows)])]
    return body


@pytest.mark.parametrize("off", [0, 2, 1])
def test_sequences(pair: tuple[Machine, Oracle], off: int) -> None:
    """`off`: how far the base is from being aligned; the access that notices it has its exception, and all before it is done."""
    m, oracle = pair
    rows = {row.name: row for row in ROWS if row.name in (*OTHERS, *LOADS, *STORES)}
    r = random.Random(off)
    wrong, codes = [], set()
    for _ in range(SEQUENCES if off == 0 else SEQUENCES // 3):
        code = sequence(r, rows)
        gprs = [0, *(r.getrandbits(32) for _ in range(31))]
        gprs[BASE], gprs[COUNT] = KSEG0 + WINDOW + 256 + off, 5
        case = Case(rows["addu"], code[0], BREAK, gprs, [0] * 32, 1, 2, 0, False, r.randbytes(4096))
        case.rest = code[1:]
        plain = run(m, case)
        codes.add(plain.code)
        theirs = plain if off else oracle.run(case)  # Unicorn does not write registers back where an access is not aligned
        for mine in (plain, run(m, case, Machine.compile_region)):
            found = differences(case, mine, theirs)
            wrong += [f"{[hex(w) for w in code]}: {'; '.join(found)}"] * bool(found)
    assert not wrong, "\n".join(wrong[:5])
    assert (codes & {ADEL, ADES}) if off else codes == {BP}


def test_slots_that_miss_the_tlb(pair: tuple[Machine, Oracle]) -> None:
    """A load in a delay slot, on another page each time: the walk is done in the region, and nothing is left of where the branch leads."""
    m, _ = pair
    at, first, rounds = 0x4000, 0x20000, 40
    loop = [word("addiu", rt=COUNT, rs=COUNT, imm=-1), word("addu", rd=BASE, rs=BASE, rt=18)]
    loop += [word("bne", rs=COUNT, rt=0, branch=-3), word("lw", rt=8, base=BASE, offset=0)]
    m.put(at, *loop, word("addu", rd=9, rs=8, rt=0), BREAK)
    for page in range(rounds + 1):
        m.put(first + 4096 * page, page)

    def go() -> int:
        m.cpu.status, m.cpu.r[BASE], m.cpu.r[COUNT], m.cpu.r[18] = 0, KSEG0 + first, rounds, 4096
        m.engine.flush(m.at, 1)
        m.start(KSEG0 + at)
        assert m.run() == (BP, KSEG0 + at + 20) and m.cpu.then == 0
        return int(m.cpu.r[9])

    assert go() == rounds
    m.start(KSEG0 + at)
    m.compile_region()
    before, exits = m.engine.hot.installed, m.cpu.tlb_misses
    assert go() == rounds and m.cpu.tlb_misses >= exits + rounds and before
