"""pc: a PC of the i440FX and PIIX class, as `-M pc`.

Read it as a page of wires: which device stands at which address, and which of its wires go where.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from exuvia import __version__
from exuvia.boot import acpi, smbios
from exuvia.boot.entry import reset_vector
from exuvia.boot.image import read_image
from exuvia.boot.kernel import load_kernel
from exuvia.boot.layout import FOUR_GIB, HPET, IOAPIC, LOCAL_APIC, MIB, PAGE, PCI_HOLE, PCI_HOLE_END, VGA_WINDOW, memory_map, ram_below_4g
from exuvia.devices.debug.post import Post
from exuvia.devices.device import Choice, Property, Sink, WiredOr
from exuvia.devices.firmware.fw_cfg import CPUS, MAX_CPUS, RAM_SIZE, FwCfg
from exuvia.devices.input.i8042 import I8042
from exuvia.devices.irq.apicbus import ApicBank, ApicBus
from exuvia.devices.irq.i8259 import I8259Pair
from exuvia.devices.irq.ioapic import IoApic
from exuvia.devices.irq.lapic import LocalApic
from exuvia.devices.pci.allocate import allocate
from exuvia.devices.pci.bus import PciBus, PciConfigPorts
from exuvia.devices.pci.device import INTERRUPT_LINE
from exuvia.devices.pci.i440fx import PAM, I440fx
from exuvia.devices.pci.isa_bridge import PIRQRC
from exuvia.devices.pci.piix3 import CoprocessorError, Piix3, Port92, ResetControl
from exuvia.devices.pci.piix4_pm import PMBA, PMREGMISC, Piix4Pm, SmiCommand
from exuvia.devices.serial.uart16550 import Uart16550
from exuvia.devices.timer.hpet import FIRST_ROUTE, Hpet
from exuvia.devices.timer.i8254 import I8254
from exuvia.devices.timer.mc146818 import Mc146818
from exuvia.machines.board import Board
from exuvia.machines.config import MachineConfig
from exuvia.machines.machine import Machine, Vcpu, VcpuFactory
from exuvia.memory.dma import Dma
from exuvia.memory.ram import Ram
from exuvia.support.errors import UserError

MIN_MEMORY, MAX_MEMORY = 2 * MIB, 1 << 40
MAX_PROCESSORS = 8
MAX_FIRMWARE = 16 * MIB
BIOS_WINDOW = 0x40000  # 0xC0000-0xFFFFF; the last 128 KiB of a BIOS image show in its upper half
PIRQ_ROUTES = (10, 10, 11, 11)  # as PC firmware chooses them
PCI_LEVEL = 0x0C  # the ELCR's upper half for interrupts 10 and 11
PCI_IO = (0xC000, 0x10000)


class PcVcpu(Vcpu, Protocol):
    """A processor of a PC."""

    long_mode: bool  # whether it has 64-bit mode
    acknowledge: Callable[[], int]
    numeric_error: Callable[[], None]  # the wire FERR#; a machine that has one connects it

    def interrupt(self, level: bool) -> None:
        """Drive the INTR line."""

    def nmi(self) -> None:
        """Deliver a non-maskable interrupt."""

    def ignore_numeric_error(self) -> None:
        """Drive IGNNE#, until the x87 exception that FERR# reported is cleared."""

    def init(self) -> None:
        """INIT: reset the processor, which then waits for `start` unless it is the first."""

    def start(self, vector: int) -> None:
        """SIPI: begin in real mode at vector * 4096."""


class _Attended:
    """One of several processors as its local APIC drives it: its thread may be asleep, or in the guest's code."""

    def __init__(self, machine: Machine, vcpu: PcVcpu) -> None:
        self.machine, self.vcpu = machine, vcpu

    def interrupt(self, level: bool) -> None:
        """INTR."""
        self.vcpu.interrupt(level)
        if level:
            self.machine.attend(self.vcpu)

    def nmi(self) -> None:
        """NMI."""
        self.vcpu.nmi()
        self.machine.attend(self.vcpu)

    def init(self) -> None:
        """INIT."""
        self.machine.alone(self.vcpu.init)

    def start(self, vector: int) -> None:
        """SIPI."""
        self.machine.alone(lambda: self.vcpu.start(vector))


