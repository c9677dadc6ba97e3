"""The machine virt: its device tree against QEMU's, and its wires as a kernel meets them."""

from __future__ import annotations

import random
import shutil
import subprocess
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest

from exuvia.boot.arm64 import Arm64Entry
from exuvia.boot.devicetree import Node, Tree
from exuvia.boot.layout import MIB
from exuvia.devices.irq.gic_its import VALID, Command
from exuvia.machines.config import DeviceConfig, DriveConfig, MachineConfig, Topology
from exuvia.machines.virt import (
    ECAM,
    FLASH_SIZE,
    FW_CFG,
    GIC,
    GIC_INTERFACE,
    GIC_ITS,
    GIC_REDISTRIBUTORS,
    GIC_V2M,
    HIGH_ECAM,
    PCI_MEMORY,
    PCI_PORTS,
    RAM,
    UART,
    VIRTIO,
)
from exuvia.support.errors import UserError
from tests.boot.images import arm64_image, saved
from tests.devices.virtio.test_virtio_blk import Disk
from tests.machines.test_pc import Terminal
from tests.machines.virts import make


@pytest.fixture
def config(tmp_path: Path) -> MachineConfig:
    return MachineConfig(machine="virt", cpu="cortex-a57", kernel=saved(tmp_path, "k", arm64_image()), memory=64 * MIB)


def options(config: MachineConfig, **given: str) -> MachineConfig:
    return replace(config, machine_options=tuple((key.replace("_", "-"), value) for key, value in given.items()))


HANDLES = {"interrupt-parent": (0, 1), "clocks": (0, 1), "cpu": (0, 1), "gpios": (0, 3), "msi-map": (1, 4), "interrupt-map": (4, 10)}
"""Where in a property phandles stand: the first one, and the distance to the next."""


def plain(tree: Tree) -> dict[str, dict[str, bytes]]:
    """Properties by path; what is a phandle by the path of the node that it names; processors by their affinity."""
    nodes: dict[str, Node] = {}

    def walk(path: str, node: Node) -> None:
        nodes[path or "/"] = node
        for name, child in node.children.items():
            walk(f"{path}/cpu@{child.properties['reg'].hex()}" if name.startswith("cpu@") else f"{path}/{name}", child)

    walk("", tree.root)
    names = {node.properties["phandle"]: path for path, node in nodes.items() if "phandle" in node.properties}
    found: dict[str, dict[str, bytes]] = {}
    for path, node in nodes.items():
        found[path] = {key: value for key, value in node.properties.items() if key != "phandle"}
        for key, (first, step) in HANDLES.items():
            if key in found[path]:
                words = [found[path][key][at : at + 4] for at in range(0, len(found[path][key]), 4)]
                for at in range(first, len(words), step):
                    words[at] = names[words[at]].encode()
                found[path][key] = b" ".join(words)
    return found


