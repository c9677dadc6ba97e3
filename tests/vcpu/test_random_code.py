"""Random code in random modes: the native engine survives it, and handlers done one by one (careful) do what blocks (fast) do."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from threading import Event, Thread
from time import process_time
from types import SimpleNamespace

import pytest

from exuvia.codegen.engine import Engine
from exuvia.codegen.layout import REASON
from exuvia.isa.x86.architecture import architecture
from exuvia.isa.x86.cpus import model
from exuvia.isa.x86.state import CS, IF, SEGMENTS, TF, layout
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace
from tests.vcpu.software_x86 import SoftwareX86

SIZE = 2 << 20
GDT, IDT, TSS, LDT = 0x8000, 0xA000, 0xB000, 0xC000
PML4, POINTERS, DIRECTORY, TABLE = 0x1000, 0x2000, 0x3000, 0x4000
USUAL = bytes.fromhex("0f6667f0f2f3484c41262e363e6465fff7f6cdcfcbca9aeae8e9eb8e8c9c9dc8c9a4a5aaab6c6ee4e6c3c4c5d8d9dadbdcdddedf")
MODES = ["real", "protected", "paged", "long", "user", "virtual"]
KINDS = [0x9A, 0x92, 0xFA, 0xF2, 0x9E, 0x96, 0x89, 0x82, 0x8C, 0xEC, 0x85, 0x81, 0x98, 0x90, 0xFE]
INSTRUCTIONS = 300
LIMIT = 0.7
"""Seconds of the processor's time after which a run that goes from fault to fault is given up."""


