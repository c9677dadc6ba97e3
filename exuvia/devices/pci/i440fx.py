"""Intel 82441FX (440FX PMC): the host bridge, with the registers that shadow 0xC0000-0xFFFFF (datasheet 290549, section 3.2)."""

from __future__ import annotations

from typing import Any

from exuvia.devices.pci.device import PciDevice
from exuvia.memory.ram import Ram
from exuvia.memory.space import AddressSpace

PAM, SMRAM = 0x59, 0x72
READ, WRITE = 1, 2
SMRAM_START, SMRAM_SIZE = 0xA0000, 0x20000
G_SMRAME, D_LCK, D_CLS, D_OPEN = 1 << 3, 1 << 4, 1 << 5, 1 << 6
# (register, low bit of its field, start, size)
SEGMENTS = [(PAM, 4, 0xF0000, 0x10000)] + [(PAM + 1 + n // 2, n % 2 * 4, 0xC0000 + n * 0x4000, 0x4000) for n in range(12)]


class _WriteThrough:
    """A segment whose reads come from the ROM below and whose writes go to RAM."""

    def __init__(self, ram: Ram, rom: Ram | None, start: int, rom_offset: int) -> None:
        self.ram, self.rom, self.start, self.rom_offset = ram, rom, start, rom_offset

    def read(self, offset: int, size: int) -> int:
        if self.rom is None:
            return (1 << 8 * size) - 1
        at = self.rom_offset + offset
        return int.from_bytes(self.rom.view[at : at + size], "little")

    def write(self, offset: int, size: int, value: int) -> None:
        self.ram.load(self.start + offset, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))


class I440fx(PciDevice):
    """The host bridge, slot 0. `connect` gives it the memory that its PAM and SMRAM registers switch."""

    name = "i440FX"
    plugs_into = "sysbus"
    vendor_id, device_id, revision, class_code = 0x8086, 0x1237, 2, 0x060000

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        self._space: AddressSpace | None = None
        self._ram: Ram | None = None
        self._rom: tuple[Ram, int] | None = None
        self._segments: dict[int, tuple[int, object]] = {}
        self._smram = False
        super().__init__(clock, **properties)
        self.writable(0x50, b"\xff\xff")  # PMCCFG
        self.writable(0x57, b"\xff")  # DRAMC
        self.writable(PAM, b"\x30" + b"\x33" * 6)
        self.writable(0x60, b"\xff" * 8)  # DRB
        self.writable(SMRAM, bytes([G_SMRAME | D_LCK | D_CLS | D_OPEN]))

    def initial_configuration(self) -> bytearray:
        """SMRAM's C_BASE_SEG reads as 010."""
        space = super().initial_configuration()
        space[SMRAM] = 2
        return space

    def connect(self, space: AddressSpace, ram: Ram, rom: tuple[Ram, int] | None = None) -> None:
        """Shadow `rom` (a Ram and the offset of what stands at 0xC0000 in it; None for nothing) with `ram`, whose offsets are addresses."""
        self._space, self._ram, self._rom = space, ram, rom
        self.update_mappings()

    def write_config(self, offset: int, size: int, value: int) -> None:
        """A locked SMRAM register stays as it is until reset."""
        smram = self.configuration[SMRAM]
        super().write_config(offset, size, value)
        if smram & D_LCK:
            self.configuration[SMRAM] = smram
        elif self.configuration[SMRAM] & D_LCK:
            self.configuration[SMRAM] &= ~D_OPEN
        if offset < SMRAM + 1 and offset + size > PAM:
            self.update_mappings()

    def update_mappings(self) -> None:
        """Lay RAM or ROM over each segment as its PAM field says."""
        super().update_mappings()
        space, ram = self._space, self._ram
        if space is None or ram is None:
            return
        for register, low, start, size in SEGMENTS:
            wanted = self.configuration[register] >> low & 3
            held = self._segments.get(start)
            if held is not None and held[0] == wanted:
                continue
            if held is not None and held[1] is not None:
                space.unmap(start, size, held[1])  # type: ignore[arg-type]
            self._segments[start] = (wanted, self._lay(space, ram, wanted, start, size))
        smram = self.configuration[SMRAM]
        is_open = bool(smram & G_SMRAME and smram & D_OPEN)
        if is_open != self._smram:
            self._smram = is_open
            if is_open:
                space.map_ram(SMRAM_START, SMRAM_SIZE, ram, SMRAM_START, priority=1)
            else:
                space.unmap(SMRAM_START, SMRAM_SIZE, ram)

    def _lay(self, space: AddressSpace, ram: Ram, wanted: int, start: int, size: int) -> object:
        rom, base = self._rom if self._rom is not None else (None, 0)
        if wanted & READ:
            space.map_ram(start, size, ram, start, writable=bool(wanted & WRITE))
            return ram
        if wanted & WRITE:
            through = _WriteThrough(ram, rom, start, base + start - 0xC0000)
            space.map_device(start, size, through)
            return through
        if rom is not None:
            space.map_ram(start, size, rom, base + start - 0xC0000, writable=False)
        return rom
