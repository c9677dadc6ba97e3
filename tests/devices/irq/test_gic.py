"""Banks and priorities, which all GICs have."""

import pytest

from exuvia.devices.irq.gic import IDLE, Bank, Candidate, Interface, follower, ones


class Port(Interface):
    name = "port"


def test_ones() -> None:
    assert list(ones(0x8000_0011)) == [0, 4, 31]


def test_levels_and_edges() -> None:
    bank = Bank(32, 64)
    bank.enabled = bank.all
    bank.write(0xC08, 4, 0b10)  # INTID 32 is an edge, 33 a level
    assert bank.read(0xC08, 4) == 2
    for intid in (32, 33):
        bank.drive(intid, True)
    assert bank.pending == 3 << 32
    for intid in (32, 33):
        bank.drive(intid, False)
    assert bank.pending == 1 << 32, "an edge stays, a level goes with its line"
    bank.drive(33, True)
    bank.acknowledge(33)
    assert bank.pending >> 33 & 1, "pending and active while the line is high"
    assert bank.best(3) == Candidate(0, 32, 0)
    bank.acknowledge(32)
    assert bank.best(3) is None
    bank.deactivate(33)
    assert bank.best(3) == Candidate(0, 33, 0)


def test_priorities_and_groups() -> None:
    bank = Bank(32, 96)
    bank.write(0x104, 4, 0xFFFFFFFF)
    bank.write(0x204, 4, 0b111)
    bank.write(0x420, 4, 0x0810FF07)
    assert bank.read(0x420, 4) == 0x0810F800, "five bits"
    assert bank.best(3) == Candidate(0, 32, 0)
    bank.write(0x84, 1, 0b001)
    assert bank.best(1) == Candidate(0x10, 34, 0)
    assert bank.best(2) == Candidate(0, 32, 1)
    assert bank.best(3, ~(1 << 32)) == Candidate(0x10, 34, 0)
    bank.write(0x184, 4, 0b100)
    assert bank.best(1) == Candidate(0xF8, 33, 0)
    bank.write(0x284, 4, 0b010)
    assert bank.best(1) is None


def test_what_a_bank_does_not_have_is_left_alone() -> None:
    bank = Bank(0, 32, edge=0xFFFF, edge_fixed=0xFFFF, always=0xFFFF)
    for offset in range(0x80, 0xD00, 4):
        bank.write(offset, 4, 0xFFFFFFFF)
    for offset in (0x180, 0x280, 0x380):
        bank.write(offset, 4, 0xFFFFFFFF)
    assert (bank.enabled, bank.latched, bank.active, bank.edge) == (0xFFFF, 0, 0, 0xFFFFFFFF)
    bank.write(0xC00, 4, 0)
    assert bank.edge == 0xFFFFFFFF
    bank.write(0xC04, 4, 0)
    assert bank.edge == 0xFFFF
    assert bank.read(0x800, 4) is None
    assert not bank.write(0x7C, 4, 1)


def test_preemption() -> None:
    port = Port()
    port.priority_mask = 0xF8
    assert port.running() == IDLE
    assert not port.preempts(None)
    assert not port.preempts(Candidate(0xF8, 40, 0)), "not above the mask"
    low, high = Candidate(0xA0, 40, 0), Candidate(0x90, 41, 1)
    assert port.preempts(low)
    port.activate(low)
    assert port.running() == 0xA0
    assert port.preempts(high)
    port.set_binary_point(1, 6)  # bits above 6 decide: 0x80 against 0xA0
    assert port.group_priority(0xA0, 1) == 0x80
    port.activate(high)
    assert port.running() == 0x80
    assert not port.drop(1), "what has the highest priority is of the other group"
    assert port.drop(2)
    assert port.running() == 0xA0
    port.common_binary_point = True
    port.set_binary_point(0, 7)
    assert port.group_priority(0x90, 1) == 0, "nothing preempts"
    assert port.drop()
    assert not port.drop()


def test_inputs_that_do_not_exist() -> None:
    with pytest.raises(ValueError, match="no INTID 64"):
        follower(Bank(32, 64), 64, lambda: None)