class Constant:
    """A device, and every port."""

    def read(self, offset: int, size: int) -> int:
        return 0x5A5A5A5A5A5A5A5A & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Nothing."""


class Bench:
    """One processor with two megabytes of RAM and a device above it."""

    def __init__(self) -> None:
        self.ram = Ram(SIZE)
        chosen = model("max")
        self.engine = Engine(architecture(), chosen.features, self.ram.address, SIZE)
        memory, ports = AddressSpace("memory"), AddressSpace("ports")
        memory.map_ram(0, SIZE, self.ram, 0)
        memory.map_device(SIZE, 0x10000, Constant())
        ports.map_device(0, 0x10000, Constant())
        self.engine.set_slots([(0, SIZE, self.ram.address, True)])
        self.ended = False
        machine = SimpleNamespace(vcpus=[], request_reset=self.end)
        self.cpu = SoftwareX86(self.engine, chosen, 0, memory, ports, SimpleNamespace(base=0xFEE00900, task_priority=0), machine)
        machine.vcpus.append(self.cpu)
        self.cpu.__dict__["timestamp"] = lambda: 0
        self.cpu.exit_handlers[REASON["budget"]] = self.cpu.kick

    def end(self, reason: str) -> None:
        """A triple fault."""
        self.ended = True

    def quad(self, at: int, value: int) -> None:
        """Write 8 bytes of guest memory."""
        self.ram.view[at : at + 8] = struct.pack("<Q", value & (1 << 64) - 1)

    def prepare(self, seed: int) -> str:
        """Memory and registers; the mode's name."""
        r = random.Random(seed)
        code = bytearray(r.randbytes(SIZE))
        for i in range(0, SIZE, 23):
            code[i] = r.choice(USUAL)
        self.ram.view[:SIZE] = bytes(code)
        mode = r.choice(MODES)
        wide = mode in ("long", "user")
        self.tables(r, wide)
        cpu, level = self.cpu, 3 if mode == "user" else 0
        self.ended, cpu.__dict__["kicked"] = False, False
        cpu.reset()
        for i in range(16):
            cpu.gpr[i] = r.choice(
                [r.getrandbits(64), r.getrandbits(20), r.getrandbits(8), 0xFFFF800000000000 | r.getrandbits(21), (1 << 47) - 4]
            )
        cpu.gpr[4] = 0x6F000 + r.getrandbits(12) & ~7
        cpu.gdt_base, cpu.gdt_limit, cpu.idt_base, cpu.idt_limit = GDT, 0x1FF, 0 if mode == "real" else IDT, 0xFFF
        cpu.mxcsr, cpu.fcw, cpu.xcr0 = r.choice([0x1F80, r.getrandbits(16)]), r.choice([0x37F, r.getrandbits(13) | 0x40]), 3
        cpu.cr4 = 0x600 | r.getrandbits(12) & 0x9F | (0x20 if wide else 0)
        cpu.tsc_offset = 0
        cpu.cr3, cpu.cr0 = PML4, 0x10 if mode == "real" else r.choice([0x11, 0x10031])
        flags = r.getrandbits(22) & ~(1 << 17 | IF | TF) | 2
        if mode == "real":
            cpu.set_segment(CS, 0x1000, 0x10000, 0xFFFF, 0x93)
        elif mode == "virtual":
            cpu.set_flags(0x20002 | r.choice([0, 0x3000]))
            cpu.cpl = 3
            for i in range(6):
                cpu.set_real_segment(i, r.getrandbits(14))
        else:
            for i in range(6):
                whole = (0xA09B if wide else 0xC09B) if i == CS else 0xC093
                cpu.set_segment(i, (8 if i == CS else 16) | level, 0, 0xFFFFFFFF, whole | level << 5)
            cpu.cpl = level
        if mode != "virtual":
            cpu.set_flags(flags)
        cpu.set_segment(SEGMENTS.index("TR"), 0x28, TSS, 0x20FF, 0x8B)
        cpu.set_segment(SEGMENTS.index("LDTR"), 0x30, LDT, 0xFF, 0x82)
        if wide or mode == "paged":
            cpu.cr0 |= 1 << 31
            cpu.cr4 |= 0x20
            cpu.efer = 0x501 if wide else 0
            for i in range(4):
                cpu.pdpte[i] = DIRECTORY | 1
        cpu.pc = cpu.seg_base[CS] + r.getrandbits(15) + 0x10000
        cpu.update_mode()
        cpu.flush_tlb(True)
        return mode

    def tables(self, r: random.Random, wide: bool) -> None:
        """Descriptors, gates and page tables that mostly make sense.

        The page tables are not mapped: blocks do not see accessed and dirty bits change where page tables are executed.
        """
        for i in range(64):
            base = 0 if r.random() < 0.6 else r.getrandbits(20)
            self.quad(
                GDT + 8 * i, r.choice([0xFFFF, 0xFFF, 0x67]) | base << 16 | r.choice(KINDS) << 40 | r.choice([0xCF, 0xAF, 0x40, 0]) << 48
            )
        self.quad(GDT + 8, 0x00AF9A000000FFFF if wide else 0x00CF9A000000FFFF)
        self.quad(GDT + 16, 0x00CF92000000FFFF)
        self.quad(TSS + 4, 0x70000)  # the stack of level 0
        if not wide:
            self.quad(TSS + 8, 16)
        for i in range(256 if wide else 512):
            kind = r.choice([0x8E, 0x8F, 0xEE, 0xEF] * 4 + [0x85, 0xE6])
            self.quad(IDT + (16 if wide else 8) * i, r.getrandbits(16) | 8 << 16 | kind << 40 | r.choice([0, 0, 1]) << 48)
            if wide:
                self.quad(IDT + 16 * i + 8, 0)
        for i in range(512):
            self.quad(PML4 + 8 * i, POINTERS | 7 if i in (0, 256, 511) else 0)
            self.quad(POINTERS + 8 * i, DIRECTORY | 7 if i < 2 or i > 508 else 0x40000087)
            self.quad(DIRECTORY + 8 * i, TABLE | r.choice([7, 3]) if i % 8 < 2 else r.choice([0, 0x200087]))
            self.quad(TABLE + 8 * i, (i + 0x60 if 1 <= i <= 4 else i) << 12 | (7 if i < 16 or i == 0x6F else r.choice([7, 7, 7, 3, 5, 6])))
        self.quad(DIRECTORY, TABLE | 7)

    def image(self) -> tuple[bytes, ...]:
        """Everything that the architecture shows, but for what engines keep about events."""
        cpu = self.cpu
        kept = bytes(cpu.state[:136]), bytes(cpu.state[layout.offset("star") : layout.size]), bytes(self.ram.view)
        return *kept, repr((cpu.pc, cpu.flags, cpu.cpl, cpu.mode, cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4)).encode()

    def fast(self) -> bool:
        """Run blocks; False if the guest halted, died or made no progress in time."""
        late: list[bool] = []
        over, began = Event(), process_time()

        def give_up() -> None:
            while not over.wait(LIMIT / 4):
                if process_time() - began > LIMIT:
                    late.append(True)
                    self.cpu.kick()
                    return

        watcher = Thread(target=give_up)
        self.cpu.budget_end = self.cpu.icount + INSTRUCTIONS
        watcher.start()
        try:
            self.cpu.run()
        finally:
            over.set()
            watcher.join()
        self.cpu.__dict__["kicked"] = False
        return not (late or self.ended or self.cpu.halted)

    def stepped(self, image: tuple[bytes, ...]) -> bool:
        """Do single instructions until the state is that of the image."""
        cpu = self.cpu
        for _ in range(20 * INSTRUCTIONS + 20000):
            if repr((cpu.pc, cpu.flags, cpu.cpl)).encode()[1:-1] in image[-1] and self.image() == image:
                return True
            if cpu.words[cpu.at["resume"]]:  # the delivery of an event
                cpu.budget_end = cpu.icount
                cpu.exit_handlers[self.engine.run(cpu.native.address)]()
            else:
                cpu.__dict__["kicked"] = False
                cpu.single_step()
            if self.ended or cpu.halted:
                break
        return False


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    b = Bench()
    yield b
    b.ram.close()


def compare(bench: Bench, seeds: range) -> int:
    """How many seeds could be compared."""
    compared = 0
    for seed in seeds:
        mode = bench.prepare(seed)
        if not bench.fast():
            continue
        image = bench.image()
        bench.prepare(seed)
        assert bench.stepped(image), f"seed {seed}, {mode}"
        compared += 1
    return compared


def test_blocks_and_single_instructions_agree(bench: Bench) -> None:
    assert compare(bench, range(12)) >= 3


@pytest.mark.soak
def test_blocks_and_single_instructions_agree_at_length(bench: Bench) -> None:
    assert compare(bench, range(100, 700)) >= 150
