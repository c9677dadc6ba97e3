"""Control registers, MSRs, flags, fast system calls, ports and debug exceptions."""

from __future__ import annotations

import pytest

from exuvia.isa.x86.concrete import RARE, Fault
from exuvia.isa.x86.cpus import model
from exuvia.isa.x86.rare.debug import accessed, stepped
from exuvia.isa.x86.state import CR4_SMAP, CS, EFER_LMA, EFER_LME, FS, GP, GS, IF, SS, TR
from tests.isa.x86.machine import Machine
from tests.isa.x86.settings import CODE, IDT, K32, K64, KDATA, STACKS, TABLES, TSS, U64, UDATA, identity, long_mode, protected_mode, tables
from tests.isa.x86.test_delivery import gate, words


def pair(m: Machine, number: int, value: int = 0) -> None:
    m.gpr[1], m.gpr[0], m.gpr[2] = number, value & 0xFFFFFFFF, value >> 32


def faults(m: Machine, code: bytes) -> tuple[int, int | None]:
    """What an instruction raises, in its text or in its plain-Python part."""
    end, fault = m.text(code)
    if fault is None:
        assert end is not None
        with pytest.raises(Fault) as raised:
            RARE[end.effect.attr](m, *end.args)
        fault = raised.value
    return fault.vector, fault.error


# -- the way into long mode and out
def test_into_long_mode() -> None:
    m = Machine()
    tables(m)
    identity(m)
    m.start(CODE >> 12)
    m.gpr[0] = 1
    m.step(b"\x0f\x22\xc0")  # MOV CR0,EAX: protected mode
    assert m.mode == 5
    m.step(b"\x66\xea" + CODE.to_bytes(4, "little") + K32.to_bytes(2, "little"))
    assert (m.pc, m.seg_selector[CS]) == (CODE, K32)
    m.gpr[0] = 0x20
    m.step(b"\x0f\x22\xe0")
    m.gpr[0] = TABLES
    m.step(b"\x0f\x22\xd8")
    pair(m, 0xC0000080, EFER_LME)
    m.step(b"\x0f\x30")
    m.gpr[0] = 0x80000001
    m.step(b"\x0f\x22\xc0")
    assert m.efer == EFER_LME | EFER_LMA
    assert m.mode != 0
    m.step(b"\xea" + CODE.to_bytes(4, "little") + K64.to_bytes(2, "little"))
    assert (m.mode, m.pc) == (0, CODE)
    m.gpr[0] = 1
    assert faults(m, b"\x0f\x22\xc0") == (GP, 0)  # paging cannot go off in 64-bit code


@pytest.mark.parametrize(
    ("register", "value"),
    [(0, 0x80000000), (0, 0x20000011), (0, 1 << 32 | 0x80000011), (4, 0), (4, 0x20 | 1 << 31), (4, 0x20 | 1), (8, 16), (3, 1 << 45)],
)
def test_refused_control_values(register: int, value: int) -> None:
    m = long_mode()
    m.gpr[0] = value
    code = (b"\x44" if register == 8 else b"") + bytes([0x0F, 0x22, 0xC0 | (register & 7) << 3])
    assert faults(m, code) == (GP, 0)


def test_control_register_writes_flush() -> None:
    m = long_mode()
    m.gpr[0] = TABLES
    m.text(b"\x0f\x22\xd8")
    assert m.events == [("flush", 0)]
    m.gpr[0] = 0xB0
    m.step(b"\x0f\x22\xe0")
    assert m.events[-1] == ("flush", 1)
    m.gpr[0] = 0x30
    assert m.text(b"\x0f\x22\xe0") == (None, None)  # nothing but PGE changes: no need to leave
    assert (m.events[-1], m.cr4) == (("flush", 1), 0x30)
    m.gpr[3] = 0x1234
    m.text(b"\x0f\x01\x3b")
    assert m.events[-1] == ("invalidate", 0x1234)


def test_privilege() -> None:
    for code in ("0f22c0", "0f20c0", "0f06", "f4", "0f30", "0f32", "0f08", "0f09", "0f0138", "0f01f8", "0f23c0", "0f21c0", "0f0110"):
        m = long_mode(3)
        assert m.text(bytes.fromhex(code))[1] is not None, code
    assert faults(long_mode(3), b"\x0f\x06") == (GP, 0)


