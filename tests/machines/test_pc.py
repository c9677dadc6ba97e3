"""The machine pc, wired: driven through its ports by a processor that is a generator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from exuvia.boot.layout import BOOT_PARAMS, FOUR_GIB, MIB
from exuvia.devices.irq.lapic import LocalApic
from exuvia.devices.pci.piix3 import CoprocessorError
from exuvia.machines.config import DeviceConfig, MachineConfig
from exuvia.machines.machine import Machine, machines
from exuvia.machines.pc import Pc
from exuvia.support.errors import UserError
from tests.boot.images import bzimage, saved
from tests.machines.fake import FakeVcpu

pytestmark = pytest.mark.timeout(10)

Program = Callable[[FakeVcpu, Pc], Iterator[str]]


class Terminal:
    """A character backend that collects."""

    def __init__(self) -> None:
        self.data = b""

    def connect(self, *callbacks: object) -> None:
        """Nothing ever arrives."""

    def write(self, data: bytes) -> None:
        self.data += data

    def resume(self) -> None:
        """Nothing waits."""


def idle(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
    while True:
        yield "hlt"


@pytest.fixture
def config(tmp_path: Path) -> MachineConfig:
    return MachineConfig(kernel=saved(tmp_path, "k", bzimage()), memory=64 * MIB)


def make(config: MachineConfig, *programs: Program, **chardevs: object) -> Pc:
    def factory(machine: Machine, index: int, controller: LocalApic) -> FakeVcpu:
        assert isinstance(machine, Pc)
        cpu = FakeVcpu(index, lambda cpu: programs[index](cpu, machine))
        if config.smp > 1:
            cpu.native_run = machine.apart(index, cpu.native_run)
        return cpu

    return Pc(config, chardevs, vcpus=factory)


def run(config: MachineConfig, program: Program, **chardevs: object) -> int:
    return make(config, program, **chardevs).run()


def test_it_is_registered() -> None:
    assert machines["pc"] is Pc


def test_the_first_processor_gets_the_kernel(config: MachineConfig) -> None:
    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        assert cpu.entry is not None
        assert (cpu.entry.kind, cpu.entry.registers["rsi"]) == ("linux", BOOT_PARAMS)
        assert pc.memory.read_bytes(0xF0000, 8) == b"RSD PTR "
        assert pc.memory.read(BOOT_PARAMS + 0x70, 8) == 0xF0000
        assert pc.memory.read(0x413, 2) == 639
        pc.ports.write(0x604, 2, 0x2000)
        yield ""

    assert run(config, program) == 0


@pytest.mark.parametrize(("port", "value"), [(0xCF9, 6), (0x64, 0xFE), (0x92, 1)], ids=["0xCF9", "keyboard controller", "port 0x92"])
def test_ways_to_reset(config: MachineConfig, port: int, value: int) -> None:
    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        if cpu.resets == 2:
            assert pc.memory.read(0x100000, 1) == 0xF4, "the kernel is loaded anew"
            pc.exit(4)
        pc.memory.write(0x100000, 1, 0)
        pc.ports.write(port, 1, value)
        yield ""

    assert run(config, program) == 4
    assert run(replace(config, no_reboot=True), program) == 0


def test_debug_exit(config: MachineConfig) -> None:
    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        pc.ports.write(0xF4, 4, 0x10)
        yield ""

    device = DeviceConfig(name="isa-debug-exit", properties=(("iobase", "0xf4"), ("iosize", "4")))
    assert run(replace(config, devices=(device,)), program) == 0x21


def test_the_8254_interrupts_through_the_8259(config: MachineConfig) -> None:
    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        for port, value in ((0x43, 0x34), (0x40, 0x00), (0x40, 0x10)):
            pc.ports.write(port, 1, value)
        for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xFE)):
            pc.ports.write(port, 1, value)
        yield "hlt"
        pc.exit(0)  # the interrupt was taken on the way in
        yield ""

    pc = make(config, program)
    assert pc.run() == 0
    vcpu = pc.vcpus[0]
    assert isinstance(vcpu, FakeVcpu)
    assert vcpu.taken[:1] == [0x20]
    assert pc.clock.now() > 3_000_000


def test_the_8254_interrupts_through_the_io_apic(config: MachineConfig) -> None:
    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        pc.memory.write(0xFEE000F0, 4, 0x1FF)
        pc.memory.write(0xFEE00350, 4, 0x10000)
        for index, value in ((0x14, 0x41), (0x15, 0)):  # input 2
            pc.memory.write(0xFEC00000, 4, index)
            pc.memory.write(0xFEC00010, 4, value)
        for port, value in ((0x43, 0x30), (0x40, 0x00), (0x40, 0x04)):
            pc.ports.write(port, 1, value)
        yield "hlt"
        pc.exit(0)
        yield ""

    pc = make(config, program)
    assert pc.run() == 0
    vcpu = pc.vcpus[0]
    assert isinstance(vcpu, FakeVcpu)
    assert vcpu.taken == [0x41]


def test_the_hpet_takes_the_8254s_place(config: MachineConfig) -> None:
    """Legacy replacement, as Linux sets it up: comparator 0 interrupts at the 8259's input 0, and the 8254 no longer does."""

    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        for port, value in ((0x43, 0x34), (0x40, 0x00), (0x40, 0x10)):  # the 8254: every 3.4 ms
            pc.ports.write(port, 1, value)
        for port, value in ((0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0x21, 0xFE)):
            pc.ports.write(port, 1, value)
        assert pc.memory.read(0xFED00000, 4) & 0x8000 == 0x8000, "it can replace"
        for offset, value in ((0x10, 0), (0xF0, 0), (0x100, 0x104), (0x108, 3_000_000), (0x10, 3)):  # 30 ms
            pc.memory.write(0xFED00000 + offset, 4, value)
        yield "hlt"
        pc.exit(0)
        yield ""

    pc = make(config, program)
    assert pc.run() == 0
    vcpu = pc.vcpus[0]
    assert isinstance(vcpu, FakeVcpu)
    assert vcpu.taken == [0x20]
    assert pc.clock.now() > 30_000_000


