"""The malta as its kernel's accesses show it, in both byte orders."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Literal

import pytest

from exuvia.boot.layout import MIB
from exuvia.devices.pci.device import PciDevice
from exuvia.machines.config import DeviceConfig, DriveConfig, MachineConfig
from exuvia.support.errors import UserError
from tests.boot.images import elf, saved
from tests.devices.serial.test_uart16550 import Backend
from tests.devices.virtio.test_virtio_blk import Disk
from tests.machines.maltas import malta

ENTRY, RESET = 0x80100000, 0xBFC00000
GT, PORTS, FPGA = 0xBBE00000, 0xB8000000, 0xBF000000


class Board:
    """A malta whose kernel has just been entered."""

    def __init__(self, folder: Path, big_endian: bool, **settings: Any) -> None:
        kernel = elf(32, [(ENTRY, ENTRY, b"\0" * 64, 0x1000)], ENTRY, machine=8, big_endian=big_endian)
        self.terminals = [Backend(), Backend(), Backend()]
        chardevs = {f"serial{n}": terminal for n, terminal in enumerate(self.terminals)}
        config = MachineConfig(
            machine="malta",
            memory=settings.pop("memory", 64 * MIB),
            kernel=saved(folder, "k", kernel),
            serial=tuple(chardevs),
            order="big" if big_endian else "little",
            **settings,
        )
        self.machine, self.cpu, self.inputs = malta(config, chardevs=chardevs)
        self.big_endian = big_endian
        self.registers = self.cpu.run(RESET, until=ENTRY)

    def gt(self, register: int, value: int | None = None) -> int:
        """The controller's registers are little-endian."""
        if value is not None:
            self.cpu.store(GT + register, self.turned(value))
            return 0
        return self.turned(self.cpu.load(GT + register))

    def turned(self, value: int) -> int:
        return int.from_bytes(value.to_bytes(4, "little"), "big") if self.big_endian else value

    def config(self, slot: int, function: int, offset: int, value: int | None = None) -> int:
        """As Linux makes a configuration cycle."""
        self.gt(0xC18, 0xFFF3FFFF)
        self.gt(0xCF8, 1 << 31 | slot << 11 | function << 8 | offset & 0xFC)
        turn = self.turned if slot == 0 else int
        if value is not None:
            self.cpu.store(GT + 0xCFC, turn(value))
            return 0
        found = turn(self.cpu.load(GT + 0xCFC))
        if self.gt(0xC18) & 0xC0000:
            return 0xFFFFFFFF
        return found

    def port(self, port: int, value: int | None = None) -> int:
        if value is not None:
            self.cpu.store(PORTS + port, value, 1)
            return 0
        return self.cpu.load(PORTS + port, 1)

    def level(self, line: str) -> bool:
        """Of an interrupt input of the processor."""
        return self.inputs.lines[line]

    def initialize_pic(self) -> None:
        """As Linux does."""
        for port, values in ((0x20, (0x11,)), (0x21, (0x00, 0x04, 0x01)), (0xA0, (0x11,)), (0xA1, (0x08, 0x02, 0x01))):
            for value in values:
                self.port(port, value)
        self.port(0x21, 0)
        self.port(0xA1, 0)


@pytest.fixture(params=[False, True], ids=["little", "big"])
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Board:
    return Board(tmp_path, request.param)


def test_the_rom_sets_the_board_up_and_enters_the_kernel(board: Board) -> None:
    assert board.registers[4] == 2
    windows = {0x048: 0xC0, 0x050: 0x40, 0x0F0: 0, 0x058: 0x80, 0x060: 0x3F, 0x080: 0xC1, 0x088: 0x5E, 0x068: 0xDF}
    assert {register: board.gt(register) for register in windows} == windows
    assert board.config(10, 0, 0x60) == 0x0B0B0A0A
    assert board.port(0x4D1) == 0x0C
    assert board.cpu.load(0xBFC00010) >> 10 & 0x3F == 1, "core board LV"


