"""A PCI function: configuration space, base address registers, INTx, MSI (PCI Local Bus Specification 3.0, chapter 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from exuvia.devices.device import Device, Irq, State
from exuvia.memory.dma import Dma
from exuvia.memory.space import AddressSpace, Target

VENDOR_ID, DEVICE_ID, COMMAND, STATUS, REVISION, CLASS, HEADER_TYPE, BAR0 = 0x00, 0x02, 0x04, 0x06, 0x08, 0x09, 0x0E, 0x10
SUBSYSTEM_VENDOR, CAPABILITIES, INTERRUPT_LINE, INTERRUPT_PIN = 0x2C, 0x34, 0x3C, 0x3D
IO_ENABLE, MEMORY_ENABLE, BUS_MASTER, INTX_DISABLE = 1 << 0, 1 << 1, 1 << 2, 1 << 10
INTERRUPT_STATUS, CAPABILITIES_LIST = 1 << 3, 1 << 4
COMMAND_WRITABLE = IO_ENABLE | MEMORY_ENABLE | BUS_MASTER | 1 << 6 | 1 << 8 | INTX_DISABLE
STATUS_ERRORS = 0xF900  # written as one to clear
CAP_MSI = 0x05
CONFIG_SIZE = 256
BAR_PRIORITY = -1  # RAM and fixed windows win over what a guest puts a BAR onto


@dataclass(frozen=True)
class Bar:
    """A base address register: `size` bytes, a power of two, of ports or of memory."""

    size: int
    io: bool = False
    wide: bool = False
    prefetchable: bool = False

    def __post_init__(self) -> None:
        smallest = 4 if self.io else 16
        if self.size & (self.size - 1) or self.size < smallest:
            raise ValueError(f"a BAR of {self.size} bytes")

    @property
    def kind(self) -> int:
        """The read-only low bits."""
        return 1 if self.io else self.wide << 2 | self.prefetchable << 3


class PciDevice(Device):
    """A function with a type 0 header. The identity and the BARs (index to Bar) are class attributes; `bar_target` answers behind a BAR.

    `configuration` holds the 256 bytes as a guest reads them; `protect` and `clears` say for each bit whether a guest's write is stored, or
    clears it when it is one.
    """

    plugs_into = "pci"
    vendor_id: ClassVar[int]
    device_id: ClassVar[int]
    revision: ClassVar[int] = 0
    class_code: ClassVar[int]
    subsystem: ClassVar[tuple[int, int]] = (0x1AF4, 0x1100)
    multifunction: ClassVar[bool] = False
    interrupt_pin: ClassVar[int] = 0  # 1 is INTA
    bars: ClassVar[dict[int, Bar]] = {}

    irq = Irq()
    configuration = State(bytearray(CONFIG_SIZE))
    asserted = State(False)  # the function wants its INTx line high, whatever the command register says

    memory: AddressSpace | None = None
    ports: AddressSpace | None = None
    dma: Dma | None = None
    send_message: Callable[[int, int], object] | None = None  # (address, data): where MSIs go

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        self.protect = bytearray(CONFIG_SIZE)  # set bits are writable
        self.clears = bytearray(CONFIG_SIZE)
        self._mapped: dict[int, tuple[AddressSpace, int, Target]] = {}
        self._capabilities: list[tuple[int, bytes]] = []
        self.writable(COMMAND, COMMAND_WRITABLE.to_bytes(2, "little"))
        self.clears[STATUS + 1] = STATUS_ERRORS >> 8
        self.writable(0x0C, b"\xff")  # cache line size
        self.writable(INTERRUPT_LINE, b"\xff")
        for index, bar in self.bars.items():
            width = 8 if bar.wide else 4
            self.writable(BAR0 + 4 * index, (-bar.size & (1 << 8 * width) - 1).to_bytes(width, "little"))
        super().__init__(clock, **properties)
        self.reset()

    def writable(self, offset: int, mask: Sequence[int]) -> None:
        """Let a guest write the bits in `mask` from configuration byte `offset` on."""
        self.protect[offset : offset + len(mask)] = mask

    def initial_configuration(self) -> bytearray:
        """The configuration space after reset."""
        space = bytearray(CONFIG_SIZE)
        _put(space, VENDOR_ID, self.vendor_id, 2)
        _put(space, DEVICE_ID, self.device_id, 2)
        space[REVISION] = self.revision
        _put(space, CLASS, self.class_code, 3)
        space[HEADER_TYPE] = 0x80 if self.multifunction else 0
        _put(space, SUBSYSTEM_VENDOR, self.subsystem[0], 2)
        _put(space, SUBSYSTEM_VENDOR + 2, self.subsystem[1], 2)
        space[INTERRUPT_PIN] = self.interrupt_pin
        for index, bar in self.bars.items():
            space[BAR0 + 4 * index] = bar.kind
        link = CAPABILITIES
        for offset, content in self._capabilities:
            space[link] = offset
            space[offset : offset + len(content)] = content
            link = offset + 1
            space[STATUS] |= CAPABILITIES_LIST
        return space

    def add_capability(self, identity: int, offset: int, content: bytes, writable: bytes) -> None:
        """Put a capability at `offset` (a multiple of 4 from 0x40 on); `content` and `writable` begin after its two header bytes."""
        if offset < 0x40 or offset % 4 or offset + 2 + len(content) > CONFIG_SIZE:
            raise ValueError(f"a capability at {offset:#x}")
        self._capabilities.append((offset, bytes([identity, 0]) + content))
        self.writable(offset + 2, writable)
        self.configuration[:] = self.initial_configuration()

    def reset(self) -> None:
        """Configuration as after RST#, BARs unmapped."""
        super().reset()
        self.configuration[:] = self.initial_configuration()
        self.update_mappings()

    def load(self, saved: dict[str, Any]) -> None:
        """Take the saved state and map the BARs where it says."""
        super().load(saved)
        self.update_mappings()

    # Configuration space

    def read_config(self, offset: int, size: int) -> int:
        """`size` (1, 2, 4) bytes at `offset`; past the end reads as all ones."""
        if offset + size > CONFIG_SIZE:
            return (1 << 8 * size) - 1
        return int.from_bytes(self.configuration[offset : offset + size], "little")

    def write_config(self, offset: int, size: int, value: int) -> None:
        """A guest's write; then `config_written` and whatever the command register and the BARs imply."""
        if offset + size > CONFIG_SIZE:
            return
        for at, byte in enumerate(value.to_bytes(size, "little"), offset):
            writable = self.protect[at]
            self.configuration[at] = (self.configuration[at] & ~writable | byte & writable) & ~(byte & self.clears[at])
        if offset < BAR0 + 24 and offset + size > COMMAND:
            self.update_mappings()
            self._drive()
        self.config_written(offset, size)

    def config_written(self, offset: int, size: int) -> None:
        """Called after a guest's write; a device with registers of its own in configuration space overrides it."""

    @property
    def command(self) -> int:
        """The command register."""
        return self.read_config(COMMAND, 2)

    # Base address registers

    def bar_target(self, index: int) -> Target:
        """What answers behind BAR `index`; by default the device itself."""
        return self

    def bar_address(self, index: int) -> int | None:
        """Where BAR `index` is decoded now, None when it is not: disabled, at 0, or reaching past what it can address."""
        bar = self.bars[index]
        if not self.command & (IO_ENABLE if bar.io else MEMORY_ENABLE):
            return None
        width = 8 if bar.wide else 4
        base = int.from_bytes(self.configuration[BAR0 + 4 * index :][:width], "little") & -bar.size
        # all ones is what a guest writes to learn the size, often with decoding enabled
        limit = 1 << 16 if bar.io else (1 << 52 if bar.wide else 0xFFFFFFFF)
        return base if base and base + bar.size <= limit else None

    def update_mappings(self) -> None:
        """Map and unmap BARs so that the spaces agree with the configuration."""
        for index, bar in self.bars.items():
            space = self.ports if bar.io else self.memory
            address = self.bar_address(index)
            old = self._mapped.get(index)
            if old is not None and (address != old[1] or space is not old[0]):
                old[0].unmap(old[1], bar.size, old[2])
                del self._mapped[index]
                old = None
            if old is None and address is not None and space is not None:
                target = self.bar_target(index)
                space.map_device(address, bar.size, target, priority=BAR_PRIORITY)
                self._mapped[index] = (space, address, target)

    # Interrupts

    def interrupt(self, level: bool) -> None:
        """Want the INTx line high or low."""
        self.asserted = level
        self._drive()

    def _drive(self) -> None:
        status = self.configuration[STATUS] & ~INTERRUPT_STATUS
        self.configuration[STATUS] = status | (INTERRUPT_STATUS if self.asserted else 0)
        self.irq.set(self.asserted and not self.command & INTX_DISABLE)


