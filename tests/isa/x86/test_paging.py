"""Page walks: every format, rights, reserved bits, accessed and dirty bits."""

from __future__ import annotations

import pytest

from exuvia.isa.x86.concrete import Fault
from exuvia.isa.x86.paging import FETCH, GLOBAL, LARGE, MAY_EXECUTE, MAY_READ, MAY_WRITE, NO_FAULT, USER_PAGE, WRITE
from exuvia.isa.x86.rare.control import load_pointers
from exuvia.isa.x86.state import CR4_SMEP, EFER_NXE
from tests.isa.x86.machine import Machine
from tests.isa.x86.settings import TABLES, identity, long_mode

PTE = TABLES + 0x3000
NX = 1 << 63


def entry(m: Machine, at: int, size: int = 8) -> int:
    return int.from_bytes(m.ram[at : at + size], "little")


@pytest.fixture
def m() -> Machine:
    machine = long_mode()
    identity(machine)
    return machine


def test_read_then_write_sets_accessed_then_dirty(m: Machine) -> None:
    assert m.walk(0x5123, 0, 1) == (NO_FAULT, 0x5000, MAY_READ | USER_PAGE | MAY_EXECUTE)
    assert entry(m, PTE + 0x28) == 0x5027
    assert all(entry(m, TABLES + 0x1000 * i) & 0x60 == 0x20 for i in range(3))
    assert m.walk(0x5123, WRITE, 1) == (NO_FAULT, 0x5000, MAY_READ | USER_PAGE | MAY_EXECUTE | MAY_WRITE)
    assert entry(m, PTE + 0x28) == 0x5067
    assert m.walk(0x5123, 0, 0)[2] & MAY_WRITE


@pytest.mark.parametrize(
    ("bits", "access", "index", "error"),
    [
        (0, 0, 1, 0), (0, WRITE, 0, 6), (5, WRITE, 0, 7), (3, 0, 0, 5), (3, FETCH, 0, 0x15), (7 | NX, FETCH, 0, 0x15),
        (7 | NX, FETCH, 1, 0x11),
        (7, FETCH, 1, 0x11), (7, 0, 2, 1), (7, WRITE, 2, 3), (5, WRITE, 1, 3), (7 | 1 << 45, 0, 1, 9), (7 | 1 << 45, WRITE, 0, 0xF),
    ],
)  # fmt: skip
def test_faults(m: Machine, bits: int, access: int, index: int, error: int) -> None:
    m.cr4 |= CR4_SMEP
    m.poke(PTE + 0x28, 0x5000 | bits)
    assert m.walk(0x5000, access, index)[0] == error
    assert entry(m, PTE + 0x28) == 0x5000 | bits  # a fault does not touch the leaf


def test_write_protection_is_for_the_supervisor_only_with_wp(m: Machine) -> None:
    m.poke(PTE + 0x28, 0x5005)
    assert m.walk(0x5000, WRITE, 1)[0] == 3
    m.cr0 &= ~(1 << 16)
    assert m.walk(0x5000, WRITE, 1) == (NO_FAULT, 0x5000, MAY_READ | USER_PAGE | MAY_EXECUTE | MAY_WRITE)
    assert m.walk(0x5000, WRITE, 0)[0] == 7


def test_nx_without_nxe_is_reserved(m: Machine) -> None:
    m.efer &= ~EFER_NXE
    m.poke(PTE + 0x28, 0x5007 | NX)
    assert m.walk(0x5000, 0, 1)[0] == 9
    m.poke(PTE + 0x28, 0)
    assert m.walk(0x5000, FETCH, 0)[0] == 4  # without NXE and SMEP the error code does not tell fetches


def test_rights_are_those_of_all_levels(m: Machine) -> None:
    m.poke(TABLES + 0x2000, TABLES + 0x3000 | 1 | NX)
    assert m.walk(0x5000, 0, 1)[2] == MAY_READ
    assert m.walk(0x5000, 0, 0)[0] == 5
    assert m.walk(0x5000, FETCH, 1)[0] == 0x11