# -- MSRs
def test_msrs() -> None:
    m = long_mode()
    for number in (0x174, 0x176, 0xC0000081, 0xC0000082, 0xC0000102, 0xC0000100, 0x277, 0x2FF, 0x400):
        value = 0x00070406_00070406 if number == 0x277 else 0x7FFF_12345678
        pair(m, number, value)
        m.step(b"\x0f\x30")
        pair(m, number)
        m.step(b"\x0f\x32")
        assert (m.gpr[2], m.gpr[0]) == (value >> 32, value & 0xFFFFFFFF), hex(number)
    assert m.seg_base[FS] == 0x7FFF_12345678
    pair(m, 0x12345)
    assert faults(m, b"\x0f\x32") == (GP, 0)
    assert m.events[-1] == ("unknown", "read of unknown MSR 0x12345")
    for number, value in ((0xC0000082, 1 << 47), (0xC0000101, 1 << 63), (0xC0000080, 1 << 20), (0x277, 2), (0x1B, 0xFEE00400)):
        pair(m, number, value)
        assert faults(m, b"\x0f\x30") == (GP, 0), hex(number)


def test_msrs_know_the_model() -> None:
    """One that belongs to a feature is not there without it."""
    lacking = {
        0x277: "pat",
        0x2FF: "mtrr",
        0x400: "mca",
        0x174: "sep",
        0xC0000082: "lm",
        0xC0000100: "lm",
        0x10: "tsc",
        0x1B: "apic",
        0x3B: "tsc_adjust",
    }
    for number, feature in lacking.items():
        m = Machine(model("max", [f"-{feature}"]))
        pair(m, number)
        assert faults(m, b"\x0f\x32") == faults(m, b"\x0f\x30") == (GP, 0), hex(number)
    m = Machine(model("max", ["-rdtscp", "-rdpid"]))
    pair(m, 0xC0000103)
    assert faults(m, b"\x0f\x32") == (GP, 0)


def test_tsc_and_its_adjustment_go_together() -> None:
    """SDM vol. 3, 18.17.3: a write of either moves both."""
    m = long_mode()
    pair(m, 0x10, 1000 + 50)
    m.step(b"\x0f\x30")
    pair(m, 0x3B)
    m.step(b"\x0f\x32")
    assert (m.gpr[0], m.timestamp()) == (50, 1050)
    pair(m, 0x3B, 20)
    m.step(b"\x0f\x30")
    assert m.timestamp() == 1020
    m.reset()
    assert m.__dict__.get("msrs", {}) == {}


def test_efer_knows_the_model() -> None:
    m = Machine(model("qemu32"))
    m.start(16)
    pair(m, 0xC0000080, 0x100)
    assert faults(m, b"\x0f\x30") == (GP, 0)


# -- flags
def test_popf_by_privilege() -> None:
    m = protected_mode(3)
    m.set_flags(0)
    m.poke(m.gpr[4], 0x3FFFFF, 4)
    m.step(b"\x9d")
    assert m.flags == 0x244DD7 | 2
    m = protected_mode(0)
    m.poke(m.gpr[4], 0x3FFFFF, 4)
    m.step(b"\x9d")
    assert m.flags == 0x247FD7
    m.step(b"\x9c")
    assert m.read(m.gpr[4], 4) == 0x247FD7
    m.eflags &= ~0x3100
    m.step(b"\xfa\x90")
    assert not m.flags & IF


def test_smap_chooses_the_tlb() -> None:
    m = long_mode()
    m.cr4 |= CR4_SMAP
    m.update_mode()
    assert m.tlb == 2
    m.text(b"\x0f\x01\xcb")
    assert (m.tlb, m.flags >> 18 & 1) == (1, 1)
    m.text(b"\x0f\x01\xca")
    assert m.tlb == 2


# -- SYSCALL and its kin
def test_syscall_and_sysret() -> None:
    m = long_mode(3)
    m.efer |= 1
    m.star = (UDATA - 8 | 3) << 48 | K64 << 32
    m.lstar, m.fmask = 0xFFFFFFFF_81000000, 0x47700
    m.set_flags(0x203)
    m.step(b"\x0f\x05")
    assert (m.pc, m.cpl, m.mode, m.gpr[1], m.gpr[11], m.flags) == (0xFFFFFFFF_81000000, 0, 0, CODE + 2, 0x203, 3)
    assert (m.seg_selector[CS], m.seg_selector[SS]) == (K64, KDATA)
    m.pc = CODE
    m.step(b"\x48\x0f\x07")
    assert (m.pc, m.cpl, m.flags) == (CODE + 2, 3, 0x203)
    assert (m.seg_selector[CS], m.seg_selector[SS]) == (U64 | 3, UDATA | 3)