def test_enumeration(board: Board) -> None:
    found = {
        (slot, function): identity
        for slot in range(22)
        for function in range(8)
        if (identity := board.config(slot, function, 0)) != 0xFFFFFFFF
    }
    assert found == {(0, 0): 0x462011AB, (10, 0): 0x71108086, (10, 1): 0x71118086, (10, 3): 0x71138086}
    assert board.config(10, 0, 0x0C) >> 16 & 0x80, "several functions"


def test_ide_without_drives(board: Board) -> None:
    """Firmware sets up the timings; a task file that nobody drives reads as ones."""
    board.config(10, 1, 0x40, 0xA307A307)
    assert board.config(10, 1, 0x40) == 0xA307A307
    board.config(10, 1, 0x20, 0x1100)
    board.config(10, 1, 0x04, 5)
    assert (board.port(0x1100), board.port(0x1102), board.port(0x1F7)) == (0, 0, 0xFF)


def test_the_monitors_services(board: Board) -> None:
    print_, print_count = board.cpu.load(0x9FC00534), board.cpu.load(0x9FC00504)
    board.machine.memory.write_bytes(0x200000, b"YAMON\0never")
    board.cpu.run(print_, {5: 0x80200000, 31: ENTRY}, until=ENTRY)
    board.cpu.run(print_count, {5: 0x80200000, 6: 3, 31: ENTRY}, until=ENTRY)
    assert board.terminals[0].sent == b"YAMONYAM"
    for vector in range(0x538, 0x558, 4):
        after = board.cpu.run(board.cpu.load(0x9FC00000 + vector), {31: ENTRY}, until=ENTRY)
        assert after[2] == (0 if vector == 0x550 else 0xFFFFFFFF)


def test_serial_ports_speak_and_interrupt(board: Board) -> None:
    board.initialize_pic()
    for terminal, port, vector in ((0, 0x3F8, 4), (1, 0x2F8, 3)):
        board.port(port, ord("a") + terminal)
        assert board.terminals[terminal].sent == b"ab"[terminal : terminal + 1]
        board.port(port + 4, 0x08)
        board.port(port + 1, 1)
        board.terminals[terminal].type(b"x")
        assert board.level("ip2")
        assert board.gt(0xC34) & 0xFF == vector
        assert board.port(port) == ord("x")
        board.port(0x20, 0x20)
        assert not board.level("ip2")


def test_the_boards_uart_is_a_word_for_each_register(board: Board) -> None:
    uart = FPGA + 0x900
    board.cpu.store(uart, ord("c"))
    assert board.terminals[2].sent == b"c"
    assert board.cpu.load(uart + 5 * 8) == 0x60
    board.cpu.store(uart + 4 * 8, 0x08)
    board.cpu.store(uart + 1 * 8, 0x01)
    board.terminals[2].type(b"y")
    assert board.level("ip4")
    assert board.cpu.load(uart) == ord("y")
    assert not board.level("ip4")


def test_the_slaves_interrupts_reach_the_processor(board: Board) -> None:
    board.initialize_pic()
    mouse = board.machine.lines[12].input()
    mouse(True)
    assert board.level("ip2")
    assert board.gt(0xC34) & 0xFF == 12
    mouse(False)
    board.port(0xA0, 0x20)
    board.port(0x20, 0x20)
    assert not board.level("ip2")
    mouse(True)
    mouse(False)
    assert board.gt(0xC34) & 0xFF == 12, "an edge is remembered"


def test_fpga(board: Board) -> None:
    assert board.cpu.load(FPGA + 0x208) == (0x12 if board.big_endian else 0x10)
    for position, character in enumerate("EXUVIA"):
        board.cpu.store(FPGA + 0x418 + 8 * position, ord(character))
    assert board.machine.fpga.text == "EXUVIA  "
    board.machine.fpga.press_nmi()
    assert board.level("nmi")


