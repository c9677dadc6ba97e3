"""Split virtqueues (VIRTIO 1.2, section 2.7): descriptors, indirect tables, the available and the used ring, event indexes.

A guest writes whatever it likes into its rings. All that is read here is checked before it is used: addresses lead to RAM, chains end,
an index runs ahead by no more than the queue's size. What does not hold raises Broken.
"""

import struct
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from exuvia.memory.dma import BadAddress, Dma, Stretch

NEXT, WRITE, INDIRECT = 1, 2, 4
NO_INTERRUPT = 1  # of the available ring's flags
DESCRIPTOR = struct.Struct("<QIHH")  # address, length, flags, next
LARGEST = 256  # descriptors of a queue
LONGEST = 1024  # descriptors of a chain through an indirect table
MOST = 1 << 32  # bytes of a chain (2.7.5)
NO_VECTOR = 0xFFFF


class Broken(Exception):
    """The driver broke the rules of the ring; the device needs a reset."""


class Chain(NamedTuple):
    """A request: `head` names it in the used ring; what the device reads, then what it writes."""

    head: int
    readable: list[Stretch]
    writable: list[Stretch]


@dataclass
class Virtqueue:
    """One queue: what the driver set, and how far it has come. Addresses are the guest's."""

    size: int = LARGEST
    vector: int = NO_VECTOR
    enabled: bool = False
    descriptors: int = 0
    driver: int = 0  # the available ring, which the driver writes
    device: int = 0  # the used ring, which the device writes
    taken: int = 0  # index in the available ring of what comes next
    given: int = 0  # index in the used ring of what comes next
    told: int = 0  # `given` when the driver was last considered for an interrupt

    def reset(self) -> None:
        """As nobody has set it up."""
        self.load(asdict(Virtqueue()))

    def save(self) -> dict[str, Any]:
        """JSON-like."""
        return asdict(self)

    def load(self, saved: dict[str, Any]) -> None:
        """Take what `save` gave."""
        for field in fields(self):
            setattr(self, field.name, saved[field.name])

    def pop(self, dma: Dma) -> Chain | None:
        """The next request, None when there is none. Raises Broken."""
        try:
            ring = dma.place(self.driver, 6 + 2 * self.size)
            (index,) = struct.unpack_from("<H", dma.ram, ring + 2)
            waiting = index - self.taken & 0xFFFF
            if waiting > self.size:
                raise Broken(f"the available ring runs {waiting} entries ahead in a queue of {self.size}")
            if not waiting:
                return None
            (head,) = struct.unpack_from("<H", dma.ram, ring + 4 + 2 * (self.taken % self.size))
            chain = self._chain(dma, head)
        except BadAddress as error:
            raise Broken(str(error)) from None
        self.taken = self.taken + 1 & 0xFFFF
        return chain

    def _chain(self, dma: Dma, head: int) -> Chain:
        table, count, index, left = dma.place(self.descriptors, DESCRIPTOR.size * self.size), self.size, head, self.size
        readable: list[Stretch] = []
        writable: list[Stretch] = []
        total, inside = 0, False
        while True:
            if index >= count:
                raise Broken(f"descriptor {index} of a table of {count}")
            if not left:
                raise Broken("a chain of descriptors without end")
            left -= 1
            address, length, flags, following = DESCRIPTOR.unpack_from(dma.ram, table + DESCRIPTOR.size * index)
            if flags & INDIRECT:
                if inside or flags & NEXT or not length or length % DESCRIPTOR.size:
                    raise Broken(f"an indirect table of {length} bytes with flags {flags}")
                inside, count = True, length // DESCRIPTOR.size
                if count > LONGEST:
                    raise Broken(f"an indirect table of {count} descriptors")
                table, index, left = dma.place(address, length), 0, count
                continue
            total += length
            if total > MOST:
                raise Broken("a request of more than 4 GiB")
            if flags & WRITE:
                writable += dma.find(address, length, True)
            elif writable:
                raise Broken("what the device reads stands after what it writes")
            else:
                readable += dma.find(address, length)
            if not flags & NEXT:
                return Chain(head, readable, writable)
            index = following

    def push(self, dma: Dma, head: int, written: int) -> None:
        """Give a request back; `written` bytes of its memory were changed. Raises Broken."""
        try:
            ring = dma.place(self.device, 6 + 8 * self.size, True)
        except BadAddress as error:
            raise Broken(str(error)) from None
        dma.load(ring + 4 + 8 * (self.given % self.size), struct.pack("<II", head, written))
        self.given = self.given + 1 & 0xFFFF
        dma.load(ring + 2, struct.pack("<H", self.given))

    def wants_interrupt(self, dma: Dma, event_index: bool) -> bool:
        """Whether the driver wants to hear of what was pushed since it was last asked (2.7.7.2, 2.7.10). Raises Broken."""
        try:
            ring = dma.place(self.driver, 6 + 2 * self.size)
        except BadAddress as error:
            raise Broken(str(error)) from None
        before, self.told = self.told, self.given
        if before == self.given:
            return False
        if not event_index:
            (flags,) = struct.unpack_from("<H", dma.ram, ring)
            return not flags & NO_INTERRUPT
        (event,) = struct.unpack_from("<H", dma.ram, ring + 4 + 2 * self.size)
        return int(self.given - event - 1 & 0xFFFF) < (self.given - before & 0xFFFF)

    def ask_for_notification(self, dma: Dma) -> None:
        """With event indexes: the driver is to notify when it adds the next request. Raises Broken."""
        try:
            ring = dma.place(self.device, 6 + 8 * self.size, True)
        except BadAddress as error:
            raise Broken(str(error)) from None
        dma.load(ring + 4 + 8 * self.size, struct.pack("<H", self.taken))
