"""Which blocks become regions, which regions are known again, and what becomes of them where the guest writes code."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exuvia.codegen import hot
from exuvia.codegen.heads import Head
from exuvia.codegen.layout import CACHE, HEAD
from exuvia.codegen.making import Made, Making, Wanted, made_of
from exuvia.codegen.store import Store
from exuvia.support import log
from tests.codegen.native import CODE_AT, LIMIT, STOPPED, TABLES, NativeMachine, beside
from tests.codegen.test_blocks import SECOND, crossing, registers
from tests.oracle.case import CODE, CODE_PAGE, Case, Result

LOOP = bytes.fromhex("48 01 C8 48 FF C9 75 F8")  # add rax, rcx; dec rcx; jnz -8
SAMPLES = 16 * 16384  # instructions that are surely enough to be sampled 16 times
KERNEL = 0xFFFFFFFF81234560


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store("x86-hot", tmp_path)


@pytest.fixture(scope="module")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeMachine]:
    """Compiles the core and the everyday handlers once; the others take them from it."""
    machine = NativeMachine(Store("x86-hot", tmp_path_factory.mktemp("handlers")))
    machine.run(Case(LOOP, gprs=registers(rcx=3)))
    yield machine
    machine.close()


@pytest.fixture
def native(store: Store, handlers: NativeMachine) -> Iterator[NativeMachine]:
    """With a region store of its own."""
    for batch in handlers.engine.store.batches():
        store.add(batch)
    machine = NativeMachine(store)
    yield machine
    machine.close()


def head(native: NativeMachine, offset: int) -> Head:
    """The block at an offset of the code's page, decoded."""
    native.vcpu.pc = CODE_PAGE + offset
    if not (address := native.engine.block(native.at)):
        native.vcpu.exit_handlers[native.vcpu.reason]()  # the mode is new
        address = native.engine.block(native.at)
    assert address
    return native.engine.hot.head(address)


def compiled(native: NativeMachine, code: bytes, **values: int) -> Wanted:
    """Have a region made of what the code's first block leads to, every block of a first run included."""
    native.run(Case(code, gprs=registers(**values)))
    offsets = [h.offset for h in beside(native.engine.hot, head(native, CODE & 0xFFF))]
    native.put(Case(code, gprs=registers(**values)))
    for offset in offsets:
        head(native, offset)
    wanted = native.engine.hot.grow(head(native, CODE & 0xFFF).address)
    assert wanted is not None
    native.engine.hot.make_now(wanted)
    return wanted


def remembered(native: NativeMachine, code: bytes, **values: int) -> bool:
    """Is a region known for the code? The state is that before a run."""
    case = Case(code, gprs=registers(**values))
    native.put(case)
    first = head(native, CODE & 0xFFF)
    found = native.engine.hot.remembered(native.state, first, CODE)
    assert found == bool(native.engine.hot.head(first.address).region)
    native.vcpu.pc = CODE
    return found


def finish(native: NativeMachine, code: bytes = b"") -> Result:
    native.go()
    return native.result(Case(code))


# -- choosing
def test_a_loop_that_is_seen_often_becomes_a_region(native: NativeMachine) -> None:
    case = Case(LOOP, gprs=registers(rcx=SAMPLES))
    got = native.run(case)
    assert native.engine.hot.made == native.engine.hot.installed == 1
    assert got.gprs[0] == SAMPLES * (SAMPLES + 1) // 2 and native.vcpu.icount == 3 * SAMPLES + 1


def test_code_that_is_being_written_does_not(native: NativeMachine) -> None:
    """Another processor's store is in memory, and the block that it will drop stands yet."""
    native.run(Case(LOOP, gprs=registers(rcx=3)))
    wanted = native.engine.hot.grow(head(native, CODE & 0xFFF).address)
    assert wanted is not None
    asked: list[Wanted] = []
    native.engine.hot.ask = asked.append
    for b in (wanted.blocks[0]._replace(code=LOOP[:1] + b"\x29" + LOOP[2:]), wanted.blocks[0]):  # sub instead of add
        native.engine.hot.want(wanted._replace(blocks=(b,)))
    assert [w.blocks[0].code for w in asked] == [LOOP]


