"""The interrupt controllers wired as in a PC, driven at random: what the processor sees agrees with what they hold."""

import random

import pytest

from exuvia.devices.irq.i8259 import I8259Pair
from tests.devices.irq.test_apic import Machine


@pytest.mark.parametrize("seed", range(20))
def test_the_line_says_whether_there_is_a_vector(seed: int) -> None:
    chance = random.Random(seed)
    machine, pic = Machine(), I8259Pair()
    for apic in machine.apics:
        apic.write(0xD0, 4, 1 << 24 + int(apic.index))
    boot = machine.apics[0]
    pic.irq.connect(boot.input(0))
    boot.pic_acknowledge = pic.acknowledge
    boot.write(0x350, 4, 0x700)
    for chip, base in ((pic.master, 0x20), (pic.slave, 0x28)):
        chip.write(0, 1, 0x11)
        for word in (base, 4 if chip is pic.master else 2, 1):
            chip.write(1, 1, word)
        chip.write(1, 1, 0xF0)
    numbers = [number for number in range(16) if number != 2]
    sinks = {number: (pic.input(number), machine.ioapic.input(number)) for number in numbers}
    for number in range(4, 16):
        machine.entry(number, chance.getrandbits(1) << 15 | chance.getrandbits(1) << 11 | 1 << 56 | 0x30 + 8 * number)
    delivered = 0
    for _ in range(3000):
        action = chance.randrange(7)
        apic, port = chance.choice(list(zip(machine.apics, machine.ports, strict=True)))
        if action < 3:
            level = bool(chance.getrandbits(1))
            for sink in sinks[chance.choice(numbers)]:
                sink(level)
        elif action == 3:
            apic.task_priority = chance.choice((0, 0, 4, 8, 15))
        elif action == 4:
            apic.write(0xB0, 4, 0)
        elif action == 5:
            chip = chance.choice((pic.master, pic.slave))
            chip.write(0, 1, 0x20)
        for apic, port in zip(machine.apics, machine.ports, strict=True):
            assert port.level == apic.intr.level
            before = apic.service
            if port.level and chance.getrandbits(1):
                vector = apic.acknowledge()
                delivered += 1
                if apic.service != before:
                    assert vector >> 4 > before.bit_length() - 1 >> 4 if before else True
                    assert vector >> 4 > apic.task_priority
                else:
                    assert 0x20 <= vector < 0x30
                    assert vector & 7 != 7 or vector in (0x27, 0x2F)
            elif not port.level:
                waiting = apic.requests.bit_length() - 1
                assert waiting >> 4 <= max(apic.task_priority, max(before.bit_length() - 1, 0) >> 4) or not apic.requests
    assert delivered > 100
    # Every request is served in the end.
    for apic in machine.apics:
        apic.task_priority = 0
    for pair in sinks.values():
        for sink in pair:
            sink(False)
    for _ in range(200):
        for apic, port in zip(machine.apics, machine.ports, strict=True):
            while port.level:
                apic.acknowledge()
            apic.write(0xB0, 4, 0)
        for chip in (pic.slave, pic.master):
            chip.write(0, 1, 0x20)
    assert not any(apic.requests or apic.service for apic in machine.apics)
    assert not any(entry & 1 << 14 for entry in machine.ioapic.entries)
    assert not pic.master.service
    assert not pic.slave.service
    assert not pic.irq.level
