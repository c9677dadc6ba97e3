"""malta: MIPS's Malta board with a GT-64120 on its core board, as `-M malta`.

Read it as a page of wires: which device stands at which address, and which of its wires go where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from exuvia.boot import mips, yamon
from exuvia.boot.image import read_image
from exuvia.boot.layout import GIB, MIB
from exuvia.devices.board.malta_fpga import MaltaFpga
from exuvia.devices.device import WiredOr
from exuvia.devices.firmware.cfi_flash import CfiFlash
from exuvia.devices.input.i8042 import I8042
from exuvia.devices.irq.i8259 import I8259Pair
from exuvia.devices.pci.bus import PciBus
from exuvia.devices.pci.gt64120 import Gt64120, Gt64120Pci
from exuvia.devices.pci.piix3 import ResetControl
from exuvia.devices.pci.piix4_ide import Piix4Ide
from exuvia.devices.pci.piix4_isa import Piix4Isa
from exuvia.devices.pci.piix4_pm import Piix4Pm
from exuvia.devices.serial.uart16550 import Uart16550
from exuvia.devices.timer.i8254 import I8254
from exuvia.devices.timer.mc146818 import Mc146818
from exuvia.machines.board import Board
from exuvia.machines.config import MachineConfig
from exuvia.machines.machine import VcpuFactory
from exuvia.memory.dma import Dma
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace, Target
from exuvia.memory.wiring import Strided, Swapped
from exuvia.support.errors import UserError

MIN_MEMORY, MAX_MEMORY = 16 * MIB, 2 * GIB
LOW_RAM, UPPER_RAM, HIGH_RAM = 256 * MIB, 0x20000000, 0x80000000
FLASH, FPGA, CBUS_UART, ROM = 0x1E000000, 0x1F000000, 0x1F000900, 0x1FC00000
SECTOR = 64 << 10  # of the flash memory
COM_PORTS = ((0x3F8, 4), (0x2F8, 3))
BRIDGE, FIRST_CARD = 10, 18  # PCI slots (device numbers); the board's four connectors are 18 to 21
SOUTH_BRIDGE, BOARD_UART, CORE = "ip2", "ip4", "ip5"  # the processor's interrupt inputs


class Malta(Board):
    """The machine `malta`. UserError when the configuration asks for what it cannot be."""

    name = "malta"
    hosts_calls = True
    architecture = "mips"
    flash_banks = 1
    description = "MIPS Malta board with GT-64120 and PIIX4"

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
        if config.smp != 1:
            raise UserError(f"-smp: a malta has one processor, not {config.smp}")
        banks = self.flash_drives()
        self.must_run_something(otherwise=bool(banks))
        self.either_kernel_or_firmware()
        self.big_endian = big_endian = config.order == "big"

        # RAM from 0 on, with the board's devices over its second quarter GiB, and all of it again in the upper half
        self.ram = ram = Ram(config.memory + 2 * yamon.SIZE)
        self.memory.map_ram(0, min(config.memory, LOW_RAM), ram)
        if config.memory > UPPER_RAM:
            self.memory.map_ram(UPPER_RAM, config.memory - UPPER_RAM, ram, UPPER_RAM)
        self.memory.map_ram(HIGH_RAM, config.memory, ram)
        self.memory.map_ram(ROM, yamon.SIZE, ram, config.memory, writable=False)
        image = self.drive(banks[0]) if banks else None
        self.flash = CfiFlash(drive=image, size=yamon.SIZE, sector=SECTOR, big_endian=big_endian, turned=not big_endian)
        self.add("flash", self.flash)
        self.flash.place(self.memory, FLASH, ram, config.memory + yamon.SIZE)
        if config.firmware is not None:
            self.flash.load_image(yamon.firmware(read_image("-bios", config.firmware, yamon.SIZE), big_endian=big_endian))

        self.make_processor(0)
        self.fpga = MaltaFpga(big_endian=big_endian)
        self.add("fpga", self.fpga)
        self.memory.map_device(FPGA, self.fpga.window, self._turned(self.fpga))
        self.fpga.reset_request.connect(self.resetting("SOFTRES"))
        self.fpga.nmi.connect(self.wire(0, "nmi"))

        self.pic = I8259Pair()
        self.add("pic0", self.pic.master)
        self.add("pic1", self.pic.slave)
        self.ports.map_device(0x20, 2, self.pic.master)
        self.ports.map_device(0xA0, 2, self.pic.slave)
        self.ports.map_device(0x4D0, 1, self.pic.master, offset=2)
        self.ports.map_device(0x4D1, 1, self.pic.slave, offset=2)
        self.pic.irq.connect(self.wire(0, SOUTH_BRIDGE))
        self.lines = [WiredOr(self.pic.input(number) if number != 2 else _nowhere) for number in range(16)]

        self.pit = self.place("pit", I8254(), 0x40, 4, 0)
        self.ports.map_device(0x61, 1, self.pit, offset=4)
        self.rtc = self.place("rtc", Mc146818(base=config.rtc_base), 0x70, 4, 8)
        self.i8042 = self.place("i8042", I8042(), 0x60, 1, 1)
        self.ports.map_device(0x64, 1, self.i8042, offset=4)
        self.i8042.aux_irq.connect(self.lines[12].input())
        self.reset_control = self.place("reset", ResetControl(), 0xCF9, 1)

        self.piix4, self.ide, self.power, bridge = Piix4Isa(), Piix4Ide(), Piix4Pm(), Gt64120Pci()
        self.piix4.outputs = [self.lines[number].input() for number in range(16)]
        pirqs = [self.piix4.pirq(number) for number in range(4)]
        self.pci = PciBus(AddressSpace("pci"), self.ports, pirqs, first=FIRST_CARD, inta=FIRST_CARD)
        self.pci.dma = Dma(self.memory, ram)
        self.gt64120 = Gt64120(big_endian=big_endian)
        for label, device in (
            ("gt64120", self.gt64120),
            ("gt64120_pci", bridge),
            ("piix4", self.piix4),
            ("ide", self.ide),
            ("pm", self.power),
        ):
            self.add(label, device)
        self.gt64120.connect(self.memory, self.pci, bridge)
        self.gt64120.interrupt_vector = self.pic.acknowledge
        self.gt64120.irq.connect(self.wire(0, CORE))
        self.pci.attach(self.piix4, BRIDGE, 0)
        self.pci.attach(self.ide, BRIDGE, 1)
        self.pci.attach(self.power, BRIDGE, 3)
        self.power.sci.connect(self.lines[9].input())
        self.power.power_off.connect(self.power_off)
        self.reset_control.reset_request.connect(self.resetting("port 0xCF9"))
        self.i8042.reset_request.connect(self.resetting("keyboard controller"))

        if len(config.serial) > len(COM_PORTS) + 1:
            raise UserError(f"-serial: a malta has {len(COM_PORTS) + 1} serial ports")
        backends = [*config.serial, None, None, None]
        for number, (port, line) in enumerate(COM_PORTS):
            self.place(f"serial{number}", self._uart(backends[number]), port, 8, line)
        uart = self._uart(backends[len(COM_PORTS)])
        self.add("serial2", uart)
        self.memory.map_device(CBUS_UART, 8 << 3, self._turned(Strided(uart, 3)))
        uart.irq.connect(self.wire(0, BOARD_UART))
        self.plug_devices()

    def _uart(self, backend: str | None) -> Uart16550:
        return Uart16550(chardev=None if backend is None else self.chardev(backend))

    def _turned(self, device: Target) -> Target:
        """The board's own registers are in the processor's byte order."""
        return Swapped(device) if self.big_endian else device

    def boot(self) -> None:
        """Put the ROM's content, and with `-kernel` the kernel, where the processor begins."""
        config, ram = self.config, self.ram
        assert ram is not None
        if config.kernel is not None:
            rom = mips.load_kernel(
                config.kernel, self.memory, config.memory, big_endian=self.big_endian, initrd=config.initrd, append=config.append
            )
        else:
            rom = yamon.with_revision(self.flash.content(), big_endian=self.big_endian)
        ram.load(config.memory, rom)


def _nowhere(level: bool) -> None:
    """ISA interrupt 2 joins the two controllers."""
