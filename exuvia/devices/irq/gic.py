"""What every ARM Generic Interrupt Controller has (Arm IHI 0048B and IHI 0069): banks of interrupts, the priorities at a processor, SPIs.

INTIDs: 0 to 15 are SGIs, 16 to 31 PPIs, each processor has its own; SPIs, which all share, are 32 to 1019.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from exuvia.devices.device import Device, Irq, Sink, State

if TYPE_CHECKING:
    from exuvia.devices.irq.gic_timer import LentTimer

SPIS = 256  # of ours
SGIS, PRIVATE, LAST_SPI = 16, 32, 1019
NONE, OTHER_GROUP = 1023, 1022  # special INTIDs
IDLE = 0xFF  # the running priority where nothing is active
PRIORITY_BITS = 5
PRIORITY_MASK = 0xFF << 8 - PRIORITY_BITS & 0xFF
GROUP0, GROUP1 = 1, 2  # as a set


class Candidate(NamedTuple):
    """A pending interrupt; the lowest is the one to take."""

    priority: int
    intid: int
    group: int


def ones(word: int) -> Iterator[int]:
    """The numbers of the bits that are set, from the lowest."""
    while word:
        low = word & -word
        yield low.bit_length() - 1
        word ^= low


class Bank:
    """Interrupts `first` to `end` - 1, bit n of each word is INTID n.

    edge_fixed     those whose ICFGR is read-only: SGIs are edges
    always         those that cannot be disabled
    """

    WORDS: ClassVar[tuple[str, ...]] = ("group", "enabled", "latched", "lines", "active", "edge")

    def __init__(self, first: int, end: int, *, edge: int = 0, edge_fixed: int = 0, always: int = 0) -> None:
        self.first, self.end = first, end
        self.all = (1 << end) - (1 << first)
        self.edge_reset, self.edge_fixed, self.always = edge, edge_fixed, always
        self.lines = 0
        self.reset()

    def reset(self) -> None:
        """All disabled, inactive, of group 0, with the highest priority. The lines are others'."""
        self.group = self.latched = self.active = 0
        self.enabled, self.edge = self.always, self.edge_reset
        self.priority = bytearray(self.end)

    def save(self) -> dict[str, Any]:
        """JSON-like."""
        return {name: getattr(self, name) for name in self.WORDS} | {"priority": self.priority.hex()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take what `save` gave."""
        for name in self.WORDS:
            setattr(self, name, saved[name])
        self.priority = bytearray.fromhex(saved["priority"])

    @property
    def pending(self) -> int:
        """A level is pending as long as its line is high."""
        return self.latched | self.lines & ~self.edge

    def drive(self, intid: int, level: bool) -> None:
        """The line of `intid` changed."""
        bit = 1 << intid
        if level and not self.lines & bit and self.edge & bit:
            self.latched |= bit
        self.lines = self.lines | bit if level else self.lines & ~bit

    def best(self, groups: int, among: int = -1) -> Candidate | None:
        """The pending interrupt of these groups with the highest priority, None where there is none."""
        ready = (self.latched | self.lines & ~self.edge) & self.enabled & ~self.active & among
        if not ready:
            return None
        if not groups & GROUP0:
            ready &= self.group
        if not groups & GROUP1:
            ready &= ~self.group
        if not ready & ready - 1:  # one, as a rule
            if not ready:
                return None
            intid = ready.bit_length() - 1
            return Candidate(self.priority[intid], intid, self.group >> intid & 1)
        priority, intid = min((self.priority[intid], intid) for intid in ones(ready))
        return Candidate(priority, intid, self.group >> intid & 1)

    def acknowledge(self, intid: int) -> None:
        """Pending becomes active."""
        self.latched &= ~(1 << intid)
        self.active |= 1 << intid

    def deactivate(self, intid: int) -> None:
        """Active no more."""
        self.active &= ~(1 << intid)

    # Registers that a distributor and a redistributor have alike: offsets from IGROUPR at 0x80 to ICFGR at 0xC00

    def read(self, offset: int, size: int) -> int | None:
        """The bytes of these registers that this bank has; None where another register is."""
        found = self._place(offset, size)
        if found is None:
            return None
        kind, shift = found
        mask = (1 << 8 * size) - 1
        if kind == "priority":
            return int.from_bytes(self.priority[shift : shift + size], "little")
        if kind == "edge":
            return _spread(self.edge >> shift & (1 << 4 * size) - 1)
        return int(getattr(self, kind)) >> shift & mask

    def write(self, offset: int, size: int, value: int) -> bool:
        """See read; False where another register is."""
        found = self._place(offset, size)
        if found is None:
            return False
        kind, shift = found
        if kind == "priority":
            for at, byte in enumerate(value.to_bytes(size, "little"), shift):
                if self.first <= at < self.end:
                    self.priority[at] = byte & PRIORITY_MASK
            return True
        if kind == "edge":
            within = ((1 << 4 * size) - 1 << shift) & self.all & ~self.edge_fixed
            self.edge = self.edge & ~within | _gather(value) << shift & within
            return True
        bits = value << shift & self.all
        if kind == "group":
            within = (1 << 8 * size) - 1 << shift
            self.group = self.group & ~within | bits
            return True
        name = "latched" if kind == "pending" else kind
        held = int(getattr(self, name))
        setattr(self, name, (held & ~bits if offset & 0x80 else held | bits) | (self.always if name == "enabled" else 0))
        return True

    def _place(self, offset: int, size: int) -> tuple[str, int] | None:
        """Which word, and the bit (of priorities the byte) of it that the access begins at."""
        if 0x80 <= offset < 0x400:
            kind = "group enabled enabled pending pending active active".split()[(offset >> 7) - 1]
            return kind, (offset & 0x7F) * 8
        if 0x400 <= offset < 0x800:
            return "priority", offset - 0x400
        if 0xC00 <= offset < 0xD00:
            return "edge", (offset - 0xC00) * 4
        return None


def _spread(edges: int) -> int:
    """Two bits for each interrupt, the upper one says that it is an edge."""
    return sum(2 << 2 * number for number in ones(edges))


def _gather(fields: int) -> int:
    return sum(1 << number for number in range(16) if fields >> 2 * number & 2)


class Priorities(Device):
    """What is active at a processor at which priority, what may interrupt it, and the wires."""

    irq, fiq = Irq(), Irq()

    priority_mask = State(0)
    binary_points = State([7 - PRIORITY_BITS, 8 - PRIORITY_BITS])  # by group
    active_priorities = State([0, 0])  # by group; bit n is priority n * 8
    common_binary_point = State(False)

    def running(self) -> int:
        """The priority of what is active, IDLE where nothing is."""
        active = self.active_priorities[0] | self.active_priorities[1]
        return IDLE if not active else (active & -active).bit_length() - 1 << 8 - PRIORITY_BITS

    def group_priority(self, priority: int, group: int) -> int:
        """The part of a priority that decides about preemption: bits above the binary point, which group 1 counts from 1 (table 4-9)."""
        point = self.binary_points[1] if group and not self.common_binary_point else self.binary_points[0] + 1
        return priority & 0xFF << point & 0xFF

    def set_binary_point(self, group: int, value: int) -> None:
        """Lower than what the priority bits allow is not possible."""
        self.binary_points[group] = max(value & 7, 7 - PRIORITY_BITS + group)

    def preempts(self, found: Candidate | None) -> bool:
        """Whether it is signalled to the processor."""
        if found is None or found.priority >= self.priority_mask:
            return False
        return self.group_priority(found.priority, found.group) < self.running()

    def activate(self, found: Candidate) -> None:
        """What is taken sets the running priority."""
        self.active_priorities[found.group] |= self.active_bit(found.priority, found.group)

    def active_bit(self, priority: int, group: int) -> int:
        """Where `active_priorities` shows what is taken at this priority."""
        return 1 << (self.group_priority(priority, group) >> 8 - PRIORITY_BITS)

    def drop(self, groups: int = GROUP0 | GROUP1) -> bool:
        """Priority drop: the highest active priority goes, if it is of these groups."""
        zero, one = self.active_priorities
        active = zero | one
        low = active & -active
        group = 0 if zero & low else 1
        if not active or not groups >> group & 1:
            return False
        self.active_priorities[group] &= ~low
        return True


class Interface(Priorities):
    """A processor's end, with the interrupts of its own."""

    timer: LentTimer | None = None
    """The interrupt of the processor's timer, where native code can have it."""

    def __init__(self, clock: Any = None, *, always: int = 0, edge_fixed: int = 0xFFFF) -> None:
        self.bank = Bank(0, PRIVATE, edge=0xFFFF, edge_fixed=edge_fixed, always=always)
        super().__init__(clock)

    def reclaim(self) -> bool:
        """For an access of this processor: what native code has is here again. Whether it had something: `update` lends it anew."""
        return self.timer is not None and self.timer.tick.lent and self.timer.take_back()

    def reset(self) -> None:
        """As after power-on."""
        self.reclaim()
        super().reset()
        self.bank.reset()

    def save(self) -> dict[str, Any]:
        """With its bank."""
        self.reclaim()
        return super().save() | {"bank": self.bank.save()}

    def load(self, saved: dict[str, Any]) -> None:
        """Take what `save` gave."""
        self.reclaim()
        self.bank.load(saved["bank"])
        super().load(saved)


class Distributor(Device):
    """The SPIs, and the processors' ends, which are reset and saved with it."""

    cpus: Sequence[Interface] = ()

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        self.spis = Bank(PRIVATE, PRIVATE + SPIS)
        super().__init__(clock, **properties)

    def update(self) -> None:
        """Drive the wires to all processors."""
        raise NotImplementedError

    def input(self, number: int) -> Sink:
        """The sink of SPI `number`, which is INTID 32 + number."""
        return follower(self.spis, PRIVATE + number, self.update)

    def reset(self) -> None:
        """As after power-on."""
        super().reset()
        self.spis.reset()
        for cpu in self.cpus:
            cpu.reset()

    def save(self) -> dict[str, Any]:
        """With the processors' ends."""
        saved = super().save() | {"spis": self.spis.save(), "cpus": [cpu.save() for cpu in self.cpus]}
        self.update()
        return saved

    def load(self, saved: dict[str, Any]) -> None:
        """Take what `save` gave."""
        super().load(saved)
        self.spis.load(saved["spis"])
        for cpu, state in zip(self.cpus, saved["cpus"], strict=True):
            cpu.load(state)
        self.update()


def follower(bank: Bank, intid: int, changed: Callable[[], object], before: Callable[[], object] = bool) -> Sink:
    """An input of `bank`; `before` and `changed` are called when the line does."""
    if not bank.first <= intid < bank.end:
        raise ValueError(f"a GIC has no INTID {intid} here")

    def follow(level: bool) -> None:
        before()
        bank.drive(intid, level)
        changed()

    return follow