@pytest.mark.parametrize("number", range(3))
def test_hpet_comparators_have_inputs_of_the_io_apic(config: MachineConfig, number: int) -> None:
    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        pc.memory.write(0xFEE000F0, 4, 0x1FF)
        pc.memory.write(0xFEE00350, 4, 0x10000)
        route = pc.memory.read(0xFED00100 + 0x20 * number, 8) >> 32
        assert route == 1 << 20 + number
        for index, value in ((0x10 + 2 * route.bit_length() - 2, 0x51), (0x10 + 2 * route.bit_length() - 1, 0)):
            pc.memory.write(0xFEC00000, 4, index)
            pc.memory.write(0xFEC00010, 4, value)
        for offset, value in ((0x100 + 0x20 * number, 0x104), (0x108 + 0x20 * number, 100_000), (0x10, 1)):
            pc.memory.write(0xFED00000 + offset, 4, value)
        yield "hlt"
        pc.exit(0)
        yield ""

    pc = make(config, program)
    assert pc.run() == 0
    vcpu = pc.vcpus[0]
    assert isinstance(vcpu, FakeVcpu)
    assert vcpu.taken == [0x51]


@pytest.mark.parametrize("present", [True, False])
def test_the_hpet_is_there_and_announced_as_asked(config: MachineConfig, present: bool) -> None:
    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        found = pc.memory.read(0xFED00000, 4)
        assert (found >> 16 == 0x8086) if present else found == 0xFFFFFFFF
        assert (b"HPET" in pc.memory.read_bytes(0xE0000, 0x10000)) == present
        pc.exit(0)
        yield ""

    assert run(replace(config, machine_options=(("hpet", "on" if present else "off"),)), program) == 0


def test_serial_ports(config: MachineConfig) -> None:
    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        pc.ports.write(0x3F8, 1, ord("1"))
        pc.ports.write(0x2F8, 1, ord("2"))
        pc.ports.write(0x3E8, 1, ord("3"))
        pc.ports.write(0xE9, 1, ord("d"))
        assert pc.ports.read(0x2FD, 1) == 0xFF, "COM2 is not there"
        pc.exit(0)
        yield ""

    one, three, console = Terminal(), Terminal(), Terminal()
    device = DeviceConfig(name="isa-debugcon", properties=(("chardev", "c"),))
    assert run(replace(config, serial=("a", None, "b"), devices=(device,)), program, a=one, b=three, c=console) == 0
    assert (one.data, three.data, console.data) == (b"1", b"3", b"d")


