"""LPIs at one processor (Arm IHI 0069, chapter 5): which are pending, and their configuration in the guest's memory."""

from __future__ import annotations

from exuvia.devices.irq.gic import PRIORITY_MASK, Candidate
from exuvia.memory.dma import BadAddress, Dma, Stretch

FIRST = 8192
ID_BITS = 16


class Lpis:
    """Pending LPIs with the configuration byte that was read when they became so, or last invalidated.

    table, pending_table   guest addresses
    end                    one more than the last LPI that the table configures
    """

    def __init__(self) -> None:
        self.pending: dict[int, int] = {}
        self._best: Candidate | None = None
        self._stale = self._reread = False
        self.table, self.end = 0, FIRST
        self.dma: Dma | None = None

    def clear_all(self) -> None:
        """None is pending."""
        self.pending = {}
        self._stale = True

    def configuration(self, intid: int) -> int:
        """Priority in bits 7 to 2, enabled in bit 0; 0 where the table does not lie in RAM."""
        if self.dma is None:
            return 0
        try:
            return self.dma.ram[self.dma.place(self.table + intid - FIRST, 1)]
        except BadAddress:
            return 0

    def set(self, intid: int) -> None:
        """It becomes pending, where there is such an LPI."""
        if FIRST <= intid < self.end:
            self.pending[intid] = self.configuration(intid)
            self._stale = True

    def clear(self, intid: int) -> bool:
        """It is pending no more; whether it was."""
        self._stale = True
        return self.pending.pop(intid, None) is not None

    def invalidate(self, intid: int | None = None) -> None:
        """What is known of the configuration of one, or of all, is to be read again."""
        if intid is None:
            self._reread = True
        elif intid in self.pending:
            self.pending[intid] = self.configuration(intid)
        self._stale = True

    def take_all(self, other: Lpis) -> None:
        """What is pending in `other` is pending here."""
        for intid in other.pending:  # of those that there are here, as this one's table has them
            self.set(intid)
        other.pending = {}
        self._stale = other._stale = True

    def best(self) -> Candidate | None:
        """The pending and enabled one with the highest priority. LPIs are of group 1."""
        if self._reread:
            self.pending = {intid: self.configuration(intid) for intid in self.pending}
            self._reread = False
        if self._stale:
            ready = ((byte & PRIORITY_MASK, intid) for intid, byte in self.pending.items() if byte & 1)
            first = min(ready, default=None)
            self._best = None if first is None else Candidate(*first, 1)
            self._stale = False
        return self._best

    def load_pending(self, address: int) -> None:
        """Take what the pending table at `address` says, a bit for each INTID."""
        bits = self._bytes(address)
        for number, byte in enumerate(bits):
            for bit in range(8) if byte else ():
                if byte >> bit & 1:
                    self.set(number * 8 + bit)

    def store_pending(self, address: int) -> None:
        """Write what is pending into the table at `address`, as far as that is RAM."""
        if self.dma is None:
            return
        content = bytearray(self.end // 8)
        for intid in self.pending:
            content[intid // 8] |= 1 << intid % 8
        try:
            stretches = self.dma.find(address, len(content), True)
        except BadAddress:
            return
        at = 0
        for offset, length in stretches:
            self.dma.load(offset, bytes(content[at : at + length]))
            at += length

    def _bytes(self, address: int) -> bytes:
        if self.dma is None:
            return b""
        try:
            found: list[Stretch] = self.dma.find(address, self.end // 8)
        except BadAddress:
            return b""
        return self.dma.read(found)