def test_large_and_global_pages(m: Machine) -> None:
    m.cr4 |= 1 << 7
    m.poke(TABLES + 0x2000, 0x0 | 0x183 | 1 << 12)  # 2 MiB, PAT, global
    assert m.walk(0x54321, 0, 1) == (NO_FAULT, 0x54000, MAY_READ | MAY_EXECUTE | GLOBAL | LARGE)
    assert m.walk(0x54321, WRITE, 1)[2] & MAY_WRITE
    assert entry(m, TABLES + 0x2000) == 0x11E3
    m.poke(TABLES + 0x2000, 0x2183)  # bit 13 is reserved there
    assert m.walk(0x54321, 0, 1)[0] == 9
    m.poke(TABLES + 0x1000, 0x40000083)  # 1 GiB
    assert m.walk(0x12345678, 0, 1)[1] == 0x52345000


def test_tables_outside_of_ram_are_not_present(m: Machine) -> None:
    m.poke(TABLES + 0x1000, 0x7FFFF000 | 7)
    assert m.walk(0x5000, 0, 0)[0] == 4


def legacy() -> Machine:
    m = Machine()
    m.cr0, m.cr3, m.cr4 = 0x80010011, TABLES, 0x10
    m.poke(TABLES, TABLES + 0x1000 | 7, 4)
    m.poke(TABLES + 4, 0x00C02087, 4)  # 4 MiB at 1_00C0_0000 (PSE-36)
    m.poke(TABLES + 0x1000 + 4 * 5, 0x9005, 4)
    return m


def test_32_bit_paging() -> None:
    m = legacy()
    assert m.walk(0x5678, 0, 0) == (NO_FAULT, 0x9000, MAY_READ | USER_PAGE | MAY_EXECUTE)
    assert entry(m, TABLES + 0x1000 + 20, 4) == 0x9025
    assert m.walk(0x5678, WRITE, 0)[0] == 7
    assert m.walk(0x6000, FETCH, 0)[0] == 4
    assert m.walk(0x401234, WRITE, 1) == (NO_FAULT, 0x1_00C01000, MAY_READ | USER_PAGE | MAY_EXECUTE | MAY_WRITE | LARGE)
    m.poke(TABLES + 4, 0x00E00087, 4)  # bit 21 is reserved
    assert m.walk(0x401234, 0, 1)[0] == 9
    m.cr4 = 0  # without PSE it points to a table, outside of RAM
    assert m.walk(0x401234, 0, 1)[0] == 0


def test_pae() -> None:
    m = Machine()
    m.cr0, m.cr3, m.cr4, m.efer = 0x80010011, TABLES + 0x20, 0x20, EFER_NXE
    m.poke(TABLES + 0x20 + 24, TABLES + 0x1000 | 1)
    m.poke(TABLES + 0x1000 + 8 * 2, TABLES + 0x2000 | 7)
    m.poke(TABLES + 0x2000 + 8 * 3, 0x9007 | NX)
    load_pointers(m, m.cr3)
    m.poke(TABLES + 0x20 + 24, 0)  # the pointers count as they were when CR3 was loaded
    assert m.walk(0xC0403ABC, WRITE, 0) == (NO_FAULT, 0x9000, MAY_READ | USER_PAGE | MAY_WRITE)
    assert m.walk(0xC0403ABC, FETCH, 0)[0] == 0x15
    assert m.walk(0x00403ABC, 0, 0)[0] == 4
    m.poke(TABLES + 0x20 + 24, TABLES + 0x1000 | 3)  # rights are reserved in a directory pointer
    with pytest.raises(Fault):
        load_pointers(m, m.cr3)


def test_without_paging_everything_is_allowed() -> None:
    m = Machine()
    assert m.walk(0xFFFF1234, WRITE, 1) == (NO_FAULT, 0xFFFF1000, MAY_READ | USER_PAGE | MAY_EXECUTE | MAY_WRITE)
