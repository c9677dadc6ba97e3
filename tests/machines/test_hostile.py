"""A guest that does anything: random accesses to every port and every device's memory of a whole pc, between which time passes."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from exuvia.boot.layout import FOUR_GIB, LOCAL_APIC, MIB
from exuvia.cli.drives import Drives
from exuvia.machines.config import DeviceConfig, DriveConfig, MachineConfig
from exuvia.machines.machine import Machine
from exuvia.machines.pc import Pc
from tests.boot.images import bzimage, saved
from tests.machines.fake import FakeVcpu
from tests.machines.test_pc import Terminal

PAGES = [LOCAL_APIC, 0xFEC00000, 0xFED00000, 0xA0000, 0xC0000, 0xE0000, 0xF0000, 0xFFFF0000, 64 * MIB, FOUR_GIB, 0xFE000000]
PORTS = [
    *range(0x100),
    *range(0x3F0, 0x400),
    0x4D0,
    0x4D1,
    *range(0x501, 0x503),
    *range(0x510, 0x51C),
    *range(0x600, 0x640),
    0xCF8,
    0xCFC,
]
GROWTH = 8 * MIB


def act(pc: Pc, chance: random.Random) -> None:
    """One access of a guest, or a whole configuration cycle."""
    size = chance.choice((1, 2, 4))
    value = chance.choice((0, 1, 0xFF, 0xFFFFFFFF, chance.getrandbits(32), 1 << chance.randrange(32)))
    kind = chance.random()
    if kind < 0.25:  # PCI configuration, half of it of functions that there are
        slot, function = chance.choice(list(pc.pci.functions)) if chance.random() < 0.5 else (chance.randrange(32), chance.randrange(8))
        register = chance.randrange(256) & ~3
        pc.ports.write(0xCF8, 4, 1 << 31 | slot << 11 | function << 8 | register)
        port = 0xCFC + chance.randrange(4) // size * size
        if chance.random() < 0.5:
            pc.ports.write(port, size, value & (1 << 8 * size) - 1)
        else:
            assert 0 <= pc.ports.read(port, size) < 1 << 8 * size
    elif kind < 0.6:
        port = chance.choice(PORTS) if chance.random() < 0.8 else chance.randrange(0x10000)
        if chance.random() < 0.6:
            pc.ports.write(port, size, value & (1 << 8 * size) - 1)
        else:
            assert 0 <= pc.ports.read(port, size) < 1 << 8 * size
    else:
        size = chance.choice((1, 2, 4, 8))
        if chance.random() < 0.5 and (bars := [bar for device in pc.pci.functions.values() for bar in bars_of(device)]):
            address = chance.choice(bars) + chance.randrange(0x4000)
        else:
            address = chance.choice(PAGES) + chance.randrange(0x1000)
        if chance.random() < 0.6:
            pc.memory.write(address, size, (value | value << 32) & (1 << 8 * size) - 1)
        else:
            assert 0 <= pc.memory.read(address, size) < 1 << 8 * size


def bars_of(device: object) -> list[int]:
    """Where its memory stands now, as its configuration space says."""
    config = device.read_config  # type: ignore[attr-defined]
    return [config(0x10 + 4 * n, 4) & ~0xF for n in range(6) if config(0x10 + 4 * n, 4) not in (0, 0xFFFFFFFF)]


def attack(tmp_path: Path, seed: int, steps: int) -> None:
    chance = random.Random(seed)
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MIB))
    peak = 0

    def program(cpu: FakeVcpu, pc: Pc) -> Iterator[str]:
        nonlocal steps, peak
        while steps:
            for _ in range(chance.randrange(1, 400)):
                act(pc, chance)
                steps -= 1
                if not steps:
                    break
            peak = max(peak, tracemalloc.get_traced_memory()[0])
            yield "" if chance.random() < 0.98 else "hlt"
        pc.exit(7)
        yield ""

    config = MachineConfig(
        kernel=saved(tmp_path, "k", bzimage()),
        memory=64 * MIB,
        smp=2,
        serial=("a",),
        no_shutdown=True,
        drives=(DriveConfig(id="d", image=str(disk), format="raw"),),
        devices=(
            DeviceConfig(name="virtio-blk-pci", properties=(("drive", "d"),)),
            DeviceConfig(name="isa-debugcon", properties=(("chardev", "b"),)),
        ),
    )

    def factory(machine: Machine, index: int, controller: object) -> FakeVcpu:
        assert isinstance(machine, Pc)
        return FakeVcpu(index, lambda cpu: program(cpu, machine))

    class Sink(Terminal):
        def write(self, data: bytes) -> None:
            """Forgets it."""

    with Drives(config.drives) as drives:
        pc = Pc(config, {"a": Sink(), "b": Sink()}, drives, vcpus=factory)
        awake(pc)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            assert pc.run() == 7
        finally:
            tracemalloc.stop()
    assert peak - before < GROWTH


def awake(pc: Pc) -> None:
    """A machine that was powered off is switched on again, and halted processors go on."""

    def again() -> None:
        if pc.status == "shutdown":
            pc._continue()

    stop = pc._stop

    def stopped(status: object) -> None:
        stop(status)  # type: ignore[arg-type]
        pc.post(again)

    pc._stop = stopped  # type: ignore[method-assign]

    def wait(deadline: int | None) -> None:
        for vcpu, park in zip(pc.vcpus, pc._parks, strict=True):
            vcpu.halted = False
            park.notify()
        pc._lock.release()
        pc._lock.acquire()

    pc._wait = wait  # type: ignore[method-assign]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(2))
def test_any_access_is_survived(tmp_path: Path, seed: int) -> None:
    attack(tmp_path, seed, 10_000)


@pytest.mark.soak
@pytest.mark.timeout(1000)
@pytest.mark.parametrize("seed", range(100, 105))
def test_a_million_accesses_are_survived(tmp_path: Path, seed: int) -> None:
    attack(tmp_path, seed, 200_000)