def test_who_makes_regions_hears_when_what_waits_is_seen_again(native: NativeMachine) -> None:
    seen: list[bool] = []
    native.engine.hot.ask, native.engine.hot.remind = lambda wanted: None, lambda: seen.append(True)
    native.run(Case(LOOP, gprs=registers(rcx=3 * SAMPLES)))
    assert seen and native.engine.hot.missed == 1


def test_a_loop_that_is_not_does_not(native: NativeMachine) -> None:
    native.run(Case(LOOP, gprs=registers(rcx=SAMPLES // 40)))
    assert native.engine.hot.made == 0


@pytest.mark.parametrize(("nops", "times", "made"), [(0, 2, 1), (40, 2, 0), (40, 12, 1)])
def test_where_most_was_known_a_region_has_to_be_worth_its_making(native: NativeMachine, nops: int, times: int, made: int) -> None:
    """So many samples for each of its instructions, or a block that is very hot."""
    native.engine.hot.found = 1
    code = b"\x90" * nops + bytes.fromhex("48 01 C8 48 FF C9 0F 85") + (-nops - 12).to_bytes(4, "little", signed=True)
    native.run(Case(code, gprs=registers(rcx=times * SAMPLES // (nops + 3))))
    assert native.engine.hot.made == made


def test_a_region_has_what_is_warm_and_what_lies_between(native: NativeMachine) -> None:
    """test cl, 1; jz A; inc ebx; A: dec rcx; jnz -; and a cold end."""
    code = bytes.fromhex("F6 C1 01 74 02 FF C3 48 FF C9 75 F4 48 01 D2")
    wanted = compiled(native, code, rcx=4)
    at = CODE & 0xFFF
    assert [b.offset - at for b in wanted.blocks] == [0, 5, 7]
    assert [b.code for b in wanted.blocks] == [code[:5], code[5:12], code[7:12]]


def test_a_region_has_what_was_copied(native: NativeMachine) -> None:
    """jmp A; A: inc rax; jmp B; B: inc rbx; jmp C; C: a block that no sample met, and that leads to none, runs often if it was copied."""
    code = bytes.fromhex("EB 00 48 FF C0 EB 00 48 FF C3 EB 00 48 01 D2")
    native.run(Case(code, gprs=registers()))
    native.put(Case(code, gprs=registers()))
    first, second, _ = (head(native, (CODE & 0xFFF) + offset) for offset in (0, 2, 7))
    for copied, count in ((0, 1), (1, 2)):
        ctypes.c_uint8.from_address(second.address + HEAD["copied"]).value = copied
        wanted = native.engine.hot.grow(first.address)
        assert wanted is not None and len(wanted.blocks) == count


def test_an_instruction_over_two_pages_alone_is_no_region(native: NativeMachine) -> None:
    crossing(native, bytes.fromhex("48 B8 11 22 33 44 55 66 77 88"), 4)
    h = head(native, 0x1000 - 4)
    b = native.engine.hot.block(h)
    assert b.crosses and b.code == bytes.fromhex("48 B8 11 22 33 44 55 66 77 88") and native.engine.hot.grow(h.address) is None


# -- knowing again
def test_a_region_comes_back_from_the_store(native: NativeMachine, store: Store) -> None:
    compiled(native, LOOP, rcx=5)
    for other in (store, Store("x86-other", store.path.parent)):
        again = NativeMachine(other) if other is store else None
        if again is None:
            assert not list(other.beside("regions").batches())
            continue
        assert remembered(again, LOOP, rcx=100000)
        assert finish(again).gprs[0] == 100000 * 100001 // 2 and again.engine.hot.made == 0
        again.close()


@pytest.mark.parametrize("at", [3, 40, -1])
def test_a_damaged_region_is_none(native: NativeMachine, store: Store, at: int) -> None:
    compiled(native, LOOP, rcx=5)
    (file,) = (f for f in native.engine.region_store.path.iterdir() if f.suffix == ".code")
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)
    again = NativeMachine(store)
    assert not again.engine.hot.known and not file.exists() and not remembered(again, LOOP, rcx=9)
    compiled(again, LOOP, rcx=5)
    assert file.exists()
    again.close()


@pytest.mark.parametrize("k", range(len(LOOP)))
def test_other_bytes_are_not_known(native: NativeMachine, k: int) -> None:
    compiled(native, LOOP, rcx=5)
    assert remembered(native, LOOP, rcx=2)
    other = bytearray(LOOP)
    other[k] ^= 1
    assert not remembered(native, bytes(other), rcx=2)


def moving_code(value: int) -> bytes:
    """mov rdi, value; lea rsi, [rcx + value]; cmp rdi, value; dec rcx; jnz: constants as a kernel's addresses are."""
    imm = (value & 0xFFFFFFFF).to_bytes(4, "little")
    return b"\x48\xc7\xc7" + imm + b"\x48\x8d\xb1" + imm + b"\x48\x81\xff" + imm + bytes.fromhex("48 FF C9 75 E6")


def test_constants_that_move_are_read_from_the_records(native: NativeMachine) -> None:
    compiled(native, moving_code(KERNEL), rcx=3)
    (made,) = native.engine.hot.placed.values()
    assert [gaps for _, _, gaps in made.blocks] == [((3, 4), (10, 4), (17, 4))]
    for value in (KERNEL, KERNEL + 0x1C00000, -(1 << 31) & (1 << 64) - 1):
        assert remembered(native, moving_code(value), rcx=7)
        got = finish(native)
        assert got.gprs[7] == value and got.gprs[6] == value + 1 & (1 << 64) - 1 and got.fault is None
    assert native.engine.hot.made == 1
    assert not remembered(native, moving_code(0x1234), rcx=7)  # no address of a kernel: a constant like another


def far_code(disp: int) -> bytes:
    """lea rdi, [rip + disp]; dec rcx; jnz: how a kernel that may lie anywhere names what stays where it is."""
    return b"\x48\x8d\x3d" + disp.to_bytes(4, "little", signed=True) + bytes.fromhex("48 FF C9 75 F4")


def test_what_lies_far_from_an_instruction_is_read_from_the_records(native: NativeMachine) -> None:
    far = 0x4FDD050E
    compiled(native, far_code(far), rcx=3)
    (made,) = native.engine.hot.placed.values()
    assert [gaps for _, _, gaps in made.blocks] == [((3, 4),)]
    for disp in (far, far + 0x1C00000, -far):
        assert remembered(native, far_code(disp), rcx=7)
        assert finish(native).gprs[7] == CODE + 7 + disp & (1 << 64) - 1
    assert native.engine.hot.made == 1
    assert not remembered(native, far_code(0x1234), rcx=7)  # moves with the instruction: a constant like another


def test_a_name_in_the_store_says_all(native: NativeMachine) -> None:
    wanted = compiled(native, moving_code(KERNEL), rcx=3)
    made = wanted.make(native.engine.form, native.architecture)
    assert made_of(made.symbol) == made._replace(code=b"", at=0)
    assert made.code == wanted.make(native.engine.form, native.architecture).code  # a pure function


def test_a_block_that_is_longer_now_is_another(native: NativeMachine) -> None:
    """At the page's end: what follows crosses it, so the block ends before; later it does not, and its old bytes are the same."""
    add, long, short = bytes.fromhex("48 01 C8"), bytes.fromhex("48 B8 00 00 00 00 00 00 00 00"), bytes.fromhex("48 FF C0")
    offset = 0x1000 - 6
    crossing(native, add + long, 6)
    wanted = native.engine.hot.grow(head(native, offset).address)
    assert wanted is not None and [b.code for b in wanted.blocks] == [add]
    native.engine.hot.make_now(wanted)
    assert native.engine.hot.head(wanted.heads[0]).region
    native.vcpu.gpr[1] = 5
    crossing(native, add + short, 6)
    native.ram.view[SECOND] = 0xCC
    found = head(native, offset)
    assert found.n == 2 and not native.engine.hot.remembered(native.state, found, native.vcpu.pc)
    native.vcpu.gpr[0], native.vcpu.gpr[1] = 10, 5
    assert finish(native).gprs[0] == 16


def test_what_changed_while_it_was_made_is_not_installed(native: NativeMachine) -> None:
    found = native.engine.hot
    native.put(Case(LOOP, gprs=registers(rcx=5)))
    wanted = found.grow(head(native, CODE & 0xFFF).address)
    assert wanted is not None
    made = wanted.make(native.engine.form, native.architecture)
    native.put(Case(bytes.fromhex("48 29 C8 48 FF C9 75 F8"), gprs=registers(rcx=5)))
    head(native, CODE & 0xFFF)
    found.finished(wanted, made)
    assert found.late == 1 and found.installed == 0
    assert remembered(native, LOOP, rcx=5)  # but it is known by now
    native.engine.drop_blocks()
    native.vcpu.forget_blocks()
    found.finished(wanted, made)
    assert found.installed == 1


def test_a_region_without_room_for_its_heads(native: NativeMachine) -> None:
    cache = native.engine.cache
    compiled(native, LOOP, rcx=5)
    native.put(Case(LOOP, gprs=registers(rcx=5)))
    h = head(native, CODE & 0xFFF)
    cache[CACHE["arena"] // 8] = cache[CACHE["arena_end"] // 8] - 8
    native.engine.hot.remembered(native.state, h, CODE)
    assert not native.engine.hot.head(h.address).region


def test_what_could_not_be_made_is_not_asked_for_again(native: NativeMachine) -> None:
    asked: list[Wanted] = []

    def ask(w: Wanted) -> None:
        asked.append(w)
        native.engine.hot.finished(w, None)

    native.engine.hot.ask = ask
    native.run(Case(LOOP, gprs=registers(rcx=4 * SAMPLES)))
    assert len(asked) == 1


def test_room_for_regions_is_given_to_new_ones(native: NativeMachine) -> None:
    code = native.engine.region_code
    compiled(native, LOOP, rcx=5)
    code.used = code.size - 8
    other = bytes.fromhex("48 29 C8 48 FF C9 75 F8")  # sub rax, rcx
    got = native.run(Case(other, gprs=registers(rcx=4 * SAMPLES)))
    assert got.gprs[0] == -(4 * SAMPLES * (4 * SAMPLES + 1) // 2) & (1 << 64) - 1
    assert native.engine.hot.installed == 2 and code.used < 1 << 16
    assert not remembered(native, LOOP, rcx=5) and remembered(native, other, rcx=5)


def test_the_store_of_regions_is_bounded(native: NativeMachine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(native, LOOP, rcx=5)
    monkeypatch.setattr(hot, "KEPT", native.engine.hot.kept - 1)
    compiled(native, moving_code(KERNEL), rcx=3)
    assert native.engine.hot.made == 2 and len(list(store.beside("regions").batches())) == 1
    again = NativeMachine(store)
    assert not again.engine.hot.known and again.engine.region_code.used == 0
    again.close()


# -- a block of two regions
SHARED = 0x180  # where it stands: on another line than the others
# X: test cl, 1; jz Z. Y: inc ebx; jmp Z. Z: dec rcx; jnz X
OF_TWO = bytes.fromhex("F6 C1 01 0F 84 77 01 00 00 FF C3 E9 70 01 00 00").ljust(SHARED, b"\xcc") + bytes.fromhex(
    "48 FF C9 0F 85 77 FE FF FF"
)


def overlapping(native: NativeMachine) -> list[tuple[Wanted, Made]]:
    """Two regions that have Z: one has X, one Y."""
    native.run(Case(OF_TWO, gprs=registers(rcx=4)))
    native.put(Case(OF_TWO, gprs=registers(rbx=0, rcx=100)))
    x, y, z = (CODE & 0xFFF) + 0, (CODE & 0xFFF) + 9, (CODE & 0xFFF) + SHARED
    heads = {offset: head(native, offset) for offset in (x, y, z)}
    whole = native.engine.hot.grow(heads[x].address)
    assert whole is not None
    made = []
    for first in (x, y):
        blocks = tuple(native.engine.hot.block(heads[o]) for o in (first, z))
        wanted = whole._replace(blocks=blocks, entries=(first,), heads=(heads[first].address, heads[z].address))
        made.append((wanted, wanted.make(native.engine.form, native.architecture)))
    return made


def test_a_block_may_be_in_two_regions(native: NativeMachine) -> None:
    found = native.engine.hot
    for wanted, made in overlapping(native):
        found.finished(wanted, made)
    assert (found.installed, found.late) == (2, 0)
    tables = [head(native, (CODE & 0xFFF) + at).region for at in (0, 9, SHARED)]
    assert tables[0] == tables[2] != tables[1] and all(tables)
    native.vcpu.pc = CODE
    assert finish(native).gprs[3] == 50


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_write_to_a_block_of_two_regions_drops_both(native: NativeMachine, order: tuple[int, int]) -> None:
    found, both = native.engine.hot, overlapping(native)
    for k in order:
        found.finished(*both[k])
    code = OF_TWO[:SHARED] + bytes.fromhex("48 83 E9 01 0F 85 76 FE FF FF")  # another Z: sub rcx, 1; jnz X
    before, start = native.vcpu.counters()["regions dropped"], CODE_AT + (CODE & 0xFFF)
    assert all(head(native, (CODE & 0xFFF) + at).region for at in (0, 9, SHARED))
    native.ram.view[start : start + len(code)] = code
    native.engine.written(native.at, native.ram.address + start + SHARED, 16)
    assert not any(head(native, (CODE & 0xFFF) + at).region for at in (0, 9, SHARED))
    native.vcpu.pc = CODE
    assert finish(native, code).gprs[3] == 50
    assert native.vcpu.counters()["regions dropped"] == before + 2


def test_known_regions_that_overlap_are_put_into_place_both(native: NativeMachine) -> None:
    found, both = native.engine.hot, overlapping(native)
    for wanted, made in both:
        found.finished(wanted, made)
    native.engine.drop_blocks()
    native.vcpu.forget_blocks()
    native.put(Case(OF_TWO, gprs=registers(rbx=0, rcx=100)))
    for at in (0, 9):
        h = head(native, (CODE & 0xFFF) + at)
        native.vcpu.pc = CODE + at
        assert found.remembered(native.state, h, CODE + at) and found.head(h.address).region
    shared = head(native, (CODE & 0xFFF) + SHARED)
    assert not found.remembered(native.state, shared, CODE + SHARED)  # nothing would be entered
    native.vcpu.pc = CODE
    assert finish(native).gprs[3] == 50 and found.made == 2


# -- code that changes
REWRITTEN = bytes.fromhex(
    "89 1D 07 00 00 00"  # outer: mov [rip + 7], ebx: the inner loop's addend
    "B9 A0 86 01 00"  # mov ecx, 100000
    "90"
    "05 00 00 00 00"  # inner: add eax, imm32
    "FF C9 75 F7"  # dec ecx; jnz inner
    "FF CB 75 E7"  # dec ebx; jnz outer
)


def run(native: NativeMachine) -> None:
    for _ in range(20 * LIMIT):
        reason = native.engine.run(native.at)
        if reason == STOPPED:
            return
        native.vcpu.exit_handlers[reason]()
    raise AssertionError("it does not end")


def test_a_page_that_is_rewritten_all_the_time_is_left_alone(native: NativeMachine) -> None:
    """A loop of 300,000 instructions runs 200 times, each time with another constant: some 25 samples a round, a region for few of them."""
    native.put(Case(REWRITTEN, gprs=registers(rbx=200)))
    run(native)
    assert native.vcpu.gpr[0] == 100000 * 200 * 201 // 2 & 0xFFFFFFFF
    assert 1 <= native.engine.hot.made <= 14, native.engine.hot.made


def test_a_page_that_comes_to_rest_gets_regions_again(native: NativeMachine) -> None:
    """What a JIT does: code is written, runs, is written again; in the end it stays."""
    native.put(Case(REWRITTEN, gprs=registers(rbx=60)))
    run(native)
    before = native.engine.hot.made
    native.put(Case(LOOP, gprs=registers(rcx=1 << 26)))
    run(native)
    assert native.engine.hot.made > before and native.vcpu.gpr[0] == (1 << 26) * ((1 << 26) + 1) // 2
    assert native.engine.hot.head(head(native, CODE & 0xFFF).address).region


def test_a_guests_jit(native: NativeMachine) -> None:
    """Functions of its own are written one behind the other on a page, called, and overwritten when the page is full."""
    call = bytes.fromhex("FF D6 FF C9 75 FA")  # call rsi; dec ecx; jnz -
    at, total = 0xA00, 0
    native.put(Case(call, gprs=registers()))
    for n in range(120):
        function = b"\x05" + n.to_bytes(4, "little") + b"\x01\xd0\xc3"  # add eax, n; add eax, edx; ret
        native.vcpu.write(CODE_PAGE + at, 8, int.from_bytes(function, "little"))
        times = 3 * SAMPLES if n % 12 == 0 else 300
        native.vcpu.pc, native.vcpu.resume = CODE, 0
        native.vcpu.gpr[1], native.vcpu.gpr[2], native.vcpu.gpr[6] = times, 3, CODE_PAGE + at
        run(native)
        total += times * (n + 3)
        assert native.vcpu.gpr[0] == total & 0xFFFFFFFF
        at = 0xA00 if at >= 0xF00 else at + 64
    assert native.engine.hot.made >= 1
    assert bytes(native.ram.view[CODE_AT + 0xA00 : CODE_AT + 0xA01]) == b"\x05"


# -- what `-d hot` says
@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[[], list[str]]]:
    """The lines since the last time."""
    log.configure("hot")
    yield lambda: capsys.readouterr().err.splitlines()
    log.configure("")


def test_the_log_says_what_becomes_of_regions(native: NativeMachine, store: Store, told: Callable[[], list[str]]) -> None:
    native.run(Case(LOOP, gprs=registers(rcx=4 * SAMPLES)))
    (line,) = told()
    assert re.fullmatch(rf"hot: made at {CODE:#x}: 1 blocks, 3 instructions, [1-9]\d+ bytes, \d+ ms, \d+ samples", line)
    counts = native.vcpu.counters()
    assert (counts["regions made"], counts["store hits"], counts["store misses"], counts["regions dropped"]) == (1, 0, 1, 0)
    other = bytes.fromhex("48 29 C8 48 FF C9 75 F8")
    native.run(Case(other, gprs=registers(rcx=4 * SAMPLES)))
    dropped, made = told()
    assert dropped.startswith(f"hot: dropped, the guest wrote to its code at {CODE:#x}: 1 blocks")
    assert made.startswith(f"hot: made at {CODE:#x}: 1 blocks")
    assert native.vcpu.counters()["regions dropped"] == 1
    again = NativeMachine(store)
    again.run(Case(LOOP, gprs=registers(rcx=4 * SAMPLES)))
    (line,) = told()
    assert line.startswith(f"hot: found at {CODE:#x}: 1 blocks, 3 instructions, ")
    assert again.vcpu.counters()["store hits"] == 1 and again.vcpu.counters()["regions made"] == 0
    again.close()


def test_the_log_says_why_there_is_no_region(native: NativeMachine, told: Callable[[], list[str]]) -> None:
    found = native.engine.hot
    found.ask = lambda w: found.finished(w, None, Making(0.1, "ValueError no"))
    native.run(Case(LOOP, gprs=registers(rcx=4 * SAMPLES)))
    (line,) = told()
    assert re.fullmatch(rf"hot: not made at {CODE:#x}: 1 blocks, 3 instructions: ValueError no, \d+ samples", line)
    assert native.vcpu.counters()["regions not made"] == 1


def test_a_jump_of_16_bits_leads_where_it_stands(native: NativeMachine) -> None:
    """In flat code of 32 bits it clears the upper half of EIP: a link of the region at one address, not at another of the same page."""
    tables = [TABLES + 4096 * i for i in (2, 3)]
    native.map(tables[0], 0, tables[1])  # addresses from 0 on as those around the code
    for page in (8, 9):
        native.map(tables[1], page, CODE_AT)
    case = Case(bytes.fromhex("01 C8 49 74 04 66 E9 F7 FF"), 32, registers(rcx=10))  # add eax, ecx; dec ecx; jz +4; jmp16 -9
    native.put(case)
    low = 0x8000 + (CODE & 0xFFF)
    for at in (low + 5, low):
        native.vcpu.pc = at
        while not (address := native.engine.block(native.at)):
            native.vcpu.exit_handlers[native.vcpu.reason]()
        ctypes.c_uint32.from_address(address + HEAD["samples"]).value = 1
    wanted = native.engine.hot.grow(address, None, 0x8000)
    assert wanted is not None and wanted.page == 0x8000 and [b.links[-1] for b in wanted.blocks] == [(CODE & 0xFFF) + 5, CODE & 0xFFF]
    native.engine.hot.make_now(wanted)
    for at, end in ((low, low + 9), (low + 0x1000, low + 0x1009), (CODE, (CODE & 0xFFF) + 9)):
        native.vcpu.pc, native.vcpu.icount = at, 0
        native.vcpu.gpr[0], native.vcpu.gpr[1] = 0, 10
        if at == CODE:
            native.map(tables[1], 0, CODE_AT)
        got = finish(native)
        assert (got.gprs[0], got.rip, native.vcpu.icount) == (55, end, 40)