@pytest.mark.parametrize(
    ("given", "processors"),
    [
        ({"gic_version": "2"}, 2),
        ({"gic_version": "3"}, 4),
        ({"gic_version": "3", "virtualization": "on"}, 1),
        ({"gic_version": "3", "its": "off"}, 1),
        ({"gic_version": "2", "highmem": "off"}, 1),
        ({"gic_version": "3"}, 20),
        ({"gic_version": "2"}, Topology(sockets=2, cores=3)),
        ({"gic_version": "3"}, Topology(clusters=2, cores=2, threads=2)),
    ],
)
def test_the_device_tree_is_qemus(config: MachineConfig, tmp_path: Path, given: dict[str, str], processors: int | Topology) -> None:
    """But for what QEMU has and this machine has not: a PMU, a platform bus; flash where nothing is in it."""
    if shutil.which("qemu-system-aarch64") is None:
        pytest.skip("qemu-system-aarch64 is not installed")
    topology = None if isinstance(processors, int) else processors
    count = processors if isinstance(processors, int) else prod(vars(processors).values())
    smp = ",".join([str(count), *(f"{key}={value}" for key, value in (vars(topology) if topology else {}).items())])
    chosen = ",".join(f"{key.replace('_', '-')}={value}" for key, value in given.items())
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    machine = f"virt,{chosen},dtb-randomness=off"
    command = ["qemu-system-aarch64", "-M", f"{machine},dumpdtb={theirs}", "-cpu", "cortex-a57", "-m", "64", "-smp", smp]
    subprocess.run([*command, "-nographic", "-append", "quiet", "-kernel", str(config.kernel)], check=True, capture_output=True, timeout=60)
    made, _ = make(
        options(
            replace(config, smp=count, topology=topology, append="quiet", drives=(), firmware=config.kernel),
            **given,
            dtb_randomness="off",
            dumpdtb=str(ours),
        )
    )
    assert made.run() == 0
    expected = plain(Tree.unpack(theirs.read_bytes()))
    found = plain(Tree.unpack(ours.read_bytes()))
    for path in [path for path in expected if path.startswith(("/platform-bus@", "/pmu"))]:
        del expected[path]
    gpio = found["/pl061@9030000"]  # its pins interrupt, which the binding has and QEMU does not say
    assert (
        gpio.pop("interrupt-controller") == b"" and gpio.pop("#interrupt-cells") == b"\0\0\0\2" and gpio.pop("#address-cells") == bytes(4)
    )
    if count == 1:  # where the binding wants it too, and QEMU leaves it out
        assert found["/cpus/cpu@00000000"].pop("enable-method") == b"psci\0"
    assert expected["/psci"].pop("compatible").startswith(found["/psci"].pop("compatible"))
    assert set(found) == set(expected)
    for path in expected:
        assert found[path] == expected[path], path


def test_files_of_the_users_for_the_guest(config: MachineConfig, tmp_path: Path) -> None:
    given = (("opt/a", b"text"), ("opt/b", saved(tmp_path, "f", b"content")))
    machine, _ = make(replace(config, files=given))
    found = {name: machine.fw_cfg._items[key] for name, key, _ in machine.fw_cfg._files}
    assert (found["opt/a"], found["opt/b"]) == (b"text", b"content")
    for name, message in (("opt/a", "given once"), ("opt/" + "b" * 60, "at most 55 characters"), ("opt/\xe4", "of ASCII")):
        with pytest.raises(UserError, match=message):
            make(replace(config, files=(("opt/a", b""), (name, b""))))
    with pytest.raises(UserError, match="-fw_cfg opt/c: /nowhere: No such file"):
        make(replace(config, files=(("opt/c", "/nowhere"),)))


def test_dtc_has_no_complaint(config: MachineConfig, tmp_path: Path) -> None:
    if shutil.which("dtc") is None:
        pytest.skip("dtc is not installed")
    made, _ = make(options(replace(config, smp=2), dumpdtb=str(tmp_path / "t")))
    assert made.run() == 0
    said = subprocess.run(["dtc", "-I", "dtb", "-O", "dts", tmp_path / "t"], capture_output=True, check=True).stderr.decode()
    assert not [line for line in said.splitlines() if "interrupt_provider" not in line and "unique_unit_address" not in line], said


def test_how_a_kernel_begins(config: MachineConfig) -> None:
    machine, (cpu,) = make(replace(config, append="quiet"))
    at = cpu.entry.registers["x0"]
    assert cpu.entry == Arm64Entry("linux", RAM, 1, {"x0": at}, at + 2 * MIB)
    assert machine.free_memory == (at + 2 * MIB, RAM + config.memory)
    tree = Tree.unpack(machine.memory.read_bytes(at, 2 * MIB))
    assert tree.node("/chosen").text("bootargs") == "quiet"
    assert len(tree.node("/chosen").properties["rng-seed"]) == 32
    assert tree.node("/psci").text("method") == cpu.conduit == "hvc"
    machine, (cpu,) = make(options(config, virtualization="on"))
    assert cpu.entry.level == 2
    assert cpu.conduit == "smc"


