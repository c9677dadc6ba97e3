"""The virtual CPU interface: a hypervisor fills list registers, its guest takes and ends what is in them."""

from __future__ import annotations

import random

import pytest

from exuvia.devices.irq.gic_virtual import ACTIVE, EOI, HW, PENDING, VirtualInterface
from tests.devices.timing import high

GROUP1 = 1 << 60


class Guest:
    def __init__(self) -> None:
        self.ended: list[int] = []
        self.gic = VirtualInterface(self.ended.append)
        self.hypervisor("HCR", 1)
        self.set("PMR", 0xF0)
        self.set("IGRPEN1", 1)

    def get(self, name: str) -> int:
        return self.gic.read_register(f"ICV_{name}_EL1")

    def set(self, name: str, value: int) -> None:
        self.gic.write_register(f"ICV_{name}_EL1", value)

    def hypervisor(self, name: str, value: int | None = None) -> int:
        if value is None:
            return self.gic.read_register(f"ICH_{name}_EL2")
        self.gic.write_register(f"ICH_{name}_EL2", value)
        return 0


@pytest.fixture
def guest() -> Guest:
    return Guest()


def test_what_there_is(guest: Guest) -> None:
    assert guest.hypervisor("VTR") & 0x10001F == 0x100003, "four list registers, nV4"
    assert guest.hypervisor("ELRSR") == 0xF
    guest.hypervisor("LR7", PENDING)
    assert guest.hypervisor("LR7") == 0
    assert guest.get("CTLR") >> 8 & 7 == 4


def test_an_interrupt(guest: Guest) -> None:
    guest.hypervisor("LR2", PENDING | GROUP1 | 0xA0 << 48 | 27)
    assert high(guest.gic.irq)
    assert guest.get("HPPIR1") == 27
    assert guest.get("IAR0") == 1023
    assert guest.get("IAR1") == 27
    assert guest.hypervisor("LR2") >> 62 == 2, "active"
    assert guest.get("RPR") == 0xA0
    assert not high(guest.gic.irq)
    guest.hypervisor("LR0", PENDING | GROUP1 | 0x20 << 48 | 40)
    assert guest.get("IAR1") == 40, "it preempts"
    guest.set("EOIR1", 40)
    guest.set("EOIR1", 27)
    assert guest.hypervisor("ELRSR") == 0xF
    assert guest.get("RPR") == 0xFF


def test_a_physical_interrupt_ends_with_it(guest: Guest) -> None:
    guest.hypervisor("LR0", PENDING | GROUP1 | HW | 27 << 32 | 0x80 << 48 | 100)
    guest.set("CTLR", 2)
    assert guest.get("IAR1") == 100
    guest.set("EOIR1", 100)
    assert guest.ended == []
    guest.set("DIR", 100)
    assert guest.ended == [27]


def test_group_0_and_what_is_off(guest: Guest) -> None:
    guest.hypervisor("LR0", PENDING | 30)
    assert not high(guest.gic.fiq)
    guest.set("IGRPEN0", 1)
    assert high(guest.gic.fiq)
    guest.hypervisor("HCR", 0)
    assert not high(guest.gic.fiq)
    assert guest.get("IAR0") == 1023


def test_maintenance(guest: Guest) -> None:
    guest.hypervisor("LR0", PENDING | GROUP1 | EOI | 50)
    guest.hypervisor("HCR", 1)
    assert guest.get("IAR1") == 50
    assert not high(guest.gic.maintenance)
    guest.set("EOIR1", 50)
    assert high(guest.gic.maintenance)
    assert guest.hypervisor("EISR") == guest.hypervisor("MISR") == 1
    guest.hypervisor("LR0", 0)
    assert not high(guest.gic.maintenance)
    guest.hypervisor("HCR", 1 | 2)  # few are left
    assert guest.hypervisor("MISR") == 2
    guest.hypervisor("LR0", ACTIVE | 60)
    guest.hypervisor("LR1", ACTIVE | 61)
    assert guest.hypervisor("MISR") == 0
    guest.hypervisor("HCR", 1 | 8)  # none is pending
    assert guest.hypervisor("MISR") == 8
    guest.hypervisor("HCR", 1 | 1 << 6)  # group 1 is enabled
    assert guest.hypervisor("MISR") == 1 << 6


def test_an_end_without_a_list_register_is_counted(guest: Guest) -> None:
    guest.hypervisor("AP1R0", 1 << 4)
    guest.set("EOIR1", 70)
    assert guest.hypervisor("HCR") >> 27 == 1
    guest.hypervisor("HCR", guest.hypervisor("HCR") | 4)
    assert guest.hypervisor("MISR") == 4


def test_the_machines_view_of_the_guests_settings(guest: Guest) -> None:
    guest.set("BPR1", 5)
    guest.set("CTLR", 2)
    word = guest.hypervisor("VMCR")
    assert word == 2 | 1 << 9 | 5 << 18 | 2 << 21 | 0xF0 << 24
    other = Guest()
    other.hypervisor("VMCR", word)
    assert other.gic.save() == guest.gic.save()


def test_any_use(guest: Guest) -> None:
    chance = random.Random(4)
    names = [
        f"ICV_{n}_EL1" for n in "IAR0 IAR1 EOIR0 EOIR1 HPPIR0 HPPIR1 BPR0 BPR1 AP0R0 AP1R0 AP1R2 DIR RPR CTLR IGRPEN0 IGRPEN1 PMR".split()
    ]
    names += [f"ICH_{n}_EL2" for n in "HCR VTR MISR EISR ELRSR VMCR LR0 LR1 LR2 LR3 LR15 AP0R0 AP1R0 AP0R3".split()]
    for _ in range(4000):
        guest.gic.write_register(chance.choice(names), chance.choice((chance.getrandbits(64), PENDING | GROUP1 | chance.randrange(40))))
        assert 0 <= guest.gic.read_register(chance.choice(names)) < 1 << 64
