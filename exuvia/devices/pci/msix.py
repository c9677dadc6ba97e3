"""MSI-X (PCI Local Bus Specification 3.0, section 6.8.2): a table of messages behind a BAR of its own."""

from __future__ import annotations

from exuvia.devices.pci.device import BUS_MASTER, PciDevice

CAP_MSIX = 0x11
ENABLE, FUNCTION_MASK = 1 << 15, 1 << 14
ENTRY, MASKED = 16, 1
PBA = 0x800  # where in the BAR the pending bits are
SIZE = 0x1000
MAX_VECTORS = 64  # what one doubleword pair of pending bits holds


class Msix:
    """The capability at `offset`, and what answers behind BAR `bar`, which is `SIZE` bytes.

    The device calls `unmasked` when its configuration was written, `reset`, `save` and `load` when that is done to it.
    """

    def __init__(self, device: PciDevice, offset: int, bar: int, vectors: int) -> None:
        if not 1 <= vectors <= MAX_VECTORS:
            raise ValueError(f"{vectors} MSI-X vectors")
        self.device, self.offset, self.vectors = device, offset, vectors
        content = (vectors - 1).to_bytes(2, "little") + bar.to_bytes(4, "little") + (PBA | bar).to_bytes(4, "little")
        device.add_capability(CAP_MSIX, offset, content, (ENABLE | FUNCTION_MASK).to_bytes(2, "little"))
        self.reset()

    def reset(self) -> None:
        """Every vector masked, nothing pending."""
        self.table = bytearray((bytes(12) + MASKED.to_bytes(4, "little")) * self.vectors)
        self.pending = 0

    def save(self) -> dict[str, str | int]:
        """Table and pending bits, JSON-like."""
        return {"table": self.table.hex(), "pending": self.pending}

    def load(self, saved: dict[str, str | int]) -> None:
        """Take what `save` gave."""
        self.table, self.pending = bytearray.fromhex(str(saved["table"])), int(saved["pending"])

    @property
    def control(self) -> int:
        """Message Control."""
        return self.device.read_config(self.offset + 2, 2)

    @property
    def enabled(self) -> bool:
        """Whether the guest has switched from INTx to messages."""
        return bool(self.control & ENABLE)

    def send(self, vector: int) -> None:
        """Send message `vector`; a masked one stays pending, one that does not exist is nothing."""
        if vector >= self.vectors or not self.enabled:
            return
        if self.control & FUNCTION_MASK or self.table[vector * ENTRY + 12] & MASKED:
            self.pending |= 1 << vector
            return
        self.pending &= ~(1 << vector)
        entry = self.table[vector * ENTRY : (vector + 1) * ENTRY]
        if self.device.send_message is not None and self.device.command & BUS_MASTER:
            self.device.send_message(int.from_bytes(entry[:8], "little"), int.from_bytes(entry[8:12], "little"))

    def unmasked(self) -> None:
        """A mask may have gone: send what waited."""
        for vector in range(self.vectors):
            if self.pending >> vector & 1:
                self.send(vector)

    def read(self, offset: int, size: int) -> int:
        """A guest's read behind the BAR."""
        if offset + size <= len(self.table):
            return int.from_bytes(self.table[offset : offset + size], "little")
        if PBA <= offset < PBA + 8:
            return self.pending >> 8 * (offset - PBA) & (1 << 8 * size) - 1
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """A guest's write behind the BAR; pending bits are read-only."""
        if offset + size <= len(self.table):
            self.table[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
            for entry in range(0, len(self.table), ENTRY):  # the rest of Vector Control is reserved
                self.table[entry + 12 : entry + ENTRY] = bytes([self.table[entry + 12] & MASKED, 0, 0, 0])
            self.unmasked()