def test_the_serial_port(config: MachineConfig) -> None:
    terminal = Terminal()
    machine, _ = make(replace(config, serial=("term",)), {"term": terminal})
    machine.memory.write(UART + 0x30, 4, 0x301)
    for byte in b"Linux":
        machine.memory.write(UART, 4, byte)
    assert terminal.data == b"Linux"


def test_interrupts_of_a_gic_v2(config: MachineConfig) -> None:
    machine, cpus = make(replace(config, smp=2))
    memory = machine.memory
    memory.write(GIC, 4, 1)
    for machine._turn in (0, 1):
        memory.write(GIC_INTERFACE + 4, 4, 0xF0)
        memory.write(GIC_INTERFACE, 4, 1)
        memory.write(GIC + 0x100, 4, 1 << 27)
    cpus[1].timers.virtual.output(True)
    assert [cpu.lines.get("irq") for cpu in cpus] == [None, True]
    assert memory.read(GIC_INTERFACE + 0xC, 4) == 27
    machine._turn = 0
    memory.write(GIC + 0x104, 4, 1 << 1)
    memory.write(GIC + 0x820 + 1, 1, 1)
    memory.write(UART + 0x30, 4, 0x301)
    memory.write(UART + 0x38, 4, 0x20)
    memory.write(UART, 4, 0x41)
    assert cpus[0].lines["irq"]
    assert memory.read(GIC_INTERFACE + 0xC, 4) == 33


def test_a_disk_on_pci_sends_messages(config: MachineConfig) -> None:
    """Through the frame of a GICv2, then through the ITS of a GICv3."""
    disk = DeviceConfig(name="virtio-blk-pci", properties=(("drive", "d"), ("addr", "3")))
    for version in ("2", "3"):
        machine, (cpu,) = make(options(replace(config, devices=(disk,)), gic_version=version), drives={"d": Disk()})
        memory, slot = machine.memory, HIGH_ECAM + (3 << 15)
        assert memory.read(slot, 4) == 0x10421AF4
        memory.write(slot + 0x14, 4, PCI_MEMORY)
        memory.write(slot + 4, 2, 6)
        memory.write(slot + 0x42, 2, 0x8000)
        if version == "2":
            address, data = GIC_V2M + 0x40, 80
            _enable_v2(memory, 80)
        else:
            address, data = GIC_ITS + 0x10040, 5
            _enable_v3(machine, 3 << 3, 5)
        for offset, value in ((0, address), (4, 0), (8, data), (12, 0)):
            memory.write(PCI_MEMORY + offset, 4, value)
        device: Any = machine.devices["device0"]
        device.signal(0, 1)
        assert cpu.lines["irq"], version
        if version == "2":
            assert memory.read(GIC_INTERFACE + 0xC, 4) == 80
        else:
            assert machine.gic.cpus[0].read_register("ICC_IAR1_EL1") == 8195  # type: ignore[union-attr]


