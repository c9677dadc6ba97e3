"""A Malta whose processor is the test: accesses as a kernel of either byte order makes them, and the levels of its interrupt inputs."""

from __future__ import annotations

from typing import Any

from exuvia.machines.config import MachineConfig
from exuvia.machines.malta import Malta


class Inputs:
    """A processor that only remembers what its inputs are."""

    index, halted, tick = 0, False, None

    def __init__(self) -> None:
        self.lines: dict[str, bool] = {}
        self.resets = 0

    def signal(self, line: str, level: bool) -> None:
        self.lines[line] = level

    def reset(self) -> None:
        self.resets += 1

    def run(self) -> None:
        raise AssertionError("nothing runs here")

    def kick(self) -> None: ...
    def enter(self, entry: Any) -> None: ...


class Processor:
    """Loads and stores by virtual address (kseg0, kseg1) in the processor's byte order."""

    def __init__(self, memory: Any, big_endian: bool) -> None:
        self.memory, self.order = memory, "big" if big_endian else "little"

    def load(self, address: int, size: int = 4) -> int:
        assert 0x80000000 <= address < 0xC0000000
        value = self.memory.read(address & 0x1FFFFFFF, size)
        return int.from_bytes(value.to_bytes(size, "little"), self.order)  # type: ignore[arg-type]

    def store(self, address: int, value: int, size: int = 4) -> None:
        assert 0x80000000 <= address < 0xC0000000
        data = (value & (1 << 8 * size) - 1).to_bytes(size, self.order)  # type: ignore[arg-type]
        self.memory.write(address & 0x1FFFFFFF, size, int.from_bytes(data, "little"))

    def run(self, pc: int, registers: dict[int, int] | None = None, *, until: int, limit: int = 20_000) -> dict[int, int]:
        """Run the few instructions that a boot ROM is made of (MIPS Architecture For Programmers, volume II) up to an address."""
        r = dict.fromkeys(range(32), 0) | (registers or {})
        following = pc + 4
        for _ in range(limit):
            if pc == until:
                return r
            word = self.load(pc)
            op, rs, rt, immediate = word >> 26, word >> 21 & 31, word >> 16 & 31, word & 0xFFFF
            signed = immediate - (immediate >> 15 << 16)
            address = r[rs] + signed & 0xFFFFFFFF
            after = following + 4
            if word == 0:
                pass
            elif word & 0xFC1FFFFF == 8:  # jr
                after = r[rs]
            elif op in (4, 5):  # beq, bne
                if (r[rs] == r[rt]) == (op == 4):
                    after = pc + 4 + 4 * signed
            elif op == 9:
                r[rt] = r[rs] + signed & 0xFFFFFFFF
            elif op == 0xC:
                r[rt] = r[rs] & immediate
            elif op == 0xD:
                r[rt] = r[rs] | immediate
            elif op == 0xF:
                r[rt] = immediate << 16
            elif op == 0x24:
                r[rt] = self.load(address, 1)
            elif op in (0x28, 0x2B):
                self.store(address, r[rt], 1 if op == 0x28 else 4)
            else:
                raise AssertionError(f"{word:#010x} at {pc:#x}")
            r[0] = 0
            pc, following = following, after
        raise AssertionError(f"still at {pc:#x}")


def malta(config: MachineConfig, **settings: Any) -> tuple[Malta, Processor, Inputs]:
    """A machine after power-on, what acts as its processor, and that one's inputs."""
    inputs = Inputs()
    processors: Any = lambda *_: inputs  # noqa: E731
    machine = Malta(config, vcpus=processors, **settings)
    machine.clock.resume()
    machine.reset()
    return machine, Processor(machine.memory, machine.big_endian), inputs
