"""Code that changes under the block cache, instructions over two pages, addresses that come round, strings that fault half-way."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random

import pytest

from exuvia.isa.x86.forms import ROWS
from tests.codegen.native import CODE_AT, CODED, DEVICE, PLAIN, TABLES, NativeMachine
from tests.isa.x86.cases import COMPARED, put, suitable
from tests.oracle import values
from tests.oracle.case import CODE, CODE_PAGE, WINDOW, WINDOW_SIZE, Case, Fault, Result
from tests.oracle.freedoms import settled
from tests.oracle.generate import LOCKABLE, Generator
from tests.oracle.hostcpu import HostCpu, why_not

WINDOWS = (PLAIN, CODED, DEVICE)
DIRECTORY, CODE_TABLE = TABLES + 0x2000, TABLES + 0x3000
SECOND = 0x7000
"""Guest-physical address of the page that is mapped behind CODE_PAGE where a test wants one."""
TOP_TABLE = 0x6000
RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)


@pytest.fixture(scope="module")
def shared() -> Iterator[NativeMachine]:
    machine = NativeMachine()
    yield machine
    machine.close()


@pytest.fixture
def native(shared: NativeMachine) -> Iterator[NativeMachine]:
    """RAM everywhere, and nothing behind the code's page when it is over."""
    shared.become(PLAIN)
    yield shared
    shared.ram.view[CODE_TABLE + 8 : CODE_TABLE + 16] = bytes(8)
    shared.engine.flush(shared.at, 1)


@pytest.fixture(scope="module")
def host() -> Iterator[HostCpu]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with HostCpu() as h:
        yield h