def test_pci_functions(config: MachineConfig) -> None:
    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        found = {}
        for function in range(256):
            pc.ports.write(0xCF8, 4, 1 << 31 | function << 8)
            if (identity := pc.ports.read(0xCFC, 4)) != 0xFFFFFFFF:
                found[function] = identity
        assert found == {0: 0x12378086, 8: 0x70008086, 11: 0x71138086}
        pc.exit(0)
        yield ""

    assert run(config, program) == 0


def test_memory_above_the_hole(config: MachineConfig) -> None:
    pc = make(replace(config, memory=5 << 30), idle)
    pc.memory.write(FOUR_GIB + 0x1000, 4, 0x1234)
    assert pc.ram is not None
    assert int.from_bytes(pc.ram.view[0xE0001000:0xE0001004], "little") == 0x1234
    assert pc.memory.read(0xE0000000, 4) == 0xFFFFFFFF


def test_two_processors_start_each_other(config: MachineConfig) -> None:
    def first(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        assert pc.memory.read(0xFEE00020, 4) == 0
        pc.memory.write(0xFEE00310, 4, 1 << 24)
        pc.memory.write(0xFEE00300, 4, 0x4500)  # INIT
        pc.memory.write(0xFEE00300, 4, 0x4608)  # SIPI
        yield "spin"
        yield "spin"

    def second(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        pc.exit(pc.memory.read(0xFEE00020, 4) >> 24)
        yield ""

    pc = make(replace(config, smp=2), first, second)
    assert pc.run() == 1


def test_bios(tmp_path: Path, config: MachineConfig) -> None:
    image = bytes(0x20000 - 16) + b"\xea\x5b\xe0\x00\xf0".ljust(16, b"\0")

    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        assert cpu.entry is not None
        code = cpu.entry.segments["cs"]
        assert (cpu.entry.mode, code.base + cpu.entry.ip) == ("real16", 0xFFFFFFF0)
        for address in (0xFFFFFFF0, 0xFFFF0):
            assert pc.memory.read_bytes(address, 5) == b"\xea\x5b\xe0\x00\xf0"
            pc.memory.write(address, 1, 0)
            assert pc.memory.read(address, 1) == 0xEA
        assert pc.ports.read(0x604, 2) == 0xFFFF, "power management is for the BIOS to set up"
        pc.exit(0)
        yield ""

    assert run(replace(config, kernel=None, firmware=saved(tmp_path, "bios", image)), program) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": None}, "nothing to run"),
        ({"kernel": None, "firmware": __file__, "initrd": "/initrd"}, "-initrd belongs to -kernel"),
        ({"kernel": None, "firmware": __file__, "append": "quiet"}, "-append belongs to -kernel"),
        ({"memory": 1 * MIB}, "-m: a pc takes whole MiB from 2"),
        ({"memory": 1 << 50}, "-m: "),
        ({"smp": 0}, "-smp: a pc takes 1 to 8 processors, not 0"),
        ({"smp": 99}, "-smp: "),
        ({"machine_options": (("hpt", "off"),)}, "unknown property of -machine 'hpt'"),
        ({"serial": ("x",)}, "there is no chardev 'x'"),
        ({"serial": (None,) * 5}, "at most 4 serial ports"),
        ({"rtc_base": "yesterday"}, "utc, localtime"),
        ({"devices": (DeviceConfig(name="isa-debug-exi"),)}, "did you mean isa-debug-exit"),
        ({"devices": (DeviceConfig(name="i8259"),)}, "is part of the machine"),
        ({"devices": (DeviceConfig(name="isa-debug-exit", properties=(("iobas", "1"),)),)}, "did you mean iobase"),
        ({"devices": (DeviceConfig(name="isa-debug-exit", properties=(("iobase", "0x10000"),)),)}, "no such ports"),
        ({"devices": (DeviceConfig(name="isa-debug-exit", properties=(("id", "rtc"),)),)}, "the id 'rtc' is taken"),
        ({"devices": (DeviceConfig(name="isa-debug-exit", properties=(("bus", "pci.0"),)),)}, "it plugs into isa.0, not into 'pci.0'"),
        ({"devices": (DeviceConfig(name="isa-debug-exit", properties=(("addr", "3"),)),)}, "only devices of the bus pci.0 have an addr"),
        ({"devices": (DeviceConfig(name="isa-debugcon", properties=(("chardev", "x"),)),)}, "there is no chardev 'x'"),
        ({"kernel": None, "firmware": "/dev/null"}, "-bios /dev/null: not a regular file"),
        ({"kernel": None, "firmware": __file__}, "multiple of 64 KiB"),
        ({"firmware": __file__}, "-bios: a kernel given with -kernel begins without firmware"),
        (
            {"devices": (DeviceConfig(name="isa-debug-exit", properties=(("iobase", "zz"),)),)},
            "isa-debug-exit: property 'iobase' is a number",
        ),
    ],
)
def test_impossible_machines(config: MachineConfig, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(replace(config, **changes), idle)  # type: ignore[arg-type]


def test_bad_kernels_are_told_when_it_starts(config: MachineConfig) -> None:
    with pytest.raises(UserError, match="-kernel /nowhere: No such file"):
        run(replace(config, kernel="/nowhere"), idle)
    with pytest.raises(UserError, match="needs at least 24 MiB of memory, the machine has 8 MiB"):
        run(replace(config, memory=8 * MIB), idle)


def test_an_x87_error_is_interrupt_13_until_port_f0_has_it_ignored(config: MachineConfig) -> None:
    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        def requested() -> int:
            pc.ports.write(0xA0, 1, 0x0A)  # read the second 8259's IRR
            return pc.ports.read(0xA0, 1)

        for port, value in ((0xA0, 0x11), (0xA1, 0x78), (0xA1, 2), (0xA1, 1)):
            pc.ports.write(port, 1, value)
        coprocessor = pc.devices["coprocessor"]
        assert isinstance(coprocessor, CoprocessorError)
        line = coprocessor.irq
        pc.ports.write(0xF0, 1, 0)
        assert (requested(), cpu.ignored_errors) == (0, 0)
        cpu.numeric_error()
        assert (requested(), line.level, cpu.ignored_errors) == (1 << 5, True, 0)
        pc.ports.write(0xF0, 1, 0)
        assert (line.level, cpu.ignored_errors) == (False, 1)
        pc.ports.write(0x604, 2, 0x2000)
        yield ""

    assert run(config, program) == 0


def test_disks_in_the_order_that_firmware_is_to_try(config: MachineConfig) -> None:
    disk = SimpleNamespace(size=1 * MIB, read_only=False, writeback=True, cluster=512)

    def pc(*order: str, strict: bool = False) -> Pc:
        wanted = [
            DeviceConfig(name="virtio-blk-pci", properties=(("drive", f"d{n}"), *((("bootindex", index),) if index else ())))
            for n, index in enumerate(order)
        ]
        vcpus = lambda machine, index, apic: FakeVcpu(index, lambda cpu: idle(cpu, machine))  # noqa: E731
        return Pc(replace(config, devices=tuple(wanted), strict_boot=strict), None, {f"d{n}": disk for n in range(len(order))}, vcpus=vcpus)

    made = pc("7", "", "3")
    paths = {path: made.fw_cfg._items[key] for path, key, _ in made.fw_cfg._files}
    assert paths["bootorder"] == b"/pci@i0cf8/scsi@4/disk@0,0\n/pci@i0cf8/scsi@2/disk@0,0\0"
    made = pc("7", "", strict=True)
    paths = {path: made.fw_cfg._items[key] for path, key, _ in made.fw_cfg._files}
    assert paths["bootorder"] == b"/pci@i0cf8/scsi@2/disk@0,0\nHALT\0"
    assert "bootorder" not in [path for path, _, _ in pc("", strict=True).fw_cfg._files]
    assert "bootorder" not in [path for path, _, _ in pc("").fw_cfg._files]
    with pytest.raises(UserError, match="another device has bootindex=1 already"):
        pc("1", "1")
