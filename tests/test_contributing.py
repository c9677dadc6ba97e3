"""The recipes of CONTRIBUTING.md work as they stand."""

import importlib.util
import re
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from exuvia.machines.config import MIB, MachineConfig
from tests.devices.timing import ManualClock

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text("utf-8")
RECIPES = dict(re.findall(r"^## (.+?)\n.*?^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))

Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Imports a recipe's code as a module."""

    def call(title: str) -> ModuleType:
        path = tmp_path / "recipe.py"
        path.write_text(RECIPES[title])
        spec = importlib.util.spec_from_file_location("recipe", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return call


def test_there_are_four() -> None:
    assert list(RECIPES) == ["An instruction", "A device", "A machine", "A disk format"]


def test_an_instruction(tmp_path: Path) -> None:
    from exuvia.codegen.store import Store
    from exuvia.isa.x86 import bit
    from exuvia.isa.x86.forms import ROWS
    from tests.codegen.native import NativeMachine
    from tests.oracle.case import Case

    before = len(ROWS)
    exec(compile(RECIPES["An instruction"], "recipe", "exec"), dict(vars(bit)))
    try:
        code = bytes.fromhex("48 0f 3f c1")  # gray rax, rcx
        native = NativeMachine(Store("recipe", tmp_path))
        case = Case(code, gprs=[0, 0x123456789ABCDEF0, *[0] * 14])
        assert native.run(case).gprs[0] == 0x123456789ABCDEF0 ^ 0x091A2B3C4D5E6F78
        native.close()
    finally:
        del ROWS[before:]


def test_a_device(load: Load) -> None:
    kind = load("A device").Dice
    device = kind(clock=ManualClock(), **kind.configure({"sides": "6"}))
    seen: list[bool] = []
    device.irq.connect(seen.append)
    values = [device.read(0, 1) for _ in range(50)]
    assert set(values) <= set(range(1, 7))
    assert len(set(values)) > 1
    while device.read(0, 1) != 6:
        assert len(seen) < 100
    device.write(1, 1, 1)
    assert seen[-2:] == [True, False]


class Vcpu:
    """Enough of a processor to be made."""

    halted = True

    def __init__(self, machine: Any, index: int, apic: Any) -> None:
        self.index = index
        self.acknowledge = lambda: 0
        self.entered: list[Any] = []

    def interrupt(self, level: bool) -> None:
        """Nothing here is interrupted."""

    def reset(self) -> None:
        self.entered.clear()

    def enter(self, entry: Any) -> None:
        self.entered.append(entry)


def multiboot(path: Path) -> Path:
    """The smallest kernel: a multiboot 1 header with addresses (Multiboot Specification 0.6.96, 3.1), then HLT."""
    magic, flags, address = 0x1BADB002, 1 << 16, MIB
    path.write_bytes(struct.pack("<8I", magic, flags, -(magic + flags) & 0xFFFFFFFF, address, address, 0, 0, address + 32) + b"\xf4")
    return path


def test_a_machine(load: Load, tmp_path: Path) -> None:
    kind = load("A machine").Bare
    machine = kind(MachineConfig(memory=2 * MIB, kernel=str(multiboot(tmp_path / "kernel"))), vcpus=Vcpu)
    machine.reset()
    assert len(machine.vcpus[0].entered) == 1
    assert machine.memory.read(MIB + 32, 1) == 0xF4
    machine.memory.write(0x1000, 4, 0x12345678)
    assert machine.memory.read(0x1000, 4) == 0x12345678
    machine.ports.write(0x3FF, 1, 0xA5)
    assert machine.ports.read(0x3FF, 1) == 0xA5, "the scratch register of the serial port"


def test_a_disk_format(load: Load, tmp_path: Path) -> None:
    from exuvia.disk.protocols.file import File
    from exuvia.support.errors import UserError

    kind, size = load("A disk format").Shelf, (1 << 20) + 512

    def file() -> File:
        return File(str(tmp_path / "image"), writable=True, create=True)

    with file() as new:
        kind.create(new, size, {})
    model, random = bytearray(size), Random(1)
    for _ in range(3):
        with kind(file(), writable=True) as image:
            assert image.read(0, size) == model
            for _ in range(50):
                offset = random.randrange(size - 5000)
                data = random.randbytes(random.randrange(1, 5000))
                image.write(offset, data)
                model[offset : offset + len(data)] = data
            image.zero(70_000, 200_000)
            model[70_000:270_000] = bytes(200_000)
    (tmp_path / "image").write_bytes((tmp_path / "image").read_bytes()[:4100])
    with pytest.raises(UserError, match="table of blocks"):
        kind(file())