def registers(**values: int) -> list[int]:
    gprs = [0] * 16
    gprs[RSP] = WINDOW + 4096
    for name, v in values.items():
        gprs["rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split().index(name)] = v
    return gprs


def same(want: Result, got: Result) -> bool:
    """Do two results agree? The host's fault has a signal too."""
    faults = [r.fault and (r.fault.vector, r.fault.error & ~1, r.fault.address) for r in (want, got)]
    flags = [r.rflags & COMPARED for r in (want, got)]
    return faults[0] == faults[1] and flags[0] == flags[1] and (want.gprs, want.rip, want.memory) == (got.gprs, got.rip, got.memory)


# -- code that changes itself
SELF_MODIFYING = {
    "the next instruction's immediate": "C6 05 01 00 00 00 55 B0 11",  # mov byte [rip+1], 55h; mov al, 11h
    "the next instruction becomes another": "66 C7 05 00 00 00 00 FF C3 FF C0",  # mov word [rip], inc ebx; inc eax
    "four instructions ahead": "C6 05 05 00 00 00 77 90 90 90 90 B0 11",
    "a dword over two instructions": "C7 05 00 00 00 00 B0 01 B3 02 B0 11 B3 12",
    "a loop that changes its own addend": "B9 05 00 00 00 83 C0 01 FE 05 FC FF FF FF FF C9 75 F3",
    "a loop that changes its count's register": "B9 03 00 00 00 FF C0 FE 0D F9 FF FF FF FF C9 75 F4",
    "REP STOSB over what follows": "48 8D 3D 06 00 00 00 B0 90 F3 AA 90 FF C3 FF C3 FF C3",  # rcx = 4
    "MOVS over what follows": "48 8D 35 09 00 00 00 48 8D 3D 02 00 00 00 A4 90 90 FF C3 FF C0",
    "PUSH over what follows": "48 8D 25 04 00 00 00 6A 90 FF C3 FF C3 FF C3",
    "LOCK XCHG": "B8 90 90 90 90 F0 87 05 02 00 00 00 FF C3 FF C3 FF C3",
    "MOVAPS": "66 0F EF C0 0F 11 05 00 00 00 00 FF C3 FF C3 FF C3 FF C3 90 90 90 90 90 90 90 90",
    "FSTP m80": "D9 E8 DB 3D 02 00 00 00 90 90 90 90 90 90 90 90 90 90 90 90",
    "itself, already past": "C6 05 F9 FF FF FF 90 FF C0",  # its own first byte
}


@pytest.mark.parametrize("name", SELF_MODIFYING)
def test_stores_to_code_ahead_take_effect_at_once(native: NativeMachine, host: HostCpu, name: str) -> None:
    case = Case(bytes.fromhex(SELF_MODIFYING[name]), gprs=registers(rcx=4))
    want = host.run(case)
    for _ in range(3):  # blocks of the last round must not live on
        got = native.run(case)
        assert same(want, got), f"{want.gprs} {want.fault} {want.rip:#x}, we {got.gprs} {got.fault} {got.rip:#x}"


def test_a_patched_loop_runs_new_code_every_time(native: NativeMachine) -> None:
    """A subroutine's immediate is changed before each of 1000 calls: mov [rip+..], ecx; call; add ebx, eax; loop."""
    case = Case(bytes.fromhex("89 0D 0A 00 00 00  E8 04 00 00 00  01 C3  EB 06  B8 00 00 00 00 C3  FF C9 75 E7"), gprs=registers(rcx=1000))
    got = native.run(case)
    assert got.fault is None and got.gprs[RBX] == 1000 * 1001 // 2


def test_another_mapping_of_a_code_page_reaches_the_code(native: NativeMachine) -> None:
    """The page is mapped twice; the store through the second mapping changes what the first one runs."""
    code = bytes.fromhex("B0 11 C6 07 22 EB 09") + bytes(9)  # mov al, 11h; mov byte [rdi], 22h; jmp +9
    back = bytes.fromhex("FF C9 75 EC")  # dec ecx; jnz start
    case = Case(code + back, gprs=registers(rcx=2, rdi=CODE + 4096 + 1))
    native.put(case)
    native.map(CODE_TABLE, (CODE_PAGE >> 12 & 511) + 1, CODE_AT)
    native.go()
    assert native.result(case).gprs[RAX] == 0x22


# -- instructions over two pages
def crossing(native: NativeMachine, code: bytes, before: int, mode: int = 64) -> Case:
    """Put code so that `before` bytes of it stand on the first page; the rest goes to the second, which lies elsewhere in RAM."""
    case = Case(b"", mode, gprs=registers())
    native.put(case)
    start = CODE_AT + 4096 - before
    native.ram.view[start : CODE_AT + 4096] = code[:before]
    native.ram.view[SECOND : SECOND + 4096] = (code[before:] + b"\xcc" * 4096)[:4096]
    native.engine.written(native.at, native.ram.address + SECOND, 4096)
    native.map(CODE_TABLE, (CODE_PAGE >> 12 & 511) + 1, SECOND)
    native.engine.flush(native.at, 1)
    native.vcpu.pc = CODE_PAGE + 4096 - before
    return case


LONG = bytes.fromhex("48 B8 11 22 33 44 55 66 77 88")  # mov rax, 8877665544332211h


@pytest.mark.parametrize("before", range(1, 10))
def test_instruction_over_two_pages(native: NativeMachine, before: int) -> None:
    case = crossing(native, LONG, before)
    start = native.vcpu.pc
    native.go()
    got = native.result(case)
    assert got.fault is None and got.gprs[RAX] == 0x8877665544332211 and got.rip == start + 10
    # new bytes on the second page, unknown to the block cache: the guard sees them
    native.ram.view[SECOND + 9 - before] = 0x99
    native.vcpu.pc = start
    native.go()
    assert native.result(case).gprs[RAX] == 0x9977665544332211
    # no second page: a fault there, at the instruction
    native.ram.view[CODE_TABLE + 8 : CODE_TABLE + 16] = bytes(8)
    native.engine.flush(native.at, 1)
    native.vcpu.pc = start
    native.go()
    got = native.result(case)
    assert got.fault == Fault(0, 14, 0x14, CODE_PAGE + 4096) and got.rip == start and native.vcpu.icount == 4
    # another page there
    native.ram.view[0xF000 : 0xF000 + 4096] = (LONG[before:9] + b"\x77" + b"\xcc" * 4096)[:4096]
    native.map(CODE_TABLE, (CODE_PAGE >> 12 & 511) + 1, 0xF000)
    native.engine.flush(native.at, 1)
    native.vcpu.pc = start
    native.go()
    assert native.result(case).gprs[RAX] == 0x7777665544332211


def test_crossing_instruction_behind_others(native: NativeMachine) -> None:
    """The crossing one starts a block of its own; the block before it falls into it, every time."""
    code = bytes.fromhex("FF C3 FF C3") + LONG + bytes.fromhex("FF C9 75 EE")  # inc ebx; inc ebx; mov; dec ecx; jnz start
    case = crossing(native, code, 4 + 3)
    native.vcpu.gpr[RCX] = 50
    native.go()
    got = native.result(case)
    assert got.fault is None and got.gprs[RBX] == 100 and native.vcpu.icount == 5 * 50 + 1


@pytest.mark.parametrize("before", [1, 7, 14])
def test_longest_instruction_over_two_pages(native: NativeMachine, before: int) -> None:
    """Fifteen bytes are the most that an instruction has; one more is #GP(0) (SDM vol. 2, 2.3.11)."""
    case = crossing(native, bytes.fromhex("66" * 12 + "B8 34 12"), before)
    start = native.vcpu.pc
    native.go()
    assert native.result(case).gprs[RAX] == 0x1234 and native.result(case).rip == start + 15
    case = crossing(native, bytes.fromhex("66" * 13 + "B8 34 12"), before)
    native.go()
    assert native.result(case).fault == Fault(0, 13, 0, 0)


def test_crossing_branch(native: NativeMachine) -> None:
    """A JMP rel32 over the end: its target counts from its end."""
    case = crossing(native, bytes.fromhex("E9 20 00 00 00"), 2)
    native.go()
    assert native.result(case).rip == CODE_PAGE + 4096 - 2 + 5 + 0x20


# -- addresses that come round
@pytest.fixture
def top(native: NativeMachine) -> NativeMachine:
    """The last and the first page of the 4 GiB are mapped: at guest-physical 0x7000 and 0xF000. INT3 all over."""
    pdpt = TABLES + 0x1000
    view = native.ram.view
    directory_top, bottom_table = 0x10000, 0x11000
    native.map(pdpt, 3, directory_top)
    native.map(directory_top, 511, TOP_TABLE)
    native.map(TOP_TABLE, 511, SECOND)
    native.map(DIRECTORY, 0, bottom_table)
    native.map(bottom_table, 0, 0xF000)
    native.put(Case(b"", 32, gprs=registers()))
    for page in (SECOND, 0xF000):
        native.engine.written(native.at, native.ram.address + page, 4096)
        view[page : page + 4096] = b"\xcc" * 4096
    return native


@pytest.mark.parametrize(
    ("at", "code", "end"),
    [
        (0xFFFFFFF0, "EB 30", 0x22),
        (0xFFFFFFF0, "E9 30 00 00 00", 0x25),
        (0xFFFFFFF0, "31 C0 74 30", 0x24),
        (0x10, "EB E0", 0xFFFFFFF2),
        (0x10, "E9 E0 FF FF FF", 0xFFFFFFF5),
        (0x10, "31 C0 75 E0 EB D0", 0xFFFFFFE6),
        (0xFFFFFFFE, "FF C0 FF C0", 2),
        (0xFFFFFFFD, "B8 01 00 00 00", 2),
        (0xFFFFFFFE, "EB 00", 0),
        (0xFFFFFFFC, "E8 00 00 00 00", 1),
    ],
)
def test_execution_comes_round_at_4_gib(top: NativeMachine, at: int, code: str, end: int) -> None:
    data = bytes.fromhex(code)
    for i, byte in enumerate(data):
        linear = at + i & 0xFFFFFFFF
        top.ram.view[(SECOND if linear >> 31 else 0xF000) + (linear & 0xFFF)] = byte
    top.vcpu.pc = at
    top.go()
    got = top.result(Case(b"", 32))
    assert got.fault is None and got.rip == end
    if code.startswith("E8"):
        assert top.vcpu.read(WINDOW + 4092, 4) == 1


def test_data_comes_round_at_4_gib(top: NativeMachine) -> None:
    """MOV EAX, [FFFFFFFEh] and back: the second half is at 0. Without that page the fault is there."""
    code = bytes.fromhex("A1 FE FF FF FF 89 05 FD FF FF FF")
    case = Case(code, 32, gprs=registers())
    top.put(case)
    top.ram.view[SECOND + 4094 : SECOND + 4096] = b"\x11\x22"
    top.ram.view[0xF000:0xF004] = b"\x33\x44\xcc\xcc"
    top.go()
    got = top.result(case)
    assert got.fault is None and got.gprs[RAX] == 0x44332211
    assert bytes(top.ram.view[SECOND + 4093 : SECOND + 4096]) == b"\x11\x22\x33" and top.ram.view[0xF000] == 0x44
    top.ram.view[0x11000:0x11008] = bytes(8)
    top.engine.flush(top.at, 1)
    top.put(case)
    top.go()
    assert top.result(case).fault == Fault(0, 14, 4, 0)


def test_64_bit_addresses_come_round(native: NativeMachine) -> None:
    """64-bit mode: the end of the lower half is no way into anything, and RIP-relative addresses are 64 bits wide."""
    case = Case(bytes.fromhex("48 8B 03"), gprs=registers(rbx=(1 << 47) - 4))
    got = native.run(case)
    assert got.fault == Fault(0, 13, 0, 0) or got.fault == Fault(0, 14, 4, (1 << 47) - 4)
    case = Case(bytes.fromhex("48 8B 03"), gprs=registers(rbx=1 << 47))
    assert native.run(case).fault == Fault(0, 13, 0, 0)
    case = Case(bytes.fromhex("48 8B 04 24"), gprs=registers(rsp=1 << 63))
    assert native.run(case).fault == Fault(0, 12, 0, 0)
    case = Case(bytes.fromhex("FF E3"), gprs=registers(rbx=1 << 47))
    assert native.run(case).fault == Fault(0, 13, 0, 0)


# -- strings
STRINGS = ("A4", "A5", "48 A5", "66 A5", "AA", "AB", "48 AB", "66 AB", "AC", "AD", "48 AD", "A6", "A7", "48 A7", "AE", "AF", "66 AF")


def string_cases(seed: int, count: int) -> list[Case]:
    """Long repeated strings near the window's ends, with every prefix and direction."""
    r, made = Random(seed), []
    for _ in range(count):
        text = r.choice(STRINGS)
        code = r.choice((b"\xf3", b"\xf3", b"\xf2", b"")) + bytes.fromhex(text)
        size = {"48": 8, "66": 2}.get(text[:2], 4 if int(text[-2:], 16) & 1 else 1)
        near = [WINDOW + x for x in (0, 4096, 8192, WINDOW_SIZE)]
        source, target = (r.choice(near) + r.choice((-1, 1)) * r.randrange(200 * size) for _ in range(2))
        if r.random() < 0.3:
            target = source + r.randrange(-3 * size, 3 * size)
        memory = bytearray(r.randbytes(WINDOW_SIZE) if r.random() < 0.4 else bytes([r.choice((0, 7))]) * WINDOW_SIZE)
        for _ in range(r.randrange(3)):
            memory[r.randrange(WINDOW_SIZE)] = r.randrange(256)
        gprs = registers(
            rsi=source, rdi=target, rcx=r.choice((0, 1, r.randrange(100), r.randrange(900))), rax=r.choice((0, 0x0707070707070707))
        )
        made.append(Case(code, gprs=gprs, rflags=0x602 if r.random() < 0.3 else 0x202, memory=bytes(memory)))
    return made


@pytest.mark.parametrize("window", WINDOWS)
def test_strings_show_how_far_they_came(native: NativeMachine, host: HostCpu, window: str) -> None:
    cases = string_cases(5, 600 if window == PLAIN else 150)
    native.compile(cases)
    native.become(window)
    faults = 0
    for case, want in zip(cases, host.run_many(cases)):
        got = native.run(case)
        faults += want.fault is not None
        want = settled(case, want, got)
        assert same(want, got), (
            f"{case.code.hex()} {case.rflags:#x} {list(map(hex, case.gprs[:8]))}: {want.gprs} {want.fault}, we {got.gprs} {got.fault}"
        )
    assert faults > len(cases) / 10


# -- LOCK
def test_lock_where_it_is_not_allowed(native: NativeMachine, host: HostCpu) -> None:
    """Register forms, and instructions that do not take it, are undefined (SDM vol. 2, LOCK)."""
    maker, cases = Generator(3), []
    for row in suitable(host.features()):
        for g in maker.cases(row):
            allowed = row.name in LOCKABLE and g.memory and row.operands and row.operands[0][0] in "EM"
            if not allowed and g.case.code[0] != 0xF0 and not row.vex:
                g.case.code = b"\xf0" + g.case.code
                cases.append(g.case)
    wrong = []
    for case, want in zip(cases, host.run_many(cases)):
        got = native.run(case)
        if not same(want, got):
            wrong.append(f"{case.code.hex()} {case.mode}: {want.fault}, we {got.fault}")
    assert not wrong, "\n".join([f"{len(wrong)} of {len(cases)}", *wrong[:20]])
    assert len(cases) > 2000


def test_locked_instructions_over_pages_and_on_devices(native: NativeMachine, host: HostCpu) -> None:
    maker, cases = Generator(4), list[Case]()
    for row in ROWS:
        if row.name in LOCKABLE and row.operands and row.operands[0][0] in "EM" and row.memory and not row.vex:
            cases += [g.case for g in maker.cases(row, 12) if g.case.code[0] == 0xF0]
    native.compile(cases)
    for window in WINDOWS:
        native.become(window)
        for case, want in zip(cases, host.run_many(cases)):
            got = native.run(case)
            assert (want.gprs, want.memory) == (got.gprs, got.memory), f"{window}: {case.code.hex()}"
    assert len(cases) > 100


# -- instructions with many accesses
IMAGES = {
    "fxsave": "0F AE 07", "fxsave64": "48 0F AE 07", "fxrstor": "0F AE 0F", "fxrstor64": "48 0F AE 0F", "xsave": "0F AE 27",
    "xrstor": "0F AE 2F", "xsaveopt": "0F AE 37", "fnsave": "DD 37", "frstor": "DD 27", "fnstenv": "D9 37", "fldenv": "D9 27",
}  # fmt: skip


@pytest.mark.parametrize("offset", [64, 4096 - 256, 4096 - 64])
@pytest.mark.parametrize("name", IMAGES)
def test_images_of_the_x87_anywhere(native: NativeMachine, name: str, offset: int) -> None:
    """FXSAVE and its kin: on RAM, on RAM with code, on a device, inside of a page and over its end, the same comes out."""
    maker = Generator(9)
    fxsave = values.fxsave(maker.random)
    memory = bytearray(WINDOW_SIZE)
    memory[offset : offset + 512] = values.fxsave(maker.random)
    if name in ("fldenv", "frstor"):
        memory[offset : offset + 28] = struct.pack("<HHHHHHIIII", 0x37F, 0, 0x1800, 0, 0xA5A5, 0, 0, 0, 0, 0)
    elif name == "xrstor":
        memory[offset + 512 : offset + 576] = struct.pack("<Q", 3) + bytes(56)
    case = Case(bytes.fromhex(IMAGES[name]), gprs=registers(rdi=WINDOW + offset, rax=3), fxsave=fxsave, memory=bytes(memory))
    template = bytearray(native.templates[64])
    put(template, "xcr0", 3)
    results = []
    for window in WINDOWS:
        native.become(window)
        results.append(native.run(case, bytes(template)))
    plain = results[0]
    assert plain.fault is None and (plain.memory != case.memory or plain.fxsave != case.fxsave)
    assert all(r == plain for r in results)