def test_sysenter_and_sysexit() -> None:
    m = protected_mode(3)
    m.sysenter_cs, m.sysenter_esp, m.sysenter_eip = 0x100, STACKS, 0x600
    m.set_flags(0x202)
    m.step(b"\x0f\x34")
    assert (m.pc, m.gpr[4], m.cpl, m.flags, m.seg_selector[CS], m.seg_selector[SS]) == (0x600, STACKS, 0, 2, 0x100, 0x108)
    m.gpr[2], m.gpr[1] = 0x700, 0x800
    m.step(b"\x0f\x35")
    assert (m.pc, m.gpr[4], m.cpl, m.seg_selector[CS], m.seg_selector[SS]) == (0x700, 0x800, 3, 0x113, 0x11B)
    assert m.mode == 4


def test_swapgs() -> None:
    m = long_mode()
    m.seg_base[GS], m.kernel_gs_base = 1, 2
    m.step(b"\x0f\x01\xf8")
    assert (m.seg_base[GS], m.kernel_gs_base) == (2, 1)


# -- ports
@pytest.mark.parametrize(
    ("port", "code", "allowed"),
    [
        (0x3F8, b"\xec", True),
        (0x3F9, b"\xec", False),
        (0x3F8, b"\x66\xed", False),
        (0x80, b"\xee", True),
        (0x80, b"\x66\xef", True),
        (0x3FF, b"\xec", False),
    ],
)
def test_port_permissions(port: int, code: bytes, allowed: bool) -> None:
    m = protected_mode(3)
    m.poke(TSS + 0x66, 0x68, 2)
    m.ram[TSS + 0x68 : TSS + 0x68 + 0x81] = b"\xff" * 0x81
    for p in (0x3F8, 0x80, 0x81):
        m.ram[TSS + 0x68 + p // 8] &= ~(1 << (p & 7))
    m.set_segment(TR, m.seg_selector[TR], TSS, 0x68 + 0x80, 0x8B)
    m.gpr[2] = port
    _, fault = m.text(code)
    assert (fault is None) == allowed
    m.set_flags(0x3002)
    assert m.text(code)[1] is None


# -- debug exceptions
def stepping(m: Machine, code: bytes) -> None:
    m.poke(IDT + 8, gate(K32, 0x900, 0x8E))
    stepped(m, lambda: m.step(code))


def test_single_step() -> None:
    m = protected_mode()
    m.set_flags(0x102)
    stepping(m, b"\x90")
    assert (m.pc, m.dr6) == (0x900, 0xFFFF4FF0)
    assert words(m, m.gpr[4], 3, 4) == [CODE + 1, K32, 0x102]
    assert not m.flags & 0x100


def test_instruction_breakpoint_is_a_fault_that_rf_holds_off() -> None:
    m = protected_mode()
    m.dr0, m.dr7 = CODE, 0x402
    stepping(m, b"\x90")
    assert (m.pc, m.dr6 & 15) == (0x900, 1)
    assert words(m, m.gpr[4], 1, 4) == [CODE]
    m = protected_mode()
    m.dr0, m.dr7 = CODE, 0x402
    m.set_flags(0x10002)
    stepping(m, b"\x90")
    assert (m.pc, m.flags) == (CODE + 1, 2)


def test_data_breakpoint() -> None:
    m = protected_mode()
    m.dr1, m.dr7 = 0x8002, 0x400 | 4 | 0xD << 20
    m.poke(IDT + 8, gate(K32, 0x900, 0x8E))
    stepped(m, lambda: accessed(m, 0x7FFC, 4, True))
    m.step(b"\x90")
    assert m.pc == CODE + 1
    stepped(m, lambda: accessed(m, 0x8003, 1, True))
    assert (m.pc, m.dr6 & 15) == (0x900, 2)


def test_general_detect() -> None:
    m = protected_mode()
    m.poke(IDT + 8, gate(K32, 0x900, 0x8E))
    m.dr7 = 0x2400
    m.step(b"\x0f\x21\xc0")
    assert (m.pc, m.dr6 >> 13 & 1, m.dr7) == (0x900, 1, 0x400)
    assert words(m, m.gpr[4], 1, 4) == [CODE]


@pytest.mark.parametrize(("flags", "cr0", "fault"), [(2, 0x11, None), (0x23002, 0x11, 6), (2, 0x10, 6)])
def test_vex_is_for_protected_mode(flags: int, cr0: int, fault: int | None) -> None:
    m = protected_mode(3 if flags & 1 << 17 else 0)
    m.cr0 = cr0
    m.set_flags(flags, 0x3FFFFF)
    m.update_mode()
    m.gpr[0], m.gpr[1] = 0x0F0, 0x3C
    raised = m.text(bytes.fromhex("c4e278f2c1"))[1]  # ANDN EAX, EAX, ECX
    assert raised.vector == fault if raised else fault is None
    assert m.gpr[0] == (0x0C if raised is None else 0x0F0)
