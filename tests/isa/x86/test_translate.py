"""The page walk of the monitor, on tables written by hand from the manual's figures (SDM vol. 3, 4.3 to 4.5)."""

from types import SimpleNamespace

import pytest

from exuvia.isa.x86.translate import translate

PG, PSE, PAE, LMA = 1 << 31, 1 << 4, 1 << 5, 1 << 10


def walk(tables: dict[int, int], linear: int, cr4: int, efer: int) -> int | None:
    return translate(SimpleNamespace(cr0=PG, cr3=0x1000, cr4=cr4, efer=efer), linear, lambda address, size: tables.get(address, 0))


def test_without_paging() -> None:
    assert translate(SimpleNamespace(cr0=1, cr3=0, cr4=0, efer=0), 0x1234, lambda address, size: 0) == 0x1234


@pytest.mark.parametrize(
    ("linear", "physical"),
    [
        (0x0040_2ABC, 0x0000_7ABC),  # 4 KiB
        (0x00C0_1234, 0x0080_1234),  # 4 MiB
        (0x0100_0042, 0x12_0140_0042),  # 4 MiB above 4 GiB, by PSE-36
        (0x0040_3000, None),
        (0x8000_0000, None),
    ],
)
def test_32_bit(linear: int, physical: int | None) -> None:
    tables = {0x1004: 0x2003, 0x2008: 0x7003, 0x100C: 0x0080_0083, 0x1010: 0x0140_0083 | 0x12 << 13}
    assert walk(tables, linear, PSE, 0) == physical


@pytest.mark.parametrize(("linear", "physical"), [(0x4020_1ABC, 0x9_0000_0ABC), (0x4040_1234, 0x8_0020_1234), (0xC000_0000, None)])
def test_pae(linear: int, physical: int | None) -> None:
    tables = {0x1008: 0x2001, 0x2008: 0x3003, 0x3008: 0x8000_0009_0000_0003, 0x2010: 0x8_0020_0083}
    assert walk(tables, linear, PAE, 0) == physical


@pytest.mark.parametrize(
    ("linear", "physical"),
    [
        (0xFFFF_8000_0000_0123, 0x5123),  # 4 KiB
        (0xFFFF_8000_0020_0123, 0x60_0123),  # 2 MiB
        (0xFFFF_8000_4000_0123, 0x1_0000_0123),  # 1 GiB
        (0x0000_8000_0000_0000, None),  # not canonical
        (0, None),
    ],
)
def test_4_level(linear: int, physical: int | None) -> None:
    tables = {0x1800: 0x2003, 0x2000: 0x3003, 0x3000: 0x4003, 0x4000: 0x5003, 0x3008: 0x60_0083, 0x2008: 0x1_0000_0083}
    assert walk(tables, linear, PAE, LMA) == physical