class Msi:
    """The MSI capability (section 6.8.1), 64-bit addresses, of a function with `vectors` (1 to 32, a power of two) messages."""

    def __init__(self, device: PciDevice, offset: int, vectors: int = 1) -> None:
        log2 = vectors.bit_length() - 1
        if vectors != 1 << log2 or log2 > 5:
            raise ValueError(f"{vectors} MSI vectors")
        self.device, self.offset = device, offset
        control = log2 << 1 | 1 << 7
        content = control.to_bytes(2, "little") + bytes(10)
        writable = b"\x71\0" + b"\xfc\xff\xff\xff" + b"\xff" * 4 + b"\xff\xff"
        device.add_capability(CAP_MSI, offset, content, writable)

    @property
    def enabled(self) -> bool:
        """Whether the guest has switched from INTx to messages."""
        return bool(self.device.configuration[self.offset + 2] & 1)

    def send(self, vector: int = 0) -> None:
        """Send message `vector`; nothing happens while bus mastering is off."""
        read = self.device.read_config
        allocated = 1 << min(read(self.offset + 2, 1) >> 4 & 7, 5)
        address = read(self.offset + 4, 4) | read(self.offset + 8, 4) << 32
        data = read(self.offset + 12, 2) & -allocated | vector % allocated
        if self.enabled and self.device.send_message and self.device.command & BUS_MASTER:
            self.device.send_message(address, data)


def _put(space: bytearray, offset: int, value: int, size: int) -> None:
    space[offset : offset + size] = value.to_bytes(size, "little")