def test_ways_to_reset_and_to_power_off(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(board.machine, "request_reset", asked.append)
    monkeypatch.setattr(board.machine, "request_shutdown", lambda: asked.append("off"))
    board.cpu.store(FPGA + 0x500, 0x42)
    board.port(0xCF9, 0x06)
    board.port(0x64, 0xFE)
    # as Linux's piix4-poweroff does, behind its quirk that places the power management ports
    board.config(10, 3, 0x40, 0x1001)
    board.config(10, 3, 0x80, 1)
    board.cpu.store(PORTS + 0x1004, board.turned(0x2000) >> (16 if board.big_endian else 0), 2)
    assert asked == ["SOFTRES", "port 0xCF9", "keyboard controller", "off"]


@pytest.mark.parametrize("mib", [64, 256, 1024])
def test_ram_lies_below_the_board_and_again_above(tmp_path: Path, mib: int) -> None:
    memory = Board(tmp_path, False, memory=mib * MIB).machine.memory
    memory.write(0x80000000 + mib * MIB - 4, 4, 0x12345678)
    assert memory.read(mib * MIB - 4, 4) == 0x12345678, "its first quarter GiB, and what is beyond half a GiB"
    assert memory.device_at(0x1F000200) is not None


def test_a_cards_interrupt_takes_the_route_of_its_slot(tmp_path: Path) -> None:
    class Card(PciDevice):
        name = "card"
        vendor_id, device_id, class_code = 0x1234, 0x5678, 0xFF0000
        interrupt_pin = 1

    board = Board(tmp_path, False)
    board.initialize_pic()
    cards = [Card() for _ in range(4)]
    for number, card in enumerate(cards):
        board.machine.pci.attach(card)
        assert board.config(18 + number, 0, 0) == 0x56781234
        card.interrupt(True)
        assert board.level("ip2")
        assert board.gt(0xC34) & 0xFF == (10, 10, 11, 11)[number]
        card.interrupt(False)
        board.port(0xA0, 0x20)
        board.port(0x20, 0x20)
        assert not board.level("ip2")


@pytest.mark.parametrize("big_endian", [False, True])
def test_firmware_is_turned_for_a_little_endian_processor(tmp_path: Path, big_endian: bool) -> None:
    image = bytes.fromhex("3c1a1234 375a5678") + bytes(12) + b"\xde\xad\xbe\xef" + b"end"
    machine, cpu, _ = malta(MachineConfig(machine="malta", firmware=saved(tmp_path, "b", image), order="big" if big_endian else "little"))
    assert (cpu.load(RESET), cpu.load(RESET + 4), cpu.load(RESET + 20)) == (0x3C1A1234, 0x375A5678, 0xDEADBEEF)
    assert cpu.load(0xBE000014) == 0xDEADBEEF
    assert cpu.load(RESET + 0x10) == 0x420
    assert cpu.load(0xBE000010) == 0
    machine.memory.write(0x1FC00000, 4, 0)
    assert cpu.load(RESET) == 0x3C1A1234


@pytest.mark.parametrize("big_endian", [False, True])
def test_flash_on_a_drive_holds_firmware_and_what_it_writes(big_endian: bool) -> None:
    disk, flash = Disk(4 * MIB), 0xBE000000
    disk.bytes[:] = bytes.fromhex("3c1a1234 375a5678") + b"\xff" * (4 * MIB - 8)
    config = MachineConfig(
        machine="malta", drives=(DriveConfig(id="f", image="", flash=-1),), order="big" if big_endian else "little", memory=64 * MIB
    )
    machine, cpu, _ = malta(config, drives={"f": disk})
    assert (cpu.load(RESET), cpu.load(flash + 4)) == (0x3C1A1234, 0x375A5678)
    cpu.store(flash, 0x00980098)
    assert [cpu.load(flash + 4 * n) for n in (0x10, 0x11, 0x12)] == [ord(letter) * 0x10001 for letter in "QRY"]
    blocks, size = cpu.load(flash + 4 * 0x2D) & 0xFF, cpu.load(flash + 4 * 0x2F) & 0xFF
    assert (blocks + 1) * 2 * 256 * size == 4 * MIB
    for command in (0x00FF00FF, 0x00400040):
        cpu.store(flash + 0x3E0000, command)
    cpu.store(flash + 0x3E0000, 0x01020304)
    assert disk.bytes[0x3E0000:0x3E0004] == b"\1\2\3\4", "a word is the same for either processor"
    cpu.store(flash, 0x00FF00FF)
    assert cpu.load(flash + 0x3E0000) == 0x01020304
    machine.reset()
    assert cpu.load(0xBFFE0000) == 0x01020304, "the ROM is the flash as the processor began"


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_guest_may_access_anything(order: Literal["little", "big"], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every device at random, while the controller's registers and windows move; a reset puts all of it in order."""
    chance = random.Random(order)
    names = ("a", "b", "c")
    config = MachineConfig(
        machine="malta",
        memory=64 * MIB,
        order=order,
        serial=names,
        drives=(DriveConfig(id="f", image="", flash=-1),),
        devices=(DeviceConfig(name="virtio-blk-pci", properties=(("drive", "d"),)),),
    )
    machine, _, _ = malta(config, drives={"f": Disk(4 * MIB), "d": Disk()}, chardevs={name: Backend() for name in names})
    for request in ("request_reset", "request_shutdown"):
        monkeypatch.setattr(machine, request, lambda *_: None)
    for device in machine.devices.values():
        device.post = lambda work: work()
    windows = [0x1E000000, 0x1E3E0000, 0x1F000000, 0x1F000400, 0x1F000900, 0x14000000, 0x14000C00, 0x1BE00000, 0x1BE00C00]
    windows += [0x18000000, 0x18000CF8, 0x180003F8, 0x10000000, 0x12000000, 0x1FC00000]
    for _ in range(4_000):
        size = chance.choice((1, 2, 4, 8))
        at = chance.choice(windows) + chance.randrange(chance.choice((0x40, 0x400, 0x1000))) & -size
        command = chance.choice((0x20, 0x40, 0x90, 0x98, 0xD0, 0xE8, 0xFF)) * 0x10001
        value = chance.choice((0, 1, command, command << 8, chance.getrandbits(64))) & (1 << 8 * size) - 1
        if chance.random() < 0.6:
            machine.memory.write(at, size, value)
        else:
            assert 0 <= machine.memory.read(at, size) < 1 << 8 * size
        if chance.random() < 0.02:
            machine.gt64120.write(0x068, 4, chance.choice((0xA0, 0xDF)))
    machine.reset()
    assert machine.memory.device_at(0x14000000) is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(), "nothing to run"),
        (dict(smp=2, kernel="k"), "-smp: a malta has one processor, not 2"),
        (dict(memory=8 * MIB, kernel="k"), "-m: a malta takes whole MiB from 16 to 2048, not 8"),
        (dict(memory=4096 * MIB, kernel="k"), "-m: a malta takes whole MiB from 16 to 2048, not 4096"),
        (dict(memory=1 << 41, kernel="k"), "-m: a malta takes whole MiB from 16 to 2048, not 2097152"),
        (dict(firmware="k", append="a"), "-append belongs to -kernel"),
        (dict(firmware="k", kernel="k"), "leave one of them out"),
        (
            dict(drives=(DriveConfig(id="f", image="", flash=1, option="-drive X"),)),
            "-drive X: no such bank of a malta",
        ),
        (dict(firmware="k", drives=(DriveConfig(id="f", image="", flash=-1, option="-drive X"),)), "-bios takes the first"),
        (dict(kernel="k", serial=(None,) * 4), "-serial: a malta has 3 serial ports"),
        (dict(kernel="k", devices=(DeviceConfig(name="malta-fpga"),)), "is part of the machine"),
    ],
)
def test_what_it_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, "k", b"")
    with pytest.raises(UserError, match=message):
        malta(MachineConfig(machine="malta", **settings))
