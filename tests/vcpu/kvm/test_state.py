"""A processor's state goes to KVM and comes back as it was, by every name; MSRs that KVM refuses are tolerated."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from exuvia.isa.x86.rare import msr
from exuvia.vcpu.kvm import state
from tests.guests.test_guests import needs_binutils
from tests.vcpu.kvm import host
from tests.vcpu.kvm.guest import Guest, program

pytestmark = [host.needs_kvm, needs_binutils]
COMPARED = (
    "cr0 cr2 cr3 cr4 efer gdt_base gdt_limit idt_base idt_limit cpl mode pc fcw fsw c1 ftw top fop fip fdp mxcsr dr0 dr1 dr2 dr3 dr6 dr7"
)
COMPARED += " star lstar cstar fmask kernel_gs_base sysenter_cs sysenter_esp sysenter_eip pat inhibit nmi_blocked"


@pytest.fixture
def guest(tmp_path: Path) -> Any:
    made = program("timers", tmp_path)
    made.machine.reset()
    yield made
    made.vm.close()


def everything(cpu: Any) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(cpu, name) for name in COMPARED.split()}
    found["flags"] = cpu.flags
    for name, count in (
        ("gpr", 16),
        ("x", 16),
        ("st", 8),
        *((f"seg_{part}", 8) for part in "selector base limit attributes low high".split()),
    ):
        found[name] = [getattr(cpu, name)[i] for i in range(count)]
    return found


def test_everything_comes_back(guest: Guest) -> None:
    cpu: Any = guest.machine.vcpus[0]
    r = random.Random(5)
    for i in range(16):
        cpu.gpr[i], cpu.x[i] = r.getrandbits(64), r.getrandbits(128)
    for i in range(8):
        cpu.st[i] = r.getrandbits(80)
    cpu.top, cpu.ftw, cpu.fsw, cpu.c1, cpu.fcw, cpu.fop, cpu.mxcsr = 3, 0b1010_0101, 0x4100, 0x200, 0x27F, 0x123, 0x1F80 & ~0x80
    cpu.fip, cpu.fdp = 0x12345678, 0x87654321
    cpu.set_flags(0x8D7)
    cpu.cr2, cpu.dr0, cpu.dr3, cpu.dr7 = 0x1000, 0x2000, 0x3000, 0x400
    cpu.lstar, cpu.star, cpu.kernel_gs_base, cpu.fmask = 0xFFFF8000_00001000, 0x0023001000000000, 0x7FFF_0000_0000, 0x47700
    cpu.sysenter_cs, cpu.sysenter_esp, cpu.sysenter_eip = 0x10, 0x5000, 0x6000
    cpu.inhibit, cpu.inhibit_pc, cpu.nmi_blocked = 1, cpu.pc, 1
    msr.stored(cpu)[0x250] = 0x0606060606060606
    before = everything(cpu)
    cpu.store()
    for at in range(0, len(cpu.state), 8):
        cpu.state[at : at + 8] = bytes(8)
    cpu.msrs.clear()
    assert everything(cpu) == before
    assert cpu.msrs[0x250] == 0x0606060606060606


def test_real_modes_segments_take_writes(guest: Guest) -> None:
    """KVM has them be code, or read-only, where they were in protected mode."""
    cpu: Any = guest.machine.vcpus[0]
    cpu.cr0, cpu.cr4, cpu.efer = 0x10, 0, 0
    for i, selector in ((0, 0x1000), (1, 0), (3, 0x2000)):  # ES, CS, DS
        cpu.set_segment(i, selector, selector << 4, 0xFFFFF if i == 3 else 0xFFFF, {0: 0x91, 1: 0x9B, 3: 0x8091}[i])
    cpu.set_segment(4, 0x10, 0x5000, 0xFFFF, 0x91)  # FS, which was not loaded since
    cpu.update_mode()
    cpu.store()
    assert [cpu.seg_attributes[i] for i in (0, 1, 3, 4)] == [0x93, 0x93, 0x8093, 0x91]


def test_who_only_looks_changes_nothing(guest: Guest) -> None:
    cpu: Any = guest.machine.vcpus[0]
    cpu.store()
    before = everything(cpu)
    assert cpu.ours
    cpu.store()
    assert not cpu.ours
    assert everything(cpu) == before


def test_the_tsc_is_the_hosts_with_an_offset(guest: Guest) -> None:
    cpu: Any = guest.machine.vcpus[0]
    for attribute, slack in ((True, 0), (False, 1 << 33)):  # what is written to the MSR, KVM brings into step with other processors
        guest.vm.tsc_attribute = attribute
        cpu.tsc_offset = -guest.vm.counter() & (1 << 64) - 1
        cpu.store()
        first, second = cpu.timestamp(), state.get_msrs(cpu.fd, [msr.TSC], set())[msr.TSC]
        cpu.fetch()
        assert first - slack < second < cpu.timestamp() + slack


def test_refused_msrs_are_left_out(guest: Guest) -> None:
    cpu: Any = guest.machine.vcpus[0]
    refused: set[int] = set()
    assert set(state.get_msrs(cpu.fd, [0x277, 0xDEADBEEF, 0x174], refused)) == {0x277, 0x174}
    assert refused == {0xDEADBEEF}
    state.set_msrs(cpu.fd, {0xDEADBEEF: 1, 0x174: 0x33, 0xDEADBEE0: 1, 0x175: 0x44}, refused)
    assert refused == {0xDEADBEEF, 0xDEADBEE0}
    assert state.get_msrs(cpu.fd, [0x174, 0x175], refused) == {0x174: 0x33, 0x175: 0x44}