class Pc(Board):
    """The machine `pc`. UserError when the configuration asks for what it cannot be."""

    name = "pc"
    architecture = "x86"
    description = "PC with i440FX, PIIX3 and PIIX4 power management"
    levels = ("sockets", "dies", "cores", "threads")
    offers_files = True
    with_hpet = Property(bool, True, "high precision event timers", name="hpet")
    acpi = Choice("on", "the guest finds processors and power-off by ACPI; Linux ignores it after -append acpi=off", "auto")
    smm = Choice("off", "there is no system management mode", "auto")
    vmport = Choice("off", "there is no VMware port", "auto")
    smbus = Choice("off", "PIIX4's SMBus controller is not there")
    sata = Choice("off", "there is no SATA controller")
    with_pit = Choice("on", "a PC has its 8254", "auto", name="pit")
    with_pic = Choice("on", "a PC has its 8259s", "auto", name="pic")
    with_i8042 = Choice("on", "a PC has its keyboard controller", name="i8042")

    def __init__(
        self,
        config: MachineConfig,
        chardevs: Mapping[str, Any] | None = None,
        drives: Mapping[str, Any] | None = None,
        *,
        vcpus: VcpuFactory | None = None,
    ) -> None:
        super().__init__(config, chardevs, drives, vcpus=vcpus)
        self.must_fit(MIN_MEMORY, MAX_MEMORY)
        if not 1 <= config.smp <= MAX_PROCESSORS:
            raise UserError(f"-smp: a pc takes 1 to {MAX_PROCESSORS} processors, not {config.smp}")
        self.must_run_something()
        self.either_kernel_or_firmware()

        firmware = self._read_firmware()
        low = ram_below_4g(config.memory)
        self.ram = ram = Ram(config.memory + len(firmware) + (BIOS_WINDOW if firmware else 0))
        self.memory.map_ram(0, VGA_WINDOW, ram)
        self.memory.map_ram(MIB, low - MIB, ram, MIB)
        if config.memory > low:
            self.memory.map_ram(FOUR_GIB, config.memory - low, ram, low)
        shadow = self._place_firmware(ram, firmware)

        self.apic_bus = ApicBus()
        self.pic = I8259Pair()
        self.ioapic = IoApic(self.apic_bus)
        self.add("pic0", self.pic.master)
        self.add("pic1", self.pic.slave)
        self.add("ioapic", self.ioapic)
        self.ports.map_device(0x20, 2, self.pic.master)
        self.ports.map_device(0xA0, 2, self.pic.slave)
        self.ports.map_device(0x4D0, 1, self.pic.master, offset=2)
        self.ports.map_device(0x4D1, 1, self.pic.slave, offset=2)
        self.memory.map_device(IOAPIC, PAGE, self.ioapic)
        self.lines = [WiredOr(self._interrupt(number)) for number in range(16)]

        for index in range(config.smp):
            apic = LocalApic(self.apic_bus, index=index)
            self.add(f"apic{index}", apic)
            self.make_processor(index, apic)
        self.memory.map_device(LOCAL_APIC, PAGE, ApicBank(self.apic_bus, lambda: self._turn), priority=2)
        first = self.apic_bus.processors[0]
        self.pic.irq.connect(first.input(0))
        first.pic_acknowledge = self.pic.acknowledge

        self.pit = self.place("pit", I8254(), 0x40, 4)
        self.ports.map_device(0x61, 1, self.pit, offset=4)
        self.rtc = self.place("rtc", Mc146818(base=config.rtc_base), 0x70, 4)
        self.hpet = Hpet() if self.with_hpet else None
        self._connect_timers()
        self.rtc.set_memory(low, config.memory - low)
        self.rtc.cmos[0x5F] = config.smp - 1
        self.i8042 = self.place("i8042", I8042(), 0x60, 1, 1)
        self.ports.map_device(0x64, 1, self.i8042, offset=4)
        self.i8042.aux_irq.connect(self.lines[12].input())
        first_vcpu: Any = self.vcpus[0]
        coprocessor = self.place("coprocessor", CoprocessorError(), 0xF0, 1, 13)
        first_vcpu.numeric_error = coprocessor.ferr  # only the first processor has the wires
        coprocessor.ignne.connect(self._ignore_numeric_error)
        self.place("post", Post(), 0x80, 1)
        self.port92 = self.place("port92", Port92(), 0x92, 1)
        self.fw_cfg = self.place("fw_cfg", FwCfg(), *acpi.FW_CFG)
        self.fw_cfg.dma = dma = Dma(self.memory, ram)
        self.fw_cfg.add_item(RAM_SIZE, config.memory.to_bytes(8, "little"))
        self.fw_cfg.add_item(CPUS, config.smp.to_bytes(2, "little"))
        self.fw_cfg.add_item(MAX_CPUS, config.smp.to_bytes(2, "little"))

        self.i440fx, self.piix3, self.power = I440fx(), Piix3(), Piix4Pm()
        self.piix3.outputs = [self.lines[number].input() for number in range(16)]
        self.pci = PciBus(self.memory, self.ports, [self.piix3.pirq(n) for n in range(4)], self._message)
        self.pci.dma = dma
        self.host = self.place("pci-config", PciConfigPorts(), 0xCF8, 8)
        self.host.pci = self.pci
        self.reset_control = ResetControl()
        self.add("reset", self.reset_control)
        self.host.reset_control = self.reset_control
        for label, device, slot, function in (("i440fx", self.i440fx, 0, 0), ("piix3", self.piix3, 1, 0), ("pm", self.power, 1, 3)):
            self.add(label, device)
            self.pci.attach(device, slot, function)
        self.i440fx.connect(self.memory, ram, shadow)
        self.power.sci.connect(self.lines[acpi.SCI_IRQ].input())
        self.smi = self.place("smi", SmiCommand(), acpi.SMI_COMMAND, 2)
        self.smi.power = self.power

        self.power.power_off.connect(self.power_off)
        for source, reason in ((self.reset_control, "port 0xCF9"), (self.port92, "port 0x92"), (self.i8042, "keyboard controller")):
            source.reset_request.connect(self.resetting(reason))

        self.serial: list[int] = []  # which of COM1..COM4 there are
        for number, backend in enumerate(config.serial):
            if number >= len(acpi.COM_PORTS):
                raise UserError(f"-serial: a pc has at most {len(acpi.COM_PORTS)} serial ports")
            if backend is not None:
                port, line = acpi.COM_PORTS[number]
                self.place(f"serial{number}", Uart16550(chardev=self.chardev(backend)), port, 8, line)
                self.serial.append(number)
        self.plug_devices()
        if order := self._boot_order():
            self.fw_cfg.add_file("bootorder", order)
        self.offer(self.fw_cfg)

    def connect(self, vcpu: Any, controller: LocalApic) -> None:
        """The local APIC drives its processor."""
        vcpu.acknowledge = controller.acknowledge
        controller.processor = vcpu if self.config.smp == 1 else _Attended(self, vcpu)
        controller.lend_timer(vcpu.tick)

    def _boot_order(self) -> bytes:
        """The disks with a bootindex as firmware names them (Open Firmware paths, a line each, NUL at the end); HALT: and no others."""
        found: dict[int, str] = {}
        for (slot, function), device in self.pci.functions.items():
            index = getattr(device, "bootindex", -1)
            if index in found:
                raise UserError(f"-device {device.name}: another device has bootindex={index} already")
            if index >= 0:
                unit = f"{slot:x},{function:x}" if function else f"{slot:x}"
                found[index] = f"/pci@i0cf8/scsi@{unit}/disk@0,0"
        lines = [path for _, path in sorted(found.items())] + ["HALT"] * self.config.strict_boot
        return ("\n".join(lines) + "\0").encode() if found else b""

    def _interrupt(self, number: int) -> Sink:
        """ISA interrupt `number`: to the 8259s and to the I/O APIC, where the 8254 is on input 2."""
        sinks = [self.ioapic.input(2 if number == 0 else number)] if number != 2 else []
        if number != 2:
            sinks.append(self.pic.input(number))

        def follow(level: bool) -> None:
            for sink in sinks:
                sink(level)

        return follow

    def _connect_timers(self) -> None:
        """8254 and RTC interrupt as 0 and 8, through the HPET where there is one: it can take their places."""
        timer, clock = self.lines[0].input(), self.lines[8].input()
        if self.hpet is None:
            self.pit.irq.connect(timer)
            self.rtc.irq.connect(clock)
            return
        self.add("hpet", self.hpet)
        self.memory.map_device(HPET, self.hpet.window, self.hpet)
        self.pit.irq.connect(self.hpet.input(0))
        self.rtc.irq.connect(self.hpet.input(1))
        self.hpet.legacy0.connect(timer)
        self.hpet.legacy1.connect(clock)
        for number, wire in enumerate((self.hpet.out0, self.hpet.out1, self.hpet.out2)):
            wire.connect(self.ioapic.input(FIRST_ROUTE + number))

    def plug_isa(self, label: str, device: Any) -> None:
        """A serial port of the user's may be one of those that ACPI names."""
        super().plug_isa(label, device)
        if isinstance(device, Uart16550):
            self.serial += [n for n, wires in enumerate(acpi.COM_PORTS) if wires == (device.iobase, device.line)]

    def _message(self, requester: int, address: int, data: int) -> None:
        """An MSI of a PCI function."""
        self.apic_bus.message_signaled(address, data)

    def _ignore_numeric_error(self, level: bool) -> None:
        if level:
            first: Any = self.vcpus[0]
            first.ignore_numeric_error()

    def _read_firmware(self) -> bytes:
        if self.config.firmware is None:
            return b""
        image = read_image("-bios", self.config.firmware, MAX_FIRMWARE)
        if not image or len(image) % 0x10000:
            raise UserError(f"-bios {self.config.firmware}: a BIOS image is a multiple of 64 KiB, not {len(image)} bytes")
        return image

    def _place_firmware(self, ram: Ram, image: bytes) -> tuple[Ram, int] | None:
        """Put a BIOS at the top of 4 GiB; what shows at 0xC0000 is laid out behind it in the same memory."""
        if not image:
            return None
        rom = self.config.memory
        ram.load(rom, image)
        ram.load(rom + len(image), image[-BIOS_WINDOW // 2 :].rjust(BIOS_WINDOW, b"\xff"))
        self.memory.map_ram(FOUR_GIB - len(image), len(image), ram, rom, writable=False)
        return ram, rom + len(image)

    def boot(self) -> None:
        """Load the kernel, or let the BIOS begin."""
        config = self.config
        first: Any = self.vcpus[0]
        if config.kernel is None:
            self.vcpus[0].enter(reset_vector())
            return
        self._leave_as_firmware()
        low = ram_below_4g(config.memory)
        platform = acpi.Platform(
            apic_ids=range(config.smp),
            low_top=low,
            high_top=FOUR_GIB + max(0, config.memory - low),
            serial=sorted(set(self.serial)),
            keyboard=self.i8042.keyboard is not None,
            hpet=self.hpet is not None,
        )
        rsdp = acpi.place(self.memory, platform)
        identity = uuid.UUID(config.uuid) if config.uuid else None
        smbios.place(self.memory, config.memory, config.smp, identity, __version__)
        smbios.bios_data_area(self.memory)
        entry = load_kernel(
            config.kernel,
            self.memory,
            memory_map(config.memory),
            initrd=config.initrd,
            append=config.append,
            long_mode=config.bits == 64 and first.long_mode,
            rsdp=rsdp,
        )
        self.vcpus[0].enter(entry)

    def _leave_as_firmware(self) -> None:
        """The chipset as a BIOS hands it over: shadow RAM writable, interrupts routed, power management at its ports."""
        self.i440fx.write_config(PAM, 4, 0x33333330)
        self.i440fx.write_config(PAM + 4, 2, 0x3333)
        self.i440fx.write_config(PAM + 6, 1, 0x33)
        for pin, route in enumerate(PIRQ_ROUTES):
            self.piix3.write_config(PIRQRC + pin, 1, route)
        self.ports.write(0x4D1, 1, PCI_LEVEL)
        self.power.write_config(PMBA, 4, acpi.PM_BASE | 1)
        self.power.write_config(PMREGMISC, 1, 1)
        allocate(self.pci, PCI_IO, (max(ram_below_4g(self.config.memory), PCI_HOLE), PCI_HOLE_END), PIRQ_ROUTES)
        self.power.write_config(INTERRUPT_LINE, 1, acpi.SCI_IRQ)
