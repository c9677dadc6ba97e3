"""Interrupt Translation Service of a GICv3: a device's message becomes an LPI at a processor (Arm IHI 0069, chapter 5.2 and 12.19).

Tables and the command queue are in the guest's memory. Entries of the tables are ours, 8 bytes each: a device's holds the address of its
translation table and how many bits its events have; an event's the INTID and the collection; a collection's the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from functools import partial
from typing import Any

from exuvia.devices.device import Device, State
from exuvia.devices.irq.gic_lpi import FIRST as FIRST_LPI
from exuvia.devices.irq.gic_lpi import ID_BITS
from exuvia.devices.irq.gic_redistributor import IIDR, PIDR2
from exuvia.devices.irq.gic_v3 import GicV3
from exuvia.memory.dma import BadAddress, Dma
from exuvia.support import log

TRANSLATER = 0x10040
DEVICES, COLLECTIONS = 0, 1  # GITS_BASER
KINDS = (1, 4)  # their Type
DEVICE_BITS, EVENT_BITS, COLLECTION_BITS = 16, 16, 16
ENTRY = 8  # bytes of an entry of each table
COMMAND_SIZE = 32
PORTION = 4096  # commands at a time
VALID, INDIRECT = 1 << 63, 1 << 62
QUEUE_WRITABLE = VALID | 0x3800_0000_0000_0000 | 0x0700_0000_0000_0000 | 0xF_FFFF_FFFF_FCFF
TABLE_WRITABLE = VALID | INDIRECT | 0x3800_0000_0000_0000 | 0xFFFF_FFFF_FFFF
TYPE = 1 | ENTRY - 1 << 4 | EVENT_BITS - 1 << 8 | DEVICE_BITS - 1 << 13 | COLLECTION_BITS - 1 << 32 | 1 << 36


class Command(IntEnum):
    """Table 5-3."""

    MOVI = 0x01
    INT = 0x03
    CLEAR = 0x04
    SYNC = 0x05
    MAPD = 0x08
    MAPC = 0x09
    MAPTI = 0x0A
    MAPI = 0x0B
    INV = 0x0C
    INVALL = 0x0D
    MOVALL = 0x0E
    DISCARD = 0x0F


class Refused(Exception):
    """A command that cannot be carried out; the text is for the log."""


class GicIts(Device):
    """`gic` is the GICv3 whose LPIs it raises. Messages of devices come to `message`."""

    name = "gic-its"
    window = 0x20000

    enabled = State(False)
    command_base = State(0)  # GITS_CBASER
    command_write = State(0)
    command_read = State(0)
    bases = State([0, 0])

    gic: GicV3 | None = None

    def __init__(self, clock: Any = None, **properties: Any) -> None:
        self._changed: set[int] = set()
        super().__init__(clock, **properties)

    # The guest's memory

    @property
    def _dma(self) -> Dma:
        if self.gic is None or self.gic.dma is None:
            raise Refused("there is no memory")
        return self.gic.dma

    def _load(self, address: int) -> int:
        try:
            at = self._dma.place(address, ENTRY)
        except BadAddress as error:
            raise Refused(str(error)) from None
        return int.from_bytes(self._dma.ram[at : at + ENTRY], "little")

    def _store(self, address: int, value: int) -> None:
        try:
            self._dma.load(self._dma.place(address, ENTRY, True), value.to_bytes(ENTRY, "little"))
        except BadAddress as error:
            raise Refused(str(error)) from None

    def _entry(self, table: int, index: int, bits: int) -> int:
        """The address of entry `index` of a table, through a level of pages where it has two."""
        base = self.bases[table]
        if not base & VALID or index >> bits:
            raise Refused(f"no entry {index} in table {table}")
        page = (1 << 12, 1 << 14, 1 << 16, 1 << 16)[base >> 8 & 3]
        address, size = _address(base), ((base & 0xFF) + 1) * page
        if base & INDIRECT:
            number = index * ENTRY // page
            if number * 8 >= size:
                raise Refused(f"no entry {index} in table {table}")
            first = self._load(address + number * 8)
            if not first & VALID:
                raise Refused(f"no page for entry {index} of table {table}")
            address, index, size = first & 0xF_FFFF_FFFF_F000, index % (page // ENTRY), page
        if index * ENTRY >= size:
            raise Refused(f"no entry {index} in table {table}")
        return address + index * ENTRY

    def _event(self, device: int, event: int) -> int:
        """The address of an event's entry."""
        entry = self._load(self._entry(DEVICES, device, DEVICE_BITS))
        if not entry & VALID:
            raise Refused(f"device {device:#x} is not mapped")
        if event >> (entry & 0x1F) + 1:
            raise Refused(f"device {device:#x} has no event {event:#x}")
        return (entry & 0xF_FFFF_FFFF_FF00) + event * ENTRY

    def _mapped(self, device: int, event: int) -> tuple[int, int]:
        """INTID and collection of an event."""
        entry = self._load(self._event(device, event))
        if not entry & VALID:
            raise Refused(f"event {event:#x} of device {device:#x} is not mapped")
        return entry & 0xFFFFFFFF, entry >> 32 & 0xFFFF

    def _processor(self, collection: int) -> int:
        entry = self._load(self._entry(COLLECTIONS, collection, COLLECTION_BITS))
        if not entry & VALID:
            raise Refused(f"collection {collection} is not mapped")
        return self._number(entry & 0xFFFF)

    def _number(self, processor: int) -> int:
        if self.gic is None or processor >= len(self.gic.cpus):
            raise Refused(f"there is no processor {processor}")
        return processor

    # Messages

    def message(self, device: int, event: int) -> None:
        """A device (its requester ID) writes `event` to GITS_TRANSLATER."""
        if self.enabled:
            self._attempt(lambda: self._raise(device, event, True))
            self._update()

    def _update(self) -> None:
        """Drive the wires of the processors that something changed at."""
        if self.gic is not None:
            for number in self._changed:
                self.gic.cpus[number].update()
        self._changed.clear()

    def _attempt(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Refused as error:
            log.guest_errors(f"{self.name}: {error}")

    def _raise(self, device: int, event: int, level: bool) -> None:
        intid, collection = self._mapped(device, event)
        processor = self._processor(collection)
        assert self.gic is not None
        cpu = self.gic.cpus[processor]
        if level:
            cpu.set_lpi(intid)
        else:
            cpu.lpis.clear(intid)
        self._changed.add(processor)

    # Commands (section 5.3)

    def _run(self) -> None:
        """Carry out what is in the queue; of very many commands, the rest when the driver looks how far it is."""
        size = ((self.command_base & 0xFF) + 1) << 12
        if not self.enabled or not self.command_base & VALID or self.command_write >= size:
            return
        for _ in range(PORTION):
            if self.command_read == self.command_write:
                break
            at, self.command_read = self.command_read, (self.command_read + COMMAND_SIZE) % size
            self._attempt(partial(self._command, (self.command_base & 0xF_FFFF_FFFF_F000) + at))
        self._update()

    def _command(self, address: int) -> None:
        try:
            at = self._dma.place(address, COMMAND_SIZE)
        except BadAddress as error:
            raise Refused(str(error)) from None
        words = [int.from_bytes(self._dma.ram[at + skip : at + skip + 8], "little") for skip in range(0, COMMAND_SIZE, 8)]
        device, event, collection = words[0] >> 32, words[1] & 0xFFFFFFFF, words[2] & 0xFFFF
        match words[0] & 0xFF:
            case Command.MAPD:
                self._map_device(device, words[1] & 0x1F, words[2])
            case Command.MAPC:
                self._map_collection(collection, words[2] >> 16 & 0xFFFF, words[2])
            case Command.MAPTI:
                self._map_event(device, event, words[1] >> 32, collection)
            case Command.MAPI:
                self._map_event(device, event, event, collection)
            case Command.MOVI:
                self._move(device, event, collection)
            case Command.INT:
                self._raise(device, event, True)
            case Command.CLEAR:
                self._raise(device, event, False)
            case Command.DISCARD:
                self._raise(device, event, False)
                self._store(self._event(device, event), 0)
            case Command.INV:
                intid, where = self._mapped(device, event)
                self._invalidate(self._processor(where), intid)
            case Command.INVALL:
                self._invalidate(self._processor(collection), None)
            case Command.MOVALL:
                self._move_all(words[2] >> 16 & 0xFFFF, words[3] >> 16 & 0xFFFF)
            case Command.SYNC:
                pass  # every command is complete when the next begins
            case other:
                raise Refused(f"unknown command {other:#x}")

    def _map_device(self, device: int, size: int, where: int) -> None:
        if where & VALID and size >= EVENT_BITS:
            raise Refused(f"MAPD with {size + 1} bits of events")
        entry = self._entry(DEVICES, device, DEVICE_BITS)
        self._store(entry, VALID | where & 0xF_FFFF_FFFF_FF00 | size if where & VALID else 0)

    def _map_collection(self, collection: int, processor: int, valid: int) -> None:
        entry = self._entry(COLLECTIONS, collection, COLLECTION_BITS)
        self._store(entry, VALID | self._number(processor) if valid & VALID else 0)

    def _map_event(self, device: int, event: int, intid: int, collection: int) -> None:
        if not FIRST_LPI <= intid < 1 << ID_BITS:
            raise Refused(f"no LPI has INTID {intid}")
        self._store(self._event(device, event), VALID | collection << 32 | intid)

    def _move(self, device: int, event: int, collection: int) -> None:
        intid, before = self._mapped(device, event)
        old, new = self._processor(before), self._processor(collection)
        self._store(self._event(device, event), VALID | collection << 32 | intid)
        assert self.gic is not None
        if old != new and self.gic.cpus[old].lpis.clear(intid):
            self.gic.cpus[new].set_lpi(intid)
            self._changed |= {old, new}

    def _move_all(self, old: int, new: int) -> None:
        assert self.gic is not None
        source, target = self.gic.cpus[self._number(old)], self.gic.cpus[self._number(new)]
        if source is not target:
            target.take_lpis(source)
            self._changed |= {old, new}

    def _invalidate(self, processor: int, intid: int | None) -> None:
        assert self.gic is not None
        self.gic.cpus[processor].lpis.invalidate(intid)
        self._changed.add(processor)

    # Registers

    def read(self, offset: int, size: int) -> int:
        """Of the control frame; GITS_TRANSLATER is write-only."""
        if offset % size:
            return 0
        match offset & ~7:
            case 0x0000:
                word = self.enabled | 1 << 31 | IIDR << 32  # always quiescent
            case 0x0008:
                word = TYPE
            case 0x0080:
                word = self.command_base
            case 0x0088:
                word = self.command_write
            case 0x0090:
                self._run()
                word = self.command_read
            case 0x0100 | 0x0108:
                table = (offset & 8) // 8
                word = self.bases[table] | KINDS[table] << 56 | ENTRY - 1 << 48
            case 0xFFE8:
                word = PIDR2
            case _:
                word = 0
        return int(word) >> 8 * (offset & 7) & (1 << 8 * size) - 1

    def write(self, offset: int, size: int, value: int) -> None:
        """Words and doublewords. A processor's own write to GITS_TRANSLATER is device 0's."""
        if offset % size or size < 4:
            log.guest_errors(f"{self.name}: write of {size} to {offset:#x}")
            return
        shift, mask = 8 * (offset & 7), (1 << 8 * size) - 1

        def merged(held: int, writable: int) -> int:
            return (held & ~(mask << shift) | value << shift) & writable

        match offset & ~7:
            case 0x0000:
                if not shift:
                    self.enabled = bool(value & 1)
                    self._run()
            case 0x0080:
                if not self.enabled:
                    self.command_base = merged(self.command_base, QUEUE_WRITABLE)
                    self.command_read = 0
            case 0x0088:
                self.command_write = merged(self.command_write, 0xFFFE0)
                self._run()
            case 0x0100 | 0x0108:
                if not self.enabled:
                    table = (offset & 8) // 8
                    self.bases[table] = merged(self.bases[table], TABLE_WRITABLE)
            case _:
                if offset == TRANSLATER:
                    self.message(0, value & 0xFFFFFFFF)


def _address(base: int) -> int:
    """With pages of 64 KiB, bits 51 to 48 are where the lower address bits would be."""
    if base >> 8 & 3 >= 2:
        return base & 0xFFFF_FFFF_0000 | (base >> 12 & 0xF) << 48
    return base & 0xFFFF_FFFF_F000