def _enable_v2(memory: Any, intid: int) -> None:
    memory.write(GIC, 4, 1)
    memory.write(GIC + 0x100 + intid // 32 * 4, 4, 1 << intid % 32)
    memory.write(GIC + 0xC00 + intid // 16 * 4, 4, 2 << 2 * (intid % 16))
    memory.write(GIC_INTERFACE + 4, 4, 0xF0)
    memory.write(GIC_INTERFACE, 4, 1)


def _enable_v3(machine: Any, device: int, event: int) -> None:
    """LPI 8195 for an event of a device, as the driver of an ITS sets it up."""
    memory = machine.memory
    properties, pending, queue, devices, collections, events = (RAM + (16 + n) * MIB // 4 for n in range(6))
    memory.write_bytes(properties, bytes([0xA1]) * 16)
    memory.write(GIC_REDISTRIBUTORS + 0x70, 8, properties | 15)
    memory.write(GIC_REDISTRIBUTORS + 0x78, 8, pending | 1 << 62)
    memory.write(GIC_REDISTRIBUTORS, 4, 1)
    memory.write(GIC, 4, 0x12)
    machine.gic.write_register(0, "ICC_PMR_EL1", 0xF0)
    machine.gic.write_register(0, "ICC_IGRPEN1_EL1", 1)
    for offset, value in ((0x80, VALID | queue), (0x100, VALID | devices), (0x108, VALID | collections)):
        memory.write(GIC_ITS + offset, 8, value)
    commands = (
        (Command.MAPC, 0, VALID),
        (Command.MAPD | device << 32, 4, VALID | events),
        (Command.MAPTI | device << 32, 8195 << 32 | event, 0),
    )
    for number, words in enumerate(commands):
        for place, word in enumerate(words):
            memory.write(queue + 32 * number + 8 * place, 8, word)
    memory.write(GIC_ITS, 4, 1)
    memory.write(GIC_ITS + 0x88, 8, 32 * len(commands))


def test_intx_is_swizzled_as_the_tree_says(config: MachineConfig) -> None:
    disk = DeviceConfig(name="virtio-blk-pci", properties=(("drive", "d"), ("addr", "2")))
    machine, _ = make(options(replace(config, devices=(disk,)), highmem="off"), drives={"d": Disk()})
    assert machine.memory.read(ECAM + (2 << 15), 4) == 0x10421AF4
    device: Any = machine.devices["device0"]
    device.interrupt(True)
    assert machine.gic.spis.pending == 1 << 32 + 3 + 2
    machine.memory.write(ECAM + (2 << 15) + 4, 2, 0x400)
    assert machine.gic.spis.pending == 0


def test_disks_on_virtio_mmio(config: MachineConfig) -> None:
    disks = [DeviceConfig(name="virtio-blk-device", properties=(("drive", name),)) for name in ("a", "b")]
    machine, _ = make(replace(config, devices=tuple(disks)), drives={"a": Disk(), "b": Disk()})
    types = [machine.memory.read(VIRTIO + number * 0x200 + 8, 4) for number in range(32)]
    assert types == [2, 2] + [0] * 30
    machine.devices["device1"].irq.set(True)  # type: ignore[attr-defined]
    assert machine.gic.spis.lines == 1 << 32 + 17


def test_firmware(config: MachineConfig, tmp_path: Path) -> None:
    variables = Disk(1 << 20)
    made = replace(
        config,
        firmware=saved(tmp_path, "fw", b"firmware"),
        drives=(DriveConfig(id="vars", image="", flash=-1),),
        initrd=saved(tmp_path, "i", b"initrd"),
        append="quiet",
    )
    machine, (cpu,) = make(made, drives={"vars": variables})
    memory = machine.memory
    assert cpu.entry == Arm64Entry("firmware", 0, 1, {"x0": RAM}, RAM + 2 * MIB)
    assert memory.read_bytes(0, 10) == b"firmware\xff\xff"
    assert memory.read_bytes(FLASH_SIZE, 16) == variables.bytes[:16]
    assert Tree.unpack(memory.read_bytes(RAM, 2 * MIB)).node("/flash@0").text("compatible") == "cfi-flash"
    memory.write(FLASH_SIZE, 4, 0x00400040)
    memory.write(FLASH_SIZE, 4, 0)
    assert variables.bytes[:4] == bytes(4), "what is written to a drive lasts"
    memory.write(FW_CFG + 8, 2, 0x1200)
    assert memory.read_bytes(FW_CFG, 8) == b"initrd\0\0"


def test_ports_of_pci_and_the_power_button(config: MachineConfig) -> None:
    machine, _ = make(config)
    assert machine.memory.read(PCI_PORTS, 4) == 0xFFFFFFFF
    button: Any = machine.devices["power-button"]
    gpio: Any = machine.devices["gpio"]
    button.press_power_button()
    assert gpio.read(0x3FC, 4) == 8


def test_a_tree_of_the_users(config: MachineConfig, tmp_path: Path) -> None:
    tree = Tree()
    tree.root.set("compatible", "users,own")
    machine, (cpu,) = make(replace(config, dtb=saved(tmp_path, "t", tree.pack())))
    found = Tree.unpack(machine.memory.read_bytes(cpu.entry.registers["x0"], 2 * MIB))
    assert found.root.text("compatible") == "users,own"
    assert "memory@40000000" in found.root.children


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(memory=5 * MIB), "-m: a virt takes whole MiB from 8"),
        (dict(smp=9, machine_options=(("gic-version", "2"),)), "-smp: a virt with a GICv2 takes 1 to 8 processors, not 9"),
        (dict(smp=200), "-smp: a virt with a GICv3 takes 1 to 123 processors"),
        (dict(machine_options=(("gic-version", "4"),)), "gic-version is 2, 3 or max, not '4'"),
        (dict(machine_options=(("acpi", "perhaps"),)), "acpi is auto, on or off, not .perhaps."),
        (dict(kernel=None), "nothing to run"),
        (dict(kernel=None, append="x", firmware="/dev/null"), "-append belongs to -kernel"),
        (dict(serial=("null", None)), "-serial: a virt has one serial port"),
        (dict(devices=(DeviceConfig(name="isa-serial"),)), "a virt has no isa bus"),
        (
            dict(drives=(DriveConfig(id="a", image="", flash=0, option="-drive X"),), firmware="/dev/null"),
            "no such bank of a virt",
        ),
        (dict(dtb="/nowhere"), "-dtb /nowhere: No such file"),
    ],
)
def test_what_cannot_be(config: MachineConfig, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make(replace(config, **change))


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_guest_may_access_anything(config: MachineConfig, version: str) -> None:
    """Every device at random, with interrupts coming and going; a reset puts all of it in order."""
    chance = random.Random(version)
    devices = tuple(DeviceConfig(name=name, properties=(("drive", name),)) for name in ("virtio-blk-pci", "virtio-blk-device"))
    given = replace(config, smp=2, devices=devices, drives=(DriveConfig(id="f", image="", flash=1),), serial=("t",))
    drives = {"virtio-blk-pci": Disk(), "virtio-blk-device": Disk(), "f": Disk(MIB)}
    machine, cpus = make(options(given, gic_version=version), {"t": Terminal()}, drives)
    for each in machine.devices.values():
        each.post = lambda work: work()
    windows = [0, 0x4000000, GIC, GIC + 0x10000, GIC_V2M, GIC_ITS, GIC_ITS + 0x10000, GIC_REDISTRIBUTORS, GIC_REDISTRIBUTORS + 0x30000]
    windows += [UART, UART + 0x10000, FW_CFG, UART + 0x30000, VIRTIO, VIRTIO + 0x3E00, PCI_MEMORY, PCI_PORTS, HIGH_ECAM, HIGH_ECAM + 0x8000]
    for _ in range(2_500):
        size = chance.choice((1, 2, 4, 8))
        machine._turn = chance.randrange(2)
        at = chance.choice(windows) + chance.randrange(chance.choice((0x40, 0x400, 0x1000))) & -size
        value = chance.choice((0, 1, RAM, RAM + chance.randrange(MIB), chance.getrandbits(8 * size))) & (1 << 8 * size) - 1
        if chance.random() < 0.6:
            machine.memory.write(at, size, value)
        else:
            assert 0 <= machine.memory.read(at, size) < 1 << 8 * size
        if chance.random() < 0.1:
            cpus[chance.randrange(2)].timers.virtual.output(chance.random() < 0.5)
        if version == "3" and chance.random() < 0.2:
            name = f"ICC_{chance.choice(('IAR1', 'EOIR1', 'PMR', 'IGRPEN1', 'SGI1R', 'CTLR'))}_EL1"
            machine.gic.write_register(machine._turn, name, chance.getrandbits(32))  # type: ignore[union-attr]
            machine.gic.read_register(machine._turn, name)  # type: ignore[union-attr]
    machine.reset()
    assert not any(level for cpu in cpus for level in cpu.lines.values())
    assert machine.memory.read(UART + 0xFE0, 4) == 0x11
