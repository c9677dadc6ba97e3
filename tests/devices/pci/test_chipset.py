"""i440FX shadowing, PIIX3 interrupt routing and reset, PIIX4 power management."""

from __future__ import annotations

from functools import partial
from operator import setitem

import pytest

from exuvia.devices.pci.bus import PciBus, PciConfigPorts
from exuvia.devices.pci.i440fx import I440fx
from exuvia.devices.pci.piix3 import Piix3, Port92, ResetControl
from exuvia.devices.pci.piix4_pm import Piix4Pm, SmiCommand
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from tests.devices.timing import ManualClock


def test_pam_shadows_the_bios() -> None:
    space, ram = AddressSpace(), Ram(0x140000)
    rom = 0x100000
    ram.load(rom, b"\xb1" * 0x40000)
    space.map_ram(0, 0xA0000, ram)
    host = I440fx()
    host.connect(space, ram, (ram, rom))
    for register, low, address in ((0x59, 4, 0xF0000), (0x5A, 0, 0xC0000), (0x5A, 4, 0xC4000), (0x5F, 4, 0xEC000)):
        assert space.read(address, 2) == 0xB1B1
        space.write(address, 2, 0x1111)
        assert space.read(address, 2) == 0xB1B1
        host.write_config(register, 1, 2 << low)  # read ROM, write RAM
        space.write(address, 2, 0x2222)
        assert space.read(address, 2) == 0xB1B1
        host.write_config(register, 1, 1 << low)  # read RAM
        assert space.read(address, 2) == 0x2222
        space.write(address, 2, 0x3333)
        assert space.read(address, 2) == 0x2222
        host.write_config(register, 1, 3 << low)
        space.write(address, 2, 0x4444)
        assert space.read(address, 2) == 0x4444
        host.reset()
        assert space.read(address, 2) == 0xB1B1
    host.write_config(0x59, 4, 0x33333330)
    saved = host.save()
    host.reset()
    host.load(saved)
    assert space.read(0xF0000, 2) == 0x4444


def test_smram_opens_and_locks() -> None:
    space, ram = AddressSpace(), Ram(0x100000)
    host = I440fx()
    host.connect(space, ram)
    assert host.read_config(0x72, 1) == 2
    host.write_config(0x72, 1, 0x48)
    space.write(0xA0000, 4, 0xABCD)
    assert space.read(0xA0000, 4) == 0xABCD
    host.write_config(0x72, 1, 0x58)  # lock closes it
    assert space.read(0xA0000, 4) == 0xFFFFFFFF
    host.write_config(0x72, 1, 0x48)
    assert host.read_config(0x72, 1) == 0x1A
    assert space.read(0xA0000, 4) == 0xFFFFFFFF
    host.reset()
    assert host.read_config(0x72, 1) == 2


def test_pirq_routing() -> None:
    bridge = Piix3()
    levels = [False] * 16
    bridge.outputs = [partial(setitem, levels, n) for n in range(16)]
    a, b = bridge.pirq(0), bridge.pirq(1)
    a(True)
    assert not any(levels), "not routed after reset"
    bridge.write_config(0x60, 2, 0x0A0A)
    assert [n for n in range(16) if levels[n]] == [10]
    b(True)
    a(False)
    assert levels[10], "two on one interrupt"
    bridge.write_config(0x61, 1, 0x0B)
    assert [n for n in range(16) if levels[n]] == [11]
    bridge.write_config(0x61, 1, 0x8B)
    assert not any(levels)
    bridge.write_config(0x61, 1, 0x08)  # interrupt 8 is reserved
    assert not any(levels)


def test_reset_control_is_a_byte_inside_the_pci_ports() -> None:
    ports, memory = AddressSpace("ports"), AddressSpace()
    host, control = PciConfigPorts(), ResetControl()
    host.pci = PciBus(memory, ports, [lambda level: None] * 4)
    host.reset_control = control
    ports.map_device(0xCF8, 8, host)
    seen: list[bool] = []
    control.reset_request.connect(seen.append)
    ports.write(0xCF8, 4, 0x80000600)  # its second byte, too, has bit 2 set
    assert seen == []
    ports.write(0xCF9, 1, 0x02)
    assert seen == []
    ports.write(0xCF9, 1, 0x06)
    assert seen == [True, False]
    assert ports.read(0xCF9, 1) == 0x06


