"""What is written while the dirty log runs: by the guest, by who writes for it, and nothing else."""

from __future__ import annotations

from pathlib import Path

from exuvia.memory.ram import Ram
from exuvia.memory.space import Slot
from exuvia.vcpu.kvm.memory import Slots
from tests.guests import console
from tests.guests.test_guests import needs_binutils
from tests.vcpu.kvm import host
from tests.vcpu.kvm.guest import PROGRAMS, Guest

pytestmark = [host.needs_kvm]
MIB = 1 << 20


def beyond(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What is not the program itself."""
    return [(offset, length) for offset, length in found if offset >= 8 * MIB]


@needs_binutils
def test_what_a_guest_writes(tmp_path: Path) -> None:
    guest = Guest(console.assemble("writes", tmp_path, PROGRAMS))
    slots, found = guest.vm.slots, []
    slots.log(True)
    guest.machine.memory.write_bytes(12 * MIB + 5, bytes(4096))  # as a device does
    guest.machine.at_end.insert(0, lambda: found.append(list(slots.written())))
    guest.machine.at_end.insert(1, lambda: found.append(list(slots.written())))
    assert guest.run() == console.PASS
    assert beyond(found[0]) == [(8 * MIB, 0x1000), (8 * MIB + 0x2000, 0x2000), (10 * MIB, 0x2000), (12 * MIB, 0x2000)]
    assert found[1] == []


@needs_binutils
def test_no_log_costs_nothing_and_a_new_map_keeps_it(tmp_path: Path) -> None:
    guest = Guest(console.assemble("writes", tmp_path, PROGRAMS))
    slots, machine, found = guest.vm.slots, guest.machine, []
    slots.log(True)

    def look() -> None:
        machine.memory.map_device(9 * MIB, MIB, machine.devices["ioapic"], priority=3)  # takes the slot apart
        machine.memory.unmap(9 * MIB, MIB)
        found.append(list(slots.written()))
        slots.log(False)
        found.append(list(slots.written()))

    machine.at_end.insert(0, look)
    assert guest.run() == console.PASS
    assert beyond(found[0]) == [(8 * MIB, 0x1000), (8 * MIB + 0x2000, 0x2000), (10 * MIB, 0x2000)]
    assert found[1] == []


def test_only_whole_pages_are_kvms(monkeypatch: object) -> None:
    ram, given = Ram(1 << 20), []

    class Recorded(Slots):
        def _set(self, number: int, slot: Slot) -> None:
            given.append((number, slot))

    slots = Recorded(-1, ram, 4)
    whole = Slot(0x1000, 0x2000, 0x1000, False)
    slots.update([Slot(0xF00, 0x2200, 0xF00, False), Slot(0x10000, 0x800, 0x10000, True), Slot(0x20000, 0x2000, 0x20800, True)])
    assert given == [(0, whole)]
    slots.update([])
    assert given[1:] == [(0, whole._replace(size=0))]
    ram.close()
