"""The device tree of `virt` (Linux, Documentation/devicetree/bindings: what each node may say)."""

from __future__ import annotations

import os
from dataclasses import dataclass

from exuvia.boot.devicetree import Node, Tree, cells, strings, wide
from exuvia.devices.irq.gic_v3 import affinity
from exuvia.machines.config import Topology

PPI, SPI = 1, 0
FIRST_PPI, FIRST_SPI = 16, 32  # INTIDs
EDGE_RISING, LEVEL_HIGH = 1, 4
TIMERS = (13, 14, 11, 10)  # PPIs: secure physical, physical, virtual, hypervisor's
VIRTUAL_TIMER, PHYSICAL_TIMER, HYPERVISOR_TIMER = TIMERS[2], TIMERS[1], TIMERS[3]
MAINTENANCE = 9
CLOCK = 24_000_000
POWER_PIN, KEY_POWER = 3, 116
PSCI = {"cpu_suspend": 0xC4000001, "cpu_off": 0x84000002, "cpu_on": 0xC4000003, "migrate": 0xC4000005}


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What there is, and where: windows are (address, size), interrupts are SPIs."""

    cpu: str
    processors: int
    topology: Topology
    conduit: str
    gic_version: int
    distributor: tuple[int, int]
    interface: tuple[int, int]  # the CPU interface of a GICv2, the redistributors of a GICv3
    messages: tuple[int, int] | None  # the frame of a GICv2, the ITS of a GICv3
    message_spis: tuple[int, int]  # of such a frame: how many, the first one's INTID
    virtualization: bool
    flash: tuple[int, int] | None  # the first of two banks
    uart: tuple[int, int, int]
    rtc: tuple[int, int, int]
    gpio: tuple[int, int, int]
    fw_cfg: tuple[int, int]
    virtio: tuple[int, int, int, int]  # the first one's window and SPI, and how many
    ecam: tuple[int, int]
    buses: int
    ports: tuple[int, int]
    windows: tuple[tuple[int, int], ...]  # memory of PCI: below 4 GiB, above
    pci_interrupt: int
    random: bool


def build(platform: Platform) -> Tree:
    """The tree, but for what only the loader knows (memory, command line, initrd)."""
    tree = Tree()
    root = tree.root.set("compatible", "linux,dummy-virt").set("model", "linux,dummy-virt").set("#address-cells", 2).set("#size-cells", 2)
    gic, messages = _interrupts(tree, platform)
    root.set("interrupt-parent", tree.phandle(gic))
    tree.node("/psci").set("compatible", strings("arm,psci-1.0", "arm,psci-0.2", "arm,psci")).set("method", platform.conduit)
    for name, number in PSCI.items():
        tree.node("/psci").set(name, number)
    _processors(tree, platform)
    clock = tree.node("/apb-pclk").set("compatible", "fixed-clock").set("#clock-cells", 0)
    clock.set("clock-frequency", CLOCK).set("clock-output-names", "clk24mhz")
    _primecells(tree, platform, tree.phandle(clock))
    if platform.flash is not None:
        start, size = platform.flash
        flash = tree.node(f"/flash@{start:x}").set("compatible", "cfi-flash")
        flash.set("reg", wide(start, size, start + size, size)).set("bank-width", 4)
    fw_cfg = tree.node(f"/fw-cfg@{platform.fw_cfg[0]:x}").set("compatible", "qemu,fw-cfg-mmio")
    fw_cfg.set("reg", wide(*platform.fw_cfg)).set("dma-coherent")
    first, size, spi, count = platform.virtio
    for number in range(count):
        node = tree.node(f"/virtio_mmio@{first + number * size:x}").set("compatible", "virtio,mmio")
        node.set("reg", wide(first + number * size, size)).set("interrupts", cells(SPI, spi + number, EDGE_RISING)).set("dma-coherent")
    _pci(tree, platform, gic, messages)
    chosen = tree.node("/chosen").set("stdout-path", f"/pl011@{platform.uart[0]:x}")
    if platform.random:
        chosen.set("rng-seed", os.urandom(32)).set("kaslr-seed", os.urandom(8))
    return tree


def _interrupts(tree: Tree, platform: Platform) -> tuple[Node, Node | None]:
    """interrupt-controller/arm,gic.yaml and arm,gic-v3.yaml."""
    gic = tree.node(f"/intc@{platform.distributor[0]:x}").set("interrupt-controller").set("#interrupt-cells", 3)
    gic.set("#address-cells", 2).set("#size-cells", 2).set("ranges")
    gic.set("reg", wide(*platform.distributor, *platform.interface))
    if platform.gic_version == 2:
        gic.set("compatible", "arm,cortex-a15-gic")
    else:
        gic.set("compatible", "arm,gic-v3").set("#redistributor-regions", 1)
        if platform.virtualization:
            gic.set("interrupts", cells(PPI, MAINTENANCE, LEVEL_HIGH))
    if platform.messages is None:
        return gic, None
    name, compatible = ("v2m", "arm,gic-v2m-frame") if platform.gic_version == 2 else ("its", "arm,gic-v3-its")
    messages = gic.child(f"{name}@{platform.messages[0]:x}").set("compatible", compatible).set("msi-controller")
    messages.set("reg", wide(*platform.messages))
    if platform.gic_version == 3:
        messages.set("#msi-cells", 1)
    return gic, messages


def _processors(tree: Tree, platform: Platform) -> None:
    """arm/cpus.yaml, cpu/cpu-topology.txt, timer/arm,arch_timer.yaml."""
    cpus = tree.node("/cpus").set("#address-cells", 1).set("#size-cells", 0)
    compatible = f"arm,{platform.cpu}" if platform.cpu.startswith(("cortex-", "neoverse-")) else "arm,armv8"
    for number in range(platform.processors):
        cpu = cpus.child(f"cpu@{affinity(number):x}").set("device_type", "cpu").set("compatible", compatible).set("reg", affinity(number))
        cpu.set("enable-method", "psci")
        socket, cluster, core, thread = platform.topology.place(number)
        place = cpus.child("cpu-map").child(f"socket{socket}").child(f"cluster{cluster}").child(f"core{core}")
        (place.child(f"thread{thread}") if platform.topology.threads > 1 else place).set("cpu", tree.phandle(cpu))
    flags = LEVEL_HIGH | ((1 << platform.processors) - 1 << 8 if platform.gic_version == 2 else 0)
    timer = tree.node("/timer").set("compatible", strings("arm,armv8-timer", "arm,armv7-timer")).set("always-on")
    timer.set("interrupts", b"".join(cells(PPI, number, flags) for number in TIMERS))


def _primecells(tree: Tree, platform: Platform, clock: int) -> None:
    """serial/pl011.yaml, rtc/arm,pl031.yaml, gpio/pl061-gpio.yaml, input/gpio-keys.yaml."""
    for name, (address, size, spi) in (("pl011", platform.uart), ("pl031", platform.rtc), ("pl061", platform.gpio)):
        node = tree.node(f"/{name}@{address:x}").set("compatible", strings(f"arm,{name}", "arm,primecell"))
        node.set("reg", wide(address, size)).set("interrupts", cells(SPI, spi, LEVEL_HIGH))
        names = ("uartclk", "apb_pclk") if name == "pl011" else ("apb_pclk",)
        node.set("clocks", cells(*[clock] * len(names))).set("clock-names", strings(*names))
    gpio = tree.node(f"/pl061@{platform.gpio[0]:x}").set("gpio-controller").set("#gpio-cells", 2)
    gpio.set("interrupt-controller").set("#interrupt-cells", 2).set("#address-cells", 0)
    key = tree.node("/gpio-keys").set("compatible", "gpio-keys").child("poweroff")
    key.set("gpios", cells(tree.phandle(gpio), POWER_PIN, 0)).set("linux,code", KEY_POWER).set("label", "GPIO Key Poweroff")


def _pci(tree: Tree, platform: Platform, gic: Node, messages: Node | None) -> None:
    """pci/host-generic-pci.yaml; the swizzle repeats after four slots."""
    low = platform.windows[0][0]
    pci = tree.node(f"/pcie@{low:x}").set("compatible", "pci-host-ecam-generic").set("device_type", "pci")
    pci.set("#address-cells", 3).set("#size-cells", 2).set("#interrupt-cells", 1).set("linux,pci-domain", 0).set("dma-coherent")
    pci.set("bus-range", cells(0, platform.buses - 1)).set("reg", wide(*platform.ecam))
    ranges = cells(0x01000000, 0, 0) + wide(*platform.ports)
    for address, size in platform.windows:
        space = 0x02000000 if address + size <= 1 << 32 else 0x03000000
        ranges += cells(space) + wide(address, address, size)
    pci.set("ranges", ranges)
    if messages is not None:
        pci.set("msi-map", cells(0, tree.phandle(messages), 0, 0x10000))
    handle = tree.phandle(gic)
    lines = b""
    for slot in range(4):
        for pin in range(1, 5):
            spi = platform.pci_interrupt + (slot + pin - 1) % 4
            lines += cells(slot << 11, 0, 0, pin, handle, 0, 0, SPI, spi, LEVEL_HIGH)
    pci.set("interrupt-map", lines).set("interrupt-map-mask", cells(0x1800, 0, 0, 7))
