"""virt: a board for ARM guests that no silicon is, as `-M virt` (QEMU, docs/system/arm/virt.rst).

Read it as a page of wires: which device stands at which address, and which of its wires go where.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from exuvia.boot import arm64
from exuvia.boot.devicetree import Tree
from exuvia.boot.image import read_image
from exuvia.boot.layout import GIB, MIB, PAGE
from exuvia.devices.device import Choice, Device, Property
from exuvia.devices.firmware import fw_cfg
from exuvia.devices.firmware.cfi_flash import CfiFlash
from exuvia.devices.firmware.fw_cfg import FwCfgMmio
from exuvia.devices.gpio.pl061 import Pl061
from exuvia.devices.gpio.power_button import PowerButton
from exuvia.devices.irq.gic_its import TRANSLATER, GicIts
from exuvia.devices.irq.gic_redistributor import Redistributor
from exuvia.devices.irq.gic_v2 import MOST_PROCESSORS as MOST_OF_V2
from exuvia.devices.irq.gic_v2 import GicV2
from exuvia.devices.irq.gic_v2m import MSI_SETSPI, GicV2m
from exuvia.devices.irq.gic_v3 import MOST_PROCESSORS as MOST_OF_V3
from exuvia.devices.irq.gic_v3 import GicV3
from exuvia.devices.pci.bus import PciBus
from exuvia.devices.pci.ecam import Ecam, GenericHost
from exuvia.devices.serial.pl011 import Pl011
from exuvia.devices.timer.pl031 import Pl031
from exuvia.devices.virtio.mmio import VacantMmio, VirtioMmio
from exuvia.machines import virt_acpi, virt_tree
from exuvia.machines.board import Board, D
from exuvia.machines.config import MachineConfig, Topology
from exuvia.machines.machine import VcpuFactory
from exuvia.memory.dma import Dma
from exuvia.memory.ram import Ram
from exuvia.memory.wiring import Window
from exuvia.support.errors import UserError

MIN_MEMORY, MAX_MEMORY = 8 * MIB, 255 * GIB
FLASH, FLASH_SIZE = 0x00000000, CfiFlash.window  # of each of two banks
GIC, GIC_INTERFACE, GIC_V2M, GIC_ITS, GIC_REDISTRIBUTORS = 0x08000000, 0x08010000, 0x08020000, 0x08080000, 0x080A0000
GIC_REDISTRIBUTORS_SIZE = 0x00F60000
UART, RTC, FW_CFG, GPIO = 0x09000000, 0x09010000, 0x09020000, 0x09030000
UART_SPI, RTC_SPI, PCI_SPI, GPIO_SPI, VIRTIO_SPI, V2M_SPI, V2M_SPIS = 1, 2, 3, 7, 16, 48, 64
VIRTIO, VIRTIO_COUNT = 0x0A000000, 32
PCI_MEMORY, PCI_MEMORY_SIZE, PCI_PORTS, PCI_PORTS_SIZE = 0x10000000, 0x2EFF0000, 0x3EFF0000, 0x10000
ECAM, ECAM_SIZE, HIGH_ECAM, HIGH_ECAM_SIZE = 0x3F000000, 0x01000000, 0x4010000000, 0x10000000
HIGH_PCI_MEMORY, HIGH_PCI_MEMORY_SIZE = 0x8000000000, 0x8000000000
RAM = 0x40000000
WINDOW = 0x1000
VIRTUAL_TIMER, PHYSICAL_TIMER, HYPERVISOR_TIMER = virt_tree.VIRTUAL_TIMER, virt_tree.PHYSICAL_TIMER, virt_tree.HYPERVISOR_TIMER


class Virt(Board):
    """The machine `virt`. UserError when the configuration asks for what it cannot be."""

    name = "virt"
    hosts_calls = True
    architecture = "aarch64"
    levels = ("sockets", "clusters", "cores", "threads")
    device_tree = True
    offers_files = True
    flash_banks = 2
    bus_names = {"pci": "pcie.0"}
    description = "board for ARM guests with GIC, PL011, virtio and PCI Express"
    gic_version = Choice(
        "", "the interrupt controller; max is 3; left out, it is 2 up to 8 processors; there is no GICv4, and host is KVM's", *"23", "max"
    )
    virtualization = Property(bool, False, "processors with EL2, which the guest begins in")
    with_its = Property(bool, True, "a GICv3 turns messages into interrupts (LPIs)", name="its")
    highmem = Property(bool, True, "PCI Express has windows above 4 GiB")
    acpi = Choice("auto", "whether firmware finds ACPI tables, which it then gives in place of the device tree; auto is on", "on", "off")
    secure = Choice("off", "there is no EL3, and no secure world")
    iommu = Choice("none", "there is no SMMU")
    mte = Choice("off", "processors have no memory tagging")
    ras = Choice("off", "the host's memory errors are not told to the guest")
    dtb_randomness = Property(bool, True, "the device tree gives the kernel random seeds")
    dumpdtb = Property(str, "", "write the device tree to this file, and end")

    def __init__(
        self,
        config: MachineConfig,
        chardevs: Mapping[str, Any] | None = None,
        drives: Mapping[str, Any] | None = None,
        *,
        vcpus: VcpuFactory | None = None,
    ) -> None:
        super().__init__(config, chardevs, drives, vcpus=vcpus)
        self._check()
        config = self.config
        banks = self.flash_drives()
        self.with_flash = config.firmware is not None or bool(banks)
        self.ram = ram = Ram(config.memory + (2 * FLASH_SIZE if self.with_flash else 0))
        self.memory.map_ram(RAM, config.memory, ram)
        self.dma = Dma(self.memory, ram)

        self.gic: GicV2 | GicV3 = self._gic_v2() if self.version == 2 else self._gic_v3()
        for index, interface in enumerate(self.gic.cpus):
            self.make_processor(index, interface)
            interface.irq.connect(self.wire(index, "irq"))
            interface.fiq.connect(self.wire(index, "fiq"))
            if self.virtualization and isinstance(interface, Redistributor):
                interface.virtual.irq.connect(self.wire(index, "virq"))
                interface.virtual.fiq.connect(self.wire(index, "vfiq"))
                interface.virtual.maintenance.connect(self.gic.private(index, virt_tree.MAINTENANCE))

        if self.with_flash:
            self._flash(banks)
        if len(config.serial) > 1:
            raise UserError("-serial: a virt has one serial port")
        backend = config.serial[0] if config.serial else None
        uart = self.put("serial0", Pl011(chardev=None if backend is None else self.chardev(backend)), UART, WINDOW)
        uart.irq.connect(self.gic.input(UART_SPI))
        rtc = self.put("rtc", Pl031(base=config.rtc_base), RTC, WINDOW)
        rtc.irq.connect(self.gic.input(RTC_SPI))
        gpio = self.put("gpio", Pl061(), GPIO, WINDOW)
        gpio.irq.connect(self.gic.input(GPIO_SPI))
        button = PowerButton()
        self.add("power-button", button)
        button.pin.connect(gpio.input(virt_tree.POWER_PIN))

        self.fw_cfg = self.put("fw_cfg", FwCfgMmio(), FW_CFG, FwCfgMmio.window)
        self.fw_cfg.dma = self.dma
        self.fw_cfg.add_item(fw_cfg.RAM_SIZE, config.memory.to_bytes(8, "little"))
        self.fw_cfg.add_item(fw_cfg.CPUS, config.smp.to_bytes(2, "little"))
        self.fw_cfg.add_item(fw_cfg.MAX_CPUS, config.smp.to_bytes(2, "little"))

        vacant = VacantMmio()
        for number in range(VIRTIO_COUNT):
            self.memory.map_device(VIRTIO + number * vacant.window, vacant.window, vacant)
        self._virtio = 0  # the next free place

        lines = [self.gic.input(PCI_SPI + number) for number in range(4)]
        self.pci = PciBus(self.memory, self.ports, lines, self._message, first=1, inta=0)
        self.pci.dma = self.dma
        host = GenericHost()
        self.add("pci-host", host)
        self.pci.attach(host, 0)
        ecam = Ecam()
        ecam.pci = self.pci
        self.add("ecam", ecam)
        self.memory.map_device(*self._ecam(), ecam)
        self.memory.map_device(PCI_PORTS, PCI_PORTS_SIZE, Window(self.ports))
        self.plug_devices()
        if self.with_flash and (self.acpi == "on" or self.acpi == "auto" and config.dtb is None):
            for path, content in virt_acpi.files(self.platform()).items():
                self.fw_cfg.add_file(path, content)
        self.offer(self.fw_cfg)

    def _check(self) -> None:
        config = self.config
        self.must_fit(MIN_MEMORY, MAX_MEMORY)
        self.version = 2 if self.gic_version == "2" or not self.gic_version and config.smp <= MOST_OF_V2 else 3
        most = MOST_OF_V2 if self.version == 2 else MOST_OF_V3
        if not 1 <= config.smp <= most:
            raise UserError(f"-smp: a virt with a GICv{self.version} takes 1 to {most} processors, not {config.smp}")
        self.must_run_something(otherwise=bool(self.flash_drives() or self.dumpdtb))

    def put(self, label: str, device: D, address: int, size: int) -> D:
        """Add `device` and show it at `address`."""
        self.add(label, device)
        self.memory.map_device(address, size, device)
        return device

    # Interrupts

    def _gic_v2(self) -> GicV2:
        gic = GicV2(processors=self.config.smp)
        gic.requester = lambda: self._turn
        self.add("gic", gic)
        self.memory.map_device(GIC, gic.window, gic)
        frame = self.put("v2m", GicV2m(base=virt_tree.FIRST_SPI + V2M_SPI, count=V2M_SPIS), GIC_V2M, WINDOW)
        frame.spis = [gic.input(V2M_SPI + number) for number in range(frame.count)]
        return gic

    def _gic_v3(self) -> GicV3:
        gic = self.put("gic", GicV3(processors=self.config.smp, has_lpis=self.with_its), GIC, GicV3.window)
        gic.dma = self.dma
        for index, redistributor in enumerate(gic.cpus):
            self.memory.map_device(GIC_REDISTRIBUTORS + index * redistributor.window, redistributor.window, redistributor)
        if self.with_its:
            self.put("its", GicIts(), GIC_ITS, GicIts.window).gic = gic
        return gic

    def connect(self, vcpu: Any, controller: Any) -> None:
        """A processor's timers are its private interrupts; firmware's calls are HVC where the guest has no EL2 of its own."""
        for timer, number in (("virtual", VIRTUAL_TIMER), ("physical", PHYSICAL_TIMER), ("hypervisor", HYPERVISOR_TIMER)):
            getattr(vcpu.timers, timer).output = self.gic.private(vcpu.index, number)
        vcpu.conduit = self.conduit
        if not self.virtualization:  # EL2 may have it routed elsewhere
            self.gic.lend_timer(vcpu.index, VIRTUAL_TIMER, vcpu.tick, GIC)

    @property
    def conduit(self) -> str:
        """How PSCI is called."""
        return "smc" if self.virtualization else "hvc"

    def _message(self, requester: int, address: int, data: int) -> None:
        """An MSI of a PCI function."""
        if address == GIC_ITS + TRANSLATER and "its" in self.devices:
            its = self.devices["its"]
            assert isinstance(its, GicIts)
            its.message(requester, data)
        elif address == GIC_V2M + MSI_SETSPI and "v2m" in self.devices:
            self.devices["v2m"].write(MSI_SETSPI, 4, data)

    # Flash memory

    def _flash(self, banks: Mapping[int, str]) -> None:
        """Two banks; what is not a drive's is erased, or holds what -bios names."""
        assert self.ram is not None
        for number in range(self.flash_banks):
            flash = CfiFlash(drive=self.drive(banks[number]) if number in banks else None)
            self.add(f"flash{number}", flash)
            flash.place(self.memory, FLASH + number * FLASH_SIZE, self.ram, self.config.memory + number * FLASH_SIZE)
            if number == 0 and self.config.firmware is not None:
                flash.load_image(read_image("-bios", self.config.firmware, FLASH_SIZE))

    # Slots for the user's devices

    def plug_elsewhere(self, label: str, device: Device) -> None:
        """The places for virtio-mmio, from the first one on."""
        if not isinstance(device, VirtioMmio):
            super().plug_elsewhere(label, device)
        elif self._virtio == VIRTIO_COUNT:
            raise UserError(f"-device {device.name}: a virt has {VIRTIO_COUNT} places for virtio-mmio, all taken")
        else:
            device.dma = self.dma
            self.put(label, device, VIRTIO + self._virtio * device.window, device.window)
            device.irq.connect(self.gic.input(VIRTIO_SPI + self._virtio))
            self._virtio += 1

    def plug_isa(self, label: str, device: Any) -> None:
        """There is no such bus."""
        self.plug_elsewhere(label, device)

    # Boot

    def _ecam(self) -> tuple[int, int]:
        return (HIGH_ECAM, HIGH_ECAM_SIZE) if self.highmem else (ECAM, ECAM_SIZE)

    def platform(self) -> virt_tree.Platform:
        """What the device tree and the ACPI tables say."""
        messages = (GIC_V2M, WINDOW) if self.version == 2 else (GIC_ITS, GicIts.window) if self.with_its else None
        windows = ((PCI_MEMORY, PCI_MEMORY_SIZE), (HIGH_PCI_MEMORY, HIGH_PCI_MEMORY_SIZE))
        return virt_tree.Platform(
            cpu=self.config.cpu,
            processors=self.config.smp,
            topology=self.config.topology or Topology(cores=self.config.smp),
            conduit=self.conduit,
            gic_version=self.version,
            distributor=(GIC, 0x10000),
            interface=(GIC_INTERFACE, 0x10000) if self.version == 2 else (GIC_REDISTRIBUTORS, GIC_REDISTRIBUTORS_SIZE),
            messages=messages,
            message_spis=(V2M_SPIS, virt_tree.FIRST_SPI + V2M_SPI),
            virtualization=self.virtualization,
            flash=(FLASH, FLASH_SIZE) if self.with_flash else None,
            uart=(UART, WINDOW, UART_SPI),
            rtc=(RTC, WINDOW, RTC_SPI),
            gpio=(GPIO, WINDOW, GPIO_SPI),
            fw_cfg=(FW_CFG, FwCfgMmio.window),
            virtio=(VIRTIO, VirtioMmio.window, VIRTIO_SPI, VIRTIO_COUNT),
            ecam=self._ecam(),
            buses=self._ecam()[1] >> 20,
            ports=(PCI_PORTS, PCI_PORTS_SIZE),
            windows=windows if self.highmem else windows[:1],
            pci_interrupt=PCI_SPI,
            random=self.dtb_randomness,
        )

    def tree(self) -> Tree:
        """The user's device tree, or the board's own."""
        return arm64.read_tree(self.config.dtb) if self.config.dtb is not None else virt_tree.build(self.platform())

    def boot(self) -> None:
        """Load the kernel, or let firmware begin; either finds the device tree in memory."""
        config = self.config
        room = arm64.Room(RAM, config.memory)
        tree = self.tree()
        if self.dumpdtb:
            arm64.describe(tree, room, config.append)
            self._dump(tree)
            return
        level = 2 if self.virtualization else 1
        if self.with_flash:
            self._offer_kernel()
            entry = arm64.firmware(self.memory, room, tree, FLASH, level)
        else:
            assert config.kernel is not None
            entry = arm64.load(self.memory, room, config.kernel, tree, initrd=config.initrd, append=config.append, level=level)
        self.free_memory = -(-entry.free // PAGE) * PAGE, room.end
        self.vcpus[0].enter(entry)

    def _dump(self, tree: Tree) -> None:
        try:
            with open(self.dumpdtb, "wb") as file:
                file.write(tree.pack())
        except OSError as error:
            raise UserError(f"-machine: cannot write {self.dumpdtb}: {error.strerror}") from None
        self.exit(0)

    def _offer_kernel(self) -> None:
        """Firmware finds the kernel of the user's in fw_cfg."""
        config = self.config
        if config.kernel is None:
            return
        command = os.fsencode(config.append) + b"\0"
        self.fw_cfg.add_item(fw_cfg.COMMAND_LINE, command)
        self.fw_cfg.add_item(fw_cfg.COMMAND_LINE_SIZE, len(command).to_bytes(4, "little"))
        for option, path, size, data in (
            ("-kernel", config.kernel, fw_cfg.KERNEL_SIZE, fw_cfg.KERNEL_DATA),
            ("-initrd", config.initrd, fw_cfg.INITRD_SIZE, fw_cfg.INITRD_DATA),
        ):
            if path is not None:
                content = read_image(option, path, min(config.memory, 0xFFFF_FFFF))
                self.fw_cfg.add_item(size, len(content).to_bytes(4, "little"))
                self.fw_cfg.add_item(data, content)