def test_port_92() -> None:
    port = Port92()
    seen: list[bool] = []
    port.reset_request.connect(seen.append)
    port.write(0, 1, 2)
    assert seen == []
    port.write(0, 1, 3)
    assert seen == [True, False]
    assert port.read(0, 1) & 2


@pytest.fixture
def power() -> tuple[Piix4Pm, AddressSpace, ManualClock]:
    time, ports = ManualClock(), AddressSpace("ports")
    pm = Piix4Pm(time)
    PciBus(AddressSpace(), ports, [lambda level: None] * 4).attach(pm, 1, 3)
    pm.write_config(0x40, 4, 0x601)
    assert ports.read(0x604, 2) == 0xFFFF
    pm.write_config(0x80, 1, 1)
    return pm, ports, time


def test_pm_timer_counts_24_bits(power: tuple[Piix4Pm, AddressSpace, ManualClock]) -> None:
    _, ports, time = power
    time.advance(1_000_000_000)
    assert ports.read(0x608, 4) == 3_579_545
    time.advance(9_000_000_000)
    assert ports.read(0x608, 4) == 35_795_450 & 0xFFFFFF


def test_timer_overflow_raises_the_sci(power: tuple[Piix4Pm, AddressSpace, ManualClock]) -> None:
    pm, ports, time = power
    ports.write(0x602, 2, 1)
    assert pm.overflow_alarm.deadline is not None
    time.advance(pm.overflow_alarm.deadline)
    assert ports.read(0x608, 4) == 1 << 23
    levels = [pm.sci.level]  # SCI_EN is off
    ports.write(0x604, 2, 1)
    assert [*levels, pm.sci.level] == [False, True]
    assert ports.read(0x600, 2) == 1
    ports.write(0x600, 2, 0xFFFF)
    assert not pm.sci.level
    assert pm.overflow_alarm.deadline == -(-(1 << 24) * 10**9 // 3_579_545)


def test_overflow_is_seen_without_an_alarm(power: tuple[Piix4Pm, AddressSpace, ManualClock]) -> None:
    pm, ports, time = power
    assert pm.overflow_alarm.deadline is None
    time.advance(3_000_000_000)
    assert ports.read(0x600, 2) == 1


def test_power_button(power: tuple[Piix4Pm, AddressSpace, ManualClock]) -> None:
    pm, ports, _ = power
    ports.write(0x600, 4, 0x0100_0000)
    ports.write(0x604, 2, 1)
    pm.press_power_button()
    assert pm.sci.level
    assert ports.read(0x600, 2) == 0x100
    ports.write(0x601, 1, 1)  # a byte clears too, and clears nothing else
    assert not pm.sci.level


def test_soft_off(power: tuple[Piix4Pm, AddressSpace, ManualClock]) -> None:
    pm, ports, _ = power
    off: list[bool] = []
    pm.power_off.connect(off.append)
    ports.write(0x604, 2, 0x2401)  # suspend to RAM is not soft-off
    assert off == []
    ports.write(0x604, 2, 0x2001)
    assert off == [True, False]
    assert ports.read(0x604, 2) == 1


def test_smi_command_hands_over_acpi(power: tuple[Piix4Pm, AddressSpace, ManualClock]) -> None:
    pm, ports, _ = power
    smi = SmiCommand()
    smi.power = pm
    for value, enabled in ((0xF1, 1), (0x55, 1), (0xF0, 0)):
        smi.write(0, 1, value)
        assert ports.read(0x604, 2) & 1 == enabled


def test_the_block_of_ports_moves(power: tuple[Piix4Pm, AddressSpace, ManualClock]) -> None:
    pm, ports, _ = power
    pm.write_config(0x40, 2, 0xB001)
    assert ports.read(0x604, 2) == 0xFFFF
    assert ports.read(0xB004, 2) == 0
    saved = pm.save()
    pm.reset()
    assert ports.read(0xB004, 2) == 0xFFFF
    pm.load(saved)
    assert ports.read(0xB004, 2) == 0
